//! Answers what a plugin asks of its host while it runs (`HostCall`).
//!
//! Calls run beside each other, because a plugin may have threads and one may wait for a lock for
//! hours; the conversation goes on meanwhile. Names are checked against the grants, sizes and
//! counts against the limits below, before anything reaches the services. A refused call is an
//! answer to the plugin, never the end of the stage.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use imagefactory_model::frames::{CallReply, HostCall};
use imagefactory_model::stage::{Artifact, JournalEntry};

use super::artifacts::{ARTIFACTS_MAX, check_announced};
use super::events::{EventSink, StageEvent};
use super::reservations::StageReservations;
use super::scrubber::Scrubber;
use super::services::{Grants, ServiceError, StageServices};

/// IMGF_E_INVALID_ARGUMENT, IMGF_E_PERMISSION, IMGF_E_QUOTA of status.h.
const INVALID_ARGUMENT: i32 = 3;
const PERMISSION: i32 = 7;
const QUOTA: i32 = 12;

/// Calls under way at once: one for each thread of a plugin that means well.
pub(super) const CALLS_AT_ONCE_MAX: usize = 256;

/// Journal entries and checkpoints of one attempt. Each is an fsync of the host; an upload in parts
/// that keeps one checkpoint for each of S3's 10,000 parts fits twice.
const DURABLE_WRITES_MAX: u32 = 20_000;

/// Longest name (token, kind, id, checkpoint key, secret), in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// Largest `details` of a journal entry and value of a checkpoint. A checkpoint may list the ETags
/// of 10,000 parts (40 bytes each).
const DOCUMENT_BYTES_MAX: usize = 1 << 20;

type Answer = Result<CallReply, ServiceError>;
type Running = Pin<Box<dyn Future<Output = (u64, Answer)> + Send>>;

/// All calls of one stage.
pub(super) struct Calls {
    services: Arc<dyn StageServices>,
    /// Released when this is dropped.
    reservations: Arc<StageReservations>,
    grants: Grants,
    scrubber: Scrubber,
    events: EventSink,
    work_dir: PathBuf,
    running: FuturesUnordered<Running>,
    ids: BTreeSet<u64>,
    durable_writes: u32,
    artifacts: Vec<Artifact>,
}

/// What the calls of a stage have in common.
pub(super) struct CallContext {
    pub(super) services: Arc<dyn StageServices>,
    pub(super) reservations: StageReservations,
    pub(super) grants: Grants,
    pub(super) scrubber: Scrubber,
    pub(super) events: EventSink,
    pub(super) work_dir: PathBuf,
}

impl Calls {
    pub(super) fn new(context: CallContext) -> Self {
        Calls {
            services: context.services,
            reservations: Arc::new(context.reservations),
            grants: context.grants,
            scrubber: context.scrubber,
            events: context.events,
            work_dir: context.work_dir,
            running: FuturesUnordered::new(),
            ids: BTreeSet::new(),
            durable_writes: 0,
            artifacts: Vec::new(),
        }
    }

    /// Takes a call in. The error is a breach of the protocol.
    pub(super) fn ask(&mut self, id: u64, call: HostCall) -> Result<(), String> {
        if self.ids.len() >= CALLS_AT_ONCE_MAX {
            return Err(format!("it has more than {CALLS_AT_ONCE_MAX} calls under way"));
        }
        if !self.ids.insert(id) {
            return Err(format!("it used the call id {id} twice"));
        }
        let answer = match self.start(call) {
            Ok(answer) => answer,
            Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
        };
        self.running.push(Box::pin(async move { (id, answer.await) }));
        Ok(())
    }

    /// The next answer. Never resolves while no call is under way.
    pub(super) async fn answered(&mut self) -> (u64, CallReply) {
        match self.running.next().await {
            Some((id, answer)) => {
                self.ids.remove(&id);
                let failed = |error: ServiceError| CallReply::Failed {
                    code: error.code,
                    message: error.message,
                };
                (id, answer.unwrap_or_else(failed))
            }
            None => std::future::pending().await,
        }
    }

    /// What was handed over, the last of each name.
    pub(super) fn take_artifacts(&mut self) -> Vec<Artifact> {
        std::mem::take(&mut self.artifacts)
    }

