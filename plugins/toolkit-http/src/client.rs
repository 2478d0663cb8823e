//! The client: sends a request until there is an answer, or no hope of one.
//!
//! Every status is an answer; what it means is the caller's to say. Only passing troubles (429,
//! 502, 503, 504, a connection that fails) are waited out here, and redirects followed: reads
//! anywhere but without secrets, everything else only on the same server.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use reqwest::header::{CONTENT_LENGTH, LOCATION};
use reqwest::{Certificate, Identity, Method, NoProxy, Proxy, StatusCode, Url};
use tokio::runtime::Runtime;

use crate::attempt::{Meter, Watch, check_wanted, pause};
use crate::bandwidth::Bandwidth;
use crate::failure::Failure;
use crate::names::SystemNames;
use crate::options::HttpOptions;
use crate::redaction::{host_and_port, shown_url};
use crate::request::Request;
use crate::response::{Response, is_passing};
use crate::retry::retry_after;

/// As curl's and every browser's order of magnitude.
const REDIRECTS_MAX: usize = 10;

/// Threads that move bytes; waiting costs none.
const WORKERS: usize = 2;

/// A blocking client. Clones share connections and limits; all methods may be called from several
/// threads at once.
#[derive(Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
    /// Ends the requests of one [`crate::parallel`].
    stop: Arc<AtomicBool>,
}

struct Shared {
    host: Host,
    http: reqwest::Client,
    options: HttpOptions,
    bandwidth: Option<Arc<Bandwidth>>,
    runtime: Runtime,
}

/// Where the body of a good answer goes.
enum Sink<'s> {
    Memory,
    Writer(&'s mut dyn Write),
}

