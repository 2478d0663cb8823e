//! The root file system within a disk image: where it lies, and what is in it, in a fixed order.

use std::fs::File;

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use imagefactory_toolkit_disk::ext4::{Entry, Ext4, Ext4Error};
use imagefactory_toolkit_disk::partitions;

/// A folder that every system has and no data or boot partition.
const MARK_OF_A_ROOT: &str = "etc";

/// All entries of a root file system, sorted by path.
pub(crate) struct RootFileSystem<'f> {
    /// To read contents from.
    pub(crate) ext4: Ext4<'f>,
    /// Without the root folder itself.
    pub(crate) entries: Vec<Entry>,
}

/// Carries either side's error through the walk.
enum WalkError {
    Ext4(Ext4Error),
}

impl From<Ext4Error> for WalkError {
    fn from(error: Ext4Error) -> WalkError {
        WalkError::Ext4(error)
    }
}

impl<'f> RootFileSystem<'f> {
    /// Finds it in a raw image: the first ext4 partition with a folder `etc`, or the whole image.
    pub(crate) fn find(image: &'f File) -> Result<RootFileSystem<'f>> {
        let table = partitions(image).map_err(|error| unreadable(&error.to_string()))?;
        let mut offsets: Vec<u64> = table.iter().map(|partition| partition.offset_bytes).collect();
        if offsets.is_empty() {
            offsets.push(0);
        }
        let looked_at = offsets.len();
        let mut why_not = String::new();
        for offset in offsets {
            let ext4 = match Ext4::open(image, offset) {
                Ok(ext4) => ext4,
                Err(Ext4Error::NotExt4(_)) => continue,
                Err(error) => {
                    why_not = format!("; the one at byte {offset}: {error}");
                    continue;
                }
            };
            let entries = entries_of(&ext4)?;
            if entries.iter().any(|entry| entry.path.as_os_str() == MARK_OF_A_ROOT) {
                return Ok(RootFileSystem { ext4, entries });
            }
        }
        let message = format!(
            "the base image has no root file system that a container can be made of: none of its \
             {looked_at} partitions is an ext4 with a folder /{MARK_OF_A_ROOT}{why_not}"
        );
        Err(PluginError::new(ErrorCode::Unsupported, message)
            .by_user()
            .hint("build the base image with an ext4 root partition, as DebianOS does"))
    }
}

fn entries_of(ext4: &Ext4<'_>) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let walked = ext4.walk(|entry| {
        if !entry.path.as_os_str().is_empty() {
            entries.push(entry.clone());
        }
        Ok::<(), WalkError>(())
    });
    walked.map_err(|WalkError::Ext4(error)| unreadable(&error.to_string()))?;
    // By path components: a folder comes before what is in it.
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

/// The image cannot be read as what it should be.
pub(crate) fn unreadable(why: &str) -> PluginError {
    PluginError::new(ErrorCode::Io, format!("the base image cannot be read: {why}"))
        .hint("check it with e2fsck -fn and qemu-img check; build it anew if it is damaged")
}
