//! Fields become orders: what all POSTs have in common, checked before the engine is asked.
//!
//! A template must be XML text: addresses, ids and server paths, which the original tried to read
//! (and leaked files through its error texts), are refused. Callbacks must be http(s) URLs.

use hyper::http::{HeaderName, Uri};
use imagefactory_dispatch::requests::{CredentialsGiven, MadeFrom, OrderOptions};
use imagefactory_model::image::Image;
use imagefactory_model::order::IdempotencyKey;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::answers::{self, Answer};
use super::bodies::{self, Fields, Payload};
use super::problems::Problem;
use super::request::Request;
use super::routes::Found;
use hyper::http::StatusCode;
use imagefactory_dispatch::requests::Accepted;

/// Listeners of one order. Each change is a request to each of them.
const CALLBACKS_MAX: usize = 16;

/// Browsers and proxies agree on about this much.
const URL_BYTES_MAX: usize = 2048;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The `Idempotency-Key` of a request with this body, where it has one.
pub(crate) fn idempotency(
    request: &Request,
    found: &Found,
    body: &Payload,
) -> Result<Option<IdempotencyKey>, Problem> {
    /// A UUID has 36; clients put a little more into theirs.
    const KEY_BYTES_MAX: usize = 255;
    let Some(value) = request.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        let detail = format!("Idempotency-Key must be 1 to {KEY_BYTES_MAX} printable characters");
        return Err(Problem::bad_request(detail));
    }
    // The text of a multipart body has a boundary that is new in each request: its fields count.
    let body: &[u8] = match body {
        Payload::Whole(body) if !bodies::is_multipart(request) => body,
        _ => &[],
    };
    let line = format!("{} {}\n", request.method, found.path);
    let request_sha256 = hex_sha256(&[line.as_bytes(), body]);
    Ok(Some(IdempotencyKey { client: request.client.clone(), key: key.to_owned(), request_sha256 }))
}

fn hex_sha256(pieces: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    pieces.iter().for_each(|piece| digest.update(piece));
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parameters and callbacks, as the engine takes them.
pub(crate) fn options(
    fields: &mut Fields,
    idempotency: Option<IdempotencyKey>,
) -> Result<OrderOptions, Problem> {
    let parameters = fields.object("parameters")?;
    let callbacks = parameters.as_ref().map_or_else(|| Ok(Vec::new()), callbacks)?;
    let idempotency = match (idempotency, fields.form_sha256()) {
        (Some(key), Some(form)) => {
            let request_sha256 = hex_sha256(&[key.request_sha256.as_bytes(), form.as_bytes()]);
            Some(IdempotencyKey { request_sha256, ..key })
        }
        (key, _) => key,
    };
    let source = TemplateSource::Rest;
    Ok(OrderOptions { parameters, callbacks, idempotency, source })
}

/// `parameters.callbacks`, checked.
pub(crate) fn callbacks(parameters: &Map<String, Value>) -> Result<Vec<String>, Problem> {
    let refused = |why: &str| {
        Problem::bad_request(format!("'callbacks' must be a list of http(s) URLs: {why}"))
    };
    let urls = match parameters.get("callbacks") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(urls)) => urls,
        Some(_) => return Err(refused("it is no list")),
    };
    if urls.len() > CALLBACKS_MAX {
        return Err(refused(&format!("it has more than {CALLBACKS_MAX} entries")));
    }
    let url = |(index, value): (usize, &Value)| match value.as_str().filter(|url| is_http_url(url))
    {
        Some(url) => Ok(url.to_owned()),
        // Not shown: it may hold a password.
        None => Err(refused(&format!("entry {} is none", index + 1))),
    };
    urls.iter().enumerate().map(url).collect()
}

fn is_http_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let scheme = uri.scheme_str().unwrap_or_default();
    url.len() <= URL_BYTES_MAX
        && (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        && uri.host().is_some_and(|host| !host.is_empty())
}

