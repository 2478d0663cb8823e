//! The one accept loop: TCP, TLS, HTTP/1.1 and HTTP/2, with the limits that warp does not have.
//!
//! A connection that does not finish its handshake or its headers in time, or does not read its
//! answers, is closed; there are never more than [`CONNECTIONS_MAX`]. Each request goes to warp
//! with what only this loop knows ([`Wire`]). CONNECT never reaches warp, whose path filters panic
//! on it (seanmonstar/warp#1166).

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use hyper::http::{Method, Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use warp::reply::{Reply, Response};

use crate::preface::Preface;
use crate::stall::{self, Stall};

/// Connections at once. Each costs at most some 100 kB; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;

/// A TLS handshake is two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the connection (or the last answer) to the end of the headers; also how long an idle
/// connection is kept.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers in one buffer: a signed request with a long path fits many times.
const HEADERS_BYTES_MAX: usize = 64 << 10;

/// HTTP/2 asks a silent peer whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;

/// How long answers may take after the daemon was told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// After a failed accept (no file descriptors): long enough for one to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What only the accept loop knows of a request.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    /// The other end of the connection.
    pub(crate) peer: SocketAddr,
    /// Was it TLS?
    pub(crate) tls: bool,
    /// As on the request line (HTTP/1.1: path only; HTTP/2: with authority).
    pub(crate) uri: Uri,
}

/// Serves until `stop`, then lets answers finish, but not for ever.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<hyper::body::Incoming>, Response = Response, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let http = Arc::new(protocols());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = next(&listener, &places) => accepted,
        };
        let Some((tcp, peer, place)) = accepted else { continue };
        let (tls, http) = (tls.clone(), Arc::clone(&http));
        let (service, watcher) = (service.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            // Answers are small and end with a flush; waiting for more costs 40 ms (Nagle).
            tcp.set_nodelay(true).ok();
            stall::limit_unsent(&tcp);
            let service = WithWire { service, peer, tls: tls.is_some() };
            match tls {
                None => connection(&http, watcher, tcp, service).await,
                Some(tls) => {
                    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)).await;
                    let Ok(Ok(stream)) = handshake else { return };
                    connection(&http, watcher, stream, service).await;
                }
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some answers were not finished within {DRAIN_TIMEOUT:?}");
    }
}

fn protocols() -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(HEADERS_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADERS_BYTES_MAX).unwrap_or(u32::MAX));
    http
}

/// The next connection and its place; `None` after a failure that may pass.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // Never closed, so never an error.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((tcp, peer)) => Some((tcp, peer, place)),
        Err(error) => {
            tracing::warn!("cannot accept a connection: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection<I, S>(
    http: &Builder<TokioExecutor>,
    watcher: hyper_util::server::graceful::Watcher,
    stream: I,
    service: WithWire<S>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<hyper::body::Incoming>, Response = Response, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let stream = Stall::after(stall::PATIENCE, stream);
    let stream = TokioIo::new(Preface::within(HEADERS_TIMEOUT, stream));
    let served = http.serve_connection(stream, TowerToHyperService::new(service));
    // What goes wrong on a connection is its client's affair.
    if let Err(error) = watcher.watch(served.into_owned()).await {
        tracing::trace!("a connection ended: {error}");
    }
}

/// Hands each request on with its [`Wire`].
#[derive(Clone)]
struct WithWire<S> {
    service: S,
    peer: SocketAddr,
    tls: bool,
}

impl<S, B> Service<Request<B>> for WithWire<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if request.method() == Method::CONNECT {
            let refused = warp::reply::with_status("", StatusCode::METHOD_NOT_ALLOWED);
            let refused = warp::reply::with_header(refused, "allow", "GET, HEAD, POST, DELETE");
            return Either::Right(ready(Ok(refused.into_response())));
        }
        let wire = Wire { peer: self.peer, tls: self.tls, uri: request.uri().clone() };
        request.extensions_mut().insert(wire);
        Either::Left(self.service.call(request))
    }
}
