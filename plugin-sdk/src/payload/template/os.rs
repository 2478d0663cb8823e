//! `<os>`: which operating system, for which architecture, installed from where. Whether anybody
//! can build it is the registry's question, asked with name, version and architecture.

use std::fmt;

use roxmltree::Node;
use serde::{Deserialize, Serialize};

use super::vocabulary as rule;
use super::{source, TemplateRules};
use crate::payload::finding::quoted;
use crate::payload::nearest::nearest;
use crate::payload::sensitive::SensitiveText;
use crate::payload::xml::walk::{Opened, Walk};

/// `<os>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatingSystem {
    /// `Fedora`, `RHEL-9`, `Debian`.
    pub name: String,
    /// `41`, `4`, `12`.
    pub version: String,
    /// The machine's architecture.
    pub arch: Arch,
    /// Where the installation comes from.
    pub install: Install,
    /// Password of root or Administrator; `None` leaves it to the OS plugin.
    pub rootpw: Option<SensitiveText>,
    /// Installation (licence) key.
    pub key: Option<SensitiveText>,
    /// Extra kernel parameters of the installation.
    pub kernelparam: Option<String>,
    /// A command whose output joins the ICICLE.
    pub icicle_extra_command: Option<String>,
}

/// The architectures that TDL knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 32-bit x86.
    I386,
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit POWER, big-endian.
    Ppc64,
    /// 64-bit POWER, little-endian.
    Ppc64le,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM with hardware floating point.
    Armv7l,
    /// 64-bit IBM Z.
    S390x,
}

impl Arch {
    /// All, in the schema's order.
    pub const ALL: [Arch; 7] = [
        Arch::I386,
        Arch::X86_64,
        Arch::Ppc64,
        Arch::Ppc64le,
        Arch::Aarch64,
        Arch::Armv7l,
        Arch::S390x,
    ];

    /// As in templates and in `uname -m`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::I386 => "i386",
            Arch::X86_64 => "x86_64",
            Arch::Ppc64 => "ppc64",
            Arch::Ppc64le => "ppc64le",
            Arch::Aarch64 => "aarch64",
            Arch::Armv7l => "armv7l",
            Arch::S390x => "s390x",
        }
    }

    fn from_name(name: &str) -> Option<Arch> {
        Arch::ALL.iter().copied().find(|arch| arch.name() == name)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `<install>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Install {
    /// From an installation tree.
    Url {
        /// Of the tree.
        url: String,
    },
    /// From an installation medium.
    Iso {
        /// URL of the medium.
        iso: String,
        /// How to check the medium.
        checksum: Option<IsoChecksum>,
        /// What to put on the medium beside its own content.
        extras: Vec<IsoExtra>,
    },
}

/// `<md5sum>`, `<sha1sum>` or `<sha256sum>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsoChecksum {
    /// Which digest.
    #[serde(rename = "type")]
    pub kind: ChecksumKind,
    /// URL of the file that lists the digests.
    pub url: String,
}

/// Digests of an installation medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumKind {
    /// Guards against accidents only.
    Md5,
    /// Guards against accidents only.
    Sha1,
    /// Guards against forgery as well.
    Sha256,
}

/// `<directory>` or `<file>` of `<extras>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsoExtra {
    /// One file, or a folder with all that is in it.
    #[serde(rename = "type")]
    pub kind: IsoExtraKind,
    /// URL of what is added.
    pub source: String,
    /// Where on the medium, relative to its root.
    pub destination: String,
}

/// What an [`IsoExtra`] adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IsoExtraKind {
    /// One file.
    File,
    /// A folder with all that is in it.
    Directory,
}

// URLs may hold passwords (`http://user:password@host/`), which `quoted` masks.

impl fmt::Debug for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Install::Url { url } => write!(f, "Url({})", quoted(url)),
            Install::Iso { iso, checksum, extras } => {
                write!(f, "Iso({}, {checksum:?}, {extras:?})", quoted(iso))
            }
        }
    }
}

impl fmt::Debug for IsoChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IsoChecksum({:?}, {})", self.kind, quoted(&self.url))
    }
}

impl fmt::Debug for IsoExtra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IsoExtra({:?}, {} to {:?})", self.kind, quoted(&self.source), self.destination)
    }
}

