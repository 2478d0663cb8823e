//! The disk as VMDK streamOptimized: made after the target image, checked before a push.

use std::fs::File;
use std::os::unix::fs::FileExt;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_toolkit_disk::{
    DiskError, DiskFormat, VmdkDescription, inspect, sha256_of, write_stream_optimized,
};

use crate::import::Disk;
use crate::machine::DISK_FILE;

/// Flags of a VMDK's header ("Virtual Disk Format 5.0"): grains are compressed, with markers.
const STREAM_FLAGS: u32 = 3 << 16;
/// Where they stand.
const FLAGS_AT: u64 = 8;

/// Turns the raw disk into the target image.
pub(crate) fn to_stream_optimized(host: &Host, stage: &Stage<'_>) -> Result<()> {
    let path = host.input_image()?;
    let input = File::open(&path)?;
    let facts = inspect(&input).map_err(damaged)?;
    if facts.format != DiskFormat::Raw {
        let message = format!("the image is {}, and vSphere's disk is made from raw", facts.format);
        return Err(
            PluginError::user_fault(message).hint("import it as raw: qemu-img convert -O raw")
        );
    }
    let bytes = facts.virtual_bytes;
    let digest = match recorded_digest(stage)? {
        Some(digest) => digest,
        None => sha256_of(&input, |_| host.check_cancelled())?,
    };
    let mut content_id = [0; 16];
    for (byte, pair) in content_id.iter_mut().zip(digest.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or("00");
        *byte = u8::from_str_radix(pair, 16).unwrap_or(0);
    }
    let output_path = host.output_image()?;
    let mut output = File::options().write(true).create_new(true).open(&output_path)?;
    let description = VmdkDescription::new(DISK_FILE, content_id);
    write_stream_optimized(&input, &mut output, &description, |done| {
        host.progress("convert", "Writing the disk for vSphere", done.min(bytes), bytes)
    })
    .map_err(|error: PluginError| error.while_doing("writing the disk for vSphere"))?;
    output.sync_all()?;
    host.set_result("format", "vmdk")
}

/// What the factory knows of the input, so that it need not be read twice.
fn recorded_digest(stage: &Stage<'_>) -> Result<Option<String>> {
    let recorded = |role: &str| -> Result<Option<String>> {
        let image = stage.image(role)?;
        Ok(image.and_then(|image| image.member("sha256")?.as_text()))
    };
    Ok(recorded("self")?.filter(|digest| digest.len() == 64))
}

/// The target image, as it goes over the network.
pub(crate) fn disk(host: &Host) -> Result<Disk> {
    let file = File::open(host.input_image()?)?;
    let facts = inspect(&file).map_err(damaged)?;
    let mut flags = [0; 4];
    file.read_exact_at(&mut flags, FLAGS_AT)?;
    let streams = u32::from_le_bytes(flags) & STREAM_FLAGS == STREAM_FLAGS;
    if facts.format != DiskFormat::Vmdk || !streams {
        let message = format!("the target image is {}, not a VMDK streamOptimized", facts.format);
        return Err(PluginError::user_fault(message)
            .hint("push a target image that was made for the target vsphere"));
    }
    Ok(Disk { file_bytes: facts.file_bytes, disk_bytes: facts.virtual_bytes, file })
}

fn damaged(error: DiskError) -> PluginError {
    match error {
        DiskError::Read(cause) => cause.into(),
        damaged @ DiskError::Damaged { .. } => {
            PluginError::new(ErrorCode::InvalidArgument, damaged.to_string())
        }
    }
}
