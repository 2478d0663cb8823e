//! Verifies requests: signature, age, replay. Every failure is one 401 with one reason.
//!
//! Unknown keys cost the same time as known ones, and a nonce is taken only after the signature was
//! found good, so that nobody can fill the memory of nonces without a key. Nonces are written and
//! not fsynced: they survive `kill -9`. For a power cut there is the *mark*: a durable time before
//! which all accepted timestamps lie; a factory that finds a mark of another boot refuses what is
//! older.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imagefactory_store::{ImageStore, StoreError};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use tokio::sync::Mutex;

use crate::base_string::{SignatureMethod, address, base_string, parse_pairs};
use crate::header;

/// How far a client's clock may be off, in seconds (rest-contract.md).
const WINDOW_S: i64 = 300;

/// How far ahead the mark is set, in seconds: one durable write a minute.
const MARK_AHEAD_S: i64 = 60;

/// A nonce is a word, not a document.
const NONCE_BYTES_MAX: usize = 256;

/// What the client sent, as it sent it.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// `POST`.
    pub method: &'a str,
    /// `http` or `https`, as the client saw it.
    pub scheme: &'a str,
    /// The Host header (or `:authority`).
    pub authority: &'a str,
    /// Raw, still percent-encoded, without the query.
    pub path: &'a str,
    /// Raw, without the question mark.
    pub query: Option<&'a str>,
    /// All `Authorization` headers.
    pub authorization: &'a [&'a str],
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// Why a request was refused: the client hears one sentence, and 401.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// No `Authorization: OAuth` header.
    #[error("this needs an OAuth 1.0a signature; there is none")]
    Unsigned,
    /// The header is broken, is there twice, or says something twice.
    #[error("the Authorization header is not a well-formed OAuth 1.0a header")]
    Malformed,
    /// A signature method that is not offered.
    #[error("the signature method is not offered; there are HMAC-SHA1 and HMAC-SHA256")]
    Method,
    /// Unknown key or wrong signature: nobody learns which.
    #[error("the consumer key is unknown or the signature is wrong")]
    Signature,
    /// Too old or too far in the future.
    #[error("the timestamp is {0} s away from this server's clock; at most 300 are allowed")]
    Stale(i64),
    /// Older than what could have been accepted before a power cut.
    #[error("the timestamp is from before this server's last start; sign again")]
    BeforeStart,
    /// Seen before.
    #[error("this nonce was used before")]
    Replayed,
    /// The body is not the one that was signed.
    #[error("oauth_body_hash is not the hash of this body")]
    BodyHash,
    /// The memory of nonces cannot be written: nothing can be let in.
    #[error("the factory cannot remember nonces at the moment")]
    Store(#[source] StoreError),
}

/// The daemon's verifier.
pub struct Verifier {
    clients: RwLock<Arc<BTreeMap<String, String>>>,
    store: Arc<dyn ImageStore>,
    mark: Mutex<Option<Mark>>,
    clock: fn() -> i64,
    boot_id: String,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// Times in seconds.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Accepted timestamps lie before it, durably.
    accepted_before: i64,
    /// Timestamps before it may have been accepted before a power cut.
    refused_before: i64,
}

/// Seconds since 1970.
pub fn system_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Verifier {
    /// With these keys and secrets.
    pub fn new(
        clients: BTreeMap<String, String>,
        store: Arc<dyn ImageStore>,
        clock: fn() -> i64,
    ) -> Verifier {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        Verifier {
            clients: RwLock::new(Arc::new(clients)),
            store,
            mark: Mutex::new(None),
            clock,
            boot_id: boot_id.unwrap_or_default().trim().to_owned(),
        }
    }

    /// Takes other keys and secrets from now on (SIGHUP).
    pub fn replace_clients(&self, clients: BTreeMap<String, String>) {
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(clients);
    }

    /// The consumer key that signed the request.
    pub async fn verify(&self, request: &SignedRequest<'_>) -> Result<String, Denied> {
        let claim = Claim::read(request)?;
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner).clone();
        let secret = clients.get(&claim.key);
        // Computed for unknown keys as well: they cost the same time.
        let good = claim.method.is_signature(
            &claim.signature,
            &claim.base_string,
            secret.map_or("no such consumer", String::as_str),
        );
        if secret.is_none() || !good {
            return Err(Denied::Signature);
        }
        claim.check_body(request.body)?;
        let now = (self.clock)();
        let off = now.abs_diff(claim.timestamp);
        if off > WINDOW_S.unsigned_abs() {
            return Err(Denied::Stale(i64::try_from(off).unwrap_or(i64::MAX)));
        }
        self.check_mark(claim.timestamp, now).await?;
        let taken = self.store.take_nonce(&claim.key, claim.timestamp, &claim.nonce).await;
        match taken.map_err(Denied::Store)? {
            true => Ok(claim.key),
            false => Err(Denied::Replayed),
        }
    }

    async fn check_mark(&self, timestamp: i64, now: i64) -> Result<(), Denied> {
        let mut guard = self.mark.lock().await;
        let mut mark = match *guard {
            Some(mark) => mark,
            None => self.first_mark().await.map_err(Denied::Store)?,
        };
        if timestamp < mark.refused_before {
            *guard = Some(mark);
            return Err(Denied::BeforeStart);
        }
        if timestamp >= mark.accepted_before {
            mark.accepted_before = timestamp + MARK_AHEAD_S;
            let set = self.store.set_nonce_mark(mark.accepted_before, &self.boot_id).await;
            set.map_err(Denied::Store)?;
            // What is older than the window is refused by age.
            let forgotten = self.store.forget_nonces_before(now - 2 * WINDOW_S).await;
            forgotten.map_err(Denied::Store)?;
        }
        *guard = Some(mark);
        Ok(())
    }

    async fn first_mark(&self) -> Result<Mark, StoreError> {
        Ok(match self.store.nonce_mark().await? {
            None => Mark { accepted_before: 0, refused_before: 0 },
            // The same boot: the page cache kept every nonce.
            Some((mark, boot)) if boot == self.boot_id => {
                Mark { accepted_before: mark, refused_before: 0 }
            }
            Some((mark, _)) => Mark { accepted_before: mark, refused_before: mark },
        })
    }
}

