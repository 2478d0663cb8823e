//! The disk that is packed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_disk::{DiskError, DiskFormat, inspect};

/// Flags in a VMDK's header: grains are compressed, and markers stand between them.
const STREAM_OPTIMIZED: u32 = 1 << 16 | 1 << 17;

/// The input image, and what it is.
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) format: DiskFormat,
    /// As a guest sees it.
    pub(crate) virtual_bytes: u64,
    pub(crate) file_bytes: u64,
}

impl Disk {
    /// What the host gives the stage to read.
    pub(crate) fn open(host: &Host) -> Result<Disk> {
        Disk::at(host.input_image()?)
    }

    /// A file that was converted.
    pub(crate) fn at(path: PathBuf) -> Result<Disk> {
        let unreadable =
            |error: PluginError| error.while_doing(format!("cannot read {}", path.display()));
        let file = File::open(&path).map_err(|error| unreadable(error.into()))?;
        let facts = inspect(&file).map_err(|error| {
            unreadable(match error {
                DiskError::Read(cause) => cause.into(),
                damaged @ DiskError::Damaged { .. } => {
                    PluginError::new(ErrorCode::InvalidArgument, damaged.to_string())
                }
            })
        })?;
        if facts.virtual_bytes == 0 {
            return Err(PluginError::user_fault("the disk to pack has no bytes"));
        }
        Ok(Disk {
            path,
            file,
            format: facts.format,
            virtual_bytes: facts.virtual_bytes,
            file_bytes: facts.file_bytes,
        })
    }

    /// Can it go into an OVA for vSphere as it is?
    pub(crate) fn is_stream_optimized(&self) -> Result<bool> {
        if self.format != DiskFormat::Vmdk {
            return Ok(false);
        }
        let mut flags = [0; 4];
        self.file.read_exact_at(&mut flags, 8)?;
        Ok(u32::from_le_bytes(flags) & STREAM_OPTIMIZED == STREAM_OPTIMIZED)
    }
}
