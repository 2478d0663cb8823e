//! Forwards the plugin's `tracing` events to the stage's log (feature `tracing`).
//!
//! An event's message becomes the line; its other fields, and the names and fields of the spans it
//! happened in, become the line's JSON fields. Install it once per process, as early as `create`:
//!
//! ```
//! use imagefactory_plugin_sdk::author::tracing::HostLayer;
//! use imagefactory_plugin_sdk::author::Host;
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! fn forward_events_to(host: &Host) {
//!     let subscriber = tracing_subscriber::registry().with(HostLayer::new(host.clone()));
//!     // Err: an instance before this one has installed its own; the first one stays.
//!     tracing::subscriber::set_global_default(subscriber).ok();
//! }
//! ```

use std::fmt;

use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::host::{Host, LogLevel};
use super::json::{quote, Object};

/// A `tracing` layer that writes to the host's log. It may outlive the plugin instance; its events
/// are lost from then on.
pub struct HostLayer {
    host: Host,
}

impl HostLayer {
    /// Writes to this host.
    pub fn new(host: Host) -> HostLayer {
        HostLayer { host }
    }
}

/// The fields of a span, kept beside it.
struct SpanFields(Object);

impl<S> Layer<S> for HostLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(SpanFields(fields.object));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut extensions = span.extensions_mut();
            let known = extensions.remove::<SpanFields>().map(|fields| fields.0);
            let mut fields = Fields { object: known.unwrap_or_default(), message: None };
            values.record(&mut fields);
            extensions.insert(SpanFields(fields.object));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut object = fields.object.text("target", event.metadata().target());
        let spans = context.event_scope(event).map(|scope| {
            let spans = scope.from_root().map(|span| {
                let extensions = span.extensions();
                let kept = extensions.get::<SpanFields>().map(|fields| fields.0.clone());
                Object::new()
                    .text("name", span.name())
                    .json("fields", &kept.unwrap_or_default().end())
                    .end()
            });
            spans.collect::<Vec<_>>().join(",")
        });
        if let Some(spans) = spans.filter(|spans| !spans.is_empty()) {
            object = object.json("spans", &format!("[{spans}]"));
        }
        let message = fields.message.unwrap_or_else(|| event.metadata().name().to_owned());
        let level = level_of(event.metadata().level());
        self.host.log_with_fields(level, &message, Some(&object.end()));
    }
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        _ => LogLevel::Trace,
    }
}

/// Collects the fields of an event or a span as a JSON object, the message apart.
#[derive(Default)]
struct Fields {
    object: Object,
    message: Option<String>,
}

impl Fields {
    fn add(&mut self, field: &Field, value_json: &str) {
        self.object = std::mem::take(&mut self.object).json(field.name(), value_json);
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, if value { "true" } else { "false" });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no NaN.
        let json = if value.is_finite() { value.to_string() } else { quote(&value.to_string()) };
        self.add(field, &json);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = Some(value.to_owned());
        } else {
            self.add(field, &quote(value));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
