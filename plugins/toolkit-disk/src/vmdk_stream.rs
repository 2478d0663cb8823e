//! Writes a raw disk as VMDK streamOptimized, the one form that vCenter takes over the network.
//!
//! ```text
//! header │ descriptor │ grains… table │ grains… table │ … │ directory │ footer │ end
//! ```
//!
//! Front to back, so that it can go into a pipe, a tar or an HTTP body; its size is known only
//! afterwards. A grain is 64 KiB of the disk, deflated; grains of zeros are left out, and tables
//! without grains too. All numbers are little-endian ("Virtual Disk Format 5.0", VMware).

use std::fs::File;
use std::io::{self, Write};

use libdeflater::{CompressionLvl, Compressor};

use crate::in_order::{in_order, threads_here};
use crate::pieces::{PIECE_BYTES, UNIT_BYTES, is_zero, pieces_with_data, read_piece};
use crate::vmdk_descriptor::VmdkDescription;
use crate::written::{Output, Written};

/// The unit of all places and sizes in the file.
const SECTOR: usize = 512;
const GRAIN_SECTORS: u64 = (UNIT_BYTES / SECTOR) as u64;
const GRAINS_A_PIECE: u64 = (PIECE_BYTES / UNIT_BYTES) as u64;
/// Entries of a grain table; the format allows no other number.
const GRAINS_A_TABLE: usize = 512;
const PIECES_A_TABLE: u64 = GRAINS_A_TABLE as u64 / GRAINS_A_PIECE;
/// Room for the descriptor, in sectors; as much as others leave.
const DESCRIPTOR_SECTORS: u64 = 20;
/// Where the first grain begins: header and descriptor, rounded up to a grain.
const OVERHEAD_SECTORS: u64 = GRAIN_SECTORS;

/// Lines end as they should (1), grains are compressed (1 << 16), markers tell them apart
/// (1 << 17).
const FLAGS: u32 = 1 | 1 << 16 | 1 << 17;
/// In the header: "look at the footer".
const DIRECTORY_AT_END: u64 = u64::MAX;
/// Kinds of markers beside a grain's own.
const MARK_TABLE: u32 = 1;
const MARK_DIRECTORY: u32 = 2;
const MARK_FOOTER: u32 = 3;

/// Smaller than zlib's default and more than three times as fast (docs/benchmarks); above it each
/// percent of size costs a third of the speed.
const LEVEL: i32 = 6;

/// Writes `input`, a raw disk, to `output`. `watch` hears how many bytes of the disk are done,
/// holes included, and ends the work with its error; then the output is incomplete. The same disk
/// and description give the same bytes. Moves the input's position.
pub fn write_stream_optimized<E: From<io::Error>>(
    input: &File,
    output: &mut impl Write,
    description: &VmdkDescription,
    watch: impl FnMut(u64) -> Result<(), E>,
) -> Result<Written, E> {
    write_with_threads(input, output, description, (threads_here(), watch))
}

fn write_with_threads<E: From<io::Error>>(
    input: &File,
    output: &mut impl Write,
    description: &VmdkDescription,
    (threads, mut watch): (usize, impl FnMut(u64) -> Result<(), E>),
) -> Result<Written, E> {
    let disk_bytes = input.metadata()?.len();
    let mut stream = Stream::begin(output, description, disk_bytes)?;
    let worker = || {
        let mut grains = GrainWriter::new(input, disk_bytes);
        move |piece| grains.piece(piece)
    };
    in_order(pieces_with_data(input)?, threads, worker, |piece: Grains| {
        stream.put(&piece)?;
        watch(disk_bytes.min((piece.number + 1) * PIECE_BYTES as u64))
    })?;
    watch(disk_bytes)?;
    Ok(stream.end()?)
}

/// The grains of one piece, as they lie in the file.
struct Grains {
    number: u64,
    bytes: Vec<u8>,
    /// Number of each grain in the disk, and the sector of `bytes` at which its marker is.
    places: Vec<(u64, u64)>,
}

/// Compresses pieces; one a thread.
struct GrainWriter<'i> {
    input: &'i File,
    disk_bytes: u64,
    raw: Vec<u8>,
    deflate: Compressor,
}

