//! One push: from the target image to the four files of a provider image.
//!
//! Everything is written under hidden names, synced, and then given its name; what fails on the
//! way is the caller's to remove. Raw to raw is a copy; what the disk toolkit writes faster than
//! qemu-img is its work, all else is converted.

use std::fs::File;
use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_toolkit_disk::{
    DiskError, DiskFormat, ImageFacts, copy_and_hash, inspect, sha256_of,
};

use crate::compressed::{self, writes};
use crate::conversion::Conversion;
use crate::description::{Description, FinishedImage, SourceImage};
use crate::directory::ImageDirectory;
use crate::domain::Machine;
use crate::product::Product;
use crate::teller::Teller;
use crate::vmdk_extent::rename_extent;
use crate::wishes::{Compression, Wishes};

/// The checks of a disk's size compare whole sectors: formats other than raw know no less.
const SECTOR_BYTES: u64 = 512;

/// What is pushed.
pub(crate) struct Source {
    path: PathBuf,
    pub(crate) file: File,
    facts: ImageFacts,
    pub(crate) recorded: SourceImage,
}

/// Makes the image and what lies beside it. The name is claimed, nothing lies there.
pub(crate) fn make(
    host: &Host,
    stage: &Stage<'_>,
    (wishes, product): (&Wishes, &Product),
    directory: &ImageDirectory,
) -> Result<Description> {
    let source = source(host, stage)?;
    check_room(&source, wishes, directory)?;
    let partial = product.partial();
    let sha256 = match (source.facts.format, wishes.format) {
        (DiskFormat::Raw, DiskFormat::Raw) => copy(host, &source, directory, &partial)?,
        (DiskFormat::Raw, to) if writes(to, wishes.compression) => {
            compressed::write(host, &source, (wishes, product), directory)?
        }
        (from, to) => {
            let compression = wishes.compression;
            let conversion = Conversion { input: &source.path, from, to, compression };
            conversion.run(host, directory, &partial)?;
            seal(host, directory, product)?
        }
    };
    let made = facts_of(directory, &partial)?;
    check_same_disk(&source.facts, &made, wishes)?;
    directory.publish(&partial, &product.file)?;

    let path = directory.path_of(&product.file);
    let architecture = match stage.template_json() {
        Some(_) => stage.template()?.os.arch.name(),
        // An imported image says nothing of itself.
        None => "x86_64",
    };
    let machine = Machine { wishes, image: &path, architecture };
    put(directory, product, &product.checksum(), checksum_line(&sha256, &product.file).as_bytes())?;
    put(directory, product, &product.domain(), &machine.domain_xml()?)?;
    let whole = Description {
        token: product.token.clone(),
        image_id: stage.image_id().to_owned(),
        file: product.file.clone(),
        image: Some(FinishedImage {
            format: wishes.format.name().to_owned(),
            compression: wishes.compression,
            virtual_bytes: made.virtual_bytes,
            file_bytes: made.file_bytes,
            allocated_bytes: made.allocated_bytes,
            sha256,
            architecture: architecture.to_owned(),
            source: source.recorded,
            start_command: machine.start_command(),
        }),
    };
    host.check_cancelled()?;
    product.complete(directory, &whole)?;
    Ok(whole)
}

/// As `sha256sum --check` reads it: a star for binary.
fn checksum_line(sha256: &str, file: &str) -> String {
    format!("{sha256} *{file}\n")
}

fn put(directory: &ImageDirectory, product: &Product, name: &str, content: &[u8]) -> Result<()> {
    directory.write(&product.aside(), content)?;
    directory.publish(&product.aside(), name)
}

/// The target image: its file, and that it is what the factory says.
fn source(host: &Host, stage: &Stage<'_>) -> Result<Source> {
    let path = host.input_image()?;
    let image = stage.image("target")?;
    let recorded = |key: &str| {
        let value = image.as_ref().and_then(|image| image.member(key));
        value.and_then(|value| value.as_text())
    };
    let file = File::open(&path).map_err(|error| of_source(&path, error.into()))?;
    let facts = inspect(&file).map_err(|error| of_source(&path, disk_error(error)))?;
    let found = facts.format.name();
    let declared = recorded("format").unwrap_or_else(|| found.to_owned());
    match DiskFormat::parse(&declared) {
        None => {
            let message = format!("the target image is {declared}, which is no disk image");
            return Err(PluginError::user_fault(message)
                .hint("push one that is raw, qcow2, vmdk, vhd, vhdx or vdi"));
        }
        Some(format) if format != facts.format => {
            let message = format!("the target image is called {declared} and begins like {found}");
            return Err(PluginError::new(ErrorCode::InvalidArgument, message));
        }
        Some(_) => {}
    }
    let recorded =
        SourceImage { image_id: recorded("id"), format: declared, sha256: recorded("sha256") };
    Ok(Source { path, file, facts, recorded })
}

