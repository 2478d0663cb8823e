//! Finished root trees of the distribution alone, kept for the next image: most of a build is
//! unpacking and configuring the same packages.
//!
//! A tree is kept under the digest of everything that it is made of: release files, packages,
//! keyring, the code that makes it. Only trees of archives that the distribution's own key signs
//! are kept, and the folder is taken out of the stage's reach before anything runs that a template
//! or another repository brought: no order can change what the next one gets.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::mount::UnmountFlags;

use crate::tool;

/// Of all kept trees, unless the configuration says otherwise (`tree_cache_bytes_max`): some
/// thirty minimal systems.
const BYTES_MAX: u64 = 4 << 30;

/// How often a stage looks whether another one has made the tree that both want.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What was begun and is older than a build may take was left by one that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// The plugin's cache.
pub(crate) struct TreeCache<'a> {
    host: &'a Host,
    folder: PathBuf,
}

impl<'a> TreeCache<'a> {
    /// `None` where the host gives no cache.
    pub(crate) fn open(host: &'a Host) -> Result<Option<TreeCache<'a>>> {
        let Some(folder) = host.cache_dir()? else { return Ok(None) };
        let folder = folder.join("trees");
        match fs::create_dir_all(&folder) {
            Ok(()) => Ok(Some(TreeCache { host, folder })),
            Err(error) => {
                host.warn(&format!("builds without a cache, {}: {error}", folder.display()));
                Ok(None)
            }
        }
    }

    /// The tree of this key in `tree`, which does not exist yet: taken from the cache, or made by
    /// `make` and kept. Who comes second while the first makes it waits.
    pub(crate) fn tree(
        &self,
        key: &str,
        tree: &Path,
        make: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let kept = self.folder.join(format!("{key}.tar.zst"));
        let lock = File::create(self.folder.join(format!("{key}.lock")))?;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            self.host.progress(
                "bootstrap",
                "Waiting for the same system of another build",
                1,
                100,
            )?;
            self.host.sleep_unless_cancelled(LOOK_EVERY)?;
        }
        if kept.exists() {
            match self.unpack(&kept, tree) {
                Ok(()) => return Ok(()),
                Err(error) if error.code() == ErrorCode::Cancelled => return Err(error),
                Err(error) => {
                    let message = error.message();
                    self.host.warn(&format!("a kept system is broken and made anew: {message}"));
                    fs::remove_file(&kept)?;
                    fs::remove_dir_all(tree)?;
                }
            }
        }
        make()?;
        // What cannot be kept is made again the next time; this image has its tree.
        match self.pack(tree, key, &kept) {
            Err(error) if error.code() != ErrorCode::Cancelled => {
                self.host.warn(&format!("the system is not kept: {}", error.message()));
                Ok(())
            }
            other => other,
        }
    }

    fn unpack(&self, kept: &Path, tree: &Path) -> Result<()> {
        self.host.progress("bootstrap", "Unpacking a system that was built before", 2, 100)?;
        fs::create_dir(tree)?;
        let mut unpack = Command::new("tar");
        unpack.args(["--extract", "--numeric-owner", "--preserve-permissions", "--xattrs"]);
        unpack.args(["--xattrs-include=*", "--use-compress-program=zstd", "--file"]).arg(kept);
        tool::run(self.host, unpack.arg("--directory").arg(tree))?;
        // Its age is when it was last of use.
        File::options().append(true).open(kept)?.set_modified(SystemTime::now())?;
        self.host.info("the system was taken from the cache");
        Ok(())
    }

    fn pack(&self, tree: &Path, key: &str, kept: &Path) -> Result<()> {
        let begun = self.folder.join(format!("{key}.begun"));
        fs::remove_file(&begun).ok(); // mostly there is none
        let mut pack = Command::new("tar");
        pack.args(["--create", "--numeric-owner", "--sort=name", "--xattrs"]);
        pack.args(["--xattrs-include=*", "--use-compress-program=zstd -1 -T0", "--file"]);
        pack.arg(&begun).arg("--directory").arg(tree).arg(".");
        let packed = tool::run(self.host, &mut pack).and_then(|()| {
            // Complete before it has its name, also after a power cut.
            File::open(&begun)?.sync_all()?;
            Ok(fs::rename(&begun, kept)?)
        });
        if packed.is_err() {
            fs::remove_file(&begun).ok(); // perhaps it was never made
        }
        packed?;
        self.evict()
    }

    /// Removes what was not of use for the longest time until the rest fits.
    fn evict(&self) -> Result<()> {
        let bytes_max = self.host.config("tree_cache_bytes_max")?.unwrap_or(BYTES_MAX);
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            // Another stage may have removed it meanwhile.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let modified = metadata.modified()?;
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("zst") => kept.push((modified, metadata.len(), path)),
                Some("begun" | "lock") if age > ABANDONED => fs::remove_file(&path)?,
                _ => {}
            }
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, freed, path) in &kept {
            if bytes <= bytes_max {
                break;
            }
            fs::remove_file(path)?;
            bytes -= freed;
        }
        Ok(())
    }
}

/// Takes the plugin's cache out of this stage's reach; from here on anything may run.
pub(crate) fn put_out_of_reach(host: &Host) -> Result<()> {
    let Some(folder) = host.cache_dir()? else { return Ok(()) };
    rustix::mount::unmount(&folder, UnmountFlags::DETACH).map_err(|error| {
        let message = format!(
            "the cache {} cannot be put out of reach of what the template runs: {error}",
            folder.display()
        );
        PluginError::new(ErrorCode::Internal, message)
    })
}
