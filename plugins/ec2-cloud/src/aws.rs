//! One account in one region: signs calls, sends them, and waits out what passes.
//!
//! The HTTP toolkit repeats what broke on the way and what a gateway answers; here the same is done
//! for what AWS says in its own words, with a new signature each time. A machine whose clock is
//! wrong signs with AWS's time after it was told so once.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use imagefactory_plugin_sdk::author::{Host, PluginError, Result};
use imagefactory_toolkit_http::{
    Body, HttpClient, Method, Progress, Request, Response, RetryPolicy,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::blocks::{digest_of, hex};
use crate::failure::{CallError, Kind, Refusal};
use crate::key_source::KeySource;
use crate::region::{Service, endpoint_of};
use crate::signing::{Signable, signature};

/// Calls that AWS refuses for the moment are repeated so often, with pauses that double up to
/// [`PAUSE_MAX`]: about two minutes in all, which is what coldsnap found to be enough.
const ATTEMPTS_MAX: u32 = 12;

/// The first pause; each one is random between nothing and its ceiling.
const PAUSE_FIRST: Duration = Duration::from_millis(250);

/// Ceiling of all pauses.
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// One signature is used so long; AWS takes it for 5 minutes.
const SIGNATURE_LIVES: Duration = Duration::from_secs(120);

/// A clock that differs by less is in the tolerance of 5 minutes that signatures have.
const SKEW_MIN_S: i64 = 60;

/// Where the services of a region listen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// Instead of AWS's, for both services.
    pub(crate) all: Option<String>,
    /// Instead of AWS's, for one of them.
    pub(crate) ec2: Option<String>,
    /// Instead of AWS's, for one of them.
    pub(crate) ebs: Option<String>,
}

impl Endpoints {
    fn of(&self, service: Service, region: &str) -> String {
        let own = match service {
            Service::Ec2 => &self.ec2,
            Service::Ebs => &self.ebs,
        };
        let given = own.as_ref().or(self.all.as_ref());
        let given = given.map(|url| url.trim_end_matches('/').replace("{region}", region));
        given.unwrap_or_else(|| endpoint_of(service, region))
    }
}

/// Calls to AWS. Clones share connections, keys and what is known of the clock.
#[derive(Clone)]
pub(crate) struct Aws {
    host: Host,
    http: HttpClient,
    keys: Arc<KeySource>,
    endpoints: Endpoints,
    region: String,
    /// Seconds that AWS's clock is ahead of ours.
    ahead_s: Arc<AtomicI64>,
}

/// One call, not signed yet.
pub(crate) struct Call<'c> {
    /// Which API.
    pub(crate) service: Service,
    /// For errors: `RegisterImage`.
    pub(crate) name: &'static str,
    /// `POST`.
    pub(crate) method: Method,
    /// Path and query, encoded.
    pub(crate) path: String,
    /// Besides those of the signature.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// What is sent.
    pub(crate) body: Vec<u8>,
    /// Of the body, where it is known.
    pub(crate) body_sha256: Option<String>,
    /// Sent twice it does no harm: it has a token, reads, or removes.
    pub(crate) repeatable: bool,
    /// Counts the bytes.
    pub(crate) progress: Option<&'c Progress>,
}

impl<'c> Call<'c> {
    /// A call without headers and body, which may be repeated.
    pub(crate) fn new(
        service: Service,
        name: &'static str,
        method: Method,
        path: &str,
    ) -> Call<'c> {
        Call {
            service,
            name,
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            body_sha256: None,
            repeatable: true,
            progress: None,
        }
    }
}

impl Aws {
    /// Calls with these keys; nothing is sent yet.
    pub(crate) fn new(
        host: &Host,
        http: HttpClient,
        keys: KeySource,
        (region, endpoints): (&str, &Endpoints),
    ) -> Aws {
        Aws {
            host: host.clone(),
            http,
            keys: Arc::new(keys),
            endpoints: endpoints.clone(),
            region: region.to_owned(),
            ahead_s: Arc::default(),
        }
    }

    /// The same account in another region.
    pub(crate) fn in_region(&self, region: &str) -> Aws {
        Aws { region: region.to_owned(), ..self.clone() }
    }

    /// The same with the client of one group of parallel requests.
    pub(crate) fn with_http(&self, http: &HttpClient) -> Aws {
        Aws { http: http.clone(), ..self.clone() }
    }

    /// Its region.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// The client below.
    pub(crate) fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Id of the access key; `None` for a role's, which change.
    pub(crate) fn lasting_access_key(&self) -> Option<&str> {
        self.keys.lasting_access_key()
    }

