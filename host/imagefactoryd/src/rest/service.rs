//! warp's side of the house: one filter takes a request apart, [`answer`] leads it through the
//! steps.
//!
//! Route (404, 405), origin (421, 403), body (413), signature (401), `Accept` (406), handler: in
//! this order, which the contract fixes. Every answer gets its request's id.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use hyper::http::header::{CONTENT_LENGTH, HeaderName, X_CONTENT_TYPE_OPTIONS};
use hyper::http::{HeaderMap, HeaderValue, Method};
use imagefactory_model::image::ImageKind;
use tower_service::Service;
use warp::Filter;
use warp::reply::Response;

use super::answers::Answer;
use super::bodies::{self, Payload};
use super::request::{BodyStream, Request};
use super::routes::{self, Endpoint, Form, Found};
use super::{Rest, accept, gate, handlers};
use crate::serve::Wire;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The whole API as a service for the accept loop.
pub(crate) fn service(
    rest: Arc<Rest>,
) -> impl Service<
    hyper::http::Request<hyper::body::Incoming>,
    Response = Response,
    Error = Infallible,
    Future: Send,
> + Clone {
    let filter = warp::any()
        .map(move || Arc::clone(&rest))
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Wire>())
        .and(warp::body::stream())
        .then(|rest: Arc<Rest>, method, headers, wire: Wire, body| async move {
            answer(&rest, method, headers, &wire, boxed(body)).await
        });
    warp::service(filter)
}

fn boxed<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) -> BodyStream {
    Box::pin(body.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining()))))
}

async fn answer(
    rest: &Arc<Rest>,
    method: Method,
    headers: HeaderMap,
    wire: &Wire,
    body: BodyStream,
) -> Response {
    let request = match Request::new(method.clone(), headers, wire, &rest.rules.trusted_proxies) {
        Ok(request) => request,
        Err(problem) => {
            rest.counters.answered(&method, problem.status());
            return problem.into_response();
        }
    };
    let (id, path) = (request.id.clone(), wire.uri.path());
    let outcome = handle(rest, request, body).await;
    let mut response = outcome.unwrap_or_else(super::problems::Problem::into_response);
    if method == Method::HEAD {
        response = without_body(response);
    }
    let response_headers = response.headers_mut();
    response_headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response_headers.insert(X_REQUEST_ID, value);
    }
    let status = response.status();
    rest.counters.answered(&method, status);
    tracing::debug!(request = %id, peer = %wire.peer.ip(), "{method} {path} {}", status.as_u16());
    response
}

async fn handle(rest: &Arc<Rest>, mut request: Request, body: BodyStream) -> Answer {
    let found = routes::find(&request.method, &request.path)?;
    gate::check_origin(rest, &request)?;
    let payload = match request.is_read() {
        true => Payload::Whole(Bytes::new()),
        false => bodies::read(body, rest.rules.body_bytes_max).await?,
    };
    let is_import =
        found.endpoint == Endpoint::NewImage && found.row.kind == Some(ImageKind::BaseImage);
    if !is_import || !bodies::is_multipart(&request) {
        payload.check_whole(rest.rules.body_bytes_max)?;
    }
    request.client = gate::authorize(rest, &request, found.row, payload.signed_part()).await?;
    if found.row.form == Form::Json {
        accept::check_json(&request.headers)?;
    }
    dispatch(rest, &request, &found, payload).await
}

/// Who answers what.
async fn dispatch(rest: &Arc<Rest>, request: &Request, found: &Found, body: Payload) -> Answer {
    match found.endpoint {
        Endpoint::StatusPage => handlers::status_page::show(rest).await,
        Endpoint::Metrics => handlers::metrics::show(rest).await,
        Endpoint::Health => handlers::health::alive(),
        Endpoint::Readiness => handlers::health::ready(rest).await,
        Endpoint::ApiInformation => handlers::api_information::show(),
        Endpoint::OpenApi => handlers::api_information::openapi(),
        Endpoint::ListImages => handlers::image_lists::list(rest, request, found).await,
        Endpoint::NewImage => match found.row.kind {
            Some(ImageKind::TargetImage) => {
                handlers::target_images::create(rest, request, found, body).await
            }
            Some(ImageKind::ProviderImage) => {
                handlers::provider_images::create(rest, request, found, body).await
            }
            _ => handlers::base_images::create(rest, request, found, body).await,
        },
        Endpoint::ShowImage => handlers::images::show(rest, request, found).await,
        Endpoint::DeleteImage => handlers::images::delete(rest, request, found, body).await,
        Endpoint::CancelImage => handlers::images::cancel(rest, request, found).await,
        Endpoint::RawImage => handlers::raw_image::send(rest, request, found).await,
        Endpoint::ListArtifacts => handlers::artifacts::list(rest, request, found).await,
        Endpoint::Artifact => handlers::artifacts::send(rest, request, found).await,
        Endpoint::Log => handlers::log::send(rest, request, found).await,
        Endpoint::ListPlugins => handlers::plugins::list(rest, request).await,
        Endpoint::ShowPlugin => handlers::plugins::show(rest, request, found).await,
        Endpoint::Jeos => handlers::jeos::show(request),
        Endpoint::ListJeosImages => handlers::jeos::list(rest),
        Endpoint::ListTargets => handlers::targets::list(rest, request).await,
        Endpoint::ShowTarget => handlers::targets::show(rest, request, found).await,
        Endpoint::ListProviders => handlers::targets::list_providers(rest, request, found).await,
        Endpoint::ShowProvider => handlers::targets::show_provider(rest, request, found).await,
        Endpoint::ValidateTemplate => handlers::templates::validate(rest, request, body).await,
        Endpoint::ListLeftovers => handlers::leftovers::list(rest, request).await,
        Endpoint::DropLeftover => handlers::leftovers::drop_it(rest, found).await,
        Endpoint::Events => handlers::events::stream(rest, request).await,
    }
}

/// The answer to HEAD: what GET would say of itself, and nothing else.
fn without_body(response: Response) -> Response {
    use http_body::Body;
    let (mut parts, body) = response.into_parts();
    if let Some(bytes) = body.size_hint().exact()
        && !parts.headers.contains_key(CONTENT_LENGTH)
    {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response
}
