//! REST API 2.0 (docs/REST_API.md), in the order in which a request meets it:
//!
//! - [`service`]: warp, and the way of a request from route to answer
//! - [`request`]: the request; [`routes`]: the one table of all addresses
//! - [`gate`]: who may ask ([`oauth`]); [`accept`]: what may be answered
//! - [`bodies`]: JSON, forms, multipart and XML become fields; [`orders`]: fields become orders
//! - [`handlers`]: one file for each noun
//! - [`answers`], [`problems`], [`status_codes`], [`href`]: what goes back
//! - [`rendered`]: images as they were answered last; [`files`]: ranges of files; [`streams`]: what
//!   goes on until the client leaves
//! - [`openapi`]: all of this as a document; [`counters`]: for the metrics

pub(crate) mod accept;
pub(crate) mod answers;
pub(crate) mod bodies;
pub(crate) mod counters;
pub(crate) mod files;
pub(crate) mod gate;
pub(crate) mod handlers;
pub(crate) mod href;
pub(crate) mod oauth;
pub(crate) mod openapi;
pub(crate) mod orders;
pub(crate) mod problems;
pub(crate) mod rendered;
pub(crate) mod request;
pub(crate) mod routes;
pub(crate) mod service;
pub(crate) mod status_codes;
pub(crate) mod streams;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use imagefactory_dispatch::dispatcher::Dispatcher;
use imagefactory_registry::jeos::JeosImages;
use imagefactory_store::ImageStore;
use imagefactory_store::layout::StoreLayout;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What all handlers share. One for each daemon.
pub(crate) struct Rest {
    /// The engine.
    pub(crate) dispatcher: Dispatcher,
    /// The store's folders, for uploads.
    pub(crate) layout: StoreLayout,
    /// How requests are judged.
    pub(crate) rules: RestRules,
    /// `None`: nobody is asked for a signature.
    pub(crate) verifier: Option<oauth::Verifier>,
    /// JEOS images; replaced on SIGHUP.
    pub(crate) jeos: RwLock<Arc<JeosImages>>,
    /// Providers by target and name; no secrets.
    pub(crate) providers: BTreeMap<String, BTreeMap<String, Value>>,
    /// Images as they were answered last.
    pub(crate) rendered: rendered::RenderedImages,
    /// For the metrics.
    pub(crate) counters: counters::Counters,
    /// Plugins were looked for and orders of a former life were taken up.
    pub(crate) started: watch::Receiver<bool>,
    /// Cancelled when the daemon stops: endless answers end.
    pub(crate) stopping: CancellationToken,
}

/// How requests are judged.
#[derive(Debug, Clone)]
pub(crate) struct RestRules {
    /// Every GET is open, but bodies, logs and artefacts.
    pub(crate) oauth_open_reads: bool,
    /// Largest request body, bytes.
    pub(crate) body_bytes_max: usize,
    /// Names under which clients reach this daemon.
    pub(crate) server_names: Vec<String>,
    /// Whose `X-Forwarded-*` headers are believed.
    pub(crate) trusted_proxies: Vec<IpAddr>,
}

impl Rest {
    /// The records.
    pub(crate) fn store(&self) -> &dyn ImageStore {
        &**self.dispatcher.store()
    }

    /// The JEOS images as they are now.
    pub(crate) fn jeos(&self) -> Arc<JeosImages> {
        Arc::clone(&self.jeos.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when plugins are known: whoever orders or lists before that waits for milliseconds.
    pub(crate) async fn started(&self) {
        let mut started = self.started.clone();
        // An error means that the daemon is going down; the answer does not matter then.
        started.wait_for(|started| *started).await.ok();
    }
}
