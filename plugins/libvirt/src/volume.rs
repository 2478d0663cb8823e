//! Volumes of a storage pool: look, create, clone, delete.
//!
//! The bytes go through libvirt, so the pool may be on another machine and needs no common user.
//! Holes are not sent: each range of data is an upload of its own into a volume that begins as one
//! hole.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use imagefactory_toolkit_disk::data_extents;
use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use crate::conversation::{Answer, Failure, VolumeFacts, answer};
use crate::domain::escaped;

/// An upload costs a question and an answer; below this many bytes a hole is cheaper sent.
const HOLE_BYTES_MIN: u64 = 1 << 20;

/// libvirt cuts a stream into messages of at most 256 KiB (VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX).
const PIECE_BYTES: usize = 256 << 10;

/// The volume, if it exists.
pub fn look(
    connection: &Connect,
    pool: &str,
    volume: &str,
) -> Result<Option<VolumeFacts>, Failure> {
    let pool = open_pool(connection, pool)?;
    find(&pool, volume)?.map(|volume| facts(&volume)).transpose()
}

/// A new volume with the file's bytes, whatever format they are in. Nothing is left on failure.
pub fn create(
    connection: &Connect,
    pool: &str,
    volume: &str,
    file: &Path,
) -> Result<VolumeFacts, Failure> {
    let unreadable = |error| Failure::failed(format!("{}: {error}", file.display()));
    let file = File::open(file).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let pool = open_pool(connection, pool)?;
    // As raw: libvirt makes a hole of the size of the file, and the bytes say what they are.
    let made = make(&pool, volume, bytes)?;
    let filled = upload(connection, &made, &file, bytes).and_then(|()| {
        // Then libvirt looks at them, and knows format and capacity.
        pool.refresh(0).map_err(|error| Failure::of("cannot refresh the pool", &error))?;
        facts(&made)
    });
    if filled.is_err() {
        // The first error is the one to tell.
        made.delete(0).ok();
    }
    filled
}

/// A new volume with the content of another: by reflink where the pool can.
pub fn clone(
    connection: &Connect,
    pool: &str,
    from: &str,
    volume: &str,
) -> Result<VolumeFacts, Failure> {
    let named = pool;
    let pool = open_pool(connection, pool)?;
    let original = find(&pool, from)?.ok_or_else(|| Failure {
        kind: "missing",
        message: format!("the pool '{named}' has no volume '{from}'"),
    })?;
    let doing = format!("cannot clone the volume '{from}'");
    let described = original.xml_desc(0).map_err(|error| Failure::of(&doing, &error))?;
    let format = between(&described, "<format type='", "'").unwrap_or("raw").to_owned();
    let info = original.info().map_err(|error| Failure::of(&doing, &error))?;
    let xml = format!(
        "<volume><name>{}</name><capacity>{}</capacity><target><format type='{}'/></target>\
         </volume>",
        escaped(volume),
        info.capacity,
        escaped(&format)
    );
    let made = StorageVol::create_xml_from(&pool, &xml, &original, 0)
        .map_err(|error| Failure::of(&doing, &error))?;
    facts(&made)
}

/// Removes the volume; one that is not there is no error.
pub fn delete(connection: &Connect, pool: &str, volume: &str) -> Result<(), Failure> {
    let pool = open_pool(connection, pool)?;
    let Some(found) = find(&pool, volume)? else { return Ok(()) };
    let doing = format!("cannot delete the volume '{volume}'");
    found.delete(0).map_err(|error| Failure::of(&doing, &error))
}

fn open_pool(connection: &Connect, name: &str) -> Result<StoragePool, Failure> {
    let doing = format!("the storage pool '{name}'");
    let pool = connection
        .lookup_storage_pool_by_name(name)
        .map_err(|error| Failure::of(&doing, &error))?;
    // Files may have come and gone behind libvirt's back.
    pool.refresh(0).map_err(|error| Failure::of(&doing, &error))?;
    Ok(pool)
}

fn find(pool: &StoragePool, name: &str) -> Result<Option<StorageVol>, Failure> {
    match pool.lookup_storage_vol_by_name(name) {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if error.code().is(ErrorNumber::NoStorageVolume) => Ok(None),
        Err(error) => Err(Failure::of(&format!("the volume '{name}'"), &error)),
    }
}

fn make(pool: &StoragePool, name: &str, bytes: u64) -> Result<StorageVol, Failure> {
    let xml = format!(
        "<volume><name>{}</name><capacity unit='bytes'>{bytes}</capacity><allocation>0</allocation>\
         <target><format type='raw'/></target></volume>",
        escaped(name)
    );
    let doing = format!("cannot create the volume '{name}'");
    StorageVol::create_xml(pool, &xml, 0).map_err(|error| Failure::of(&doing, &error))
}

fn facts(volume: &StorageVol) -> Result<VolumeFacts, Failure> {
    let doing = "cannot look at the volume";
    let path = volume.path().map_err(|error| Failure::of(doing, &error))?;
    let info = volume.info().map_err(|error| Failure::of(doing, &error))?;
    Ok(VolumeFacts { path, capacity: info.capacity, allocation: info.allocation })
}

fn upload(
    connection: &Connect,
    volume: &StorageVol,
    file: &File,
    bytes: u64,
) -> Result<(), Failure> {
    let refused = |error| Failure::of("the upload failed", &error);
    let extents = data_extents(file);
    let extents =
        joined(extents.map_err(|error| Failure::failed(format!("reading holes: {error}")))?);
    let total = extents.iter().map(|extent| extent.end - extent.start).sum();
    let (mut done, mut piece) = (0, vec![0; PIECE_BYTES]);
    for extent in extents {
        let stream = Stream::new(connection, 0).map_err(refused)?;
        let length = extent.end - extent.start;
        volume.upload(&stream, extent.start, length, 0).map_err(refused)?;
        let mut at = extent.start;
        while at < extent.end {
            let wanted = piece.len().min((extent.end - at) as usize);
            file.read_exact_at(&mut piece[..wanted], at)
                .map_err(|error| Failure::failed(format!("reading the image: {error}")))?;
            let mut sent = 0;
            while sent < wanted {
                let taken = stream.send(&piece[sent..wanted]).map_err(refused)?;
                sent += usize::try_from(taken).unwrap_or(0);
            }
            at += wanted as u64;
            done += wanted as u64;
            answer(&Answer::Progress { done, total });
        }
        stream.finish().map_err(refused)?;
    }
    debug_assert!(done <= bytes, "no more than the file has");
    Ok(())
}

/// Ranges with small holes between them become one.
fn joined(extents: Vec<std::ops::Range<u64>>) -> Vec<std::ops::Range<u64>> {
    let mut joined: Vec<std::ops::Range<u64>> = Vec::new();
    for extent in extents {
        match joined.last_mut() {
            Some(last) if extent.start - last.end < HOLE_BYTES_MIN => last.end = extent.end,
            _ => joined.push(extent),
        }
    }
    joined
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let rest = text.split_once(before)?.1;
    Some(rest.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_holes_are_sent_and_large_ones_are_not() {
        let extents = vec![0..4096, 8192..12_288, (4 << 20)..(5 << 20)];
        assert_eq!(joined(extents), [0..12_288, (4 << 20)..(5 << 20)]);
        assert!(joined(Vec::new()).is_empty());
    }

    #[test]
    fn the_format_of_a_volume_is_read_from_its_description() {
        let xml = "<volume><target><format type='qcow2'/></target></volume>";
        assert_eq!(between(xml, "<format type='", "'"), Some("qcow2"));
    }
}
