//! `/etc/imagefactory/target_content.xml`: packages and repositories that an operator adds to every
//! target image of some target, OS, version and architecture.
//!
//! ```xml
//! <template_includes>
//!   <include target="ec2" os="Fedora" version="41" arch="x86_64">
//!     <packages><package name="cloud-init"/></packages>
//!     <repositories><repository name="extra"><url>http://…</url></repository></repositories>
//!   </include>
//! </template_includes>
//! ```
//!
//! The most specific include counts, alone; the others add nothing. What the original ignored is
//! ignored here too, but remarked. Reading the file from disk is the host's business.

use super::{TargetContent, TargetContentError};
use crate::payload::finding::Finding;
use crate::payload::template::{read_packages, read_repositories};
use crate::payload::xml;
use crate::payload::xml::walk::{ElementRule, Opened, Times, UnknownNames, Walk};
use crate::payload::xml::XmlLimits;

const TEMPLATE_INCLUDES: ElementRule =
    ElementRule { attributes: &[], children: &[("include", Times::Any)] };

/// A second `<packages>` or `<repositories>` of one include was always ignored: hence `Any`.
const INCLUDE: ElementRule = ElementRule {
    attributes: &[("target", false), ("os", false), ("version", false), ("arch", false)],
    children: &[("packages", Times::Any), ("repositories", Times::Any)],
};

/// A parsed target_content.xml.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetContentFile {
    includes: Vec<Include>,
    /// What is odd but was always accepted, for the log.
    pub remarks: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Include {
    target: Option<String>,
    os: Option<String>,
    version: Option<String>,
    arch: Option<String>,
    content: TargetContent,
}

/// What a target image is made for, as the includes are matched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetContentPlace<'a> {
    /// `ec2`.
    pub target: &'a str,
    /// The template's `os/name`.
    pub os: &'a str,
    /// The template's `os/version`.
    pub version: &'a str,
    /// The template's `os/arch`.
    pub arch: &'a str,
}

impl TargetContentFile {
    /// Reads the document. Refused: what is no XML, and packages or repositories without name or
    /// URL.
    pub fn parse(text: &str, limits: &XmlLimits) -> Result<Self, TargetContentError> {
        let refused = |findings| TargetContentError { findings };
        let document = xml::parse(text, limits).map_err(|finding| refused(vec![finding]))?;
        let mut walk = Walk::new(&document, UnknownNames::Remarked);
        let mut includes = Vec::new();
        if let Some(root) = walk.root("template_includes") {
            let root = walk.open(root, &TEMPLATE_INCLUDES);
            for &node in root.children() {
                let include = walk.open(node, &INCLUDE);
                includes.push(read_include(&mut walk, &include));
            }
        }
        let (findings, remarks) = (walk.findings.into_vec(), walk.remarks.into_vec());
        if findings.is_empty() {
            return Ok(TargetContentFile { includes, remarks });
        }
        Err(refused(findings))
    }

    /// What to add there; `None` where no include matches. The first of the most specific kind:
    /// with architecture, else with version, else with OS, else with target, else for everything.
    pub fn content_for(&self, place: &TargetContentPlace<'_>) -> Option<&TargetContent> {
        let wanted = [place.target, place.os, place.version, place.arch];
        (0..=wanted.len()).rev().find_map(|given| {
            let matches = |include: &&Include| {
                include.keys().iter().zip(wanted).enumerate().all(|(index, (key, value))| {
                    if index < given {
                        *key == Some(value)
                    } else {
                        key.is_none()
                    }
                })
            };
            self.includes.iter().find(matches).map(|include| &include.content)
        })
    }
}

impl Include {
    /// Least specific first.
    fn keys(&self) -> [Option<&str>; 4] {
        [self.target.as_deref(), self.os.as_deref(), self.version.as_deref(), self.arch.as_deref()]
    }
}

