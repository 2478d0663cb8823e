//! One upload session, step by step: opened, asked how far it is, continued, completed, given up.
//!
//! Decides nothing: what becomes of a step's end is the upload's business.

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use imagefactory_toolkit_http::{Method, Progress, Request, Response, Url};
use serde_json::Value;

use super::Registry;
use super::upload::{Blob, Sessions};

/// What an error quotes of the details that a registry gives.
const DETAIL_CHARS_MAX: usize = 200;

/// An open session.
pub(super) struct Session {
    pub(super) address: Url,
    pub(super) done: u64,
}

/// How a step ended.
pub(super) enum Step {
    /// The session is this far.
    On(Session),
    /// It is not there any more.
    Lost,
    /// The registry does not take pieces.
    NoPieces,
    /// The piece was too large for something on the way.
    TooLarge,
    /// The registry says that something is wrong with itself.
    Failed(PluginError),
}

impl Registry {
    /// Opens a session; `None`: the blob was mounted from that repository.
    pub(super) fn open_session(
        &self,
        blob: &Blob,
        from: Option<&str>,
        sessions: &dyn Sessions,
    ) -> Result<Option<Session>> {
        let mut url = self.url("blobs/uploads/")?;
        if let Some(from) = from {
            url.query_pairs_mut().append_pair("mount", &blob.digest).append_pair("from", from);
        }
        sessions.opening(&blob.digest)?;
        let request = Request::to(Method::POST, url).repeatable();
        let answer = self.send(request)?;
        if answer.status() == 201 && from.is_some() {
            return Ok(None);
        }
        if matches!(answer.status(), 500 | 507) {
            return Err(self.failure(&answer));
        }
        let answer = answer.expect_success("the registry opens no upload")?;
        let address = self.located(&answer)?;
        sessions.at(&blob.digest, &address)?;
        Ok(Some(Session { address, done: 0 }))
    }

    /// How far a session is; `None`: it is not known any more.
    pub(super) fn state_of(&self, address: Url) -> Result<Option<Session>> {
        let answer = self.send(Request::to(Method::GET, address.clone()))?;
        if !answer.is_success() {
            return match answer.status() {
                401 | 403 => Err(answer.error("the upload cannot be gone on with")),
                status if status >= 500 => Err(answer.error("the upload cannot be gone on with")),
                _ => Ok(None),
            };
        }
        let address = self.located(&answer).unwrap_or(address);
        Ok(done_of(&answer).map(|done| Session { address, done }))
    }

    pub(super) fn send_piece(
        &self,
        blob: &Blob,
        open: Session,
        chunk: u64,
        progress: &Progress,
    ) -> Result<Step> {
        let end = open.done.saturating_add(chunk).min(blob.bytes);
        let range = open.done..end;
        let request = Request::to(Method::PATCH, open.address.clone())
            .header("content-type", "application/octet-stream")
            .header("content-range", &format!("{}-{}", range.start, range.end - 1))
            .body(blob.body(range))
            .progress(progress);
        let answer = match self.send(request) {
            Ok(answer) => answer,
            Err(error) if is_interruption(&error) => {
                self.host.info(&format!("the upload was interrupted: {error}"));
                return Ok(self.state_of(open.address)?.map_or(Step::Lost, Step::On));
            }
            Err(error) => return Err(error),
        };
        match answer.status() {
            202 | 201 | 204 => {
                let address = self.located(&answer)?;
                let done = done_of(&answer).unwrap_or(end);
                if done > end {
                    return Err(self.damaged(blob, "it claims to have more than was sent"));
                }
                Ok(Step::On(Session { address, done }))
            }
            // Another place than we thought.
            416 => Ok(self.state_of(open.address)?.map_or(Step::Lost, Step::On)),
            404 if open.done == 0 => Ok(Step::NoPieces),
            405 | 501 => Ok(Step::NoPieces),
            404 => Ok(Step::Lost),
            413 => Ok(Step::TooLarge),
            500 | 507 => Ok(Step::Failed(self.failure(&answer))),
            429 | 501.. => {
                let error = answer.error("the registry takes no more of a blob");
                self.host.info(&format!("the upload was interrupted: {error}"));
                Ok(self.state_of(open.address)?.map_or(Step::Lost, Step::On))
            }
            _ => Err(answer.error("the registry takes no more of a blob")),
        }
    }

