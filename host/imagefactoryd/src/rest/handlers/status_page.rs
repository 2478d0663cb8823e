//! `/`: a page for the browser: what the factory has and does. No secrets, no templates, no
//! scripts.

use std::fmt::Write;
use std::sync::Arc;

use hyper::http::header::{CONTENT_SECURITY_POLICY, REFRESH};
use hyper::http::{HeaderValue, StatusCode};

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
    padding:0 1rem;color:#222;background:#fff}table{border-collapse:collapse;margin:0 0 2rem}\
    td,th{text-align:left;padding:.2rem 1.5rem .2rem 0;border-bottom:1px solid #ddd}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}\
    td,th{border-color:#444}a{color:#8bf}}";

/// GET `/`.
pub(crate) async fn show(rest: &Arc<Rest>) -> Answer {
    let mut page = String::new();
    let version = env!("CARGO_PKG_VERSION");
    // Writing to a text never fails.
    write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Image Factory</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style>\
         <h1>Image Factory {version}</h1><h2>Images</h2>"
    )
    .ok();
    let images = rest.store().census().await?.into_iter().map(|(kind, status, images)| {
        [kind.title().to_owned(), status.name().to_owned(), images.to_string()]
    });
    table(&mut page, ["Kind", "Status", "Images"], images);
    page.push_str("<h2>Plugins</h2>");
    let registry = rest.dispatcher.registry();
    let plugins = registry.entries().iter().map(|entry| {
        let version = entry.manifest().map(|manifest| manifest.version.clone());
        [entry.id().to_owned(), version.unwrap_or_default(), entry.state.name().to_owned()]
    });
    table(&mut page, ["Plugin", "Version", "State"], plugins);
    page.push_str(
        "<p>The API: <a href=\"/imagefactory/openapi.json\">OpenAPI document</a></html>\n",
    );
    let media_type = "text/html; charset=utf-8";
    let mut response = answers::with_type(StatusCode::OK, media_type, page.into());
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(REFRESH, HeaderValue::from_static("10"));
    Ok(response)
}

fn table(page: &mut String, head: [&str; 3], rows: impl Iterator<Item = [String; 3]>) {
    page.push_str("<table><tr>");
    for cell in head {
        page.push_str("<th>");
        page.push_str(cell);
    }
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            page.push_str("<td>");
            page.push_str(&escaped(&cell));
        }
    }
    page.push_str("</table>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