fn read_include<'d>(walk: &mut Walk<'d>, opened: &Opened<'d>) -> Include {
    let attribute = |name| opened.attribute(name).map(str::to_owned);
    let mut content = TargetContent::default();
    for name in ["packages", "repositories"] {
        let mut same = opened.children().iter().filter(|each| each.tag_name().name() == name);
        let (first, second) = (same.next(), same.next());
        match first {
            Some(&node) if name == "packages" => content.packages = read_packages(walk, node),
            Some(&node) => content.repositories = read_repositories(walk, node, &|_, _, _| {}),
            None => {}
        }
        if let Some(&node) = second {
            walk.remark(node, format!("only the first <{name}> of an <include> counts (ignored)"));
        }
    }
    let include = Include {
        target: attribute("target"),
        os: attribute("os"),
        version: attribute("version"),
        arch: attribute("arch"),
        content,
    };
    let keys = include.keys();
    if keys.windows(2).any(|pair| pair[0].is_none() && pair[1].is_some()) {
        let message = "this <include> never matches: arch needs version, version needs os, os \
                       needs target (ignored)";
        walk.remark(opened.node, message.to_owned());
    }
    include
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "<?xml version='1.0'?>
        <template_includes>
          <include><packages><package name='everywhere'/></packages></include>
          <include target='ec2'><packages><package name='target'/></packages></include>
          <include target='ec2' os='Fedora'><packages><package name='os'/></packages></include>
          <include target='ec2' os='Fedora' version='41'>
            <packages><package name='version'/></packages>
            <repositories><repository name='r'><url>http://h/</url></repository></repositories>
          </include>
          <include target='ec2' os='Fedora' version='41' arch='x86_64'>
            <packages><package name='arch'/></packages>
          </include>
          <include target='ec2' os='Fedora'><packages><package name='second'/></packages></include>
        </template_includes>";

    fn parse(text: &str) -> TargetContentFile {
        TargetContentFile::parse(text, &XmlLimits::default()).unwrap()
    }

    fn check_content(file: &str, place: [&str; 4], expected: Option<&str>) {
        let file = parse(file);
        let [target, os, version, arch] = place;
        let found = file.content_for(&TargetContentPlace { target, os, version, arch });
        assert_eq!(found.map(|content| content.packages[0].name.as_str()), expected, "{place:?}");
    }

    #[test]
    fn the_most_specific_include_counts_alone() {
        check_content(FILE, ["ec2", "Fedora", "41", "x86_64"], Some("arch"));
        check_content(FILE, ["ec2", "Fedora", "41", "aarch64"], Some("version"));
        check_content(FILE, ["ec2", "Fedora", "40", "x86_64"], Some("os"));
        check_content(FILE, ["ec2", "Debian", "41", "x86_64"], Some("target"));
        check_content(FILE, ["ova", "Fedora", "41", "x86_64"], Some("everywhere"));
        check_content("<template_includes/>", ["ec2", "Fedora", "41", "x86_64"], None);
        let partial = "<template_includes><include target='ec2' os='Fedora'><packages>\
                       <package name='p'/></packages></include></template_includes>";
        check_content(partial, ["ec2", "Debian", "12", "x86_64"], None);
    }

    #[test]
    fn what_the_original_ignored_is_ignored_and_remarked() {
        let file = parse(
            "<template_includes>\n<include target='t' flavour='x'>\n<files/>\n\
             <packages><package name='a'/></packages>\n<packages><package name='b'/></packages>\n\
             </include>\n<include arch='x86_64'/></template_includes>",
        );
        let place = TargetContentPlace { target: "t", os: "", version: "", arch: "" };
        assert_eq!(file.content_for(&place).unwrap().packages.len(), 1);
        let remarks: Vec<String> = file.remarks.iter().map(|each| each.to_string()).collect();
        assert_eq!(remarks.len(), 4, "{remarks:#?}");
        assert!(remarks[0].contains("flavour") && remarks[0].starts_with("line 2"), "{remarks:?}");
        assert!(remarks[1].contains("<files>"), "{remarks:?}");
        assert!(remarks[2].contains("only the first <packages>"), "{remarks:?}");
        assert!(remarks[3].contains("never matches"), "{remarks:?}");
    }

    #[test]
    fn what_cannot_be_merged_is_refused_with_its_place() {
        for (text, expected) in [
            ("<includes/>", "it must be <template_includes>"),
            ("<!DOCTYPE a []><template_includes/>", "DTD"),
            (
                "<template_includes><include><packages>\n<package/></packages></include>\
                 </template_includes>",
                "line 2:1: <package> lacks the attribute name",
            ),
            (
                "<template_includes><include><repositories><repository name='r'/></repositories>\
                 </include></template_includes>",
                "<repository> has no <url>",
            ),
        ] {
            let error = TargetContentFile::parse(text, &XmlLimits::default()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
