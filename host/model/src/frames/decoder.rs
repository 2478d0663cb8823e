//! Bytes to frames and back, without I/O: what both ends of the socket use, and what is fuzzed.
//!
//! The supervisor feeds a [`FrameDecoder`] with pieces of any size; a frame comes out when it is
//! whole, and memory grows with the bytes that came, never with the length that a hostile peer
//! announces. The runner, which trusts the daemon and wipes every body, reads a length and then
//! that many bytes ([`announced_length`], [`parse`]); the decoder is made of the same two.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::FRAME_BYTES_MAX;

/// Bytes of the length in front of each frame.
pub const LENGTH_BYTES: usize = 4;

/// Commas and brackets in one frame of a stranger. A `serde_json::Value` takes up to 72 bytes for
/// two bytes of text, so 16 MiB of `[0,0,…` would become half a gigabyte.
pub const STRUCTURE_MAX: usize = 1 << 20;

/// What a decoder keeps of its memory between two frames; a long one is rare.
const KEPT_BYTES: usize = 1 << 20;

/// Why bytes are no frames, or a frame cannot be sent. After one the stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// More than both sides agreed on.
    #[error("a frame of {bytes} bytes is longer than the {FRAME_BYTES_MAX} that may be sent")]
    TooLong {
        /// Of the body, as announced.
        bytes: usize,
    },
    /// More structure than a frame of this length needs.
    #[error("a frame of {structure} JSON members is not read; at most {STRUCTURE_MAX} are")]
    TooManyMembers {
        /// Commas and opening brackets.
        structure: usize,
    },
    /// Not JSON, or not a frame of this protocol.
    #[error("a frame of {bytes} bytes cannot be read")]
    Malformed {
        /// Of the body.
        bytes: usize,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The frame has no JSON form.
    #[error("a frame cannot be written")]
    Unwritable(#[source] serde_json::Error),
}

/// Collects bytes of one direction of one socket until they are frames.
#[derive(Debug)]
pub struct FrameDecoder {
    received: Vec<u8>,
    /// How much of `received` was handed out as frames.
    taken: usize,
    structure_max: usize,
}

impl FrameDecoder {
    /// At the start of a stream from a peer that is trusted.
    pub fn trusting() -> Self {
        FrameDecoder { received: Vec::new(), taken: 0, structure_max: usize::MAX }
    }

    /// At the start of a stream from a peer that may send anything.
    pub fn wary() -> Self {
        FrameDecoder { structure_max: STRUCTURE_MAX, ..FrameDecoder::trusting() }
    }

    /// Takes bytes from the socket. Call [`FrameDecoder::next`] until it has no more before
    /// pushing again: what is held stays below one frame and one push.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.received.drain(..self.taken);
            self.taken = 0;
            self.received.shrink_to(KEPT_BYTES);
        }
        self.received.extend_from_slice(bytes);
    }

    /// The next frame, if it is whole.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator has one type of item; a decoder is asked for each frame's own"
    )]
    pub fn next<Frame: DeserializeOwned>(&mut self) -> Result<Option<Frame>, FrameError> {
        let waiting = &self.received[self.taken..];
        let Some((length, rest)) = waiting.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = announced_length(*length)?;
        let Some(body) = rest.get(..bytes) else {
            return Ok(None);
        };
        let structure = body.iter().filter(|byte| b",[{".contains(byte)).count();
        if structure > self.structure_max {
            return Err(FrameError::TooManyMembers { structure });
        }
        let frame = parse(body)?;
        self.taken += LENGTH_BYTES + bytes;
        Ok(Some(frame))
    }

    /// Did the stream end between two frames? If not, the peer died while it was sending.
    pub fn is_between_frames(&self) -> bool {
        self.received.len() == self.taken
    }
}

/// How many bytes of body follow this length.
pub fn announced_length(length: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes > FRAME_BYTES_MAX { Err(FrameError::TooLong { bytes }) } else { Ok(bytes) }
}

/// The frame of a whole body.
pub fn parse<Frame: DeserializeOwned>(body: &[u8]) -> Result<Frame, FrameError> {
    let bytes = body.len();
    serde_json::from_slice(body).map_err(|source| FrameError::Malformed { bytes, source })
}

