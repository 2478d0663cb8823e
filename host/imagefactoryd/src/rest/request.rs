//! A request as handlers see it: method, path, query, headers, who asked and under which name.
//!
//! Behind a proxy that the configuration names, scheme, host and client are the ones the proxy
//! tells (`X-Forwarded-Proto`, `-Host`, `-For`); nobody else is believed. Knows nothing of routes.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::Stream;
use hyper::http::{HeaderMap, HeaderName, Method};

use super::problems::Problem;
use crate::serve::Wire;

/// A body as it arrives. An error means that the client went away.
pub(crate) type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// One request.
pub(crate) struct Request {
    /// In the answer as `X-Request-Id`, and in the log.
    pub(crate) id: String,
    /// Upper case, as sent.
    pub(crate) method: Method,
    /// As sent, still percent-encoded.
    pub(crate) path: String,
    /// As sent, without the question mark.
    pub(crate) query: Option<String>,
    /// As sent.
    pub(crate) headers: HeaderMap,
    /// `http` or `https`, as the client sees it.
    pub(crate) scheme: &'static str,
    /// Host and port, as the client sees them.
    pub(crate) authority: String,
    /// The client's address.
    pub(crate) peer: IpAddr,
    /// OAuth consumer key, once verified; empty without OAuth.
    pub(crate) client: String,
}

impl Request {
    /// Of what the accept loop and warp know. Refused when it does not say which host is meant, or
    /// says it twice.
    pub(crate) fn new(
        method: Method,
        headers: HeaderMap,
        wire: &Wire,
        trusted_proxies: &[IpAddr],
    ) -> Result<Request, Problem> {
        let peer = wire.peer.ip().to_canonical();
        let is_proxied = trusted_proxies.iter().any(|proxy| proxy.to_canonical() == peer);
        let forwarded = |name: &'static str| {
            let value = is_proxied.then(|| headers.get(name)?.to_str().ok()).flatten()?;
            // A chain of proxies appends; ours is the last, and it is the one we trust.
            value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
        };
        let scheme = match forwarded("x-forwarded-proto") {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => "http",
            _ if wire.tls => "https",
            _ => "http",
        };
        let authority = match forwarded("x-forwarded-host") {
            Some(host) => host.to_owned(),
            None => authority(&headers, wire)?,
        };
        if !is_authority(&authority) {
            return Err(Problem::bad_request(format!("the host {authority:?} is not valid")));
        }
        let client = forwarded("x-forwarded-for").and_then(|address| address.parse().ok());
        Ok(Request {
            id: request_id(&headers),
            method,
            path: wire.uri.path().to_owned(),
            query: wire.uri.query().map(str::to_owned),
            scheme,
            authority,
            peer: client.unwrap_or(peer),
            client: String::new(),
            headers,
        })
    }

    /// The value of a header that is text; the first where it came twice.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The value of a query parameter, decoded; the first where it came twice.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        let query = self.query.as_deref()?;
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// A query parameter that is true (or bare), false, or absent. Anything else is refused:
    /// "forget" must not be understood where something else was meant.
    pub(crate) fn query_flag(&self, name: &str) -> Result<bool, Problem> {
        match self.query_value(name).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Problem::bad_request(format!("{name} must be true or false"))),
        }
    }

    /// Does it read only?
    pub(crate) fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

fn authority(headers: &HeaderMap, wire: &Wire) -> Result<String, Problem> {
    if let Some(authority) = wire.uri.authority() {
        // HTTP/2, or the absolute form of HTTP/1.1, which wins over Host (RFC 9112 3.2.2).
        return Ok(authority.as_str().to_owned());
    }
    let mut hosts = headers.get_all(hyper::http::header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host.to_str().unwrap_or_default().to_owned()),
        (Some(_), Some(_)) => Err(Problem::bad_request("the request has more than one Host")),
        (None, _) => Err(Problem::bad_request("the request has no Host")),
    }
}

/// Only what can stand in a URL: the authority goes into every `href`.
fn is_authority(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

/// The client's own id where it is a plain word, else one of ours.
fn request_id(headers: &HeaderMap) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match given.filter(is_plain) {
        Some(id) => id.to_owned(),
        // Unique in this process; the log line has the process.
        None => format!("{:x}-{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(tls: bool, headers: &[(&str, &str)], trusted: &[&str]) -> Result<Request, Problem> {
        let peer = "10.0.0.9:1234".parse().unwrap();
        let wire = Wire { peer, tls, uri: "/imagefactory?x=1".parse().unwrap() };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let trusted: Vec<IpAddr> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        Request::new(Method::GET, map, &wire, &trusted)
    }

    #[test]
    fn forwarded_headers_count_only_from_a_trusted_proxy() {
        let headers = [
            ("host", "inner:8075"),
            ("x-forwarded-host", "factory.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "1.2.3.4, 203.0.113.7"),
        ];
        let seen = request(false, &headers, &[]).ok().unwrap();
        assert_eq!((seen.scheme, seen.authority.as_str()), ("http", "inner:8075"));
        assert_eq!(seen.peer.to_string(), "10.0.0.9");
        let seen = request(false, &headers, &["10.0.0.9"]).ok().unwrap();
        assert_eq!((seen.scheme, seen.authority.as_str()), ("https", "factory.example"));
        assert_eq!(seen.peer.to_string(), "203.0.113.7");
    }

    #[test]
    fn a_request_names_one_valid_host() {
        assert!(request(true, &[("host", "h")], &[]).is_ok());
        assert!(request(true, &[], &[]).is_err());
        assert!(request(true, &[("host", "a"), ("host", "b")], &[]).is_err());
        assert!(request(true, &[("host", "a\"><script>")], &[]).is_err());
    }

    #[test]
    fn odd_request_ids_are_replaced() {
        let id = |value| request(true, &[("host", "h"), ("x-request-id", value)], &[]).unwrap().id;
        assert_eq!(id("abc-1.2_3"), "abc-1.2_3");
        assert_ne!(id("a b"), "a b");
        assert_ne!(id(&"x".repeat(65)), "x".repeat(65));
    }
}
