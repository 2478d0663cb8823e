//! Properties of the template reader that hold for all inputs, tried on random ones. Failing inputs
//! are shrunk and printed with a seed; the fuzz targets in tests/fuzz search further.

use std::convert::TryFrom;

use base64::Engine;
use imagefactory_plugin_sdk::payload::icicle::{Icicle, IciclePackage};
use imagefactory_plugin_sdk::payload::target_content::{TargetContent, TargetContentFile};
use imagefactory_plugin_sdk::payload::template::{
    DiskSize, Template, TemplateRules, names_this_host,
};
use imagefactory_plugin_sdk::payload::xml::XmlLimits;
use proptest::prelude::*;

/// Units and their bytes, as docs/TDL.md lists them.
const UNITS: [(&str, u128); 12] = [
    ("", 1 << 30),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("ZB", 1_000_000_000_000_000_000_000),
    ("YB", 1_000_000_000_000_000_000_000_000),
    ("KiB", 1 << 10),
    ("GiB", 1 << 30),
    ("EiB", 1 << 60),
    ("YiB", 1 << 80),
];

fn template_with(sections: &str) -> String {
    format!(
        "<template><name>t</name><os><name>F</name><version>1</version><arch>i386</arch>\
         <install type='url'><url>http://h/</url></install></os>{sections}</template>"
    )
}

fn parse(sections: &str) -> Result<Template, String> {
    let xml = template_with(sections);
    Template::parse(&xml, &TemplateRules::rest()).map_err(|error| error.to_string())
}

fn commands_at(positions: &[u64]) -> String {
    let each = positions
        .iter()
        .map(|position| format!("<command name='{position}' position='{position}'>x</command>"));
    format!("<commands>{}</commands>", each.collect::<String>())
}

/// `text` as the content of an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

proptest! {
    #[test]
    fn a_size_is_its_number_times_its_unit(
        count in any::<u64>(),
        unit in 0..UNITS.len(),
        blanks in 0usize..4,
        upper in any::<bool>(),
    ) {
        let (name, bytes) = UNITS[unit];
        let name = if upper { name.to_uppercase() } else { name.to_lowercase() };
        let text = format!("{count}{}{name}", " ".repeat(blanks));
        let size = DiskSize::try_from(text.as_str()).unwrap();
        match u128::from(count).checked_mul(bytes) {
            Some(product) => prop_assert_eq!(size.bytes(), Some(product)),
            None => prop_assert_eq!(size.bytes(), None),
        }
        let json = serde_json::to_string(&size).unwrap();
        prop_assert_eq!(serde_json::from_str::<DiskSize>(&json).unwrap(), size);
    }

    #[test]
    fn a_text_is_a_size_only_if_it_is_digits_and_a_known_unit(text in "[0-9 kKmMgGtTiIbB.x-]{0,8}") {
        let trimmed = text.trim();
        let digits = trimmed.chars().take_while(char::is_ascii_digit).count();
        let unit = trimmed[digits..].trim_start_matches(' ').to_lowercase();
        let known = ["", "b", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib", "g", "t"];
        let expected = digits > 0 && known.contains(&unit.as_str());
        prop_assert_eq!(DiskSize::try_from(text.as_str()).is_ok(), expected, "{:?}", text);
    }

    #[test]
    fn commands_run_by_position_from_whatever_order_they_were_written_in(
        order in Just((1u64..=12).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let commands = parse(&commands_at(&order)).unwrap().commands;
        let names: Vec<u64> = commands.iter().map(|each| each.name.parse().unwrap()).collect();
        prop_assert_eq!(names, (1..=12).collect::<Vec<_>>());
    }

    #[test]
    fn positions_are_accepted_only_without_gap_and_repetition(
        positions in prop::collection::vec(0u64..6, 1..6),
    ) {
        let mut sorted = positions.clone();
        sorted.sort_unstable();
        let expected = sorted.iter().copied().eq(1..=positions.len() as u64);
        prop_assert_eq!(parse(&commands_at(&positions)).is_ok(), expected, "{:?}", positions);
    }

    #[test]
    fn base64_content_is_what_was_encoded(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let sections = format!("<files><file name='/f' type='base64'>\n{text}\n</file></files>");
        prop_assert_eq!(parse(&sections).unwrap().files[0].bytes(), Some(bytes));
    }

    #[test]
    fn raw_content_is_the_text_trimmed(text in "[ -~äß\n\t]{0,80}") {
        let sections = format!("<files><file name='/f'>{}</file></files>", escaped(&text));
        let template = parse(&sections).unwrap();
        prop_assert_eq!(template.files[0].file.as_str(), text.trim());
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in any::<String>()) {
        drop(Template::parse(&text, &TemplateRules::rest()));
        drop(TargetContent::from_json(&text));
        drop(TargetContentFile::parse(&text, &XmlLimits::default()));
        drop(Icicle::parse(&text));
        names_this_host(&text);
    }

    #[test]
    fn no_arrangement_of_tags_makes_the_reader_panic(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "<template>", "</template>", "<os>", "</os>", "<install type='iso'>", "</install>",
                "<name>", "</name>", "<iso>", "file:/x", "<extras>", "<file name='", "' type='url'>",
                "<commands>", "<command position='1'>", "</command>", "&amp;", "<![CDATA[", "]]>",
                "<!--", "-->", "<?x", "?>", "<!DOCTYPE", "=", "\"", "/>", " xmlns:a='b'", "ä", "\n",
            ]),
            0..40,
        ),
    ) {
        let text = pieces.concat();
        if let Err(error) = Template::parse(&text, &TemplateRules::rest()) {
            prop_assert!(!error.findings.is_empty());
        }
        drop(Template::parse(&template_with(&text), &TemplateRules::rest()));
    }

    #[test]
    fn over_rest_no_spelling_of_a_local_file_passes(
        blanks in "[ \t\n]{0,3}",
        scheme in "(file|FILE|File):",
        slashes in "/{0,3}",
        path in "[a-z/.]{1,20}",
    ) {
        let sections =
            format!("<files><file name='/f' type='url'>{blanks}{scheme}{slashes}{path}</file></files>");
        prop_assert!(parse(&sections).is_err());
        let sections =
            format!("<files><file name='/f' type='url'>{blanks}/{path}</file></files>");
        prop_assert!(parse(&sections).is_err());
    }

    #[test]
    fn an_icicle_is_read_as_it_was_written(
        names in prop::collection::vec("[ -~ä\n]{0,20}", 0..8),
        extra in prop::option::of("[!-~ß]{1,20}"),
    ) {
        let packages = names
            .into_iter()
            .map(|name| IciclePackage { name, extra: extra.clone() })
            .collect();
        let icicle = Icicle { description: None, packages };
        prop_assert_eq!(Icicle::parse(&icicle.to_xml().unwrap()).unwrap(), icicle);
    }

    #[test]
    fn an_icicle_that_can_be_written_can_be_read(
        texts in prop::collection::vec(any::<String>(), 3),
    ) {
        let [description, name, extra] = <[String; 3]>::try_from(texts).unwrap();
        let packages = vec![IciclePackage { name, extra: Some(extra) }];
        if let Ok(xml) = (Icicle { description: Some(description), packages }).to_xml() {
            prop_assert!(Icicle::parse(&xml).is_ok(), "{:?}", xml);
        }
    }
}
