//! The mock provider: a file to which facts are only ever appended, one line each.
//!
//! ```text
//! create TOKEN IDENTIFIER
//! remove TOKEN IDENTIFIER
//! ```
//!
//! What the last line of a token says is true. No lock: the host never runs two attempts of a
//! stage at once, and a line shorter than a page is appended in one piece.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::author::{PluginError, Result, Stage};
use serde::Deserialize;

/// The ledger of one provider; `None` = the provider keeps nothing.
pub(crate) struct Ledger {
    path: Option<PathBuf>,
}

/// One fact.
#[derive(PartialEq)]
pub(crate) struct Line<'a> {
    exists: bool,
    /// What the plugin chose before it created.
    pub(crate) token: &'a str,
    /// What the provider calls it.
    pub(crate) identifier: &'a str,
}

/// The part of a provider definition that this plugin reads.
#[derive(Deserialize)]
struct Definition {
    ledger: Option<PathBuf>,
}

impl Ledger {
    /// The ledger that the stage's provider definition names. A definition that is no JSON, or
    /// names none, is a provider that keeps nothing.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Ledger> {
        let definition = stage.provider().and_then(|text| serde_json::from_str(text).ok());
        match definition.and_then(|definition: Definition| definition.ledger) {
            None => Ok(Ledger { path: None }),
            Some(path) if !path.is_absolute() => {
                let message = format!("the ledger {} is not an absolute path", path.display());
                Err(PluginError::user_fault(message))
            }
            Some(path) if path.is_dir() => Ok(Ledger { path: Some(path.join("ledger")) }),
            Some(path) => Ok(Ledger { path: Some(path) }),
        }
    }

    /// Makes the image unless one with this token exists; answers its identifier.
    pub(crate) fn create_once(&self, token: &str, identifier: &str) -> Result<String> {
        if let Some(path) = &self.path {
            let text = read(path)?;
            if let Some(there) = existing(&text, |line| line.token == token) {
                return Ok(there.identifier.to_owned());
            }
            append(path, &format!("create {token} {identifier}\n"))?;
        }
        Ok(identifier.to_owned())
    }

    /// Removes the image that is looked for; one that is not there is gone already.
    pub(crate) fn remove(&self, looked_for: impl Fn(&Line<'_>) -> bool) -> Result<()> {
        if let Some(path) = &self.path {
            let text = read(path)?;
            if let Some(there) = existing(&text, looked_for) {
                append(path, &format!("remove {} {}\n", there.token, there.identifier))?;
            }
        }
        Ok(())
    }
}

/// The last fact about what is looked for, if it says that it exists.
fn existing<'a>(text: &'a str, looked_for: impl Fn(&Line<'_>) -> bool) -> Option<Line<'a>> {
    let facts = text.lines().filter_map(parse);
    facts.filter(|line| looked_for(line)).last().filter(|line| line.exists)
}

fn parse(line: &str) -> Option<Line<'_>> {
    let mut words = line.split(' ');
    let exists = match words.next()? {
        "create" => true,
        "remove" => false,
        _ => return None,
    };
    Some(Line { exists, token: words.next()?, identifier: words.next()? })
}

fn read(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(named(error, "read", path)),
    }
}

fn append(path: &Path, line: &str) -> Result<()> {
    let appended = OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| {
        file.write_all(line.as_bytes())?;
        file.sync_all()
    });
    appended.map_err(|error| named(error, "append to", path))
}

fn named(error: io::Error, what: &str, path: &Path) -> PluginError {
    PluginError::from(error).while_doing(format!("cannot {what} {}", path.display()))
}
