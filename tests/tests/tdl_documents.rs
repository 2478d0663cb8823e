//! Templates as documents: the fixtures in tests/fixtures/tdl and the examples in docs/TDL.md. The
//! findings of a refused one are a golden (`*.findings`), renewed by `UPDATE_GOLDEN=1`.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its fixtures has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::payload::template::{DiskSize, Install, Template, TemplateRules};

fn repository_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The fixtures of a folder by name; there is at least one.
fn fixtures(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = repository_file("tests/fixtures/tdl").join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "tdl")).collect();
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {}", folder.display());
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn every_accepted_fixture_is_accepted_and_survives_its_json_form() {
    for (path, text) in fixtures("accepted") {
        let template = Template::parse(&text, &TemplateRules::rest())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let json = template.to_json().unwrap();
        assert_eq!(Template::from_json(&json).unwrap(), template, "{}", path.display());
    }
}

#[test]
fn every_refused_fixture_gives_its_recorded_findings() {
    for (path, text) in fixtures("refused") {
        let error = match Template::parse(&text, &TemplateRules::rest()) {
            Ok(_) => panic!("{} is accepted", path.display()),
            Err(error) => error,
        };
        let found: String = error.findings.iter().map(|finding| format!("{finding}\n")).collect();
        let golden = path.with_extension("findings");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &found).unwrap();
        }
        let recorded = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(found, recorded, "{} (renew with UPDATE_GOLDEN=1)", golden.display());
    }
}

#[test]
fn the_fixture_with_every_element_means_what_it_says() {
    let path = repository_file("tests/fixtures/tdl/accepted/everything.tdl");
    let text = fs::read_to_string(path).unwrap();
    let template = Template::parse(&text, &TemplateRules::rest()).unwrap();
    let names: Vec<&str> = template.commands.iter().map(|each| each.name.as_str()).collect();
    assert_eq!(names, ["first", "script", "last"]);
    assert_eq!(template.commands[0].bytes().unwrap(), b"test 1 -lt 2 && echo \"<ok>\"");
    assert_eq!(template.disk_size, Some(DiskSize::Bytes(20 << 30)));
    assert_eq!(template.files.len(), 5);
    assert!(template.files[0].file.starts_with("Welcome again"));
    assert_eq!(template.files[2].bytes().unwrap(), [0, 1, 2, 255]);
    assert!(matches!(&template.os.install, Install::Iso { extras, .. } if extras.len() == 2));
    assert!(template.fetches_urls());
}

/// The fenced blocks of docs/TDL.md: kind (` ```xml template`, …) and text.
fn examples() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository_file("docs/TDL.md")).unwrap();
    let mut examples = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(kind), None) => open = Some((kind.to_owned(), String::new())),
            (Some(_), Some(example)) => examples.push(example),
            (None, Some((kind, text))) => open = Some((kind, text + line + "\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "docs/TDL.md has a fence without an end");
    examples
}

/// A minimal template around an example that shows only a part.
fn around(part: &str) -> String {
    format!(
        "<template><name>t</name><os><name>Fedora</name><version>41</version><arch>x86_64</arch>\
         <install type='url'><url>http://example.org/</url></install></os>{part}</template>"
    )
}

#[test]
fn the_examples_in_the_documentation_are_accepted() {
    let mut checked = 0;
    for (kind, text) in examples() {
        let whole = match kind.as_str() {
            "xml template" => text.clone(),
            "xml part" => around(&text),
            _ => continue,
        };
        checked += 1;
        Template::parse(&whole, &TemplateRules::rest())
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    assert!(checked >= 4, "docs/TDL.md lost its examples: {checked}");
}

#[test]
fn the_refusals_in_the_documentation_are_the_real_ones() {
    let examples = examples();
    let mut checked = 0;
    for pair in examples.windows(2) {
        if let [(kind, text), (answer_kind, answer)] = pair
            && kind == "xml refused"
        {
            assert_eq!(answer_kind, "text", "a refused example is followed by its findings");
            let error = Template::parse(text, &TemplateRules::rest()).unwrap_err();
            let found: String = error.findings.iter().map(|each| format!("{each}\n")).collect();
            assert_eq!(&found, answer, "docs/TDL.md shows other findings");
            checked += 1;
        }
    }
    assert!(checked >= 1, "docs/TDL.md lost its refused examples");
}

#[test]
fn the_documented_defaults_are_the_real_ones() {
    let limits = imagefactory_plugin_sdk::payload::template::TemplateLimits::default();
    let text = fs::read_to_string(repository_file("docs/TDL.md")).unwrap();
    for (limit, shown) in [
        (limits.bytes_max, "1048576 bytes"),
        (limits.depth_max, "32 levels"),
        (limits.elements_max, "50000 elements"),
        (limits.attributes_max, "32 attributes"),
        (limits.namespaces_max, "16 namespaces"),
    ] {
        assert!(shown.starts_with(&limit.to_string()), "{shown} is {limit} in the code");
        assert!(text.contains(shown), "docs/TDL.md does not say {shown}");
    }
}
