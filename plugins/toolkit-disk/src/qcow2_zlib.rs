//! Writes a raw disk as qcow2 with clusters deflated by zlib's rules.
//!
//! ```text
//! header │ clusters, packed byte by byte… │ L2 tables │ L1 table │ refcount blocks and table
//! ```
//!
//! The header names places that are known last, so the output is a file and the header is written
//! at the end: a file that was cut off is no qcow2. Clusters of zeros are left out; what does not
//! compress lies as it is. All numbers are big-endian (QEMU's docs/interop/qcow2.rst).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::in_order::{in_order, threads_here};
use crate::pieces::{PIECE_BYTES, UNIT_BYTES, is_zero, pieces_with_data, read_piece};
use crate::refcounts::Refcounts;

/// Size of a cluster, as qemu-img chooses it, and its logarithm.
pub(crate) const CLUSTER: u64 = UNIT_BYTES as u64;
const CLUSTER_BITS: u32 = CLUSTER.trailing_zeros();
const CLUSTERS_A_PIECE: u64 = (PIECE_BYTES / UNIT_BYTES) as u64;
/// Entries of one L2 table, which is a cluster.
const L2_ENTRIES: u64 = CLUSTER / 8;
const SECTOR: u64 = 512;
/// "Refcount is one", in entries of L1 and of plain clusters.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// An entry's place takes so many bits; above them is the number of sectors begun.
const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);
const HEADER_BYTES: u32 = 104;

/// QEMU inflates with a window of 4 KiB; more would be beyond what the format promises readers.
const WINDOW_BITS: u8 = 12;
/// zlib's default, as qemu-img: with so small a window the next ones save no tenth of a percent.
const LEVEL: u32 = 6;

/// Writes `input`, a raw disk, into the empty file `output`; answers its size. `watch` hears how
/// many bytes of the disk are done, holes included, and ends the work with its error; then the
/// output has no header. The same disk gives the same bytes. Moves the input's position.
pub fn write_qcow2_zlib<E: From<io::Error>>(
    input: &File,
    output: &File,
    watch: impl FnMut(u64) -> Result<(), E>,
) -> Result<u64, E> {
    write_with_threads(input, output, threads_here(), watch)
}

fn write_with_threads<E: From<io::Error>>(
    input: &File,
    output: &File,
    threads: usize,
    mut watch: impl FnMut(u64) -> Result<(), E>,
) -> Result<u64, E> {
    let disk_bytes = input.metadata()?.len();
    let mut image = Image::begin(output, disk_bytes.next_multiple_of(SECTOR));
    let worker = || {
        let mut clusters = ClusterWriter::new(input, disk_bytes);
        move |piece| clusters.piece(piece)
    };
    in_order(pieces_with_data(input)?, threads, worker, |piece: Clusters| {
        image.put(&piece)?;
        watch(disk_bytes.min((piece.number + 1) * PIECE_BYTES as u64))
    })?;
    let bytes = image.end()?;
    watch(disk_bytes)?;
    Ok(bytes)
}

/// The clusters of one piece, packed one after the other.
struct Clusters {
    number: u64,
    bytes: Vec<u8>,
    /// Number of each cluster in the disk, and its bytes here; whole ones are not compressed.
    sizes: Vec<(u64, usize)>,
}

/// Compresses pieces; one a thread.
struct ClusterWriter<'i> {
    input: &'i File,
    disk_bytes: u64,
    raw: Vec<u8>,
    packed: Vec<u8>,
    deflate: Compress,
}

impl<'i> ClusterWriter<'i> {
    fn new(input: &'i File, disk_bytes: u64) -> ClusterWriter<'i> {
        let deflate = Compress::new_with_window_bits(Compression::new(LEVEL), false, WINDOW_BITS);
        // Room for less than a cluster: what does not fit is not worth it.
        let (raw, packed) = (vec![0; PIECE_BYTES], vec![0; UNIT_BYTES - 1]);
        ClusterWriter { input, disk_bytes, raw, packed, deflate }
    }

    fn piece(&mut self, number: u64) -> io::Result<Clusters> {
        read_piece(self.input, self.disk_bytes, number, &mut self.raw)?;
        let mut clusters = Clusters { number, bytes: Vec::new(), sizes: Vec::new() };
        for (cluster, unit) in (number * CLUSTERS_A_PIECE..).zip(self.raw.chunks(UNIT_BYTES)) {
            if is_zero(unit) {
                continue;
            }
            self.deflate.reset();
            let status = self.deflate.compress(unit, &mut self.packed, FlushCompress::Finish);
            let kept = match status.map_err(io::Error::other)? {
                Status::StreamEnd => &self.packed[..self.deflate.total_out() as usize],
                Status::Ok | Status::BufError => unit,
            };
            clusters.bytes.extend_from_slice(kept);
            clusters.sizes.push((cluster, kept.len()));
        }
        Ok(clusters)
    }
}

/// The file as it grows.
struct Image<'o> {
    output: &'o File,
    virtual_bytes: u64,
    /// Where the next byte goes.
    end: u64,
    refcounts: Refcounts,
    /// Where each L2 table lies; 0 = it has no cluster.
    l1: Vec<u64>,
    /// The tables themselves: one is 64 KiB for 512 MiB of disk.
    l2: Vec<Option<Vec<u64>>>,
}

