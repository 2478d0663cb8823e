//! One gzip member, deflated in all threads.
//!
//! Parts end at a byte and are joined, their checksums too, so any reader sees one ordinary gzip.
//! The content is texts and stretches of one file, as an archive with a disk in it is. The same
//! content gives the same bytes.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::in_order::{in_order, threads_here};
use crate::pieces::PIECE_BYTES;
use crate::written::{Output, Written};

/// Deflate, no name, no time, unknown system: nothing that depends on where it was made.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty last block ends the deflate stream.
const DEFLATE_END: [u8; 2] = [3, 0];
/// gzip's own default.
const LEVEL: u32 = 6;

/// What is to be in it, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GzipPart {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A stretch of the input; it must be there.
    OfFile(Range<u64>),
}

/// Writes the parts to `output` as gzip. `watch` hears how far in the input the work is, and ends
/// it with its error; then the output is incomplete.
pub fn write_gzip<E: From<io::Error>>(
    input: &File,
    parts: Vec<GzipPart>,
    output: &mut impl Write,
    watch: impl FnMut(u64) -> Result<(), E>,
) -> Result<Written, E> {
    write_gzip_with_threads(input, parts, output, (threads_here(), watch))
}

pub(crate) fn write_gzip_with_threads<E: From<io::Error>>(
    input: &File,
    parts: Vec<GzipPart>,
    output: &mut impl Write,
    (threads, mut watch): (usize, impl FnMut(u64) -> Result<(), E>),
) -> Result<Written, E> {
    let mut gzip = Gzip { output: Output::new(output), crc: Crc::new() };
    gzip.output.put(&GZIP_HEADER)?;
    let worker = || {
        let mut deflate = PartWriter::new(input);
        move |part| deflate.part(part)
    };
    let mut reached = 0;
    in_order(parts.into_iter().flat_map(pieces_of), threads, worker, |part: Deflated| {
        gzip.output.put(&part.bytes)?;
        gzip.crc.combine(&part.crc);
        reached = reached.max(part.file_end);
        watch(reached)
    })?;
    watch(input.metadata()?.len())?;
    Ok(gzip.end()?)
}

/// A part in pieces for threads.
fn pieces_of(part: GzipPart) -> Vec<GzipPart> {
    match part {
        GzipPart::Bytes(_) => vec![part],
        GzipPart::OfFile(range) => {
            let starts = (range.start..range.end).step_by(PIECE_BYTES);
            let piece = |start: u64| start..(start + PIECE_BYTES as u64).min(range.end);
            starts.map(|start| GzipPart::OfFile(piece(start))).collect()
        }
    }
}

struct Deflated {
    bytes: Vec<u8>,
    crc: Crc,
    /// How far in the input it reaches.
    file_end: u64,
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

    fn part(&mut self, part: GzipPart) -> io::Result<Deflated> {
        match part {
            GzipPart::Bytes(bytes) => self.deflated(&bytes, 0),
            GzipPart::OfFile(range) => {
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
    fn deflated(&mut self, bytes: &[u8], file_end: u64) -> io::Result<Deflated> {
        let mut crc = Crc::new();
        crc.update(bytes);
        self.deflate.reset();
        // Stored blocks cost 5 bytes for each 16 KiB at most, the end 5 more.
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 1024 + 1024);
        let status = self.deflate.compress_vec(bytes, &mut out, FlushCompress::Full);
        match status.map_err(io::Error::other)? {
            Status::Ok if self.deflate.total_in() == bytes.len() as u64 => {
                Ok(Deflated { bytes: out, crc, file_end })
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
