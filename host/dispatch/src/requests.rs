//! What the edges (REST, command line) ask of the dispatcher, already parsed: an impossible request
//! cannot be written down.

use std::fmt;
use std::path::PathBuf;

use imagefactory_model::image::Image;
use imagefactory_model::order::IdempotencyKey;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use serde_json::{Map, Value};
use uuid::Uuid;

/// What every order may carry.
#[derive(Debug, Clone)]
pub struct OrderOptions {
    /// As sent; `None` = none were sent.
    pub parameters: Option<Map<String, Value>>,
    /// Who hears of changes: http(s) URLs, checked.
    pub callbacks: Vec<String>,
    /// The client's `Idempotency-Key`.
    pub idempotency: Option<IdempotencyKey>,
    /// Where templates come from: over REST they may not name the server's files.
    pub source: TemplateSource,
}

impl OrderOptions {
    /// Nothing special, from there.
    pub fn from(source: TemplateSource) -> OrderOptions {
        OrderOptions { parameters: None, callbacks: Vec::new(), idempotency: None, source }
    }
}

/// What a derived image is made from: exactly one of the two.
#[derive(Debug, Clone)]
pub enum MadeFrom {
    /// An image that exists.
    Image(Uuid),
    /// A template, from which what is missing is made first.
    Template(String),
}

/// A base image to build.
#[derive(Debug, Clone)]
pub struct NewBaseImage {
    /// TDL, judged when it is built.
    pub template: String,
    /// The rest.
    pub options: OrderOptions,
}

/// A finished disk image to take as a base image.
#[derive(Debug, Clone)]
pub struct NewImport {
    /// In the store's staging folder; taken away from there.
    pub file: PathBuf,
    /// Where somebody says it; its first bytes must not contradict.
    pub format: Option<String>,
    /// TDL that describes what is in it.
    pub template: Option<String>,
    /// The rest.
    pub options: OrderOptions,
}

/// A target image to build.
#[derive(Debug, Clone)]
pub struct NewTargetImage {
    /// `ec2`.
    pub target: String,
    /// Base image (or target image: OVA is made from one) or template.
    pub from: MadeFrom,
    /// The rest.
    pub options: OrderOptions,
}

/// A provider image to push or snapshot.
#[derive(Debug, Clone)]
pub struct NewProviderImage {
    /// `ec2`.
    pub target: String,
    /// The provider's definition, text or object.
    pub provider: Value,
    /// With what to log in there.
    pub credentials: CredentialsGiven,
    /// Target image or template.
    pub from: MadeFrom,
    /// The rest.
    pub options: OrderOptions,
}

/// Credentials as a client gave them. Debug shows none.
#[derive(Clone, PartialEq, Eq)]
pub enum CredentialsGiven {
    /// None.
    Absent,
    /// `@name`: in the host's configuration.
    Named(String),
    /// Text, XML or JSON, for the plugin to read.
    Inline(String),
}

impl CredentialsGiven {
    /// `@name` is a name, everything else is the credentials themselves; empty is absent.
    pub fn parse(text: Option<&str>) -> CredentialsGiven {
        match text.map(str::trim) {
            None | Some("") => CredentialsGiven::Absent,
            Some(name) if name.starts_with('@') => CredentialsGiven::Named(name.to_owned()),
            Some(inline) => CredentialsGiven::Inline(inline.to_owned()),
        }
    }
}

impl fmt::Debug for CredentialsGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialsGiven::Absent => f.write_str("Absent"),
            CredentialsGiven::Named(name) => write!(f, "Named({name:?})"),
            CredentialsGiven::Inline(_) => f.write_str("Inline(REDACTED)"),
        }
    }
}

/// An image to delete. Target, provider and credentials matter for provider images only.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// Which image.
    pub id: Uuid,
    /// Overrides where it was pushed to.
    pub target: Option<String>,
    /// Overrides the provider that it was pushed to.
    pub provider: Option<Value>,
    /// With what to log in there.
    pub credentials: CredentialsGiven,
    /// Who hears of it.
    pub callbacks: Vec<String>,
    /// Drop the record even though nobody can remove the image from its provider.
    pub forget: bool,
}

/// An order that was taken: durable by now.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The image that was asked for, as it was recorded.
    pub image: Image,
    /// Not new: the answer of an earlier request with the same `Idempotency-Key`.
    pub replayed: bool,
    /// Odd, but taken: parameters that nobody declares.
    pub warnings: Vec<String>,
}
