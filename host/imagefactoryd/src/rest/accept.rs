//! `Accept`: what the client wants to read. Old clients send `xml` and read JSON, so almost
//! anything passes; a JSON address answers 406 only to those who exclude JSON by naming something
//! else.

use hyper::http::header::ACCEPT;
use hyper::http::{HeaderMap, StatusCode};

use super::problems::Problem;

/// Media types that mean "JSON is fine" (rest-contract: `xml` passes and is answered in JSON).
const PASS: [&str; 9] = [
    "*/*",
    "application/*",
    "application/json",
    "application/problem+json",
    "application/xml",
    "text/xml",
    "text/json",
    "xml",
    "json",
];

/// Refuses a client that cannot read JSON.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    if media_types(headers).any(|media_type| PASS.contains(&media_type.as_str())) {
        return Ok(());
    }
    let mut given = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    match given.any(|value| !value.trim().is_empty()) {
        false => Ok(()),
        true => {
            let detail = "this address answers in application/json, which your Accept excludes";
            Err(Problem::new(StatusCode::NOT_ACCEPTABLE, detail))
        }
    }
}

/// Does the client ask for a stream of events by name?
pub(crate) fn wants_events(headers: &HeaderMap) -> bool {
    media_types(headers).any(|media_type| media_type == "text/event-stream")
}

/// The media types of all `Accept` headers that are not excluded by `q=0`, in lower case.
fn media_types(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().filter(|media_type| !media_type.is_empty())?;
        let is_refused = parts
            .filter_map(|parameter| parameter.split_once('='))
            .any(|(name, value)| name.trim() == "q" && value.trim().parse() == Ok(0.0_f32));
        (!is_refused).then(|| media_type.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_accept(accept: &str, passes: bool, why: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        assert_eq!(check_json(&headers).is_ok(), passes, "{accept:?}: {why}");
    }

    #[test]
    fn only_clients_that_exclude_json_are_refused() {
        assert!(check_json(&HeaderMap::new()).is_ok(), "no header");
        check_accept("", true, "an empty header");
        check_accept("*/*", true, "curl");
        check_accept("application/json", true, "by name");
        check_accept("APPLICATION/JSON;q=0.5", true, "case and parameters do not matter");
        check_accept("text/html, application/*;q=0.1", true, "one that passes is enough");
        check_accept("application/xml", true, "Aeolus");
        check_accept("xml", true, "old scripts");
        check_accept("text/html", false, "a browser's page");
        check_accept("image/png, text/plain", false, "nothing of this is JSON");
        check_accept("application/json;q=0", false, "excluded by name");
    }
}
