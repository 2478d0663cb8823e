//! Addresses in answers: scheme and host of the request, its path, an id. Never the query string.

use super::request::Request;

/// `https://host:port`.
pub(crate) fn base(request: &Request) -> String {
    format!("{}://{}", request.scheme, request.authority)
}

/// An address of this factory.
pub(crate) fn at(request: &Request, path: &str) -> String {
    format!("{}{path}", base(request))
}
