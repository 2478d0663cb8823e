//! What is asked and what is answered.
//!
//! ```text
//! {"do":"look","uri":…,"pool":…,"volume":…}            ─▶ {"volume":{"facts":…|null}}
//! {"do":"create",…,"file":"/path"}                     ─▶ {"progress":…}* {"volume":…}
//! {"do":"clone",…,"from":"jeos.qcow2"}                 ─▶ {"volume":…}
//! {"do":"delete",…}                                    ─▶ {"volume":{"facts":null}}
//! {"do":"boot","uri":…,"machine":{…}}                  ─▶ "started", then for each line asked:
//!     {"do":"state"}                                   ─▶ {"state":"running"}
//!     {"do":"screenshot","file":"/path"}               ─▶ {"screenshot":"image/png"}
//!     end of input: the machine is ended
//! any                                                  ─▶ {"error":{"kind":…,"message":…}}
//! ```

use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use virt::error::{Error, ErrorNumber};

/// The first line of standard input.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Is there such a volume?
    Look { uri: String, pool: String, volume: String },
    /// A new volume with the bytes of a file.
    Create { uri: String, pool: String, volume: String, file: PathBuf },
    /// A new volume with the content of another one of its pool.
    Clone { uri: String, pool: String, from: String, volume: String },
    /// Away with it; one that is not there is away.
    Delete { uri: String, pool: String, volume: String },
    /// A machine that lives as long as the conversation.
    Boot { uri: String, machine: MachineOrder },
}

impl Request {
    /// Of whom it is asked.
    pub fn uri(&self) -> &str {
        match self {
            Request::Look { uri, .. }
            | Request::Create { uri, .. }
            | Request::Clone { uri, .. }
            | Request::Delete { uri, .. }
            | Request::Boot { uri, .. } => uri,
        }
    }
}

/// A machine to start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineOrder {
    /// Of the domain; one that exists is a conflict.
    pub name: String,
    /// `kvm` or `qemu`.
    pub domain_type: String,
    /// `bios` or `uefi`.
    pub firmware: String,
    /// Where the disk lies; the guest writes into it.
    pub pool: String,
    /// The disk.
    pub volume: String,
    /// `raw`, `qcow2`, … as QEMU calls it.
    pub format: String,
    /// Memory.
    pub memory_mib: u32,
    /// Processors.
    pub processors: u32,
    /// What the guest says on its first serial port is appended to this file.
    pub serial: PathBuf,
}

/// A line of standard input while a machine runs.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum MachineRequest {
    /// How is it?
    State,
    /// What does its screen show?
    Screenshot { file: PathBuf },
}

/// What libvirt knows of a volume.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct VolumeFacts {
    /// On the libvirt host.
    pub path: String,
    /// As a guest sees it, where libvirt knows the format.
    pub capacity: u64,
    /// What it occupies.
    pub allocation: u64,
}

/// A line of standard output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// So many bytes are there.
    Progress { done: u64, total: u64 },
    /// The volume as it is now.
    Volume { facts: Option<VolumeFacts> },
    /// The machine runs.
    Started,
    /// As libvirt calls it.
    State(&'static str),
    /// The media type of the file.
    Screenshot(String),
    /// Nothing more follows.
    Error(Failure),
}

/// Why not.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// `unreachable`, `missing`, `exists`, `denied`, `failed`.
    pub kind: &'static str,
    /// One sentence.
    pub message: String,
}

impl Failure {
    /// Whatever has no kind of its own.
    pub fn failed(message: String) -> Failure {
        Failure { kind: "failed", message }
    }

    /// libvirt refused while this was done.
    pub fn of(doing: &str, error: &Error) -> Failure {
        let code = error.code();
        let kind = if code.is(ErrorNumber::NoStorageVolume) || code.is(ErrorNumber::NoStoragePool) {
            "missing"
        } else if code.is(ErrorNumber::StorageVolExist) || code.is(ErrorNumber::DomExist) {
            "exists"
        } else if code.is(ErrorNumber::AccessDenied) || code.is(ErrorNumber::OperationDenied) {
            "denied"
        } else {
            "failed"
        };
        Failure { kind, message: format!("{doing}: {}", error.message()) }
    }
}

/// Says it. Who does not listen any more has ended; then so does this program, at its next line.
pub fn answer(answer: &Answer) {
    let mut line = serde_json::to_string(answer).unwrap_or_else(|error| {
        format!(r#"{{"error":{{"kind":"failed","message":"an answer: {error}"}}}}"#)
    });
    line.push('\n');
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
}