    fn start(
        &mut self,
        call: HostCall,
    ) -> Result<Pin<Box<dyn Future<Output = Answer> + Send>>, ServiceError> {
        let services = self.services.clone();
        Ok(match call {
            HostCall::Journal(entry) => {
                self.check_journal(&entry)?;
                self.count_write()?;
                let events = self.events.clone();
                Box::pin(async move {
                    services.journal(entry.clone()).await?;
                    events.send(StageEvent::Journal(entry));
                    Ok(CallReply::Done)
                })
            }
            HostCall::CheckpointPut { key, value } => {
                self.check_checkpoint(&key, &value)?;
                self.count_write()?;
                Box::pin(async move {
                    services.checkpoint_put(key, value).await?;
                    Ok(CallReply::Done)
                })
            }
            HostCall::SecretGet { name } => {
                if !self.grants.secrets.contains(&name) {
                    return Err(denied("secret", &name));
                }
                let scrubber = self.scrubber.clone();
                Box::pin(async move {
                    let secret = services.secret_get(name).await?;
                    // Before the plugin has it: nothing that it says may precede this.
                    scrubber.learn(&secret);
                    Ok(CallReply::Text(secret))
                })
            }
            HostCall::ImageGet { id } => {
                let id = id.to_ascii_lowercase();
                if !self.grants.images.contains(&id) {
                    return Err(denied("image", &id));
                }
                Box::pin(async move { Ok(CallReply::Text(services.image_get(id).await?)) })
            }
            HostCall::ArtifactAdd(artifact) => {
                self.add_artifact(artifact)?;
                Box::pin(std::future::ready(Ok(CallReply::Done)))
            }
            HostCall::Lock { .. } | HostCall::Unlock { .. } | HostCall::NextListenPort
                if !self.grants.reserve =>
            {
                return Err(denied("interface", "imagefactory.host.reserve/1"));
            }
            HostCall::Lock { name, timeout_ms } => {
                let reservations = self.reservations.clone();
                Box::pin(async move {
                    let timeout = Duration::from_millis(timeout_ms);
                    reservations.lock(&name, timeout).await?;
                    Ok(CallReply::Done)
                })
            }
            HostCall::Unlock { name } => {
                self.reservations.unlock(&name)?;
                Box::pin(std::future::ready(Ok(CallReply::Done)))
            }
            HostCall::NextListenPort => {
                let port = self.reservations.next_listen_port()?;
                Box::pin(std::future::ready(Ok(CallReply::Port(port))))
            }
        })
    }

    fn add_artifact(&mut self, artifact: Artifact) -> Result<(), ServiceError> {
        check_announced(&artifact, &self.work_dir).map_err(invalid)?;
        self.artifacts.retain(|known| known.name != artifact.name);
        if self.artifacts.len() >= ARTIFACTS_MAX {
            let message = format!("a stage hands over at most {ARTIFACTS_MAX} artefacts");
            return Err(ServiceError { code: QUOTA, message });
        }
        self.artifacts.push(artifact);
        Ok(())
    }

    fn count_write(&mut self) -> Result<(), ServiceError> {
        if self.durable_writes >= DURABLE_WRITES_MAX {
            return Err(ServiceError {
                code: QUOTA,
                message: format!(
                    "an attempt writes at most {DURABLE_WRITES_MAX} journal entries and checkpoints"
                ),
            });
        }
        self.durable_writes += 1;
        Ok(())
    }

    fn check_journal(&self, entry: &JournalEntry) -> Result<(), ServiceError> {
        check_name("journal token", &entry.token)?;
        check_name("journal kind", &entry.kind)?;
        if let Some(id) = &entry.resource_id {
            check_name("journal resource_id", id)?;
        }
        let Some(details) = &entry.details else { return Ok(()) };
        if !details.is_object() {
            return Err(invalid("journal details must be a JSON object"));
        }
        self.check_document("journal details", &details.to_string())
    }

    fn check_checkpoint(&self, key: &str, value: &str) -> Result<(), ServiceError> {
        check_name("checkpoint key", key)?;
        self.check_document("checkpoint value", value)?;
        match serde_json::from_str::<serde::de::IgnoredAny>(value) {
            Ok(_) => Ok(()),
            Err(error) => Err(invalid(format!("checkpoint value is no JSON: {error}"))),
        }
    }

    fn check_document(&self, what: &str, text: &str) -> Result<(), ServiceError> {
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(invalid(format!(
                "{what} has {} bytes; at most {DOCUMENT_BYTES_MAX} are kept",
                text.len()
            )));
        }
        // What is durable outlives the order; secrets must not.
        if self.scrubber.holds_secret(text) {
            return Err(invalid(format!(
                "{what} holds a secret of this stage; keep its name instead and ask for it again"
            )));
        }
        Ok(())
    }
}

fn check_name(what: &str, name: &str) -> Result<(), ServiceError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err(invalid(format!(
            "{what} needs 1 to {NAME_BYTES_MAX} bytes without control characters"
        )));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError { code: INVALID_ARGUMENT, message: message.into() }
}

fn denied(kind: &str, name: &str) -> ServiceError {
    let name = super::stage_log::cut(name, 200);
    ServiceError {
        code: PERMISSION,
        message: format!("{kind} {name:?} was not granted to this stage"),
    }
}
