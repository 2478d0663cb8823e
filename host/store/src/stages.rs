//! The records of stages: attempts, what was left outside, checkpoints, outcomes.
//!
//! A stage that succeeded is never run again: after a crash the pipeline reads its outcome here and
//! goes on with the next one.

use async_trait::async_trait;
use imagefactory_model::stage::JournalEntry;
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;

use crate::StoreError;

/// One stage of one order.
#[derive(Debug, Clone, PartialEq)]
pub struct StageRecord {
    /// The same in every attempt.
    pub id: Uuid,
    /// Whose order.
    pub order_id: Uuid,
    /// Which image.
    pub image_id: Uuid,
    /// Place in the pipeline: `create_base_image`, unique in its order.
    pub step: String,
    /// Which plugin.
    pub plugin_id: String,
    /// 1, 2, …
    pub attempt: u32,
    /// Retryable errors of the plugin so far.
    pub failures: u32,
    /// Where it stands.
    pub state: StageState,
    /// The process of this attempt as the supervisor described it, for fencing; JSON.
    pub process: Option<Value>,
    /// What it brought back; JSON of the pipeline's own making.
    pub outcome: Option<Value>,
}

/// Where a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageState {
    /// A process works on it, or did when everything died.
    Running,
    /// Ended without a result; it is to be run again.
    Interrupted,
    /// Its outcome is recorded.
    Succeeded,
    /// It failed for good.
    Failed,
}

impl StageState {
    /// The store's word.
    pub fn name(self) -> &'static str {
        match self {
            StageState::Running => "running",
            StageState::Interrupted => "interrupted",
            StageState::Succeeded => "succeeded",
            StageState::Failed => "failed",
        }
    }

    /// The state whose name this is.
    pub fn parse(text: &str) -> Option<StageState> {
        [StageState::Running, StageState::Interrupted, StageState::Succeeded, StageState::Failed]
            .into_iter()
            .find(|state| state.name() == text)
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptEnd {
    /// With a result.
    Succeeded(Value),
    /// By the plugin's retryable error.
    Retryable,
    /// From outside.
    Interrupted,
    /// For good.
    Failed,
}

/// The records of stages.
#[async_trait]
pub trait Stages {
    /// Begins an attempt: makes the stage, or counts its attempt up. Durable before it returns, and
    /// before the process exists. A stage that succeeded comes back as it is and must not be run.
    async fn begin_attempt(
        &self,
        order: Uuid,
        image: Uuid,
        step: &str,
        plugin: &str,
    ) -> Result<StageRecord, StoreError>;

    /// Records the process of the attempt, durably, before it is told what to do.
    async fn record_process(&self, stage: Uuid, process: Value) -> Result<(), StoreError>;

    /// Ends the attempt. A success is durable before it returns.
    async fn end_attempt(&self, stage: Uuid, end: AttemptEnd) -> Result<(), StoreError>;

    /// All stages of an order, in the order of their making.
    async fn stages_of(&self, order: Uuid) -> Result<Vec<StageRecord>, StoreError>;

    /// Does this stage belong to an order that is open? Its folders must stay then.
    async fn is_of_open_order(&self, stage: Uuid) -> Result<bool, StoreError>;

    /// All stages that touched an image, from any order.
    async fn stages_of_image(&self, image: Uuid) -> Result<Vec<StageRecord>, StoreError>;

    /// Appends to the journal of outside resources; durable before it returns.
    async fn journal(&self, stage: Uuid, entry: JournalEntry) -> Result<(), StoreError>;

    /// What of this stage still exists outside: the last entry of each token that is not REMOVED.
    async fn outstanding(&self, stage: Uuid) -> Result<Vec<JournalEntry>, StoreError>;

    /// Keeps a checkpoint; durable before it returns.
    async fn put_checkpoint(&self, stage: Uuid, key: &str, value: &str) -> Result<(), StoreError>;

    /// All checkpoints of a stage.
    async fn checkpoints(&self, stage: Uuid) -> Result<BTreeMap<String, String>, StoreError>;
}
