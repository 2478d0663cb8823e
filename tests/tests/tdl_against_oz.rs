//! The template reader against the established one: hundreds of variants of two templates, each
//! judged by Oz's own RELAX NG schema (through xmllint) and by us. It needs xmllint (package
//! libxml2-utils) and Oz's schema, and says so loudly where it cannot run. `make test-long` judges
//! twenty times as many.
//!
//! The schema is taken from an installed Oz (package oz), or from `OZ_TDL_RNG`, for instance after
//! `apt-get download oz && dpkg -x oz_*.deb somewhere`. Nothing of Oz is in this repository.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its fixtures has failed")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imagefactory_plugin_sdk::payload::template::{Template, TemplateRules};

/// Enough to reach every kind of mutation of every element several times; a second of xmllint.
const VARIANTS: u64 = 3000;

/// With `IMAGEFACTORY_TEST_LONG`: enough for pairs of mutations; half a minute.
const VARIANTS_LONG: u64 = 60_000;

/// Our verdict. Local files are not the schema's subject.
fn we_accept(xml: &str) -> bool {
    Template::parse(xml, &TemplateRules::command_line()).is_ok()
}

/// A schema that can be run, or the reason why not.
fn find_schema() -> Result<PathBuf, String> {
    if Command::new("xmllint").arg("--version").output().is_err() {
        return Err("xmllint is not installed (package libxml2-utils)".to_owned());
    }
    let given = std::env::var_os("OZ_TDL_RNG").map(PathBuf::from);
    let installed = PathBuf::from("/usr/lib/python3/dist-packages/oz/tdl.rng");
    let schema = given.into_iter().chain([installed]).find(|path| path.is_file());
    schema.ok_or_else(|| "Oz is not installed (package oz), and OZ_TDL_RNG is not set".to_owned())
}

/// Which of the documents the schema accepts, in one run of xmllint.
fn schema_accepts(schema: &Path, documents: &[String]) -> Vec<bool> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("xmllint");
    command.args(["--nonet", "--noout", "--relaxng"]).arg(schema).current_dir(folder.path());
    for (index, document) in documents.iter().enumerate() {
        let name = format!("{index}.xml");
        fs::write(folder.path().join(&name), document).unwrap();
        command.arg(name);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let accepted: HashSet<&str> =
        said.lines().filter_map(|line| line.strip_suffix(" validates")).collect();
    assert!(!accepted.is_empty(), "xmllint accepted nothing: {said}");
    (0..documents.len()).map(|index| accepted.contains(format!("{index}.xml").as_str())).collect()
}

/// An element, small enough to mutate.
#[derive(Debug, Clone)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

fn element(name: &str, attributes: &[(&str, &str)], children: Vec<Element>) -> Element {
    let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Element { name: name.to_owned(), attributes, text: String::new(), children }
}

fn text(name: &str, attributes: &[(&str, &str)], text: &str) -> Element {
    Element { text: text.to_owned(), ..element(name, attributes, Vec::new()) }
}

fn write(element: &Element, xml: &mut String) {
    xml.push_str(&format!("<{}", element.name));
    for (name, value) in &element.attributes {
        xml.push_str(&format!(" {name}=\"{value}\""));
    }
    xml.push('>');
    xml.push_str(&element.text);
    for child in &element.children {
        write(child, xml);
    }
    xml.push_str(&format!("</{}>", element.name));
}

/// Every element of the language but `extras`, whose place after `iso` the schema insists on.
fn whole_template(install: Element) -> Element {
    let os = element(
        "os",
        &[],
        vec![
            text("name", &[], "Fedora"),
            text("version", &[], "41"),
            text("arch", &[], "x86_64"),
            install,
            text("rootpw", &[], "x"),
            text("key", &[], "x"),
            text("kernelparam", &[], "x"),
            element("icicle", &[], vec![text("extra_command", &[], "x")]),
        ],
    );
    let package = element(
        "package",
        &[("name", "p")],
        vec![text("repository", &[], "r"), text("file", &[], "f"), text("arguments", &[], "a")],
    );
    let repository = element(
        "repository",
        &[("name", "r")],
        vec![
            text("url", &[], "http://h/r"),
            text("signed", &[], "yes"),
            text("persisted", &[], "No"),
            text("sslverify", &[], "TRUE"),
        ],
    );
    // Content that is valid whatever the type becomes.
    let content =
        |name: &str, of_type: &str| text(name, &[("name", "n"), ("type", of_type)], "aGk=");
    element(
        "template",
        &[("version", "1.0")],
        vec![
            text("name", &[], "t"),
            text("description", &[], "d"),
            os,
            element("disk", &[], vec![text("size", &[], "10G")]),
            element("packages", &[], vec![package]),
            element("repositories", &[], vec![repository]),
            element("files", &[], vec![content("file", "raw"), content("file", "base64")]),
            element("commands", &[], vec![content("command", "url"), content("command", "raw")]),
            element("precommands", &[], vec![content("command", "base64")]),
        ],
    )
}

