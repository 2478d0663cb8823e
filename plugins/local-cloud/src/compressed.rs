//! The compressed formats that the disk toolkit writes from a raw image, in all threads: vmdk
//! streamOptimized and qcow2 with zlib. What it does not write is qemu-img's (`conversion.rs`).

use imagefactory_plugin_sdk::author::{Host, Result};
use imagefactory_toolkit_disk::{
    DiskFormat, VmdkDescription, content_id, sha256_of, write_qcow2_zlib, write_stream_optimized,
};

use crate::directory::ImageDirectory;
use crate::product::Product;
use crate::push::{Source, synced};
use crate::teller::Teller;
use crate::wishes::{Compression, Wishes};

/// Does the toolkit write this?
pub(crate) fn writes(format: DiskFormat, compression: Compression) -> bool {
    compression == Compression::Zlib && matches!(format, DiskFormat::Vmdk | DiskFormat::Qcow2)
}

/// Writes the image under its hidden name, durable; answers its sha256.
pub(crate) fn write(
    host: &Host,
    source: &Source,
    (wishes, product): (&Wishes, &Product),
    directory: &ImageDirectory,
) -> Result<String> {
    let partial = product.partial();
    let mut file = directory.create(&partial)?;
    let message = format!("converting raw to {}", wishes.format);
    let disk_bytes = source.file.metadata()?.len();
    let mut teller = Teller::new(host, "convert", &message, disk_bytes);
    let sha256 = if wishes.format == DiskFormat::Vmdk {
        // The same disk has the same id, wherever it was built and whatever it is called.
        let of_content = source.recorded.sha256.as_ref().or(source.recorded.image_id.as_ref());
        let id = content_id(of_content.unwrap_or(&product.token));
        let description = VmdkDescription::new(&product.file, id);
        let watch = |done| teller.tell(done);
        let written = write_stream_optimized(&source.file, &mut file, &description, watch);
        written.map_err(|error| teller.told(error, directory))?.sha256
    } else {
        let written = write_qcow2_zlib(&source.file, &file, |done| teller.tell(done));
        let bytes = written.map_err(|error| teller.told(error, directory))?;
        // Its header is written last, so the checksum needs a second look.
        let mut teller = Teller::new(host, "checksum", "computing the checksum", bytes);
        let sha256 = sha256_of(&file, |done| teller.tell(done));
        sha256.map_err(|error| teller.told(error, directory))?
    };
    synced(&file, directory, &partial)?;
    Ok(sha256)
}
