//! ICICLE: what is in a finished image, package by package, in the XML form that Oz writes and
//! Image Factory's clients read (`<icicle><packages><package name="…"/>…`). Reading goes through
//! the hardened entry for foreign XML; writing through xmltree, whose tree is ours and three levels
//! deep.

use std::fmt;

use xmltree::{Element, EmitterConfig, XMLNode};

use super::finding::Finding;
use super::xml;
use super::xml::walk::{ElementRule, Times, UnknownNames, Walk};
use super::xml::XmlLimits;

/// Longest ICICLE that is read. A full desktop lists 3,000 packages in 300 kB.
const ICICLE_BYTES_MAX: usize = 8 << 20;

const ICICLE: ElementRule = ElementRule {
    attributes: &[],
    children: &[("packages", Times::One), ("description", Times::AtMostOne)],
};
const PACKAGES: ElementRule = ElementRule { attributes: &[], children: &[("package", Times::Any)] };
const PACKAGE: ElementRule =
    ElementRule { attributes: &[("name", true)], children: &[("extra", Times::AtMostOne)] };

/// What an image holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Icicle {
    /// Free text.
    pub description: Option<String>,
    /// In the order in which they were found.
    pub packages: Vec<IciclePackage>,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IciclePackage {
    /// As the package manager prints it, with version: `bash-5.2.26-3.fc41.x86_64`.
    pub name: String,
    /// What the template's `os/icicle/extra_command` printed for it.
    pub extra: Option<String>,
}

/// Why a text is no ICICLE, or an ICICLE no XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IcicleError {
    /// At least one finding, with its place.
    Refused(Vec<Finding>),
    /// XML cannot hold this character, not even escaped.
    Character {
        /// In which package's name or extra; empty for the description.
        package: String,
        /// The character.
        character: char,
    },
    /// The writer's own words.
    Unwritable(String),
}

impl fmt::Display for IcicleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IcicleError::Refused(findings) => {
                f.write_str("the ICICLE is refused: ")?;
                for (index, finding) in findings.iter().enumerate() {
                    write!(f, "{}{finding}", if index > 0 { "; " } else { "" })?;
                }
                Ok(())
            }
            IcicleError::Character { package, character } => write!(
                f,
                "the ICICLE holds the character {character:?} (at {package:?}), which XML cannot \
                 carry; remove it"
            ),
            IcicleError::Unwritable(why) => write!(f, "the ICICLE cannot be written: {why}"),
        }
    }
}

impl std::error::Error for IcicleError {}

impl Icicle {
    /// Reads an ICICLE. Elements that Oz does not write are ignored: plugins may add their own.
    pub fn parse(text: &str) -> Result<Icicle, IcicleError> {
        let limits = XmlLimits {
            bytes_max: ICICLE_BYTES_MAX,
            elements_max: ICICLE_BYTES_MAX / "<package name=\"\"/>".len(),
            ..XmlLimits::default()
        };
        let document =
            xml::parse(text, &limits).map_err(|finding| IcicleError::Refused(vec![finding]))?;
        let mut walk = Walk::new(&document, UnknownNames::Remarked);
        let mut icicle = Icicle::default();
        if let Some(root) = walk.root("icicle") {
            let root = walk.open(root, &ICICLE);
            icicle.description =
                root.child("description").map(|node| walk.text(node)).filter(|t| !t.is_empty());
            if let Some(node) = root.child("packages") {
                let packages = walk.open(node, &PACKAGES);
                for &node in packages.children() {
                    let package = walk.open(node, &PACKAGE);
                    icicle.packages.push(IciclePackage {
                        name: package.attribute("name").unwrap_or("").to_owned(),
                        extra: package.child("extra").map(|node| walk.text(node)),
                    });
                }
            }
        }
        let findings = walk.findings.into_vec();
        if findings.is_empty() {
            return Ok(icicle);
        }
        Err(IcicleError::Refused(findings))
    }

