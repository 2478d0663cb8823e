//! From XML text to a [`Template`]: opens the document, walks its sections in turn and gathers the
//! findings of all of them. Each section's own rules live in the file of its noun.

use std::convert::TryFrom;

use super::vocabulary as rule;
use super::{commands, contents, os, packages, source};
use super::{DiskSize, Template, TemplateError, TemplateRules};
use crate::payload::finding::quoted;
use crate::payload::xml;
use crate::payload::xml::walk::{Opened, UnknownNames, Walk};

/// The only version of TDL there is.
const VERSION: &str = "1.0";

pub(super) fn parse(text: &str, rules: &TemplateRules) -> Result<Template, TemplateError> {
    let document = xml::parse(text, &rules.limits)
        .map_err(|finding| TemplateError { findings: vec![finding] })?;
    let mut walk = Walk::new(&document, UnknownNames::Refused);
    let template = read_template(&mut walk, rules);
    let findings = walk.findings.into_vec();
    match template {
        Some(template) if findings.is_empty() => Ok(template),
        _ => Err(TemplateError { findings }),
    }
}

/// `None` only beside a finding.
fn read_template<'d>(walk: &mut Walk<'d>, rules: &TemplateRules) -> Option<Template> {
    let root = walk.root("template")?;
    let template = walk.open(root, &rule::TEMPLATE);
    check_version(walk, &template);
    let name = template.child("name").map(|node| walk.text(node));
    let description = template.child("description").map(|node| walk.text(node));
    let os = template.child("os").and_then(|node| os::read_os(walk, node, rules));
    let disk_size = read_disk_size(walk, &template);
    let packages = match template.child("packages") {
        Some(node) => packages::read_packages(walk, node),
        None => Vec::new(),
    };
    let repositories = match template.child("repositories") {
        Some(node) => packages::read_repositories(walk, node, &|walk, node, url| {
            source::check_repository(walk, node, url, rules.source);
        }),
        None => Vec::new(),
    };
    let files = match template.child("files") {
        Some(node) => contents::read_files(walk, node, rules),
        None => Vec::new(),
    };
    let mut read_commands = |name| match template.child(name) {
        Some(node) => commands::read_commands(walk, node, rules),
        None => Vec::new(),
    };
    let (commands, precommands) = (read_commands("commands"), read_commands("precommands"));
    Some(Template {
        name: name?,
        description: description.filter(|text| !text.is_empty()),
        os: os?,
        disk_size,
        packages,
        repositories,
        files,
        commands,
        precommands,
    })
}

fn check_version<'d>(walk: &mut Walk<'d>, template: &Opened<'d>) {
    match template.attribute("version") {
        None => {}
        Some(version) if version.trim() == VERSION => {}
        Some(version) => walk.find(
            template.node,
            format!("the template is of TDL version {}; {VERSION} is known", quoted(version)),
        ),
    }
}

fn read_disk_size<'d>(walk: &mut Walk<'d>, template: &Opened<'d>) -> Option<DiskSize> {
    let disk = walk.open(template.child("disk")?, &rule::DISK);
    let size = disk.child("size")?;
    let text = walk.text(size);
    match DiskSize::try_from(text.as_str()) {
        Ok(size) => Some(size),
        Err(why) => {
            walk.find(size, why);
            None
        }
    }
}
