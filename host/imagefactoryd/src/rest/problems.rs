//! Errors as `application/problem+json` (RFC 9457): `status`, `title`, `detail`, and where it helps
//! `hint` and `errors`. A detail is a sentence for the client; what only the operator may know
//! (paths, causes) goes to the log with the request's id.

use hyper::http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use warp::reply::Response;

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    hint: Option<String>,
    errors: Vec<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// Of any status.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let (hint, errors, headers) = (None, Vec::new(), Vec::new());
        Problem { status, detail: detail.into(), hint, errors, headers }
    }

    /// 400.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// 409.
    pub(crate) fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    /// 405 with the methods that there are.
    pub(crate) fn method_not_allowed(method: &str, allowed: &str) -> Problem {
        let detail = format!("{method} is not possible here; possible: {allowed}");
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
        match HeaderValue::from_str(allowed) {
            Ok(allowed) => problem.with_header(ALLOW, allowed),
            Err(_) => problem,
        }
    }

    /// 401 with one reason.
    pub(crate) fn unauthorized(reason: impl Into<String>) -> Problem {
        const REALM: HeaderValue = HeaderValue::from_static("OAuth realm=\"imagefactory\"");
        Problem::new(StatusCode::UNAUTHORIZED, reason).with_header(WWW_AUTHENTICATE, REALM)
    }

    /// 500. What happened goes to the log, not to the client.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Problem {
        tracing::error!("{}", crate::error::chain(error));
        let detail = "something is wrong inside the factory; its log says what, under this \
                      request's id";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// One by one what is wrong.
    pub(crate) fn with_errors(mut self, errors: Vec<Value>) -> Problem {
        self.errors = errors;
        self
    }

    /// A header beside it.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// As it goes over the wire.
    pub(crate) fn into_response(self) -> Response {
        let mut document = Map::new();
        let title = self.status.canonical_reason().unwrap_or("Error");
        document.insert("status".to_owned(), self.status.as_u16().into());
        document.insert("title".to_owned(), title.into());
        document.insert("detail".to_owned(), self.detail.into());
        if let Some(hint) = self.hint {
            document.insert("hint".to_owned(), hint.into());
        }
        if !self.errors.is_empty() {
            document.insert("errors".to_owned(), self.errors.into());
        }
        let mut response = Response::new(Value::Object(document).to_string().into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}