    /// The XML text, one package a line.
    pub fn to_xml(&self) -> Result<String, IcicleError> {
        let mut root = Element::new("icicle");
        if let Some(description) = &self.description {
            root.children.push(text_element("description", description, "")?);
        }
        let mut packages = Element::new("packages");
        for package in &self.packages {
            check_characters(&package.name, &package.name)?;
            let mut element = Element::new("package");
            // The writer leaves tabs as they are, and every reader takes them for blanks.
            element.attributes.insert("name".to_owned(), package.name.replace('\t', " "));
            if let Some(extra) = &package.extra {
                element.children.push(text_element("extra", extra, &package.name)?);
            }
            packages.children.push(XMLNode::Element(element));
        }
        root.children.push(XMLNode::Element(packages));
        let mut bytes = Vec::new();
        let layout = EmitterConfig::new().perform_indent(true);
        root.write_with_config(&mut bytes, layout)
            .map_err(|error| IcicleError::Unwritable(error.to_string()))?;
        String::from_utf8(bytes).map_err(|error| IcicleError::Unwritable(error.to_string()))
    }
}

fn text_element(name: &str, text: &str, package: &str) -> Result<XMLNode, IcicleError> {
    check_characters(text, package)?;
    let mut element = Element::new(name);
    element.children.push(XMLNode::Text(text.to_owned()));
    Ok(XMLNode::Element(element))
}

/// XML 1.0 has no form at all for most control characters.
fn check_characters(text: &str, package: &str) -> Result<(), IcicleError> {
    let forbidden = |c: &char| {
        matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}')
            || matches!(c, '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
    };
    match text.chars().find(forbidden) {
        Some(character) => Err(IcicleError::Character { package: package.to_owned(), character }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, extra: Option<&str>) -> IciclePackage {
        IciclePackage { name: name.to_owned(), extra: extra.map(str::to_owned) }
    }

    #[test]
    fn an_icicle_of_oz_is_read() {
        let icicle = Icicle::parse(
            "<icicle><description>Fedora</description><packages>\
             <package name=\"bash-5.2\"/><package name=\"vim-9\"><extra>a,b</extra></package>\
             </packages></icicle>",
        )
        .unwrap();
        assert_eq!(icicle.description.as_deref(), Some("Fedora"));
        assert_eq!(icicle.packages, [package("bash-5.2", None), package("vim-9", Some("a,b"))]);
    }

    #[test]
    fn what_is_written_is_read_again_whatever_the_names_hold() {
        let icicle = Icicle {
            description: Some("a & b < c > \"d\" 'e' ]]> ä".to_owned()),
            packages: vec![
                package("x<y>&\"z'", Some("<not a=\"tag\"/>")),
                package("blank and\nline", None),
                package("", None),
            ],
        };
        let xml = icicle.to_xml().unwrap();
        assert_eq!(Icicle::parse(&xml).unwrap(), icicle, "{xml}");
        assert_eq!(Icicle::parse(&Icicle::default().to_xml().unwrap()).unwrap(), Icicle::default());
    }

    #[test]
    fn characters_that_xml_has_no_form_for_are_refused_by_package() {
        let icicle = Icicle { description: None, packages: vec![package("a", Some("\u{1b}[1m"))] };
        let error = icicle.to_xml().unwrap_err();
        assert!(error.to_string().contains("\\u{1b}"), "{error}");
    }

    #[test]
    fn what_is_no_icicle_is_refused() {
        for (text, expected) in [
            ("", "not well-formed"),
            ("<packages/>", "it must be <icicle>"),
            ("<icicle/>", "has no <packages>"),
            ("<icicle><packages><package/></packages></icicle>", "lacks the attribute name"),
            ("<!DOCTYPE icicle []><icicle/>", "DTD"),
        ] {
            let error = Icicle::parse(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let own = "<icicle><packages/><kernel>6.1</kernel></icicle>";
        assert!(Icicle::parse(own).is_ok(), "a plugin's own elements are ignored");
    }
}