/// What a request claims about itself.
struct Claim {
    key: String,
    method: SignatureMethod,
    signature: Vec<u8>,
    timestamp: i64,
    nonce: String,
    body_hash: Option<String>,
    base_string: String,
}

impl Claim {
    fn read(request: &SignedRequest<'_>) -> Result<Claim, Denied> {
        let [authorization] = request.authorization else {
            return Err(match request.authorization {
                [] => Denied::Unsigned,
                _ => Denied::Malformed,
            });
        };
        let is_oauth = authorization.trim_start().get(..5);
        if !is_oauth.is_some_and(|scheme| scheme.eq_ignore_ascii_case("OAuth")) {
            return Err(Denied::Unsigned);
        }
        let mut protocol = header::parse(authorization).ok_or(Denied::Malformed)?;
        let mut take = |name: &str| {
            let found = protocol.iter().position(|(other, _)| other == name)?;
            Some(protocol.swap_remove(found).1)
        };
        let signature = take("oauth_signature").ok_or(Denied::Malformed)?;
        let signature = STANDARD.decode(signature).map_err(|_| Denied::Malformed)?;
        let field = |name: &str| {
            let found = protocol.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.clone())
        };
        let method = field("oauth_signature_method").ok_or(Denied::Malformed)?;
        let method = SignatureMethod::parse(&method).ok_or(Denied::Method)?;
        if field("oauth_version").is_some_and(|version| version != "1.0") {
            return Err(Denied::Malformed);
        }
        // Two legs: a token would be another protocol.
        if field("oauth_token").is_some_and(|token| !token.is_empty()) {
            return Err(Denied::Malformed);
        }
        let timestamp = field("oauth_timestamp").and_then(|text| plain_number(&text));
        let nonce = field("oauth_nonce").filter(|nonce| !nonce.is_empty());
        let nonce = nonce.filter(|nonce| nonce.len() <= NONCE_BYTES_MAX);
        let mut claim = Claim {
            key: field("oauth_consumer_key").ok_or(Denied::Malformed)?,
            method,
            signature,
            timestamp: timestamp.ok_or(Denied::Malformed)?,
            nonce: nonce.ok_or(Denied::Malformed)?,
            body_hash: field("oauth_body_hash"),
            base_string: String::new(),
        };
        claim.base_string = signed_text(request, protocol)?;
        Ok(claim)
    }

    fn check_body(&self, body: &[u8]) -> Result<(), Denied> {
        let Some(claimed) = &self.body_hash else { return Ok(()) };
        let found = match self.method {
            SignatureMethod::HmacSha1 => STANDARD.encode(Sha1::digest(body)),
            SignatureMethod::HmacSha256 => STANDARD.encode(Sha256::digest(body)),
        };
        // The hash was signed: it is no secret, and needs no constant time.
        if *claimed == found { Ok(()) } else { Err(Denied::BodyHash) }
    }
}

/// Header, query and form parameters, each once (RFC 5849, 3.4.1.3.1).
fn signed_text(
    request: &SignedRequest<'_>,
    mut parameters: Vec<(String, String)>,
) -> Result<String, Denied> {
    let mut add = |text: &str| {
        let pairs = parse_pairs(text).ok_or(Denied::Malformed)?;
        // Protocol parameters belong into the header alone: elsewhere they are pollution.
        if pairs.iter().any(|(name, _)| name.starts_with("oauth_")) {
            return Err(Denied::Malformed);
        }
        parameters.extend(pairs);
        Ok(())
    };
    if let Some(query) = request.query {
        add(query)?;
    }
    if is_form(request.content_type) {
        add(std::str::from_utf8(request.body).map_err(|_| Denied::Malformed)?)?;
    }
    let address = address(request.scheme, request.authority, request.path);
    Ok(base_string(request.method, &address, &parameters))
}

fn is_form(content_type: Option<&str>) -> bool {
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Digits only: no sign, no blanks.
fn plain_number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