/// The bytes of a frame, length in front.
pub fn encode<Frame: Serialize>(frame: &Frame) -> Result<Vec<u8>, FrameError> {
    let mut buffer = vec![0u8; LENGTH_BYTES];
    serde_json::to_writer(&mut buffer, frame).map_err(FrameError::Unwritable)?;
    let bytes = buffer.len() - LENGTH_BYTES;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= FRAME_BYTES_MAX);
    let length = length.ok_or(FrameError::TooLong { bytes })?;
    buffer[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{HostFrame, RunnerFrame};
    use crate::stage::LogLevel;

    fn log(message: &str) -> RunnerFrame {
        RunnerFrame::Log { level: LogLevel::Info, message: message.to_owned(), fields: None }
    }

    /// All frames of `bytes`, pushed in pieces of `size`.
    fn decode_in_pieces(bytes: &[u8], size: usize) -> Result<Vec<RunnerFrame>, FrameError> {
        let mut decoder = FrameDecoder::wary();
        let mut frames = Vec::new();
        for piece in bytes.chunks(size) {
            decoder.push(piece);
            while let Some(frame) = decoder.next()? {
                frames.push(frame);
            }
        }
        assert!(decoder.is_between_frames());
        Ok(frames)
    }

    #[test]
    fn frames_come_out_whole_whatever_pieces_they_came_in() {
        let sent = [log("a"), RunnerFrame::Heartbeat, log(&"ä".repeat(1000)), log("")];
        let bytes: Vec<u8> = sent.iter().flat_map(|frame| encode(frame).unwrap()).collect();
        for size in [1, 3, 4, 5, 1000, bytes.len()] {
            assert_eq!(decode_in_pieces(&bytes, size).unwrap(), sent, "pieces of {size}");
        }
    }

    #[test]
    fn half_a_frame_waits_and_tells_so_at_the_end() {
        let bytes = encode(&log("half")).unwrap();
        let mut decoder = FrameDecoder::wary();
        assert!(decoder.is_between_frames());
        for cut in [2, 4, bytes.len() - 1] {
            let mut decoder = FrameDecoder::wary();
            decoder.push(&bytes[..cut]);
            assert!(decoder.next::<RunnerFrame>().unwrap().is_none(), "{cut}");
            assert!(!decoder.is_between_frames(), "{cut}");
        }
        decoder.push(&bytes);
        assert!(decoder.next::<RunnerFrame>().unwrap().is_some());
        assert!(decoder.is_between_frames());
    }

    #[test]
    fn an_announced_length_costs_no_memory_and_one_beyond_the_cap_is_refused() {
        let mut decoder = FrameDecoder::wary();
        decoder.push(&(FRAME_BYTES_MAX as u32).to_le_bytes());
        assert!(decoder.next::<RunnerFrame>().unwrap().is_none());
        assert!(decoder.received.capacity() < 1024);
        for beyond in [FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut decoder = FrameDecoder::wary();
            decoder.push(&beyond.to_le_bytes());
            let error = decoder.next::<RunnerFrame>().unwrap_err();
            assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for body in ["", "{}", "null", "{\"log\":{}}", "\"heartbeat\" x", "\"cancel\"", "\u{1}"] {
            let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
            bytes.extend_from_slice(body.as_bytes());
            let mut decoder = FrameDecoder::wary();
            decoder.push(&bytes);
            let error = decoder.next::<RunnerFrame>().unwrap_err();
            assert!(matches!(error, FrameError::Malformed { .. }), "{body}: {error}");
        }
    }

    #[test]
    fn only_a_trusted_peer_may_send_more_structure_than_bytes_are_worth() {
        let text = ",".repeat(STRUCTURE_MAX + 1);
        let bytes = encode(&log(&text)).unwrap();
        let mut wary = FrameDecoder::wary();
        wary.push(&bytes);
        let error = wary.next::<RunnerFrame>().unwrap_err();
        assert!(matches!(error, FrameError::TooManyMembers { .. }), "{error}");
        let mut trusting = FrameDecoder::trusting();
        trusting.push(&bytes);
        assert_eq!(trusting.next::<RunnerFrame>().unwrap(), Some(log(&text)));
    }

    #[test]
    fn a_long_frame_does_not_keep_its_memory() {
        let mut decoder = FrameDecoder::wary();
        decoder.push(&encode(&log(&"x".repeat(8 << 20))).unwrap());
        assert!(decoder.next::<RunnerFrame>().unwrap().is_some());
        decoder.push(&encode(&log("short")).unwrap());
        assert!(decoder.received.capacity() <= KEPT_BYTES, "{}", decoder.received.capacity());
    }

    #[test]
    fn a_frame_beyond_the_cap_is_not_sent() {
        let error = encode(&log(&"x".repeat(FRAME_BYTES_MAX))).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
        encode(&HostFrame::Cancel).unwrap();
    }
}
