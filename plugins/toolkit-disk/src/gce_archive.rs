//! Writes a raw disk as the archive that Google's Compute Engine imports: `disk.raw`, sparse, in a
//! tar of the old GNU format, in one gzip member.
//!
//! Deflated in all threads: parts end at a byte and are joined, their checksums too, so any reader
//! sees one ordinary gzip. The map of holes is made from the content and not from the file system's
//! idea of it: the same disk gives the same bytes. Time and owner are zero.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::in_order::{in_order, threads_here};
use crate::pieces::{PIECE_BYTES, UNIT_BYTES, is_zero, pieces_with_data, read_piece};
use crate::sparse_tar_header::sparse_header;
use crate::written::{Output, Written};

/// What Compute Engine looks for in the archive.
const MEMBER: &str = "disk.raw";
/// The unit of tar.
const BLOCK: u64 = 512;
/// tar ends with two blocks of zeros; GNU's fills a record of 20.
const RECORD: u64 = 20 * BLOCK;
/// Deflate, no name, no time, unknown system: nothing that depends on where it was made.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty last block ends the deflate stream.
const DEFLATE_END: [u8; 2] = [3, 0];
/// gzip's own default.
const LEVEL: u32 = 6;

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
    let mut gzip = Gzip { output: Output::new(output), crc: Crc::new() };
    gzip.output.put(&GZIP_HEADER)?;
    let header = sparse_header(MEMBER, disk_bytes, &extents);
    let data: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
    let mut parts = vec![Part::Given(header)];
    parts.extend(extents.iter().flat_map(parts_of));
    let member_end = header_and_data(&parts, data).next_multiple_of(BLOCK);
    let end = (member_end + 2 * BLOCK).next_multiple_of(RECORD);
    parts.push(Part::Given(vec![0; (end - header_and_data(&parts, data)) as usize]));
    let worker = || {
        let mut deflate = PartWriter::new(input);
        move |part| deflate.part(part)
    };
    in_order(parts, threads, worker, |part: Deflated| {
        gzip.output.put(&part.bytes)?;
        gzip.crc.combine(&part.crc);
        watch(part.disk_end)
    })?;
    watch(disk_bytes)?;
    Ok(gzip.end()?)
}

/// Bytes of the tar so far.
fn header_and_data(parts: &[Part], data: u64) -> u64 {
    let given = parts.iter().map(|part| match part {
        Part::Given(bytes) => bytes.len() as u64,
        Part::OfDisk(_) => 0,
    });
    given.sum::<u64>() + data
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

/// One part of the tar, deflated by one thread.
enum Part {
    /// What we made.
    Given(Vec<u8>),
    /// A stretch of the disk.
    OfDisk(Range<u64>),
}

fn parts_of(extent: &Range<u64>) -> impl Iterator<Item = Part> {
    let end = extent.end;
    let starts = (extent.start..end).step_by(PIECE_BYTES);
    starts.map(move |start| Part::OfDisk(start..(start + PIECE_BYTES as u64).min(end)))
}

struct Deflated {
    bytes: Vec<u8>,
    crc: Crc,
    /// How far in the disk it reaches.
    disk_end: u64,
}

/// Deflates parts; one a thread.
struct PartWriter<'i> {
    input: &'i File,
    raw: Vec<u8>,
    deflate: Compress,
}

impl<'i> PartWriter<'i> {
    fn new(input: &'i File) -> PartWriter<'i> {
        PartWriter {
            input,
            raw: vec![0; PIECE_BYTES],
            deflate: Compress::new(Compression::new(LEVEL), false),
        }
    }

    fn part(&mut self, part: Part) -> io::Result<Deflated> {
        use std::os::unix::fs::FileExt;
        match part {
            Part::Given(bytes) => self.deflated(&bytes, 0),
            Part::OfDisk(range) => {
                let mut raw = std::mem::take(&mut self.raw);
                let bytes = &mut raw[..(range.end - range.start) as usize];
                let deflated = self
                    .input
                    .read_exact_at(bytes, range.start)
                    .and_then(|()| self.deflated(bytes, range.end));
                self.raw = raw;
                deflated
            }
        }
    }

    /// Ends at a byte, and refers to nothing before it.
    fn deflated(&mut self, bytes: &[u8], disk_end: u64) -> io::Result<Deflated> {
        let mut crc = Crc::new();
        crc.update(bytes);
        self.deflate.reset();
        // Stored blocks cost 5 bytes for each 16 KiB at most, the end 5 more.
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 1024 + 1024);
        let status = self.deflate.compress_vec(bytes, &mut out, FlushCompress::Full);
        match status.map_err(io::Error::other)? {
            Status::Ok if self.deflate.total_in() == bytes.len() as u64 => {
                Ok(Deflated { bytes: out, crc, disk_end })
            }
            _ => Err(io::Error::other("a part does not fit in the room that deflate may need")),
        }
    }
}

/// The one member of the file.
struct Gzip<'o, O> {
    output: Output<'o, O>,
    crc: Crc,
}

impl<O: Write> Gzip<'_, O> {
    fn end(mut self) -> io::Result<Written> {
        self.output.put(&DEFLATE_END)?;
        self.output.put(&self.crc.sum().to_le_bytes())?;
        // Of the tar, modulo 2^32: so it is called "amount".
        self.output.put(&self.crc.amount().to_le_bytes())?;
        self.output.finish()
    }
}

#[cfg(test)]
#[path = "gce_archive_tests.rs"]
mod tests;
