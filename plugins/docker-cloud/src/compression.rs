//! Compresses a stream on all processors, and takes both digests on the way.
//!
//! The stream is cut into pieces of fixed size, each compressed by itself: gzip members or zstd
//! frames one after the other are one valid stream for every reader of layers. So the result is
//! the same whatever the number of threads. Knows nothing of what it compresses.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use libdeflater::{CompressionLvl, Compressor};
use sha2::{Digest, Sha256};

/// What a thread compresses at once. Each piece begins with an empty window; at this size that
/// costs less than one percent of the result.
const PIECE_BYTES: usize = 1 << 20;

/// Pieces a thread that are under way: it never waits for a slow write, and memory stays bounded.
const DEPTH: usize = 4;

/// The sandbox allows 64 threads in all, and more of them would wait for the one that writes.
const THREADS_MAX: usize = 16;

/// gzip's own default.
const GZIP_LEVEL: i32 = 6;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// How a layer or a disk is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not.
    None,
    /// What every registry and runtime reads.
    Gzip,
    /// Smaller and faster; containerd from 1.5, Docker from 23.0 on.
    Zstd,
}

impl Compression {
    /// As parameters name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }

    /// What media types have at their end.
    pub(crate) fn media_suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        }
    }

    /// What file names have at their end.
    pub(crate) fn file_suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }
}

/// What came of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    /// `sha256:…` of what went in.
    pub(crate) plain_digest: String,
    /// Of what went in.
    pub(crate) plain_bytes: u64,
    /// `sha256:…` of what came out.
    pub(crate) digest: String,
    /// Of what came out.
    pub(crate) bytes: u64,
}

/// Compresses what is written to it into `sink`.
pub(crate) struct Packer<W: Write> {
    piece: Vec<u8>,
    plain: Counted,
    packed: Counted,
    sink: W,
    lanes: Vec<Lane>,
    sent: usize,
    taken: usize,
}

/// The ways to one thread and back.
struct Lane {
    pieces: SyncSender<Vec<u8>>,
    results: Receiver<io::Result<Vec<u8>>>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Counted {
    hash: Sha256,
    bytes: u64,
}

impl Counted {
    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn digest(self) -> String {
        digest_text(&self.hash.finalize())
    }
}

/// `sha256:` and the digest in lower-case hex.
fn digest_text(digest: &[u8]) -> String {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// `sha256:…` of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(compression: Compression, sink: W) -> io::Result<Packer<W>> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let count = if compression == Compression::None { 0 } else { threads.min(THREADS_MAX) };
        Packer::on_threads(compression, sink, count)
    }

    fn on_threads(compression: Compression, sink: W, count: usize) -> io::Result<Packer<W>> {
        let lanes = (0..count).map(|_| Lane::start(compression)).collect::<io::Result<_>>()?;
        Ok(Packer {
            piece: Vec::with_capacity(PIECE_BYTES),
            plain: Counted::default(),
            packed: Counted::default(),
            sink,
            lanes,
            sent: 0,
            taken: 0,
        })
    }

    /// Ends the stream.
    pub(crate) fn finish(mut self) -> io::Result<Packed> {
        // Nothing at all is still one member or frame: an empty file is none.
        if !self.piece.is_empty() || self.sent == 0 {
            self.hand_over()?;
        }
        while self.taken < self.sent {
            self.take()?;
        }
        self.sink.flush()?;
        for lane in self.lanes {
            drop(lane.pieces);
            lane.thread.join().map_err(|_| a_thread_ended())?;
        }
        let (plain_bytes, bytes) = (self.plain.bytes, self.packed.bytes);
        Ok(Packed {
            plain_digest: self.plain.digest(),
            plain_bytes,
            digest: self.packed.digest(),
            bytes,
        })
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.lanes.is_empty() {
            self.packed.add(&self.piece);
            self.sink.write_all(&self.piece)?;
            self.piece.clear();
            return Ok(());
        }
        while self.sent - self.taken >= self.lanes.len() * DEPTH {
            self.take()?;
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let lane = &self.lanes[self.sent % self.lanes.len()];
        lane.pieces.send(piece).map_err(|_| a_thread_ended())?;
        self.sent += 1;
        Ok(())
    }

    fn take(&mut self) -> io::Result<()> {
        let lane = &self.lanes[self.taken % self.lanes.len()];
        let packed = lane.results.recv().map_err(|_| a_thread_ended())??;
        self.packed.add(&packed);
        self.taken += 1;
        self.sink.write_all(&packed)
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(PIECE_BYTES - self.piece.len())];
        self.plain.add(part);
        self.piece.extend_from_slice(part);
        if self.piece.len() == PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // a piece is compressed when it is full
    }
}