impl<'o> Image<'o> {
    fn begin(output: &'o File, virtual_bytes: u64) -> Image<'o> {
        let tables = virtual_bytes.div_ceil(CLUSTER * L2_ENTRIES) as usize;
        let mut refcounts = Refcounts::default();
        refcounts.count(0, CLUSTER);
        let (l1, l2) = (vec![0; tables], vec![None; tables]);
        Image { output, virtual_bytes, end: CLUSTER, refcounts, l1, l2 }
    }

    fn put(&mut self, piece: &Clusters) -> io::Result<()> {
        // What is packed is written in one go, as far as no plain cluster asks for its own place.
        let (mut run, mut taken) = (0, 0);
        for (cluster, size) in &piece.sizes {
            let entry = if *size == UNIT_BYTES {
                self.append(&piece.bytes[run..taken])?;
                self.end = self.end.next_multiple_of(CLUSTER);
                run = taken;
                self.end | COPIED
            } else {
                let at = self.end + (taken - run) as u64;
                let sectors = (at + *size as u64 - 1) / SECTOR - at / SECTOR;
                at | sectors << SECTORS_SHIFT | COMPRESSED
            };
            let place = entry & ((1 << SECTORS_SHIFT) - 1);
            self.refcounts.count(place, *size as u64);
            let table = self.l2[(cluster / L2_ENTRIES) as usize]
                .get_or_insert_with(|| vec![0; L2_ENTRIES as usize]);
            table[(cluster % L2_ENTRIES) as usize] = entry;
            taken += size;
        }
        self.append(&piece.bytes[run..taken])
    }

    /// Writes all tables, and the header last.
    fn end(mut self) -> io::Result<u64> {
        for number in 0..self.l2.len() {
            if let Some(table) = self.l2[number].take() {
                self.l1[number] = self.put_table(&table)? | COPIED;
            }
        }
        let l1 = std::mem::take(&mut self.l1);
        let l1_at = self.put_table(&l1)?;
        let start = self.end.next_multiple_of(CLUSTER);
        let refcounts = std::mem::take(&mut self.refcounts).place(start);
        self.end = start;
        self.append(&refcounts.bytes)?;
        self.output.set_len(self.end)?;
        let mut header = b"QFI\xfb".to_vec();
        header.extend_from_slice(&3_u32.to_be_bytes());
        header.extend_from_slice(&[0; 12]); // no backing file
        header.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
        header.extend_from_slice(&self.virtual_bytes.to_be_bytes());
        header.extend_from_slice(&[0; 4]); // not encrypted
        header.extend_from_slice(&(l1.len() as u32).to_be_bytes());
        header.extend_from_slice(&l1_at.to_be_bytes());
        header.extend_from_slice(&refcounts.table_at.to_be_bytes());
        header.extend_from_slice(&refcounts.table_clusters.to_be_bytes());
        header.extend_from_slice(&[0; 12]); // no snapshots
        header.extend_from_slice(&[0; 24]); // no features beyond version 3
        header.extend_from_slice(&4_u32.to_be_bytes()); // refcounts of 1 << 4 bits
        header.extend_from_slice(&HEADER_BYTES.to_be_bytes());
        header.extend_from_slice(&[0; 8]); // no extensions
        self.output.write_all_at(&header, 0)?;
        Ok(self.end)
    }

    /// Writes a table at the beginning of a cluster; answers where.
    fn put_table(&mut self, entries: &[u64]) -> io::Result<u64> {
        self.end = self.end.next_multiple_of(CLUSTER);
        let start = self.end;
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.append(&bytes)?;
        self.refcounts.count(start, bytes.len() as u64);
        Ok(start)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
#[path = "qcow2_zlib_tests.rs"]
mod tests;