/// Says before an hour's work that it cannot end well. Only a first look: others write there too.
fn check_room(source: &Source, wishes: &Wishes, directory: &ImageDirectory) -> Result<()> {
    // A compressed image may become any size, and so may one that is read from a compressed one.
    let known = wishes.compression == Compression::None && source.facts.format == DiskFormat::Raw;
    let (wanted, free) = (source.facts.allocated_bytes, directory.free_bytes()?);
    if known && wanted > free && !shares_blocks(source, directory)? {
        let folder = directory.path().display();
        let message = format!("{folder} has {free} bytes free, and the image has {wanted} of data");
        return Err(PluginError::new(ErrorCode::Quota, message).hint(directory.room()));
    }
    Ok(())
}

/// A reflink needs no room; it is possible within one file system only.
fn shares_blocks(source: &Source, directory: &ImageDirectory) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(source.file.metadata()?.dev() == directory.device()?)
}

/// Raw to raw: with the checksum in the same pass, held against the recorded one.
fn copy(host: &Host, source: &Source, directory: &ImageDirectory, partial: &str) -> Result<String> {
    let to = directory.create(partial)?;
    let mut teller = Teller::new(host, "copy", "copying the image", source.facts.file_bytes);
    let copied = copy_and_hash(&source.file, &to, |done| teller.tell(done))
        .map_err(|error| teller.told(error, directory))?;
    if source.recorded.sha256.as_ref().is_some_and(|recorded| *recorded != copied.sha256) {
        let message = format!(
            "the target image's file is damaged: its sha256 is {}, and was {}",
            copied.sha256,
            source.recorded.sha256.as_deref().unwrap_or_default()
        );
        return Err(PluginError::new(ErrorCode::Io, message).hint("build the target image again"));
    }
    synced(&to, directory, partial)?;
    Ok(copied.sha256)
}

/// After a conversion: the file's own name within, its checksum, and it is durable.
fn seal(host: &Host, directory: &ImageDirectory, product: &Product) -> Result<String> {
    let partial = product.partial();
    let file = directory.open_file(&partial, true)?.ok_or_else(|| vanished(directory, &partial))?;
    let named = rename_extent(&file, &partial, &product.file);
    named.map_err(|error| directory.refused("write", &partial, error))?;
    let bytes = file.metadata()?.len();
    let mut teller = Teller::new(host, "checksum", "computing the checksum", bytes);
    let sha256 = sha256_of(&file, |done| teller.tell(done))
        .map_err(|error| teller.told(error, directory))?;
    synced(&file, directory, &partial)?;
    Ok(sha256)
}

/// Durable, before it gets its name.
pub(crate) fn synced(file: &File, directory: &ImageDirectory, name: &str) -> Result<()> {
    file.sync_all().map_err(|error| directory.refused("sync", name, error))
}

fn facts_of(directory: &ImageDirectory, partial: &str) -> Result<ImageFacts> {
    let file = directory.open_file(partial, false)?.ok_or_else(|| vanished(directory, partial))?;
    inspect(&file).map_err(|error| of_source(&directory.path_of(partial), disk_error(error)))
}

/// The converter's word is not enough: the format must be the one asked for and no disk shorter.
fn check_same_disk(source: &ImageFacts, made: &ImageFacts, wishes: &Wishes) -> Result<()> {
    let sectors = |facts: &ImageFacts| facts.virtual_bytes.div_ceil(SECTOR_BYTES);
    if made.format == wishes.format && sectors(made) == sectors(source) {
        return Ok(());
    }
    let message = format!(
        "the conversion made a {} of {} bytes of a {} of {} bytes",
        made.format, made.virtual_bytes, source.format, source.virtual_bytes
    );
    Err(PluginError::new(ErrorCode::Io, message))
}

fn vanished(directory: &ImageDirectory, name: &str) -> PluginError {
    let message = format!("{} has vanished", directory.path_of(name).display());
    PluginError::new(ErrorCode::Io, message).hint("does anything else clean up that folder?")
}

fn of_source(path: &Path, error: PluginError) -> PluginError {
    error.while_doing(format!("cannot read {}", path.display()))
}

fn disk_error(error: DiskError) -> PluginError {
    match error {
        DiskError::Read(cause) => PluginError::from(cause),
        damaged @ DiskError::Damaged { .. } => {
            PluginError::new(ErrorCode::InvalidArgument, damaged.to_string())
        }
    }
}