impl HttpClient {
    /// Makes a client. Nothing is sent yet.
    pub fn new(host: &Host, options: HttpOptions) -> Result<HttpClient> {
        // Err: another client of this process has installed it.
        rustls::crypto::ring::default_provider().install_default().ok();
        if options.insecure {
            host.warn("the provider's definition says insecure: certificates are not checked");
        }
        let http = build(&options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .thread_name("http")
            .build()
            .map_err(|error| PluginError::from(error).while_doing("no threads for HTTP"))?;
        let bandwidth = options.upload_bytes_per_s.map(|limit| Arc::new(Bandwidth::new(limit)));
        let shared = Shared { host: host.clone(), http, options, bandwidth, runtime };
        Ok(HttpClient { shared: Arc::new(shared), stop: Arc::default() })
    }

    /// What it was made with.
    pub fn options(&self) -> &HttpOptions {
        &self.shared.options
    }

    /// Sends a request, again where that helps, and keeps the answer's body.
    pub fn send(&self, request: &Request) -> Result<Response> {
        self.shared.runtime.block_on(self.exchange(request, &mut Sink::Memory))
    }

    /// The same, but the body of a successful answer goes to `sink` as it comes. Once the first
    /// byte has gone there, a connection that breaks off is an error and not repeated.
    pub fn send_to(&self, request: &Request, sink: &mut dyn Write) -> Result<Response> {
        self.shared.runtime.block_on(self.exchange(request, &mut Sink::Writer(sink)))
    }

    /// A client whose requests end together.
    pub(crate) fn group(&self) -> HttpClient {
        HttpClient { shared: self.shared.clone(), stop: Arc::default() }
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn exchange(&self, request: &Request, sink: &mut Sink<'_>) -> Result<Response> {
        if let Some(error) = &request.broken {
            return Err(error.clone());
        }
        let mut request = request.clone();
        let mut redirects = 0;
        loop {
            let response = self.persist(&request, sink).await?;
            let Some(next) = redirected(&request, &response) else { return Ok(response) };
            redirects += 1;
            if redirects > REDIRECTS_MAX {
                let at = host_and_port(&request.url);
                let message = format!("{at} redirects in a circle");
                return Err(PluginError::new(ErrorCode::Io, message));
            }
            request = next;
        }
    }

    /// Repeats one request until there is an answer worth having.
    async fn persist(&self, request: &Request, sink: &mut Sink<'_>) -> Result<Response> {
        let host = &self.shared.host;
        let policy = request.retries.unwrap_or(self.shared.options.retries);
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            check_wanted(host, &self.stop)?;
            let meter = Meter::new(request.progress.clone());
            let tried = self.attempt(request, &meter, sink).await;
            let asked = match &tried {
                Ok(response) if !is_passing(response.status) => {
                    if let Some(progress) = &request.progress {
                        progress.tell(host)?;
                    }
                    return tried.map_err(Failure::into_error);
                }
                Ok(response) => retry_after(&response.headers),
                Err(_) => None,
            };
            let again = may_repeat(request, &tried)
                .then(|| policy.pause_after(attempt, started.elapsed(), asked))
                .flatten();
            let Some(wait) = again else { return tried.map_err(Failure::into_error) };
            meter.take_back();
            self.tell_repetition(request, &tried, attempt, wait);
            pause(host, &self.stop, wait).await?;
            attempt += 1;
        }
    }

    fn tell_repetition(
        &self,
        request: &Request,
        tried: &std::result::Result<Response, Failure>,
        attempt: u32,
        wait: Duration,
    ) {
        let why = match tried {
            Ok(response) => format!("{} answered {}", host_and_port(&request.url), response.status),
            Err(Failure::Final(error) | Failure::NotReached(error) | Failure::BrokenOff(error)) => {
                error.message().to_owned()
            }
        };
        let (method, url) = (&request.method, shown_url(&request.url));
        let seconds = wait.as_secs_f64();
        self.shared
            .host
            .info(&format!("{method} {url}, attempt {attempt}: {why}; again in {seconds:.1} s"));
    }

    async fn attempt(
        &self,
        request: &Request,
        meter: &Arc<Meter>,
        sink: &mut Sink<'_>,
    ) -> std::result::Result<Response, Failure> {
        let Shared { http, options, bandwidth, host, .. } = &*self.shared;
        let mut sending = http.request(request.method.clone(), request.url.clone());
        sending = sending.headers(request.headers.clone());
        match request.body.start(meter.clone(), bandwidth.clone()) {
            // The length is known, so that no service has to take chunks.
            Some(body) => sending = sending.header(CONTENT_LENGTH, request.body.len()).body(body),
            None if takes_body(&request.method) => sending = sending.header(CONTENT_LENGTH, 0),
            None => {}
        }
        let watch = Watch {
            host,
            stop: &self.stop,
            url: &request.url,
            meter: meter.clone(),
            idle: request.idle.unwrap_or(options.timeouts.idle),
            whole: request.whole.or(options.timeouts.whole),
        };
        let mut answer = watch.over(sending.send()).await?;
        let status = answer.status();
        let headers = answer.headers().clone();
        let mut body = BytesMut::new();
        let mut written = false;
        while let Some(piece) =
            watch.over(answer.chunk()).await.map_err(|failure| match failure {
                Failure::BrokenOff(error) if written => Failure::Final(error),
                other => other,
            })?
        {
            match sink {
                Sink::Writer(writer) if status.is_success() => {
                    written = true;
                    writer.write_all(&piece).map_err(|error| {
                        let error = PluginError::from(error);
                        Failure::Final(error.while_doing("the answer cannot be written"))
                    })?;
                }
                _ if body.len() as u64 + piece.len() as u64 > options.answer_bytes_max => {
                    return Err(Failure::Final(too_long(&request.url, options.answer_bytes_max)));
                }
                _ => body.extend_from_slice(&piece),
            }
        }
        let (url, secrets) = (request.url.clone(), request.secrets.clone());
        Ok(Response { status, headers, body: body.freeze(), url, secrets })
    }
}

fn build(options: &HttpOptions) -> Result<reqwest::Client> {
    let (authorities, identity) = (authorities(options)?, identity(options)?);
    let builder = || -> Result<reqwest::ClientBuilder> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(options.timeouts.connect)
            .redirect(reqwest::redirect::Policy::none())
            // Its windows slow down single uploads; the services here all speak HTTP/1.1.
            .http1_only()
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(SystemNames))
            .tls_danger_accept_invalid_certs(options.insecure)
            .user_agent(concat!("imagefactory/", env!("CARGO_PKG_VERSION")));
        for proxy in proxies(options)? {
            builder = builder.proxy(proxy);
        }
        if let Some(identity) = identity.clone() {
            builder = builder.identity(identity);
        }
        Ok(builder)
    };
    let client = builder()?.tls_certs_merge(authorities.clone()).build();
    // A machine without any authority of its own still speaks plain HTTP, and TLS with those given.
    match client {
        Ok(client) => Ok(client),
        Err(_) => builder()?.tls_certs_only(authorities).build().map_err(unusable),
    }
}

