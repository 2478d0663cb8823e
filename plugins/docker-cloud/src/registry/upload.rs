//! Blobs: asked for first, mounted from elsewhere where they lie there, else uploaded, and an
//! upload that breaks off goes on where the registry says that it has got to.
//!
//! ```text
//! HEAD ─ there ─▶ done
//!  └─▶ earlier session? GET ─ so far ─┐
//!  └─▶ POST mount ─ 201 ─▶ done       ▼
//!        └ 202 ─▶ session ─▶ PATCH ⟲ ─▶ PUT ─▶ done
//!                              └ not known here ─▶ PUT with all of it
//! ```
//!
//! Registries made from Docker's own refuse a session once a piece of it broke off in the middle
//! (they compare the offset in the address with what they have); then the blob begins anew.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_http::{Body, Method, Progress, Request, Url};

use super::Registry;
use super::session::{Session, Step, too_large};

/// Interruptions in a row without a further byte; with the pauses between them, half a minute. The
/// host repeats the stage after that.
const INTERRUPTIONS_MAX: u32 = 7;

/// How often a registry may answer 500 for one blob. Unlike 503 it is no promise that it passes.
const FAILURES_MAX: u32 = 2;

/// The first pause after an interruption; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is tried where a proxy finds a piece too large.
const CHUNK_AFTER_413: u64 = 4 << 20;

/// One blob, in a file.
#[derive(Clone)]
pub(crate) struct Blob {
    /// `sha256:…`.
    pub(crate) digest: String,
    /// Length.
    pub(crate) bytes: u64,
    /// Where it lies.
    pub(crate) file: Arc<File>,
    /// Its first byte there.
    pub(crate) offset: u64,
}

impl Blob {
    pub(super) fn body(&self, range: Range<u64>) -> Body {
        Body::file_range(self.file.clone(), self.offset + range.start..self.offset + range.end)
    }
}

/// Keeps account of upload sessions, so that another attempt finds them and none is left.
pub(crate) trait Sessions {
    /// The session of an earlier attempt.
    fn earlier(&self, digest: &str) -> Result<Option<Url>>;
    /// A session is about to be opened.
    fn opening(&self, digest: &str) -> Result<()>;
    /// It is open, or has moved to a new address.
    fn at(&self, digest: &str, address: &Url) -> Result<()>;
    /// It is over.
    fn closed(&self, digest: &str) -> Result<()>;
}

/// How much more is borne.
#[derive(Default)]
struct Patience {
    /// In a row, without a further byte.
    interruptions: u32,
    /// Altogether.
    failures: u32,
    /// The byte that the upload has got to.
    furthest: u64,
}

impl Patience {
    fn moved_to(&mut self, done: u64) {
        if done > self.furthest {
            (self.interruptions, self.furthest) = (0, done);
        }
    }

    fn failed(&mut self, host: &Host, error: PluginError) -> Result<()> {
        self.failures += 1;
        if self.failures > FAILURES_MAX {
            return Err(error);
        }
        host.info(&format!("the upload was interrupted: {error}"));
        Ok(())
    }
}

impl Registry {
    /// Is the blob there?
    fn has_blob(&self, digest: &str) -> Result<bool> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let answer = self.send(Request::to(Method::HEAD, url))?;
        match answer.status() {
            404 => Ok(false),
            _ => answer.expect_success("the registry cannot be asked for a blob").map(|_| true),
        }
    }

    /// Brings a blob into the repository.
    pub(crate) fn push_blob(
        &self,
        blob: &Blob,
        sessions: &dyn Sessions,
        progress: &Progress,
    ) -> Result<()> {
        if self.has_blob(&blob.digest)? {
            progress.add(blob.bytes);
            self.host.info(&format!("{} is there already", blob.digest));
            return sessions.closed(&blob.digest);
        }
        let mut session = match sessions.earlier(&blob.digest)? {
            Some(address) => self.state_of(address)?,
            None => None,
        };
        if let Some(session) = &session {
            let (digest, done) = (&blob.digest, session.done);
            self.host.info(&format!("{digest}: the upload goes on at byte {done}"));
            progress.add(done);
        }
        for from in self.provider.mount_from.clone() {
            if session.is_some() {
                break;
            }
            session = self.open_session(blob, Some(&from), sessions)?;
            if session.is_none() {
                progress.add(blob.bytes);
                self.host.info(&format!("{} is mounted from {from}", blob.digest));
                return sessions.closed(&blob.digest);
            }
        }
        self.upload(blob, session, sessions, progress)?;
        sessions.closed(&blob.digest)
    }

    fn upload(
        &self,
        blob: &Blob,
        mut session: Option<Session>,
        sessions: &dyn Sessions,
        progress: &Progress,
    ) -> Result<()> {
        let mut patience = Patience::default();
        let mut chunk = self.provider.chunk_bytes.unwrap_or(u64::MAX);
        let mut pieces = !self.provider.monolithic;
        loop {
            let open = match session.take() {
                Some(open) => open,
                None => self.open_new(blob, sessions)?,
            };
            patience.moved_to(open.done);
            let step = match pieces && open.done < blob.bytes {
                true => self.send_piece(blob, open, chunk, progress)?,
                false => match self.complete(blob, open, !pieces, progress)? {
                    None => return Ok(()),
                    Some(step) => step,
                },
            };
            match step {
                Step::On(next) => {
                    sessions.at(&blob.digest, &next.address)?;
                    let moved = next.done > patience.furthest;
                    session = Some(next);
                    if moved {
                        continue;
                    }
                }
                Step::NoPieces => {
                    self.host.info("the registry takes no pieces; each blob goes in one");
                    pieces = false;
                    continue;
                }
                Step::TooLarge if chunk > CHUNK_AFTER_413 => {
                    self.host.info("a piece was too large for the registry; they get smaller");
                    chunk = CHUNK_AFTER_413;
                    continue;
                }
                Step::TooLarge => return Err(too_large(&self.provider.registry)),
                Step::Failed(error) => patience.failed(&self.host, error)?,
                Step::Lost => {}
            }
            // Ended already, by an answer that never came?
            if self.has_blob(&blob.digest)? {
                return Ok(());
            }
            self.wait_for_more(blob, &mut patience)?;
        }
    }

    fn wait_for_more(&self, blob: &Blob, patience: &mut Patience) -> Result<()> {
        patience.interruptions += 1;
        let Patience { interruptions, furthest, .. } = *patience;
        if interruptions > INTERRUPTIONS_MAX {
            let message = format!(
                "the upload to {} broke off {interruptions} times without getting further than \
                 byte {furthest} of {}",
                self.provider.registry, blob.bytes
            );
            return Err(PluginError::new(ErrorCode::Io, message)
                .retryable()
                .hint("its log may say why, and so may that of a proxy before it"));
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (interruptions - 1)).min(LONGEST_PAUSE);
        self.host.sleep_unless_cancelled(pause)
    }

    fn open_new(&self, blob: &Blob, sessions: &dyn Sessions) -> Result<Session> {
        self.open_session(blob, None, sessions)?.ok_or_else(|| {
            let message = "the registry says that it mounted a blob without being asked to";
            PluginError::new(ErrorCode::Io, message)
        })
    }
}
