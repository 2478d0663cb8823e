//! One request: what is asked of whom, and what may be shown of it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use crate::body::Body;
use crate::progress::Progress;
use crate::redaction::shown_url;
use crate::retry::RetryPolicy;

/// A request; it can be sent any number of times. Debug shows nothing secret.
#[derive(Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) secrets: Vec<Arc<str>>,
    pub(crate) body: Body,
    pub(crate) progress: Option<Progress>,
    pub(crate) repeatable: bool,
    pub(crate) retries: Option<RetryPolicy>,
    pub(crate) idle: Option<Duration>,
    pub(crate) whole: Option<Duration>,
    /// What was wrong with a header; told when it is sent, so that building one stays a chain.
    pub(crate) broken: Option<PluginError>,
}

impl Request {
    /// A request without headers and body. GET, HEAD, PUT, DELETE and OPTIONS are repeated where it
    /// helps; other methods only where [`Request::repeatable`] says so.
    pub fn new(method: Method, url: &str) -> Result<Request> {
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = parsed.filter(Url::has_host).ok_or_else(|| {
            // Not shown: what does not parse may have its password anywhere.
            PluginError::user_fault("an address of the provider is no http(s) URL")
                .hint("write it as https://cloud.example:5000/v3")
        })?;
        Ok(Request::to(method, url))
    }

    /// The same for a URL that is one.
    pub fn to(method: Method, url: Url) -> Request {
        let repeatable = method.is_idempotent();
        Request {
            method,
            url,
            headers: HeaderMap::new(),
            secrets: Vec::new(),
            body: Body::default(),
            progress: None,
            repeatable,
            retries: None,
            idle: None,
            whole: None,
            broken: None,
        }
    }

    /// Where it goes.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Adds a header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Request {
        self.with(name, value, false)
    }

    /// Adds a header that is never shown, and whose value is removed from all errors.
    #[must_use]
    pub fn secret_header(self, name: &str, value: &str) -> Request {
        self.secret(value).with(name, value, true)
    }

    /// `Authorization: Basic …`.
    #[must_use]
    pub fn basic_auth(self, user: &str, password: &str) -> Request {
        let value = STANDARD.encode(format!("{user}:{password}"));
        self.secret(password).secret_header("authorization", &format!("Basic {value}"))
    }

    /// `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer_auth(self, token: &str) -> Request {
        self.secret(token).secret_header("authorization", &format!("Bearer {token}"))
    }

    /// A value in the body or the query that is removed from all errors.
    #[must_use]
    pub fn secret(mut self, value: &str) -> Request {
        self.secrets.push(value.into());
        self
    }

    /// What is sent.
    #[must_use]
    pub fn body(self, body: impl Into<Body>) -> Request {
        Request { body: body.into(), ..self }
    }

    /// JSON, with its content type.
    #[must_use]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Request {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.body(bytes).header("content-type", "application/json"),
            Err(error) => {
                let message = format!("a request cannot be written as JSON: {error}");
                Request { broken: Some(PluginError::new(ErrorCode::Internal, message)), ..self }
            }
        }
    }

    /// Counts the bytes of the body.
    #[must_use]
    pub fn progress(self, progress: &Progress) -> Request {
        Request { progress: Some(progress.clone()), ..self }
    }

    /// Sending it twice does no harm, whatever its method.
    #[must_use]
    pub fn repeatable(self) -> Request {
        Request { repeatable: true, ..self }
    }

    /// Other repetitions than the client's.
    #[must_use]
    pub fn retries(self, retries: RetryPolicy) -> Request {
        Request { retries: Some(retries), ..self }
    }

    /// Waits so long without a byte, instead of the client's time.
    #[must_use]
    pub fn idle_timeout(self, idle: Duration) -> Request {
        Request { idle: Some(idle), ..self }
    }

    /// One attempt may take so long, instead of the client's time.
    #[must_use]
    pub fn whole_timeout(self, whole: Duration) -> Request {
        Request { whole: Some(whole), ..self }
    }

    fn with(mut self, name: &str, value: &str, secret: bool) -> Request {
        let name_read = HeaderName::from_bytes(name.as_bytes());
        match (name_read, HeaderValue::from_str(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(secret);
                self.headers.append(name, value);
            }
            _ => {
                let message = format!(
                    "the value for the header {name:?} has characters that no header takes"
                );
                self.broken = Some(PluginError::user_fault(message));
            }
        }
        self
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &shown_url(&self.url))
            .field("headers", &names)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
