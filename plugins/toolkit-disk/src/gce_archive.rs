//! Writes a raw disk as the archive that Google's Compute Engine imports: `disk.raw`, sparse, in a
//! tar of the old GNU format, in one gzip member.
//!
//! Deflated in all threads (`parallel_gzip`). The map of holes is made from the content and not
//! from the file system's idea of it: the same disk gives the same bytes. Time and owner are zero.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

use crate::in_order::{in_order, threads_here};
use crate::parallel_gzip::{GzipPart, write_gzip_with_threads};
use crate::pieces::{PIECE_BYTES, UNIT_BYTES, is_zero, pieces_with_data, read_piece};
use crate::sparse_tar_header::sparse_header;
use crate::written::Written;

/// What Compute Engine looks for in the archive.
const MEMBER: &str = "disk.raw";
/// The unit of tar.
const BLOCK: u64 = 512;
/// tar ends with two blocks of zeros; GNU's fills a record of 20.
const RECORD: u64 = 20 * BLOCK;

/// Writes `input`, a raw disk, to `output`. `watch` hears how many bytes of the disk are done,
/// holes included, and ends the work with its error; then the output is incomplete. The same disk
/// gives the same bytes. The input is read twice, the second time from memory where it has room:
/// the map of holes comes before the data. Moves its position.
pub fn write_gce_archive<E: From<io::Error>>(
    input: &File,
    output: &mut impl Write,
    watch: impl FnMut(u64) -> Result<(), E>,
) -> Result<Written, E> {
    write_with_threads(input, output, threads_here(), watch)
}

fn write_with_threads<E: From<io::Error>>(
    input: &File,
    output: &mut impl Write,
    threads: usize,
    mut watch: impl FnMut(u64) -> Result<(), E>,
) -> Result<Written, E> {
    let disk_bytes = input.metadata()?.len();
    let mut extents = Vec::new();
    let look = || {
        let mut raw = vec![0; PIECE_BYTES];
        move |piece| data_in_piece(input, disk_bytes, piece, &mut raw)
    };
    in_order(pieces_with_data(input)?, threads, look, |found: Vec<Range<u64>>| {
        found.into_iter().for_each(|extent| join(&mut extents, extent));
        watch(0)
    })?;
    let header = sparse_header(MEMBER, disk_bytes, &extents);
    let data: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
    let end =
        (header.len() as u64 + data.next_multiple_of(BLOCK) + 2 * BLOCK).next_multiple_of(RECORD);
    let filling = end - header.len() as u64 - data;
    let mut parts = vec![GzipPart::Bytes(header)];
    parts.extend(extents.into_iter().map(GzipPart::OfFile));
    parts.push(GzipPart::Bytes(vec![0; filling as usize]));
    write_gzip_with_threads(input, parts, output, (threads, watch))
}

/// The runs of units that are not zero.
fn data_in_piece(
    input: &File,
    disk_bytes: u64,
    piece: u64,
    raw: &mut [u8],
) -> io::Result<Vec<Range<u64>>> {
    read_piece(input, disk_bytes, piece, raw)?;
    let mut extents = Vec::new();
    let start = piece * PIECE_BYTES as u64;
    for (unit, bytes) in (start..).step_by(UNIT_BYTES).zip(raw.chunks(UNIT_BYTES)) {
        if !is_zero(bytes) {
            join(&mut extents, unit..(unit + UNIT_BYTES as u64).min(disk_bytes));
        }
    }
    Ok(extents)
}

/// Adds an extent behind the others, or to the last if it touches that.
fn join(extents: &mut Vec<Range<u64>>, next: Range<u64>) {
    match extents.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => extents.push(next),
    }
}

#[cfg(test)]
#[path = "gce_archive_tests.rs"]
mod tests;
