//! A machine of libvirt's that lives as long as this value.

use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::author::Result;
use serde::Serialize;
use serde_json::json;

use crate::conversation::{Answer, Conversation, unexpected};

/// What to start.
#[derive(Debug, Clone, Serialize)]
pub struct MachineOrder {
    /// Of the domain; unique on the libvirt host.
    pub name: String,
    /// `kvm` or `qemu`.
    pub domain_type: String,
    /// `bios` or `uefi`.
    pub firmware: String,
    /// Where its disk lies.
    pub pool: String,
    /// Its disk; the guest writes into it.
    pub volume: String,
    /// Of the disk, as QEMU calls it.
    pub format: String,
    /// Memory.
    pub memory_mib: u32,
    /// Processors.
    pub processors: u32,
    /// What it says on its serial port is appended to this file.
    pub serial: PathBuf,
}

/// A running one.
pub struct Machine {
    conversation: Conversation,
}

impl Machine {
    pub(crate) fn start(mut conversation: Conversation) -> Result<Machine> {
        match conversation.answer()? {
            Answer::Started => Ok(Machine { conversation }),
            other => Err(unexpected(&other)),
        }
    }

    /// `running`, `paused`, `shutdown`, `crashed`, `gone`, `unknown`.
    pub fn state(&mut self) -> Result<String> {
        self.conversation.say(&json!({ "do": "state" }))?;
        match self.conversation.answer()? {
            Answer::State(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes what its screen shows; answers the media type.
    pub fn screenshot(&mut self, file: &Path) -> Result<String> {
        self.conversation.say(&json!({ "do": "screenshot", "file": file }))?;
        match self.conversation.answer()? {
            Answer::Screenshot(media_type) => Ok(media_type),
            other => Err(unexpected(&other)),
        }
    }
}