    /// Ends a session, with all of the blob where it takes no pieces. `None`: the blob is there.
    pub(super) fn complete(
        &self,
        blob: &Blob,
        open: Session,
        whole: bool,
        progress: &Progress,
    ) -> Result<Option<Step>> {
        let mut url = open.address.clone();
        url.query_pairs_mut().append_pair("digest", &blob.digest);
        let mut request =
            Request::to(Method::PUT, url).header("content-type", "application/octet-stream");
        request = match whole {
            true => request.body(blob.body(0..blob.bytes)).progress(progress),
            false => request,
        };
        let answer = match self.send(request) {
            Ok(answer) => answer,
            Err(error) if is_interruption(&error) => {
                self.host.info(&format!("the end of an upload was interrupted: {error}"));
                return Ok(Some(Step::Lost));
            }
            Err(error) => return Err(error),
        };
        match answer.status() {
            201 | 204 => Ok(None),
            // Ended already, by an answer that never came; or gone.
            404 | 416 => Ok(Some(Step::Lost)),
            413 => Err(too_large(&self.provider.registry)),
            500 | 507 => Ok(Some(Step::Failed(self.failure(&answer)))),
            429 | 501.. => Ok(Some(Step::Lost)),
            400 => {
                let said = answer.said();
                Err(self.damaged(blob, &said))
            }
            _ => Err(answer.error("the registry does not take the blob")),
        }
    }

    /// The registry's own trouble, with the details that it tells.
    fn failure(&self, answer: &Response) -> PluginError {
        let told: Option<Value> = serde_json::from_slice(answer.body()).ok();
        let detail = told.as_ref().map(|told| &told["errors"][0]["detail"]);
        let detail = match detail {
            None | Some(Value::Null) => answer.said(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let detail: String = detail.chars().take(DETAIL_CHARS_MAX).collect();
        let (registry, status) = (&self.provider.registry, answer.status());
        let message = format!("{registry} cannot store a blob ({status}): {detail}");
        PluginError::new(ErrorCode::Unavailable, message)
            .retryable()
            .vendor_code(status.to_string())
            .hint("its log says why; a full disk there looks like this")
    }

    fn damaged(&self, blob: &Blob, why: &str) -> PluginError {
        let registry = &self.provider.registry;
        let message = format!("{registry} does not take {} as what it got: {why}", blob.digest);
        PluginError::new(ErrorCode::Io, message)
            .retryable()
            .vendor_code("digest-mismatch")
            .hint("the blob was changed on the way, or the target image here is damaged")
    }

    /// Gives a session up; one that is gone is given up.
    pub(crate) fn cancel_session(&self, address: Url) -> Result<()> {
        let answer = self.send(Request::to(Method::DELETE, address))?;
        match answer.status() {
            // Some registries cannot; they forget sessions by themselves after some days.
            400 | 404 | 405 | 416 => Ok(()),
            _ => answer.expect_success("an upload cannot be cancelled").map(|_| ()),
        }
    }
}

/// The byte after the last that the registry has: `Range: 0-1023` is 1024.
fn done_of(answer: &Response) -> Option<u64> {
    let range = answer.header("range")?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (_, last) = range.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    // 0-0 is nothing for docker's registry; a single byte is sent again at no cost.
    Some(if last == 0 { 0 } else { last + 1 })
}

/// May the connection's end be one of the session's middle?
fn is_interruption(error: &PluginError) -> bool {
    matches!(error.code(), ErrorCode::Io | ErrorCode::Timeout | ErrorCode::Unavailable)
}

pub(super) fn too_large(registry: &str) -> PluginError {
    let message = format!("{registry} finds a blob too large (413)");
    PluginError::new(ErrorCode::Quota, message)
        .vendor_code("413")
        .hint("set chunk_bytes in the provider's definition, or raise the limit of its proxy")
}