impl<'i> GrainWriter<'i> {
    fn new(input: &'i File, disk_bytes: u64) -> GrainWriter<'i> {
        let level = CompressionLvl::new(LEVEL).unwrap_or_default();
        let raw = vec![0; PIECE_BYTES];
        GrainWriter { input, disk_bytes, raw, deflate: Compressor::new(level) }
    }

    fn piece(&mut self, number: u64) -> io::Result<Grains> {
        read_piece(self.input, self.disk_bytes, number, &mut self.raw)?;
        let mut grains = Grains { number, bytes: Vec::new(), places: Vec::new() };
        for (grain, unit) in (number * GRAINS_A_PIECE..).zip(self.raw.chunks(UNIT_BYTES)) {
            if is_zero(unit) {
                continue;
            }
            let start = grains.bytes.len();
            grains.places.push((grain, (start / SECTOR) as u64));
            // Marker: the grain's first sector in the disk, then the size of what follows.
            grains.bytes.extend_from_slice(&(grain * GRAIN_SECTORS).to_le_bytes());
            grains.bytes.extend_from_slice(&[0; 4]);
            let data = grains.bytes.len();
            grains.bytes.resize(data + self.deflate.zlib_compress_bound(unit.len()), 0);
            let packed = self.deflate.zlib_compress(unit, &mut grains.bytes[data..]);
            let packed = packed.map_err(io::Error::other)?;
            grains.bytes[data - 4..data].copy_from_slice(&(packed as u32).to_le_bytes());
            grains.bytes.truncate(data + packed);
            grains.bytes.resize(grains.bytes.len().next_multiple_of(SECTOR), 0);
        }
        Ok(grains)
    }
}

/// The file as it grows.
struct Stream<'o, O> {
    output: Output<'o, O>,
    header: Header,
    /// Where each grain table begins; 0 = it has no grain.
    directory: Vec<u32>,
    /// The table that is being filled, and its number.
    table: Vec<u32>,
    table_number: u64,
}

impl<'o, O: Write> Stream<'o, O> {
    fn begin(
        to: &'o mut O,
        description: &VmdkDescription,
        disk_bytes: u64,
    ) -> io::Result<Stream<'o, O>> {
        let capacity = disk_bytes.div_ceil(SECTOR as u64);
        let header = Header { capacity };
        let mut start = header.bytes(DIRECTORY_AT_END);
        start.extend_from_slice(description.text(capacity)?.as_bytes());
        if start.len() > SECTOR * (1 + DESCRIPTOR_SECTORS as usize) {
            let message = "the description of the disk is longer than its room in the file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        start.resize(SECTOR * OVERHEAD_SECTORS as usize, 0);
        let mut output = Output::new(to);
        output.put(&start)?;
        let tables = capacity.div_ceil(GRAIN_SECTORS * GRAINS_A_TABLE as u64);
        let directory = vec![0; usize::try_from(tables).map_err(io::Error::other)?];
        let table = vec![0; GRAINS_A_TABLE];
        Ok(Stream { output, header, directory, table, table_number: 0 })
    }

    fn put(&mut self, piece: &Grains) -> io::Result<()> {
        if piece.number / PIECES_A_TABLE != self.table_number {
            self.end_table()?;
            self.table_number = piece.number / PIECES_A_TABLE;
        }
        let here = self.output.position() / SECTOR as u64;
        for (grain, sector) in &piece.places {
            let entry = (grain % GRAINS_A_TABLE as u64) as usize;
            self.table[entry] = sector_number(here + sector)?;
        }
        self.output.put(&piece.bytes)
    }

    fn end_table(&mut self) -> io::Result<()> {
        if self.table.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        let start = self.put_marked(MARK_TABLE, &numbers(&self.table))?;
        self.directory[self.table_number as usize] = sector_number(start)?;
        self.table.fill(0);
        Ok(())
    }

    fn end(mut self) -> io::Result<Written> {
        self.end_table()?;
        let directory = self.put_marked(MARK_DIRECTORY, &numbers(&self.directory))?;
        self.put_marked(MARK_FOOTER, &self.header.bytes(directory))?;
        // A marker of zeros ends the stream.
        self.output.put(&[0; SECTOR])?;
        self.output.finish()
    }

    /// A marker and what it announces, filled up to a sector; answers the sector after the marker.
    fn put_marked(&mut self, kind: u32, content: &[u8]) -> io::Result<u64> {
        let sectors = content.len().div_ceil(SECTOR);
        let mut bytes = (sectors as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.resize(SECTOR, 0);
        let start = self.output.position() / SECTOR as u64 + 1;
        bytes.extend_from_slice(content);
        bytes.resize(SECTOR * (1 + sectors), 0);
        self.output.put(&bytes)?;
        Ok(start)
    }
}

/// What header and footer have in common.
struct Header {
    /// Size of the disk, in sectors.
    capacity: u64,
}

impl Header {
    fn bytes(&self, directory: u64) -> Vec<u8> {
        let mut bytes = b"KDMV".to_vec();
        bytes.extend_from_slice(&3_u32.to_le_bytes()); // version: with compressed grains
        bytes.extend_from_slice(&FLAGS.to_le_bytes());
        for number in [self.capacity, GRAIN_SECTORS, 1, DESCRIPTOR_SECTORS] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&(GRAINS_A_TABLE as u32).to_le_bytes());
        // No second directory.
        for number in [0, directory, OVERHEAD_SECTORS] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(0); // was shut down cleanly
        bytes.extend_from_slice(b"\n \r\n"); // survives only if nobody translated line ends
        bytes.extend_from_slice(&1_u16.to_le_bytes()); // deflate
        bytes.resize(SECTOR, 0);
        bytes
    }
}

fn numbers(entries: &[u32]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

/// Tables count sectors in 32 bits.
fn sector_number(sector: u64) -> io::Result<u32> {
    u32::try_from(sector).map_err(|_| {
        io::Error::new(io::ErrorKind::FileTooLarge, "a VMDK cannot become larger than 2 TiB")
    })
}

#[cfg(test)]
#[path = "vmdk_stream_tests.rs"]
mod tests;
