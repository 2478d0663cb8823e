//! Installation media: an iso is fetched, its checksum verified, and the archive on it becomes the
//! source of packages. Nothing is mounted: xorriso takes the files out.
//!
//! An archive on a medium is seldom signed. It is believed when the medium's checksum was given
//! and right; otherwise its own signature is asked for.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_plugin_sdk::payload::template::{
    ChecksumKind, Install, IsoChecksum, IsoExtra, IsoExtraKind,
};

use crate::archive::Trust;
use crate::fetch::{Fetcher, MEDIUM_BYTES_MAX, shown};
use crate::plan::Plan;
use crate::tool;

/// Makes the medium's archive the plan's first; does nothing where the template names no medium.
pub(crate) fn open(host: &Host, plan: &mut Plan) -> Result<()> {
    let Install::Iso { iso, checksum, extras } = &plan.template.os.install else {
        return Ok(());
    };
    let work = host.work_dir()?;
    let fetcher = Fetcher::of(host, &plan.mirrors)?;
    let image = work.join("medium.iso");
    fetcher.file(iso, "the installation medium", MEDIUM_BYTES_MAX, &image)?;
    if let Some(checksum) = checksum {
        verify(host, &fetcher, iso, checksum, &image)?;
    }
    let folder = work.join("medium");
    fs::create_dir(&folder)?;
    host.progress("medium", "Reading the installation medium", 1, 100)?;
    for part in ["/dists", "/pool"] {
        let mut extract = Command::new("xorriso");
        // Root's rights are not on the medium; what is taken out must be readable.
        extract.args(["-no_rc", "-osirrox", "on:auto_chmod_on", "-indev"]).arg(&image);
        extract.args(["-extract", part]).arg(folder.join(&part[1..]));
        tool::run(host, &mut extract).map_err(|error| {
            let what = format!("taking {part} from the installation medium");
            error
                .while_doing(what)
                .by_user()
                .hint("a medium needs an archive: use the distribution's full iso")
        })?;
    }
    fs::remove_file(&image)?;
    add_extras(&fetcher, extras, &folder)?;
    let archive = plan
        .archives
        .first_mut()
        .ok_or_else(|| PluginError::new(ErrorCode::Internal, "a plan without an archive"))?;
    archive.build_url = format!("copy://{}", folder.display());
    if checksum.is_some() && archive.trust == Trust::Distribution {
        archive.trust = Trust::Unsigned;
    }
    Ok(())
}

/// The digest that the template's checksum file has for this medium.
pub(crate) fn expected_digest(
    fetcher: &Fetcher<'_>,
    iso: &str,
    checksum: &IsoChecksum,
) -> Result<String> {
    let list = fetcher.bytes(&checksum.url, "the medium's checksums")?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let digits = match checksum.kind {
        ChecksumKind::Md5 => 32,
        ChecksumKind::Sha1 => 40,
        ChecksumKind::Sha256 => 64,
    };
    let name = iso.rsplit('/').next().unwrap_or(iso);
    find_digest(&list, name, digits).ok_or_else(|| {
        let message =
            format!("{} has no digest of {digits} digits for '{name}'", shown(&checksum.url));
        PluginError::user_fault(message)
    })
}

/// `DIGEST  NAME`, `DIGEST *NAME`, `SHA256 (NAME) = DIGEST`, or a digest alone.
fn find_digest(list: &str, name: &str, digits: usize) -> Option<String> {
    let is_digest =
        |text: &str| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines = || list.lines().map(str::trim).filter(|line| !line.is_empty());
    let of_line = |line: &str| {
        if let Some((left, right)) = line.split_once(") = ") {
            let named = left.split_once('(').is_some_and(|(_, named)| same_file(named, name));
            return (named && is_digest(right)).then(|| right.to_lowercase());
        }
        let (digest, named) = line.split_once(char::is_whitespace)?;
        let named = named.trim_start().trim_start_matches('*');
        (is_digest(digest) && same_file(named, name)).then(|| digest.to_lowercase())
    };
    let alone = || {
        let mut all = lines();
        let only = all.next().filter(|line| is_digest(line))?;
        all.next().is_none().then(|| only.to_lowercase())
    };
    lines().find_map(of_line).or_else(alone)
}

fn same_file(named: &str, name: &str) -> bool {
    named.rsplit('/').next() == Some(name)
}

fn verify(
    host: &Host,
    fetcher: &Fetcher<'_>,
    iso: &str,
    checksum: &IsoChecksum,
    image: &Path,
) -> Result<()> {
    let expected = expected_digest(fetcher, iso, checksum)?;
    let program = match checksum.kind {
        ChecksumKind::Md5 => "md5sum",
        ChecksumKind::Sha1 => "sha1sum",
        ChecksumKind::Sha256 => "sha256sum",
    };
    let printed = tool::quiet_output(host, Command::new(program).arg(image))?;
    let found = printed.split_whitespace().next().unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    let message =
        format!("the medium {} has the digest {found}, and should have {expected}", shown(iso));
    Err(PluginError::user_fault(message).hint("the medium was changed or damaged on its way"))
}

/// What the template puts on the medium beside its own files.
fn add_extras(fetcher: &Fetcher<'_>, extras: &[IsoExtra], folder: &Path) -> Result<()> {
    for extra in extras {
        if extra.kind == IsoExtraKind::Directory {
            let message = format!(
                "the extra directory '{}' cannot be fetched, since http cannot list folders; \
                 name its files",
                shown(&extra.source)
            );
            return Err(PluginError::user_fault(message));
        }
        let place = inside(folder, &extra.destination)?;
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::remove_file(&place).ok(); // mostly there is none
        let what = format!("the extra file '{}'", extra.destination);
        fetcher.file(&extra.source, &what, MEDIUM_BYTES_MAX, &place)?;
    }
    Ok(())
}

fn inside(folder: &Path, destination: &str) -> Result<PathBuf> {
    let relative = Path::new(destination.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || relative.as_os_str().is_empty() {
        let message = format!("the extra's destination '{destination}' leads out of the medium");
        return Err(PluginError::user_fault(message));
    }
    Ok(folder.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_every_common_form() {
        let digest = "d41d8cd98f00b204e9800998ecf8427e";
        for list in [
            format!("{digest}  debian.iso\n"),
            format!("{} *./x/debian.iso\n", digest.to_uppercase()),
            format!("MD5 (debian.iso) = {digest}\n"),
            format!("{digest}\n"),
            format!("00000000000000000000000000000000  other.iso\n{digest}  debian.iso"),
        ] {
            assert_eq!(find_digest(&list, "debian.iso", 32).as_deref(), Some(digest), "{list}");
        }
        for list in ["", "xyz  debian.iso", "d41d8cd98f00b204e9800998ecf8427e  other.iso"] {
            assert_eq!(find_digest(list, "debian.iso", 32), None, "{list}");
        }
    }

    #[test]
    fn extras_stay_on_the_medium() {
        let folder = Path::new("/medium");
        assert_eq!(inside(folder, "/a/b").unwrap(), Path::new("/medium/a/b"));
        for destination in ["", "/", "../a", "a/../../b"] {
            assert!(inside(folder, destination).is_err(), "{destination}");
        }
    }
}