    /// Sends a call and answers AWS's good answer.
    pub(crate) fn send(&self, mut call: Call<'_>) -> std::result::Result<Response, CallError> {
        let sha256 = match &call.body_sha256 {
            Some(known) => known.clone(),
            None => hex(&digest_of(&call.body)),
        };
        // Shared by all attempts, and never copied.
        let body = Body::bytes(std::mem::take(&mut call.body));
        let started = Instant::now();
        let mut clock_was_set = false;
        let mut attempt = 1;
        loop {
            let request = self.signed(&call, &sha256, &body)?;
            let answer = self.http.send(&request)?;
            if answer.is_success() {
                return Ok(answer);
            }
            let refusal = self.refusal(&call, &answer);
            if refusal.kind() == Kind::Clock && !clock_was_set {
                clock_was_set = self.set_clock(&refusal);
                if clock_was_set {
                    continue;
                }
            }
            // Of a call that must not happen twice only a throttle is known to have done nothing.
            let again = refusal.is_passing()
                && (call.repeatable || refusal.kind() == Kind::Throttled)
                && attempt < ATTEMPTS_MAX
                && started.elapsed() < self.http.options().retries.whole;
            if !again {
                return Err(CallError::Refused(Box::new(refusal)));
            }
            self.host.sleep_unless_cancelled(jittered(pause_ceiling(attempt)))?;
            attempt += 1;
        }
    }

    fn signed(&self, call: &Call<'_>, sha256: &str, body: &Body) -> Result<Request> {
        let endpoint = self.endpoints.of(call.service, &self.region);
        let url = format!("{endpoint}{}", call.path);
        let keys = self.keys.current(&self.host, &self.http)?;
        let signable = Signable {
            method: call.method.as_str(),
            url: &url,
            headers: &call.headers,
            payload_sha256: sha256,
            service: call.service.name(),
            region: &self.region,
        };
        let mut request = Request::new(call.method.clone(), &url)?
            .secret(keys.secret_access_key())
            .body(body.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        for header in signature(&signable, &keys, self.now())? {
            request = request.secret_header(header.name, &header.value);
        }
        if let Some(progress) = call.progress {
            request = request.progress(progress);
        }
        let retries = self.http.options().retries;
        let request =
            request.retries(RetryPolicy { whole: retries.whole.min(SIGNATURE_LIVES), ..retries });
        Ok(if call.repeatable { request.repeatable() } else { request })
    }

    fn now(&self) -> SystemTime {
        let ahead = self.ahead_s.load(Ordering::Relaxed);
        let by = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        if ahead < 0 { now - by } else { now + by }
    }

    fn refusal(&self, call: &Call<'_>, answer: &Response) -> Refusal {
        let error_type = answer.header("x-amzn-errortype");
        let mut refusal = Refusal::read(answer.status(), error_type, &answer.text());
        refusal.call = format!("{} {}", call.service.name(), call.name);
        let id = answer.header("x-amzn-requestid").or(answer.header("x-amz-request-id"));
        refusal.request_id = refusal.request_id.or(id.map(str::to_owned));
        let date = answer
            .header("date")
            .and_then(|date| OffsetDateTime::parse(&date.replace("GMT", "+0000"), &Rfc2822).ok());
        let ours = self.now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        refusal.clock_ahead_s =
            date.map(|date| date.unix_timestamp() - i64::try_from(ours).unwrap_or(i64::MAX));
        self.host.info(&format!(
            "{} in {} was refused: {} {} (request {})",
            refusal.call,
            self.region,
            refusal.status,
            refusal.code,
            refusal.request_id.as_deref().unwrap_or("-"),
        ));
        refusal
    }

    /// Signs with AWS's time from now on. Answers whether that changes anything.
    fn set_clock(&self, refusal: &Refusal) -> bool {
        let Some(ahead) = refusal.clock_ahead_s.filter(|ahead| ahead.abs() >= SKEW_MIN_S) else {
            return false;
        };
        self.ahead_s.fetch_add(ahead, Ordering::Relaxed);
        let way = if ahead > 0 { "behind" } else { "ahead of" };
        self.host.warn(&format!(
            "this machine's clock is {} s {way} AWS's; its time is used to sign, set the clock",
            ahead.abs()
        ));
        true
    }
}

fn pause_ceiling(attempt: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << (attempt - 1).min(16)).min(PAUSE_MAX)
}

/// From nothing to all of it, so that many clients do not come back at the same moment.
fn jittered(ceiling: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish();
    ceiling.mul_f64(random as f64 / u64::MAX as f64)
}

/// An answer that is not what the API's reference says.
pub(crate) fn unexpected(call: &str, what: &str) -> PluginError {
    let code = imagefactory_plugin_sdk::author::ErrorCode::Io;
    PluginError::new(code, format!("the answer to {call} holds no {what}"))
        .hint("does the endpoint speak the APIs of EC2 and EBS?")
}