impl Lane {
    fn start(compression: Compression) -> io::Result<Lane> {
        let (pieces, pieces_there) = sync_channel(DEPTH);
        let (results_there, results) = sync_channel(DEPTH);
        let thread = std::thread::Builder::new()
            .name("compress".to_owned())
            .spawn(move || work(compression, &pieces_there, &results_there))?;
        Ok(Lane { pieces, results, thread })
    }
}

fn work(
    compression: Compression,
    pieces: &Receiver<Vec<u8>>,
    results: &SyncSender<io::Result<Vec<u8>>>,
) {
    let level = CompressionLvl::new(GZIP_LEVEL).unwrap_or_default();
    let mut gzip = Compressor::new(level);
    for piece in pieces {
        let packed = match compression {
            Compression::Zstd => zstd::bulk::compress(&piece, ZSTD_LEVEL),
            _ => gzip_member(&mut gzip, &piece),
        };
        // Nobody waits for it any more: the stream has ended with an error.
        if results.send(packed).is_err() {
            return;
        }
    }
}

fn gzip_member(gzip: &mut Compressor, piece: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = vec![0; gzip.gzip_compress_bound(piece.len())];
    let bytes = gzip.gzip_compress(piece, &mut packed).map_err(io::Error::other)?;
    packed.truncate(bytes);
    Ok(packed)
}

fn a_thread_ended() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Vec<u8> {
        (0..5 * PIECE_BYTES as u32 / 2 + 17).map(|i| (i / 7 % 251) as u8).collect()
    }

    fn packed(compression: Compression, threads: usize, content: &[u8]) -> (Vec<u8>, Packed) {
        let mut out = Vec::new();
        let mut packer = Packer::on_threads(compression, &mut out, threads).unwrap();
        for part in content.chunks(70_001) {
            packer.write_all(part).unwrap();
        }
        let facts = packer.finish().unwrap();
        (out, facts)
    }

    /// What another program makes of it.
    fn unpacked_by(program: &str, packed: &[u8]) -> Vec<u8> {
        let mut child = Command::new(program)
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, packed) = (child.stdin.take().unwrap(), packed.to_vec());
        let writer = std::thread::spawn(move || stdin.write_all(&packed));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success(), "{program}");
        output.stdout
    }

    #[test]
    fn gzip_and_zstd_read_back_what_was_written_whatever_the_number_of_threads() {
        for (compression, program) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
            for content in [sample(), Vec::new()] {
                let (one, facts) = packed(compression, 1, &content);
                assert_eq!(packed(compression, 3, &content).0, one, "{program}");
                assert_eq!(unpacked_by(program, &one), content, "{program}");
                assert_eq!(facts.digest, digest_of(&one));
                assert_eq!(facts.plain_digest, digest_of(&content));
                assert_eq!(
                    (facts.plain_bytes, facts.bytes),
                    (content.len() as u64, one.len() as u64)
                );
            }
        }
    }

    #[test]
    fn without_compression_nothing_is_changed() {
        let (out, facts) = packed(Compression::None, 0, &sample());
        assert_eq!(out, sample());
        assert_eq!(facts.digest, facts.plain_digest);
    }

    #[test]
    fn a_full_disk_ends_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut packer = Packer::on_threads(Compression::Gzip, Full, 2).unwrap();
        let written = packer.write_all(&sample()).and_then(|()| packer.finish().map(|_| ()));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
