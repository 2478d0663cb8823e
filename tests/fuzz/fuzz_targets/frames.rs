//! Any bytes as frames, in both directions and in pieces: how they were cut changes nothing, and
//! what was decoded encodes to the same frame again.
#![no_main]

use imagefactory_model::frames::{encode, FrameDecoder, HostFrame, RunnerFrame};
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use serde::Serialize;

/// All frames up to the end or the first error; whether there was one.
fn decode<Frame: DeserializeOwned>(bytes: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let mut decoder = FrameDecoder::wary();
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fn check<Frame: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let (whole, whole_failed) = decode::<Frame>(bytes, bytes.len().max(1));
    let (pieces, pieces_failed) = decode::<Frame>(bytes, 7);
    assert_eq!((&whole, whole_failed), (&pieces, pieces_failed));
    for frame in whole {
        let encoded = encode(&frame).expect("a decoded frame can be sent");
        let (again, failed) = decode::<Frame>(&encoded, encoded.len());
        assert!(!failed && again.len() == 1 && again[0] == frame, "{frame:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    check::<RunnerFrame>(bytes);
    check::<HostFrame>(bytes);
});