/// `None` only beside a finding.
pub(super) fn read_os<'d>(
    walk: &mut Walk<'d>,
    node: Node<'d, 'd>,
    rules: &TemplateRules,
) -> Option<OperatingSystem> {
    let os = walk.open(node, &rule::OS);
    let name = os.child("name").map(|node| walk.text(node));
    let version = os.child("version").map(|node| walk.text(node));
    let arch = os.child("arch").and_then(|node| read_arch(walk, node));
    let install = os.child("install").and_then(|node| read_install(walk, node, rules));
    let rootpw = optional_text(walk, &os, "rootpw");
    if rules.require_root_password && rootpw.is_none() {
        let message = "<os> sets no root password; add <rootpw>: this factory requires one \
                       (tdl_require_root_pw)";
        walk.find(os.node, message.to_owned());
    }
    let key = optional_text(walk, &os, "key");
    let kernelparam = optional_text(walk, &os, "kernelparam");
    let icicle_extra_command = os.child("icicle").and_then(|node| {
        let icicle = walk.open(node, &rule::ICICLE);
        optional_text(walk, &icicle, "extra_command")
    });
    Some(OperatingSystem {
        name: name?,
        version: version?,
        arch: arch?,
        install: install?,
        rootpw: rootpw.map(SensitiveText::new),
        key: key.map(SensitiveText::new),
        kernelparam,
        icicle_extra_command,
    })
}

/// An absent and an empty element mean the same: not set.
fn optional_text<'d>(walk: &mut Walk<'d>, of: &Opened<'d>, name: &str) -> Option<String> {
    of.child(name).map(|node| walk.text(node)).filter(|text| !text.is_empty())
}

fn read_arch<'d>(walk: &mut Walk<'d>, node: Node<'d, 'd>) -> Option<Arch> {
    let text = walk.text(node);
    let arch = Arch::from_name(&text);
    if arch.is_none() {
        let names: Vec<&str> = Arch::ALL.iter().map(|arch| arch.name()).collect();
        let way_out = match nearest(&text, &names) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known are {}", names.join(", ")),
        };
        walk.find(node, format!("{} is no architecture; {way_out}", quoted(&text)));
    }
    arch
}

fn read_install<'d>(
    walk: &mut Walk<'d>,
    node: Node<'d, 'd>,
    rules: &TemplateRules,
) -> Option<Install> {
    match node.attribute("type") {
        Some("url") => {
            let install = walk.open(node, &rule::INSTALL_URL);
            let url = read_location(walk, install.child("url")?, rules);
            Some(Install::Url { url })
        }
        Some("iso") => {
            let install = walk.open(node, &rule::INSTALL_ISO);
            let iso = install.child("iso").map(|node| read_location(walk, node, rules));
            let checksum = read_checksum(walk, &install, rules);
            let extras = match install.child("extras") {
                Some(extras) => read_extras(walk, extras, rules),
                None => Vec::new(),
            };
            Some(Install::Iso { iso: iso?, checksum, extras })
        }
        Some(other) => {
            let message =
                format!("<install> has the type {}; known are url and iso", quoted(other));
            walk.find(node, message);
            None
        }
        None => {
            let message = "<install> lacks the attribute type; write type=\"url\" or type=\"iso\"";
            walk.find(node, message.to_owned());
            None
        }
    }
}

fn read_checksum<'d>(
    walk: &mut Walk<'d>,
    install: &Opened<'d>,
    rules: &TemplateRules,
) -> Option<IsoChecksum> {
    let mut read = None;
    for (name, kind) in [
        ("md5sum", ChecksumKind::Md5),
        ("sha1sum", ChecksumKind::Sha1),
        ("sha256sum", ChecksumKind::Sha256),
    ] {
        if let Some(node) = install.child(name) {
            let url = read_location(walk, node, rules);
            if read.is_some() {
                let message = "<install> has more than one of <md5sum> <sha1sum> <sha256sum>; \
                               keep the strongest";
                walk.find(node, message.to_owned());
            }
            read = Some(IsoChecksum { kind, url });
        }
    }
    read
}

fn read_extras<'d>(
    walk: &mut Walk<'d>,
    node: Node<'d, 'd>,
    rules: &TemplateRules,
) -> Vec<IsoExtra> {
    let extras = walk.open(node, &rule::EXTRAS);
    if extras.children().is_empty() {
        let message = "<extras> is empty; add a <directory> or <file>, or remove it";
        walk.find(node, message.to_owned());
    }
    let mut read = Vec::new();
    for &child in extras.children() {
        let extra = walk.open(child, &rule::EXTRA);
        if !walk.text_of(child).is_empty() {
            let message = "text stands inside an element of <extras>; it has attributes only";
            walk.find(child, message.to_owned());
        }
        let kind = match child.tag_name().name() {
            "file" => IsoExtraKind::File,
            _ => IsoExtraKind::Directory,
        };
        let source = extra.attribute("source").unwrap_or("").trim().to_owned();
        let destination = extra.attribute("destination").unwrap_or("").trim().to_owned();
        source::check_fetched(walk, child, &source, rules.source);
        read.push(IsoExtra { kind, source, destination });
    }
    read
}

/// The text of an element that names where something is fetched from.
fn read_location<'d>(walk: &mut Walk<'d>, node: Node<'d, 'd>, rules: &TemplateRules) -> String {
    let url = walk.text(node);
    source::check_fetched(walk, node, &url, rules.source);
    url
}