/// A small generator of numbers; the same seed gives the same variant everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

fn count(element: &Element) -> usize {
    1 + element.children.iter().map(count).sum::<usize>()
}

/// The element of that number, in document order.
fn nth(element: &mut Element, number: usize) -> &mut Element {
    let mut left = number;
    if left == 0 {
        return element;
    }
    left -= 1;
    let mut index = 0;
    while left >= count(&element.children[index]) {
        left -= count(&element.children[index]);
        index += 1;
    }
    nth(&mut element.children[index], left)
}

/// Values that both sides judge alike; where they differ by design is another test.
fn values_of(name: &str) -> &'static [&'static str] {
    match name {
        "arch" => {
            &["i386", "ppc64", "ppc64le", "aarch64", "armv7l", "s390x", "amd64", "", "X86_64"]
        }
        "signed" | "persisted" | "sslverify" => &["true", "FALSE", "yEs", "no", "1", "on", ""],
        "size" => &["10", "10 G", "2T", "7  T", "ten", "10 X", "-1", "1.5G"],
        "command" | "file" => &["aGk=", "aGkK"],
        _ => &["x", "", " x ", "http://h/", "&amp;"],
    }
}

fn mutate(root: &mut Element, dice: &mut Dice) {
    let chosen = dice.below(count(root));
    let element = nth(root, chosen);
    let child = dice.below(element.children.len());
    match dice.below(11) {
        0 if !element.children.is_empty() => drop(element.children.remove(child)),
        1 if !element.children.is_empty() => {
            let twin = element.children[child].clone();
            element.children.push(twin);
        }
        2 if !element.children.is_empty() => {
            let moved = element.children.remove(child);
            element.children.insert(dice.below(element.children.len() + 1), moved);
        }
        3 => {
            let names =
                ["name", "os", "file", "url", "iso", "md5sum", "sha256sum", "package", "nonsense"];
            element.name = dice.one_of(&names).to_owned();
        }
        4 => {
            let name = dice.one_of(&["name", "type", "version", "position2", "xml:lang", "source"]);
            if element.attributes.iter().all(|(known, _)| known != name) {
                element.attributes.push((name.to_owned(), "raw".to_owned()));
            }
        }
        5 if !element.attributes.is_empty() => {
            drop(element.attributes.remove(0));
        }
        6 => {
            for (name, value) in &mut element.attributes {
                if name == "type" {
                    *value = dice.one_of(&["raw", "base64", "url", "iso", "hex", ""]).to_owned();
                } else if name == "version" {
                    *value = dice.one_of(&["1.0", "2.0", "1", "0.9"]).to_owned();
                }
            }
        }
        7 | 8 if element.children.is_empty() => {
            element.text = dice.one_of(values_of(&element.name)).to_owned();
        }
        9 => {
            // Blanks around a typed value are a deviation of its own.
            let is_typed = values_of(&element.name) != values_of("name");
            let blank = if is_typed && element.children.is_empty() { "" } else { "\n  " };
            let piece = dice.one_of(&["<!-- c -->", blank, "<?pi x?>", "<nonsense/>"]);
            element.text.insert_str(0, piece);
        }
        10 if !element.children.is_empty() => {
            element.text = dice.one_of(&["stray", " \n\t", "&amp;"]).to_owned();
        }
        _ => {}
    }
}

/// What Oz's own code refuses although its schema does not: not for the schema to judge.
fn is_beyond_the_schema(error: &str) -> bool {
    ["the <command> is empty", "needs a URL"].iter().any(|reason| error.contains(reason))
}