fn unusable(error: reqwest::Error) -> PluginError {
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    PluginError::user_fault(format!("no HTTP client can be made: {cause}"))
        .hint("look at the provider's certificates and the configured proxies")
}

fn authorities(options: &HttpOptions) -> Result<Vec<Certificate>> {
    let Some(pem) = &options.ca_pem else { return Ok(Vec::new()) };
    match Certificate::from_pem_bundle(pem.as_bytes()) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(PluginError::user_fault("the provider's CA certificate is no certificate in PEM")
            .hint("it begins with -----BEGIN CERTIFICATE-----")),
    }
}

fn identity(options: &HttpOptions) -> Result<Option<Identity>> {
    let Some(pem) = &options.identity_pem else { return Ok(None) };
    Identity::from_pem(pem.as_bytes()).map(Some).map_err(|_| {
        PluginError::user_fault("the client certificate is no certificate and key in PEM")
            .hint("it holds -----BEGIN CERTIFICATE----- and -----BEGIN PRIVATE KEY-----")
    })
}

/// The configured proxies; none: those of the environment count, which the daemon hands on.
fn proxies(options: &HttpOptions) -> Result<Vec<Proxy>> {
    let without = options.no_proxy.as_deref().and_then(NoProxy::from_string);
    let made = |name: &str, proxy: reqwest::Result<Proxy>| match proxy {
        Ok(proxy) => Ok(proxy.no_proxy(without.clone())),
        // Not shown: a proxy's address may hold a password.
        Err(_) => Err(PluginError::new(
            ErrorCode::InvalidArgument,
            format!("{name} in the configuration's section http is no proxy's address"),
        )
        .hint("write it as http://proxy.example:3128")),
    };
    let mut proxies = Vec::new();
    if let Some(address) = &options.http_proxy {
        proxies.push(made("http_proxy", Proxy::http(address))?);
    }
    if let Some(address) = &options.https_proxy {
        proxies.push(made("https_proxy", Proxy::https(address))?);
    }
    Ok(proxies)
}

/// Methods whose requests say that they have no body.
fn takes_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn may_repeat(request: &Request, tried: &std::result::Result<Response, Failure>) -> bool {
    match tried {
        // Said before anything was done, whatever the method.
        Ok(response) => request.repeatable || response.status == StatusCode::TOO_MANY_REQUESTS,
        Err(Failure::NotReached(_)) => true,
        Err(Failure::BrokenOff(_)) => request.repeatable,
        Err(Failure::Final(_)) => false,
    }
}

/// The request that a redirect asks for; `None` = the answer is the answer.
fn redirected(request: &Request, response: &Response) -> Option<Request> {
    let keeps_method = matches!(response.status.as_u16(), 307 | 308);
    if !keeps_method && !matches!(response.status.as_u16(), 301..=303) {
        return None;
    }
    let to = request.url.join(response.headers.get(LOCATION)?.to_str().ok()?).ok()?;
    let same_server = origin(&to) == origin(&request.url);
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    if !matches!(to.scheme(), "http" | "https") || !(reads || (keeps_method && same_server)) {
        return None;
    }
    let mut next = Request { url: to, ..request.clone() };
    if !same_server {
        next.headers = request.headers.iter().filter(|(_, value)| !value.is_sensitive()).fold(
            Default::default(),
            |mut kept: reqwest::header::HeaderMap, (name, value)| {
                kept.append(name, value.clone());
                kept
            },
        );
    }
    Some(next)
}

fn origin(url: &Url) -> (&str, Option<&str>, Option<u16>) {
    (url.scheme(), url.host_str(), url.port_or_known_default())
}

fn too_long(url: &Url, bytes_max: u64) -> PluginError {
    let at = host_and_port(url);
    let message = format!("{at} answered more than {bytes_max} bytes");
    PluginError::new(ErrorCode::Io, message).hint("is that the address of the right service?")
}
