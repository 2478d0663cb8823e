//! `<packages>` and `<repositories>`, as in templates and in target_content.xml. Packages of one
//! name add up; of repositories of one name the last one counts.

use roxmltree::Node;
use serde::{Deserialize, Serialize};

use super::vocabulary as rule;
use crate::payload::finding::quoted;
use crate::payload::xml::walk::{Opened, Walk};

/// A package to install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// As the OS's package manager knows it.
    pub name: String,
    /// The name of the repository that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What the package manager is told beside the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// Where packages come from beside the installation source.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Unique in a template.
    pub name: String,
    /// Of its metadata. May name the local host: [`super::names_this_host`] tells.
    pub url: String,
    /// Are its packages' signatures checked? Default no, as ever.
    #[serde(default)]
    pub signed: bool,
    /// Does it stay configured in the image? Default yes.
    #[serde(default = "yes")]
    pub persisted: bool,
    /// Is its TLS certificate checked? Default no, as ever.
    #[serde(default)]
    pub sslverify: bool,
}

/// A URL may hold a password, which `quoted` masks.
impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({:?}, {})", self.name, quoted(&self.url))
    }
}

fn yes() -> bool {
    true
}

pub(crate) fn read_packages<'d>(walk: &mut Walk<'d>, node: Node<'d, 'd>) -> Vec<Package> {
    let packages = walk.open(node, &rule::PACKAGES);
    let mut read = Vec::with_capacity(packages.children().len());
    for &child in packages.children() {
        let package = walk.open(child, &rule::PACKAGE);
        let mut text =
            |name| package.child(name).map(|node| walk.text(node)).filter(|text| !text.is_empty());
        read.push(Package {
            name: package.attribute("name").unwrap_or("").trim().to_owned(),
            repository: text("repository"),
            file: text("file"),
            arguments: text("arguments"),
        });
    }
    read
}

/// `check_url` judges each URL by where the document came from.
pub(crate) fn read_repositories<'d>(
    walk: &mut Walk<'d>,
    node: Node<'d, 'd>,
    check_url: &dyn Fn(&mut Walk<'d>, Node<'d, 'd>, &str),
) -> Vec<Repository> {
    let repositories = walk.open(node, &rule::REPOSITORIES);
    let mut read = LastOfAName::default();
    for &child in repositories.children() {
        let repository = walk.open(child, &rule::REPOSITORY);
        let mut url = String::new();
        if let Some(node) = repository.child("url") {
            url = walk.text(node);
            check_url(walk, node, &url);
        }
        let signed = read_switch(walk, &repository, "signed", false);
        let persisted = read_switch(walk, &repository, "persisted", true);
        let sslverify = read_switch(walk, &repository, "sslverify", false);
        let name = repository.attribute("name").unwrap_or("").trim().to_owned();
        let read_one = Repository { name: name.clone(), url, signed, persisted, sslverify };
        read.insert(name, read_one);
    }
    read.entries
}

/// A list in which a later entry takes the place of an earlier one of the same name, in constant
/// time: a hostile template may repeat thousands of names.
#[derive(Debug)]
pub(crate) struct LastOfAName<T> {
    pub(crate) entries: Vec<T>,
    places: std::collections::HashMap<String, usize>,
}

impl<T> Default for LastOfAName<T> {
    fn default() -> Self {
        LastOfAName { entries: Vec::new(), places: std::collections::HashMap::new() }
    }
}

impl<T> LastOfAName<T> {
    pub(crate) fn insert(&mut self, name: String, entry: T) {
        match self.places.get(&name) {
            Some(&place) => self.entries[place] = entry,
            None => {
                self.places.insert(name, self.entries.len());
                self.entries.push(entry);
            }
        }
    }
}

fn read_switch<'d>(
    walk: &mut Walk<'d>,
    repository: &Opened<'d>,
    name: &str,
    default: bool,
) -> bool {
    let node = match repository.child(name) {
        Some(node) => node,
        None => return default,
    };
    let text = walk.text(node);
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" => true,
        "false" | "no" => false,
        _ => {
            let message = format!("<{name}> is {}; write true, false, yes or no", quoted(&text));
            walk.find(node, message);
            default
        }
    }
}