#[test]
fn verdicts_on_thousands_of_variants_are_those_of_ozs_schema_where_oz_is_installed() {
    let schema = match find_schema() {
        Ok(schema) => schema,
        Err(why) => {
            eprintln!("SKIPPED, NOTHING WAS COMPARED: {why}");
            return;
        }
    };
    let iso = element(
        "install",
        &[("type", "iso")],
        vec![text("iso", &[], "http://h/i"), text("sha1sum", &[], "http://h/s")],
    );
    let url = element("install", &[("type", "url")], vec![text("url", &[], "http://h/")]);
    let bases = [whole_template(iso), whole_template(url)];
    let is_long = std::env::var_os("IMAGEFACTORY_TEST_LONG").is_some();
    let documents: Vec<String> = (0..if is_long { VARIANTS_LONG } else { VARIANTS })
        .map(|seed| {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut root = bases[seed as usize % 2].clone();
            for _ in 0..seed % 4 {
                mutate(&mut root, &mut dice);
            }
            let mut xml = String::new();
            write(&root, &mut xml);
            xml
        })
        .collect();
    let verdicts: Vec<bool> =
        documents.chunks(500).flat_map(|some| schema_accepts(&schema, some)).collect();
    let mut compared = [0; 2];
    for (document, schema_accepts) in documents.iter().zip(verdicts) {
        let ours = Template::parse(document, &TemplateRules::command_line());
        let error = ours.as_ref().err().map(ToString::to_string).unwrap_or_default();
        if is_beyond_the_schema(&error) {
            continue;
        }
        assert_eq!(ours.is_ok(), schema_accepts, "we say: {error:?}\n{document}");
        compared[usize::from(schema_accepts)] += 1;
    }
    // Both verdicts were reached often, or the comparison means nothing.
    assert!(compared[0] > 500 && compared[1] > 500, "refused, accepted: {compared:?}");
}

/// Where we differ from the schema by design, as docs/TDL.md says.
#[test]
fn deviations_from_ozs_schema_are_the_documented_ones_where_oz_is_installed() {
    let with = |install: &str, sections: &str| {
        format!(
            "<template><name>t</name><os><name>F</name><version>1</version><arch>i386</arch>\
             {install}</os>{sections}</template>"
        )
    };
    let url = "<install type='url'><url>http://h/</url></install>";
    let extras = "<extras><file source='http://h/' destination='d'/></extras>";
    let cases: Vec<(String, bool, bool)> = vec![
        // document, the schema's verdict, ours
        (with(url, ""), true, true),
        // Oz's code refuses these after its schema
        (with(&url.replace("</install>", &format!("{extras}</install>")), ""), true, false),
        (with(url, "<commands><command name='c'> </command></commands>"), true, false),
        (with(url, "<commands><command name='c' position=''>x</command></commands>"), true, false),
        (with(url, "<commands><command name='c' position='2'>x</command></commands>"), true, false),
        (with(url, "<files><file name='f' type='base64'>aGk</file></files>"), true, false),
        (with(url, "<files><file name='f' type=' raw '>x</file></files>"), true, false),
        (with(url, "<disk><size>G</size></disk>"), true, false),
        // we refuse these, Oz does not
        (with(url, "<disk><size/></disk>"), true, false),
        // we accept these, Oz does not
        (with(url, "<disk><size> 10 </size></disk>"), false, true),
        (with(url, "<files><file name='f' type='base64'> aGk= </file></files>"), false, true),
        (
            with(&format!("<install type='iso'>{extras}<iso>http://h/</iso></install>"), ""),
            false,
            true,
        ),
    ];
    for (document, _, ours) in &cases {
        assert_eq!(we_accept(document), *ours, "{document}");
    }
    let schema = match find_schema() {
        Ok(schema) => schema,
        Err(why) => {
            eprintln!("SKIPPED, NOTHING WAS COMPARED: {why}");
            return;
        }
    };
    let documents: Vec<String> = cases.iter().map(|(document, ..)| document.clone()).collect();
    for ((document, expected, _), verdict) in cases.iter().zip(schema_accepts(&schema, &documents))
    {
        assert_eq!(verdict, *expected, "the schema judges otherwise: {document}");
    }
}
