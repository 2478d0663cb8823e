//! The template: what to build, not for which cloud, written in TDL, the template description
//! language (docs/TDL.md).
//!
//! [`Template::parse`] accepts what Oz's TDL 1.0 accepts, with the same meaning, and refuses the
//! rest with every finding and its place. The host parses each template once and hands the result
//! to plugins as JSON ([`Template::to_json`], `template_json` of a stage); plugins in Rust may
//! equally parse the XML. Nothing is fetched or opened here.

mod commands;
mod contents;
mod disk_size;
mod error;
mod os;
mod packages;
mod parse;
mod rules;
mod source;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::commands::Command;
pub use self::contents::{ContentType, TemplateFile};
pub use self::disk_size::DiskSize;
pub use self::error::TemplateError;
pub use self::os::{
    Arch, ChecksumKind, Install, IsoChecksum, IsoExtra, IsoExtraKind, OperatingSystem,
};
pub use self::packages::{Package, Repository};
pub use self::rules::{TemplateLimits, TemplateRules};
pub use self::source::{names_this_host, TemplateSource};

pub(crate) use self::contents::check_encoding;
pub(crate) use self::packages::{read_packages, read_repositories};

/// A parsed template. Its serde form is `template_json`: the keys are the field names below, a
/// closed set; absent values are null or empty lists.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Name of the image.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// What to install, and from where.
    pub os: OperatingSystem,
    /// Size of the disk; `None` leaves it to the OS plugin.
    pub disk_size: Option<DiskSize>,
    /// In document order; a name may occur twice.
    pub packages: Vec<Package>,
    /// In document order of the first mention; the last one of a name counts.
    pub repositories: Vec<Repository>,
    /// In document order of the first mention; the last one of a name counts.
    pub files: Vec<TemplateFile>,
    /// In the order in which they run.
    pub commands: Vec<Command>,
    /// In the order in which they run, before packages are installed.
    pub precommands: Vec<Command>,
}

impl Template {
    /// Reads a template. The error carries everything that is wrong, not only the first thing.
    pub fn parse(xml: &str, rules: &TemplateRules) -> Result<Template, TemplateError> {
        parse::parse(xml, rules)
    }

    /// The document that plugins read as `template_json`. Holds the root password: no log, no
    /// answer.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads what [`Template::to_json`] wrote.
    pub fn from_json(json: &str) -> Result<Template, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// Does anything in it fetch from the network when it runs (`type="url"`)?
    pub fn fetches_urls(&self) -> bool {
        let command_kinds = self.commands.iter().chain(&self.precommands).map(|each| each.kind);
        let mut kinds = self.files.iter().map(|file| file.kind).chain(command_kinds);
        kinds.any(|kind| kind == ContentType::Url)
    }
}

/// Commands, file contents and URLs may hold passwords, so only names and numbers are shown.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("name", &self.name)
            .field("os", &self.os)
            .field("disk_size", &self.disk_size)
            .field("packages", &self.packages.len())
            .field("repositories", &self.repositories.len())
            .field("files", &self.files.len())
            .field("commands", &self.commands.len())
            .field("precommands", &self.precommands.len())
            .finish_non_exhaustive()
    }
}
