//! Our end of the socket to a runner: frames out in order, frames in with a bound on what they
//! cost.
//!
//! The runner is hostile: a frame longer than the cap, of another shape, or more numerous than the
//! budget allows must not cost the daemon more than a bounded share of time and memory. Nothing
//! here knows what a frame means.

use std::error::Error;
use std::io;

use imagefactory_model::frames::{
    FRAME_BYTES_MAX, FrameDecoder, FrameError, HostFrame, RunnerFrame, encode,
};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};

use super::calls::CALLS_AT_ONCE_MAX;

/// Frames waiting to be written: a reply for each call, Hello, Start and Cancel.
const UNSENT_FRAMES_MAX: usize = CALLS_AT_ONCE_MAX + 8;

/// What a runner may cost a second: twice what a stage with a full 16 MiB result would need, and
/// far more than progress and log lines come to. Beyond it we read slower, and the runner waits.
const COST_PER_SECOND: f64 = (32 << 20) as f64;

/// What may come at once: two longest frames.
const COST_BURST: f64 = 2.0 * FRAME_BYTES_MAX as f64;

/// What a frame costs besides its bytes (wake-up, parsing, locks), in bytes: 32 MiB/s are then at
/// most 8192 frames a second, which takes a tenth of one core (measured).
const COST_PER_FRAME: f64 = 4096.0;

/// What is read from the socket at once.
const PIECE_BYTES: usize = 64 << 10;

/// Reads frames.
pub(super) struct FrameReader {
    socket: OwnedReadHalf,
    decoder: FrameDecoder,
    piece: Box<[u8]>,
    budget: f64,
    refilled: Instant,
}

/// Sends frames; a task of its own writes them, so that a runner that does not read blocks nobody.
pub(super) struct FrameSender {
    unsent: mpsc::Sender<Vec<u8>>,
}

/// Splits the socket. The writing task ends when the sender is dropped or the runner is gone.
pub(super) fn open(socket: UnixStream) -> (FrameReader, FrameSender) {
    let (input, output) = socket.into_split();
    let (unsent, queue) = mpsc::channel(UNSENT_FRAMES_MAX);
    tokio::spawn(write_frames(output, queue));
    let reader = FrameReader {
        socket: input,
        decoder: FrameDecoder::wary(),
        piece: vec![0; PIECE_BYTES].into_boxed_slice(),
        budget: COST_BURST,
        refilled: Instant::now(),
    };
    (reader, FrameSender { unsent })
}

async fn write_frames(mut output: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if output.write_all(&frame).await.is_err() {
            // The runner is gone or has closed its end; its exit says the rest.
            return;
        }
    }
}

/// Why no frame came.
#[derive(Debug)]
pub(super) enum Broken {
    /// End of the stream between two frames.
    Closed,
    /// The connection failed.
    Io,
    /// What came is no frame; a sentence without the plugin's name.
    Garbage(String),
}

impl FrameReader {
    /// The next frame. May be dropped while it waits and asked again.
    pub(super) async fn next(&mut self) -> Result<RunnerFrame, Broken> {
        if self.budget < 0.0 {
            let pause = Duration::from_secs_f64(-self.budget / COST_PER_SECOND);
            sleep_until(self.refilled + pause).await;
        }
        loop {
            if let Some(frame) = self.decoder.next().map_err(garbage)? {
                self.spend(COST_PER_FRAME);
                return Ok(frame);
            }
            // Waits without taking anything, so that nothing is lost when the future is dropped.
            self.socket.readable().await.map_err(|_| Broken::Io)?;
            match self.socket.try_read(&mut self.piece) {
                Ok(0) => return Err(self.end()),
                Ok(count) => {
                    self.decoder.push(self.piece.get(..count).unwrap_or_default());
                    self.spend(count as f64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Broken::Io),
            }
        }
    }

    /// A stream that ends within a frame is a runner that died while it was sending.
    fn end(&self) -> Broken {
        if self.decoder.is_between_frames() { Broken::Closed } else { Broken::Io }
    }

    fn spend(&mut self, cost: f64) {
        let now = Instant::now();
        let gained = (now - self.refilled).as_secs_f64() * COST_PER_SECOND;
        self.refilled = now;
        self.budget = (self.budget + gained).min(COST_BURST) - cost;
    }
}

fn garbage(error: FrameError) -> Broken {
    let said = match &error {
        FrameError::TooLong { .. } => {
            format!("it sent a frame of more than {FRAME_BYTES_MAX} bytes")
        }
        FrameError::Malformed { source, .. } => {
            // serde_json quotes the text that it stumbles over, which may be anything.
            let said = source.to_string();
            let said = super::stage_log::visible(super::stage_log::cut(&said, 300));
            format!("it sent a frame that is not one: {said}")
        }
        FrameError::TooManyMembers { .. } | FrameError::Unwritable(_) => format!("it sent {error}"),
    };
    Broken::Garbage(said)
}

impl FrameSender {
    /// Queues a frame. The error is a breach of the protocol (the runner does not read) or a frame
    /// that we cannot send.
    pub(super) fn send(&self, frame: &HostFrame) -> Result<(), String> {
        let bytes = encode(frame).map_err(|error| told(&error))?;
        match self.unsent.try_send(bytes) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(format!("it left {UNSENT_FRAMES_MAX} frames unread"))
            }
        }
    }
}

/// The error with its cause.
fn told(error: &FrameError) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn heard(bytes: Vec<u8>) -> Result<RunnerFrame, Broken> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut reader, _sender) = open(ours);
        let writing = tokio::spawn(async move {
            // The reader may close on us: that is the point.
            let _closed = theirs.write_all(&bytes).await;
        });
        let heard = reader.next().await;
        drop(reader);
        writing.await.unwrap();
        heard
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[tokio::test]
    async fn a_frame_is_a_little_endian_length_and_json() {
        let frame = heard(framed(b"\"heartbeat\"")).await.unwrap();
        assert_eq!(frame, RunnerFrame::Heartbeat);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_told_apart_from_the_end() {
        let garbage = |found: Result<RunnerFrame, Broken>, word: &str| match found {
            Err(Broken::Garbage(said)) => assert!(said.contains(word), "{said}"),
            other => panic!("{other:?}"),
        };
        garbage(heard(u32::MAX.to_le_bytes().to_vec()).await, "more than 16777216 bytes");
        garbage(heard(framed(b"\xff\xfe")).await, "not one");
        garbage(heard(framed(b"{\"end\":{\"code\":0,\"nonce\":\"\",\"more\":1}}")).await, "more");
        garbage(heard(framed("[".repeat(2 << 20).as_bytes())).await, "JSON members");
        garbage(heard(framed("[".repeat(1000).as_bytes())).await, "not one");
        assert!(matches!(heard(Vec::new()).await, Err(Broken::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_frames_is_read_slowly() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut reader, _sender) = open(ours);
        tokio::spawn(async move {
            let frame = framed(b"\"heartbeat\"");
            while theirs.write_all(&frame).await.is_ok() {}
        });
        let start = Instant::now();
        for _ in 0..30_000 {
            reader.next().await.unwrap();
        }
        // 30,000 frames at 4 KiB are 117 MiB; 32 are free, the rest takes its time.
        assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
