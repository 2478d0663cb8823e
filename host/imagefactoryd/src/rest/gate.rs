//! Who may ask: a Host that is ours, writes that no foreign page sent, a signature.
//!
//! Without OAuth nothing but the address keeps strangers out, and a browser on this machine reaches
//! that address for any page: names can be rebound (so the Host must be known), and forms need no
//! preflight (so a foreign origin must not write).

use std::net::IpAddr;

use hyper::http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use hyper::http::{HeaderName, StatusCode};

use super::Rest;
use super::oauth::{Denied, SignedRequest};
use super::problems::Problem;
use super::request::Request;
use super::routes::{Access, Row};

/// Checks what can be checked before the body is read.
pub(crate) fn check_origin(rest: &Rest, request: &Request) -> Result<(), Problem> {
    if rest.verifier.is_some() {
        return Ok(()); // a signature names the host, and no page can forge one
    }
    let host = host_of(&request.authority);
    let is_known = host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || rest.rules.server_names.iter().any(|name| name.eq_ignore_ascii_case(host));
    if !is_known {
        let detail = format!("this factory is not known as {host}");
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail)
            .with_hint("add the name to server_names in the configuration, or use the address"));
    }
    match request.is_read() || !is_cross_site(request) {
        true => Ok(()),
        false => {
            let detail = "a page of another site may not write here without a signature";
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
    }
}

fn is_cross_site(request: &Request) -> bool {
    const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    if request.header(&FETCH_SITE).is_some_and(|site| site.eq_ignore_ascii_case("cross-site")) {
        return true;
    }
    let ours = format!("{}://{}", request.scheme, request.authority);
    request.headers.get(ORIGIN).is_some_and(|origin| {
        !origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(&ours))
    })
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// Verifies the signature where one is needed; answers the consumer key, or an empty text where
/// nobody is asked.
pub(crate) async fn authorize(
    rest: &Rest,
    request: &Request,
    row: &Row,
    body: &[u8],
) -> Result<String, Problem> {
    let Some(verifier) = &rest.verifier else { return Ok(String::new()) };
    let is_open_read = rest.rules.oauth_open_reads && request.is_read();
    let is_open = match row.access {
        Access::Open => true,
        Access::Signed => is_open_read,
        Access::AlwaysSigned => false,
        Access::Local => request.peer.is_loopback() || is_open_read,
    };
    if is_open {
        return Ok(String::new());
    }
    let authorization: Vec<&str> = request
        .headers
        .get_all(AUTHORIZATION)
        .iter()
        // What is no text is no signature either, and must not count as absent.
        .map(|value| value.to_str().unwrap_or("?"))
        .collect();
    let signed = SignedRequest {
        method: request.method.as_str(),
        scheme: request.scheme,
        authority: &request.authority,
        path: &request.path,
        query: request.query.as_deref(),
        authorization: &authorization,
        content_type: request.header(&CONTENT_TYPE),
        body,
    };
    verifier.verify(&signed).await.map_err(|denied: Denied| {
        if let Some(cause) = std::error::Error::source(&denied) {
            tracing::error!("{denied}: {}", crate::error::chain(cause));
        }
        Problem::unauthorized(denied.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_is_found_with_and_without_port() {
        assert_eq!(host_of("h:1"), "h");
        assert_eq!(host_of("h"), "h");
        assert_eq!(host_of("[::1]:8075"), "::1");
    }
}
