//! An answer, whatever its status, and the error that a failing one becomes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::redaction::{host_and_port, shown_without};
use crate::retry::retry_after;

/// What an error quotes of a server's words: a sentence or two.
const SAID_CHARS_MAX: usize = 400;

/// An answer with its body.
pub struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) url: Url,
    pub(crate) secrets: Vec<Arc<str>>,
}

impl Response {
    /// Its status: 200, 404, …
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// 200 to 299?
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// Overloaded, or a gateway whose service is away: worth another try.
    pub fn is_passing(&self) -> bool {
        is_passing(self.status)
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// A header's first value, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Where it came from, redirects followed.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as a type of the plugin's.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let from = host_and_port(&self.url);
            // serde's message may quote a value of the answer.
            let error = self.shown(&error.to_string());
            let message = format!("{from} answered something else than expected: {error}");
            PluginError::new(ErrorCode::Io, message)
                .hint("is that the address of the right service?")
        })
    }

    /// Itself, or the error of its status with `what` in front: `the image cannot be created`.
    pub fn expect_success(self, what: &str) -> Result<Response> {
        if self.is_success() { Ok(self) } else { Err(self.error(what)) }
    }

    /// The error that this answer is.
    pub fn error(&self, what: &str) -> PluginError {
        let (code, hint) = meaning(self.status);
        let mut message = format!("{what}: {} answered {}", host_and_port(&self.url), self.status);
        let said = self.said();
        if !said.is_empty() {
            message = format!("{message}: {said}");
        }
        let mut error = PluginError::new(code, message).vendor_code(self.status.as_str());
        if let Some(hint) = hint {
            error = error.hint(hint);
        }
        if matches!(code, ErrorCode::Auth | ErrorCode::Permission) {
            error = error.by_user();
        }
        if is_passing(self.status) {
            error = error.retry_after(retry_after(&self.headers).unwrap_or(Duration::ZERO));
        }
        error
    }

    /// The server's own words in one line, without our secrets; empty if there are none.
    pub fn said(&self) -> String {
        let words = match serde_json::from_slice::<Value>(&self.body) {
            Ok(value) => message_in(&value).unwrap_or_default().to_owned(),
            Err(_) => without_tags(&self.text()),
        };
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = self.shown(&words);
        match words.char_indices().nth(SAID_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &words[..end]),
            None => words,
        }
    }

    fn shown(&self, text: &str) -> String {
        shown_without(text, self.secrets.iter().map(|secret| &**secret))
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Answers carry tokens, in headers and in bodies.
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Worth a repetition: overloaded, or a gateway whose service is away for a moment.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// What a status means to a person.
fn meaning(status: StatusCode) -> (ErrorCode, Option<&'static str>) {
    match status.as_u16() {
        400 | 405 | 406 | 411 | 415 | 422 => (ErrorCode::InvalidArgument, None),
        401 => (
            ErrorCode::Auth,
            Some(
                "check the credentials: user, password and their domain or account, and whether \
                 they have expired",
            ),
        ),
        403 => (
            ErrorCode::Permission,
            Some(
                "the account is known but may not do this; ask the provider's administrator for \
                 the right",
            ),
        ),
        404 | 410 => (ErrorCode::NotFound, None),
        407 => (ErrorCode::Auth, Some("the proxy wants a user and a password")),
        408 => (ErrorCode::Timeout, None),
        409 => (ErrorCode::AlreadyExists, None),
        412 => (ErrorCode::InvalidState, None),
        413 | 507 => (
            ErrorCode::Quota,
            Some("make the image smaller, delete others, or ask the provider for a higher limit"),
        ),
        429 => (ErrorCode::Unavailable, Some("the service limits requests; try again later")),
        501 => (ErrorCode::Unsupported, None),
        500.. => (ErrorCode::Unavailable, Some("look into the service's log, or try again later")),
        _ => (ErrorCode::Io, None),
    }
}

/// The first text under a name that services use for their messages, breadth before depth.
fn message_in(value: &Value) -> Option<&str> {
    const NAMES: [&str; 6] =
        ["message", "Message", "detail", "error_description", "error", "faultstring"];
    match value {
        Value::Object(members) => NAMES
            .into_iter()
            .find_map(|name| members.get(name)?.as_str())
            .or_else(|| members.values().find_map(message_in)),
        Value::Array(elements) => elements.iter().find_map(message_in),
        _ => None,
    }
}

/// Text of an HTML or XML answer: errors of gateways and older services.
fn without_tags(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut in_tag = false;
    for character in text.chars() {
        match character {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                words.push(' ');
            }
            _ if !in_tag => words.push(character),
            _ => {}
        }
    }
    words
}
