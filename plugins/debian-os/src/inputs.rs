//! What a build depends on outside of its template: the repositories' release files, contents
//! behind URLs, the checksum of a medium. Equal digests mean that a finished image can be shared.

use std::path::Path;
use std::process::Command;

use imagefactory_plugin_sdk::author::{Host, PluginError, Result};
use imagefactory_plugin_sdk::payload::template::Install;
use sha2::{Digest, Sha256};

use crate::archive::Archive;
use crate::fetch::{Fetcher, hex};
use crate::plan::Plan;
use crate::{customisation, medium, tool};

/// Sets the stage's `input_digest`; none where what is outside cannot be told.
pub(crate) fn resolve(host: &Host, plan: &Plan) -> Result<()> {
    let mut digest = Sha256::new();
    digest.update(concat!("DebianOS ", env!("CARGO_PKG_VERSION"), "\n"));
    digest.update(releases(host, &plan.archives)?);
    let fetcher = Fetcher::of(host, &plan.mirrors)?;
    customisation::fetch_contents(plan, &fetcher)?;
    for (url, content) in fetcher.digests() {
        digest.update(format!("{url} {content}\n"));
    }
    if let Install::Iso { iso, checksum, .. } = &plan.template.os.install {
        // Without a checksum nobody knows what the medium is but who reads all of it.
        let Some(checksum) = checksum else { return Ok(()) };
        let expected = medium::expected_digest(&fetcher, iso, checksum)?;
        digest.update(format!("medium {expected}\n"));
    }
    host.set_result_text("input_digest", &hex(&digest.finalize()))
}

/// The digest of the release files of all archives at this moment.
pub(crate) fn releases(host: &Host, archives: &[Archive]) -> Result<[u8; 32]> {
    let folder = host.work_dir()?;
    let mut digest = Sha256::new();
    for (index, archive) in archives.iter().enumerate() {
        let message = format!("Asking {}", archive.suite);
        host.progress("resolve", &message, index as u64, archives.len() as u64)?;
        // The one on a medium is known by the medium's checksum.
        if !archive.build_url.is_empty() {
            let file = folder.join(format!("release.{index}"));
            release_file(host, archive, &file)?;
            digest.update(std::fs::read(&file)?);
        }
    }
    Ok(digest.finalize().into())
}

fn release_file(host: &Host, archive: &Archive, file: &Path) -> Result<()> {
    let mut first: Option<PluginError> = None;
    for url in archive.release_urls() {
        let mut fetch = Command::new("/usr/lib/apt/apt-helper");
        for option in archive.tls_option(&archive.build_url).lines() {
            fetch.args(["-o", &option.replace(" \"", "=").replace("\";", "")]);
        }
        fetch.args(["download-file", &url]).arg(file);
        match tool::run(host, &mut fetch) {
            Ok(()) => return Ok(()),
            Err(error) => {
                first.get_or_insert(error);
            }
        };
    }
    let asked = format!("asking the repository {}", archive.public_url);
    match first {
        Some(error) => Err(error
            .while_doing(asked)
            .hint("is its url right, does it have this release, and can the factory reach it?")),
        None => Ok(()),
    }
}
