//! The plan of a build: everything that the template, the parameters and the configuration decide,
//! before the first file is written. Two equal plans give the same image, bit by bit.

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_plugin_sdk::payload::template::{Arch, Install, Template};
use sha2::{Digest, Sha256};

use crate::archive::{Archive, RepositoryKeys, Trust};
use crate::mirrors::Mirrors;
use crate::packages::{Installation, installations};
use crate::suites::{Suite, suite};
use crate::tree::Network;

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
    /// Public URLs and what is used instead.
    pub(crate) mirrors: Mirrors,
    /// Where packages come from; the first is the distribution itself, and those that its key signs
    /// come before all others.
    pub(crate) archives: Vec<Archive>,
    /// Keys of their own that repositories are signed with.
    pub(crate) keys: RepositoryKeys,
    /// In one go with the system: known to need nothing before them.
    pub(crate) packages: Vec<String>,
    /// After the precommands, where there are any, or with arguments or from files.
    pub(crate) installations: Vec<Installation>,
    /// May a repository that the bootstrap did not have hold newer versions of what it installed?
    pub(crate) upgrade: bool,
    /// Whole disk.
    pub(crate) disk_bytes: u64,
    /// Of names and numbers that are random elsewhere.
    pub(crate) seed: Seed,
    /// May commands use the network?
    pub(crate) command_network: Network,
}

impl Plan {
    /// Reads everything that decides.
    pub(crate) fn of(host: &Host, stage: &Stage<'_>) -> Result<Plan> {
        let template = stage.template()?;
        check_arch(template.os.arch)?;
        let suite = suite(&template.os.name, &template.os.version)?;
        let mirrors = Mirrors::of(host)?;
        let keys = repository_keys(stage)?;
        let mut archives = vec![match &template.os.install {
            Install::Url { url } => Archive::of_install(url, &suite, &mirrors, &keys),
            Install::Iso { .. } => Archive::of_medium(&suite, &keys),
        }];
        for repository in &template.repositories {
            archives.push(Archive::further(repository, &suite, &mirrors, &keys)?);
        }
        keys.check(&archives)?;
        // Stable: apt prefers what stands first where versions are equal.
        archives[1..].sort_by_key(|archive| archive.trust != Trust::Distribution);
        let foreign = archives[1..].iter().any(|one| one.trust != Trust::Distribution);
        let mut installations = installations(&template.packages, &archives)?;
        let mut packages: Vec<String> =
            BASE_PACKAGES.iter().map(|name| (*name).to_owned()).collect();
        packages.push(suite.kernel.to_owned());
        packages.extend(suite.resolver.map(str::to_owned));
        let plain = |run: &Installation| run.arguments.is_empty() && run.files.is_empty();
        let at_once = template.precommands.is_empty() && !foreign;
        if at_once && installations.first().is_some_and(plain) {
            packages.extend(installations.remove(0).names);
        }
        let command_network = match stage.bool_parameter("command_network")? {
            Some(true) => Network::Stage,
            _ => Network::Nothing,
        };
        Ok(Plan {
            disk_bytes: disk_bytes(&template)?,
            seed: Seed::of(stage.template_xml().unwrap_or_default()),
            command_network,
            upgrade: foreign,
            suite,
            mirrors,
            archives,
            keys,
            packages,
            installations,
            template,
        })
    }
}

impl Plan {
    /// The archive of `<install>`, and the others that the distribution's key signs.
    pub(crate) fn bootstrap_archives(&self) -> &[Archive] {
        let further = self.archives.iter().skip(1);
        let signed = further.take_while(|archive| archive.trust == Trust::Distribution).count();
        &self.archives[..1 + signed]
    }

    /// Does everything in the bootstrap come from the distribution, by its own key?
    pub(crate) fn is_distributions_own(&self) -> bool {
        self.bootstrap_archives().iter().all(|archive| archive.trust == Trust::Distribution)
            && matches!(self.template.os.install, Install::Url { .. })
    }
}

fn check_arch(arch: Arch) -> Result<()> {
    if arch == Arch::X86_64 {
        return Ok(());
    }
    let message = format!(
        "DebianOS builds x86_64 on this factory, and the template asks for {arch}: a bootstrap of \
         a foreign architecture needs emulation (qemu-user and binfmt_misc) inside the stage's \
         sandbox, which is not offered"
    );
    let hint = "build it on a factory of that architecture, or write <arch>x86_64</arch>";
    Err(PluginError::new(ErrorCode::Unsupported, message).by_user().hint(hint))
}

fn repository_keys(stage: &Stage<'_>) -> Result<RepositoryKeys> {
    let Some(value) = stage.parameter("repository_keys")? else {
        return Ok(RepositoryKeys::default());
    };
    serde_json::from_str(value.raw()).map_err(|error| {
        let message = format!(
            "the parameter repository_keys is no object of names and keys in ASCII armour: {error}"
        );
        PluginError::user_fault(message)
    })
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
