//! The plan of a build: everything that the template, the parameters and the configuration decide,
//! before the first file is written. Two equal plans give the same image, bit by bit.

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_plugin_sdk::payload::template::{Install, Template};
use sha2::{Digest, Sha256};

use crate::mirrors::Mirrors;
use crate::suites::{Suite, suite};

/// Without `<disk><size>`: a minimal system has 0.4 GB; this leaves room for a first login. Sparse.
const DISK_BYTES: u64 = 4 << 30;

/// Less holds no system.
const DISK_BYTES_MIN: u64 = 1 << 30;

/// Time stamp of everything in an image that has no better one: 2024-01-01T00:00:00Z. Fixed,
/// because an image that depends on the clock cannot be built twice.
pub(crate) const EPOCH_S: u64 = 1_704_067_200;

/// What every image has beside the kernel: boots, has a network, takes a login, grows.
const BASE_PACKAGES: [&str; 12] = [
    "systemd-sysv",
    "init",
    "udev",
    "dbus",
    "iproute2",
    "netbase",
    "openssh-server",
    "zstd",
    "initramfs-tools",
    "cloud-guest-utils",
    "ca-certificates",
    "fdisk",
];

/// The plan.
pub(crate) struct Plan {
    /// The template.
    pub(crate) template: Template,
    /// Which release.
    pub(crate) suite: Suite,
    /// Where packages come from; the first is the distribution itself.
    pub(crate) archives: Vec<Archive>,
    /// In one go with the system: known to need nothing before them.
    pub(crate) packages: Vec<String>,
    /// After the precommands, where there are any.
    pub(crate) late_packages: Vec<String>,
    /// Whole disk.
    pub(crate) disk_bytes: u64,
    /// Of names and numbers that are random elsewhere.
    pub(crate) seed: Seed,
    /// May commands use the network?
    pub(crate) command_network: bool,
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    /// What the build fetches from.
    pub(crate) build_url: String,
    /// As the template names it.
    pub(crate) public_url: String,
    /// What the image is told.
    pub(crate) image_url: String,
    /// Suite or path.
    pub(crate) suite: String,
    /// Components; none for a flat repository.
    pub(crate) components: String,
    /// Is its signature asked for?
    pub(crate) signed: bool,
    /// Does it stay in the image's configuration?
    pub(crate) persisted: bool,
}

impl Archive {
    /// A line of sources.list with this URL.
    pub(crate) fn line(&self, url: &str) -> String {
        let options = if self.signed { "" } else { "[trusted=yes] " };
        format!("deb {options}{url} {} {}", self.suite, self.components).trim_end().to_owned()
    }
}

impl Plan {
    /// Reads everything that decides.
    pub(crate) fn of(host: &Host, stage: &Stage<'_>) -> Result<Plan> {
        let template = stage.template()?;
        let suite = suite(&template.os.name, &template.os.version)?;
        let Install::Url { url } = &template.os.install else {
            return Err(PluginError::new(
                ErrorCode::Unsupported,
                "DebianOS installs from an archive's URL; an iso as source is not offered yet",
            )
            .by_user());
        };
        let mirrors = Mirrors::of(host)?;
        let mut archives = vec![Archive {
            build_url: mirrors.for_build(url.trim_end_matches('/')),
            public_url: url.clone(),
            image_url: mirrors.for_image(url.trim_end_matches('/')),
            suite: suite.codename.to_owned(),
            components: suite.components.join(" "),
            signed: true,
            persisted: true,
        }];
        for repository in &template.repositories {
            archives.push(further_archive(&mirrors, repository, suite));
        }
        let wanted: Vec<String> =
            template.packages.iter().map(|package| package.name.clone()).collect();
        let mut packages: Vec<String> =
            BASE_PACKAGES.iter().map(|name| (*name).to_owned()).collect();
        packages.push(suite.kernel.to_owned());
        let late_packages = match template.precommands.is_empty() {
            true => {
                packages.extend(wanted);
                Vec::new()
            }
            false => wanted,
        };
        Ok(Plan {
            disk_bytes: disk_bytes(&template)?,
            seed: Seed::of(stage.template_xml().unwrap_or_default()),
            command_network: stage.bool_parameter("command_network")?.unwrap_or(false),
            suite,
            archives,
            packages,
            late_packages,
            template,
        })
    }
}

/// `deb http://… suite component` as apt writes it, or a plain URL of a repository of this release.
fn further_archive(
    mirrors: &Mirrors,
    repository: &imagefactory_plugin_sdk::payload::template::Repository,
    suite: Suite,
) -> Archive {
    let words: Vec<&str> =
        repository.url.split_whitespace().filter(|word| *word != "deb").collect();
    let url = words.first().copied().unwrap_or_default().trim_end_matches('/');
    let named = words.get(1).copied();
    Archive {
        build_url: mirrors.for_build(url),
        public_url: url.to_owned(),
        image_url: mirrors.for_image(url),
        suite: named.unwrap_or(suite.codename).to_owned(),
        components: match named {
            Some(path) if path.ends_with('/') => String::new(),
            Some(_) if words.len() > 2 => words[2..].join(" "),
            _ => suite.components.join(" "),
        },
        signed: repository.signed,
        persisted: repository.persisted,
    }
}

fn disk_bytes(template: &Template) -> Result<u64> {
    let Some(size) = &template.disk_size else { return Ok(DISK_BYTES) };
    let bytes = size.bytes().and_then(|bytes| u64::try_from(bytes).ok());
    let bytes = bytes.filter(|bytes| *bytes <= 1 << 46).ok_or_else(|| {
        PluginError::user_fault("the disk's size is beyond 64 TiB, which no file here can be")
    })?;
    if bytes < DISK_BYTES_MIN {
        let message = format!(
            "a disk of {bytes} bytes is too small; a system needs {DISK_BYTES_MIN} (1 GiB)"
        );
        return Err(PluginError::user_fault(message));
    }
    // Whole mebibytes: partitions are aligned to them.
    Ok(bytes >> 20 << 20)
}

/// Where UUIDs and serial numbers of an image come from: its template.
pub(crate) struct Seed([u8; 32]);

impl Seed {
    fn of(text: &str) -> Seed {
        Seed(Sha256::digest(text.as_bytes()).into())
    }

    /// 128 bits for a purpose.
    fn bits(&self, purpose: &str) -> [u8; 16] {
        let digest = Sha256::new().chain_update(self.0).chain_update(purpose.as_bytes()).finalize();
        let mut bits = [0; 16];
        bits.copy_from_slice(&digest[..16]);
        bits
    }

    /// A UUID (version 8, RFC 9562: from a digest of our own).
    pub(crate) fn uuid(&self, purpose: &str) -> String {
        let mut bits = self.bits(purpose);
        bits[6] = (bits[6] & 0x0f) | 0x80;
        bits[8] = (bits[8] & 0x3f) | 0x80;
        let hex: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// Eight hexadecimal digits, as a FAT file system has them.
    pub(crate) fn fat_serial(&self) -> String {
        self.bits("esp")[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
