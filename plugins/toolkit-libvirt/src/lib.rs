//! libvirt for plugins: volumes of a pool, and machines, by the program `imagefactory-libvirt`.
//!
//! Plugins link nothing of libvirt (docs/decisions); they start a program of ours that does, and
//! talk to it in lines of JSON. A stage that is cancelled ends the program, and with it whatever
//! upload or machine it had. What is asked for and what becomes of it is the plugin's.

#![forbid(unsafe_code)]

mod conversation;
mod machine;

use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use conversation::{Answer, Conversation};
pub use machine::{Machine, MachineOrder};

/// The program's name.
const PROGRAM: &str = "imagefactory-libvirt";

/// Where `make install` puts it, by PREFIX.
const FOLDERS: [&str; 2] = ["/usr/local/libexec/imagefactory", "/usr/libexec/imagefactory"];

/// What libvirt knows of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Volume {
    /// On the libvirt host.
    pub path: String,
    /// Bytes, as a guest sees it.
    pub capacity: u64,
    /// Bytes that it occupies.
    pub allocation: u64,
}

/// One libvirt.
pub struct Libvirt {
    host: Host,
    program: PathBuf,
    uri: String,
}

impl Libvirt {
    /// The libvirt at this address (`qemu:///system`). The program is the one of the plugin's
    /// setting `libvirt_program`, or the installed one.
    pub fn at(host: &Host, uri: &str) -> Result<Libvirt> {
        let program = match host.config::<PathBuf>("libvirt_program")? {
            Some(program) => program,
            None => installed()?,
        };
        Ok(Libvirt { host: host.clone(), program, uri: uri.to_owned() })
    }

    /// Its address.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The volume; `None` = there is none. [`ErrorCode::NotFound`]: there is no such pool.
    pub fn look(&self, pool: &str, volume: &str) -> Result<Option<Volume>> {
        self.volume(json!({ "do": "look", "pool": pool, "volume": volume }), "")
    }

    /// A new volume with the bytes of a file; `message` goes with the progress.
    /// [`ErrorCode::AlreadyExists`]: there is one of that name.
    pub fn create(&self, pool: &str, volume: &str, file: &Path, message: &str) -> Result<Volume> {
        let asked = json!({ "do": "create", "pool": pool, "volume": volume, "file": file });
        self.volume(asked, message)?.ok_or_else(no_volume)
    }

    /// A new volume with the content of another. [`ErrorCode::NotFound`]: there is no other.
    pub fn clone_volume(&self, pool: &str, from: &str, volume: &str) -> Result<Volume> {
        let asked = json!({ "do": "clone", "pool": pool, "from": from, "volume": volume });
        self.volume(asked, "")?.ok_or_else(no_volume)
    }

    /// Removes the volume; one that is not there is no error.
    pub fn delete(&self, pool: &str, volume: &str) -> Result<()> {
        let asked = json!({ "do": "delete", "pool": pool, "volume": volume });
        self.volume(asked, "").map(|_| ())
    }

    /// Starts a machine; it ends with the value.
    pub fn boot(&self, order: &MachineOrder) -> Result<Machine> {
        let asked = json!({ "do": "boot", "machine": order });
        Machine::start(self.ask(asked)?)
    }

    fn volume(&self, request: Value, message: &str) -> Result<Option<Volume>> {
        let mut conversation = self.ask(request)?;
        loop {
            match conversation.answer()? {
                Answer::Progress { done, total } => {
                    self.host.progress("upload", message, done, total)?;
                }
                Answer::Volume { facts } => return Ok(facts),
                other => return Err(conversation::unexpected(&other)),
            }
        }
    }

    fn ask(&self, mut request: Value) -> Result<Conversation> {
        request["uri"] = Value::from(self.uri.as_str());
        Conversation::begin(&self.host, &self.program, &request)
    }
}

fn installed() -> Result<PathBuf> {
    let places = FOLDERS.iter().map(|folder| Path::new(folder).join(PROGRAM));
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        let message = format!("{PROGRAM} is not installed (looked in {})", FOLDERS.join(", "));
        PluginError::new(ErrorCode::Unavailable, message)
            .hint("build it with 'make libvirt' and install it, or name it in libvirt_program")
    })
}

fn no_volume() -> PluginError {
    PluginError::new(ErrorCode::Internal, "libvirt made a volume and does not know it")
}