/// `template`, where there is one.
pub(crate) fn template(fields: &mut Fields) -> Result<Option<String>, Problem> {
    let Some(template) = fields.text("template")? else { return Ok(None) };
    let text = template.trim_start_matches('\u{feff}').trim();
    if text.starts_with('<') {
        return Ok(Some(template));
    }
    let what = if Uuid::try_parse(text).is_ok() {
        "an id"
    } else if text.contains("://") && !text.contains(char::is_whitespace) {
        "an address"
    } else if text.starts_with(['/', '.', '~']) && !text.contains('\n') {
        "a path"
    } else {
        // Whatever it is, it is judged as a template, and the image says what is wrong with it.
        return Ok(Some(template));
    };
    Err(Problem::bad_request(format!("'template' must be XML text, and it is {what}"))
        .with_hint("send the text of the template itself"))
}

/// What a derived image is made from: exactly one of an id (in the path or in a field) and a
/// template.
pub(crate) fn made_from(
    fields: &mut Fields,
    id_field: &'static str,
    in_path: Option<Uuid>,
) -> Result<MadeFrom, Problem> {
    let in_body = fields.text(id_field)?;
    let in_body = in_body
        .map(|text| {
            let id = Uuid::try_parse(text.trim());
            id.map_err(|_| Problem::bad_request(format!("'{id_field}' is no UUID")))
        })
        .transpose()?;
    let id = match (in_path, in_body) {
        (Some(path), Some(body)) if path != body => {
            let detail = format!("the path says {path} and '{id_field}' says {body}");
            return Err(Problem::bad_request(detail));
        }
        (path, body) => path.or(body),
    };
    match (id, template(fields)?) {
        (Some(id), None) => Ok(MadeFrom::Image(id)),
        (None, Some(template)) => Ok(MadeFrom::Template(template)),
        (None, None) => Err(Problem::bad_request(format!(
            "neither '{id_field}' nor 'template' is given; exactly one of them is needed"
        ))),
        (Some(_), Some(_)) => Err(Problem::bad_request(format!(
            "both '{id_field}' and 'template' are given; exactly one of them is needed"
        ))),
    }
}

/// `credentials`: text, or an object that the plugin reads as JSON text.
pub(crate) fn credentials(fields: &mut Fields) -> CredentialsGiven {
    match fields.value("credentials") {
        None => CredentialsGiven::Absent,
        Some(Value::String(text)) => CredentialsGiven::parse(Some(&text)),
        Some(other) => CredentialsGiven::Inline(other.to_string()),
    }
}

/// Unknown fields: warnings, or with `Prefer: handling=strict` a refusal.
pub(crate) fn unknown_fields(request: &Request, fields: &Fields) -> Result<Vec<String>, Problem> {
    let unknown = fields.unknown();
    let is_strict = request.headers.get_all(PREFER).iter().any(|value| {
        let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
        value.split([',', ';']).any(|preference| preference.replace(' ', "") == "handling=strict")
    });
    if is_strict && !unknown.is_empty() {
        let errors = unknown.iter().map(|text| serde_json::json!({"detail": text})).collect();
        let detail = format!("handling=strict, and {}", unknown.join("; "));
        return Err(Problem::bad_request(detail).with_errors(errors));
    }
    Ok(unknown)
}

/// 202 with the new image (or, for a repeated `Idempotency-Key`, the earlier one).
pub(crate) fn accepted(
    request: &Request,
    found: &Found,
    accepted: Accepted,
    unknown: Vec<String>,
) -> Answer {
    let href = format!("{}/{}", super::href::at(request, &found.path), accepted.image.id);
    let document = created_document(&accepted.image, &href);
    let mut response = answers::json(StatusCode::ACCEPTED, &document);
    let warnings: Vec<String> = unknown.into_iter().chain(accepted.warnings).collect();
    answers::warn(&mut response, &warnings);
    Ok(response)
}

/// The answer to POST: the image's fields and where it is found.
pub(crate) fn created_document(image: &Image, href: &str) -> Value {
    let mut fields = imagefactory_model::document::fields(image);
    fields.insert("href".to_owned(), href.into());
    let mut root = Map::new();
    root.insert(image.kind.name().to_owned(), Value::Object(fields));
    Value::Object(root)
}
