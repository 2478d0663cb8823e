//! What the pipeline wants done in one stage, and for which order.

use std::path::PathBuf;
use std::sync::Arc;

use imagefactory_model::image::Image;
use imagefactory_model::order::Order;
use imagefactory_model::stage::Operation;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::build_log::BuildLog;
use crate::plugins::ChosenPlugin;

/// The order that a stage belongs to, and who hears of it.
#[derive(Debug, Clone)]
pub(crate) struct OrderContext {
    /// What was asked for.
    pub(crate) order: Order,
    /// The image, as it was when work on the order began.
    pub(crate) image: Image,
    /// Ends the stage: somebody cancelled, or the factory shuts down.
    pub(crate) cancel: CancellationToken,
    /// The image's log.
    pub(crate) log: BuildLog,
}

/// One stage that the pipeline wants done.
#[derive(Debug, Clone)]
pub(crate) struct StageWork {
    /// Place in the pipeline, unique in the order; mostly the operation's name.
    pub(crate) step: String,
    /// What to call.
    pub(crate) operation: Operation,
    /// Whom.
    pub(crate) plugin: Arc<ChosenPlugin>,
    /// The part of the image's percentage that this stage fills.
    pub(crate) percent: std::ops::Range<u8>,
    /// What it reads.
    pub(crate) input_image: Option<PathBuf>,
    /// Bytes to reserve on the store's file system.
    pub(crate) reserve_bytes: u64,
    /// TDL, as sent and as parsed.
    pub(crate) template: Option<(String, String)>,
    /// The images it is about.
    pub(crate) images: Map<String, Value>,
    /// Target and provider, where they matter.
    pub(crate) target: Option<String>,
    /// The provider's definition as text.
    pub(crate) provider: Option<String>,
    /// For `create_target_image`.
    pub(crate) target_contents: Vec<Value>,
    /// May it ask for the order's credentials?
    pub(crate) credentials: bool,
}
