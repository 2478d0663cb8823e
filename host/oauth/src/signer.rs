//! Signs requests: the command line's side, and the tests'.

use crate::base_string::{SignatureMethod, address, base_string, encode, parse_pairs};
use crate::header;

/// A consumer: its key and the secret that it shares with the daemon. Debug shows no secret.
#[derive(Clone)]
pub struct Consumer {
    /// Known to everybody.
    pub key: String,
    /// Shared.
    pub secret: String,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What is to be signed. `form` is the body of a form, and nothing for other bodies.
#[derive(Debug, Clone, Copy)]
pub struct Unsigned<'a> {
    /// `POST`.
    pub method: &'a str,
    /// `https`.
    pub scheme: &'a str,
    /// Host and port as in the Host header.
    pub authority: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// Without the question mark.
    pub query: Option<&'a str>,
    /// Urlencoded.
    pub form: Option<&'a str>,
}

impl Consumer {
    /// The `Authorization` header for a request. `nonce` must be new for each `timestamp`
    /// (seconds).
    pub fn authorization(
        &self,
        request: &Unsigned<'_>,
        method: SignatureMethod,
        timestamp: u64,
        nonce: &str,
    ) -> String {
        let mut protocol: Vec<(String, String)> = [
            ("oauth_consumer_key", self.key.as_str()),
            ("oauth_nonce", nonce),
            ("oauth_signature_method", method.name()),
            ("oauth_timestamp", &timestamp.to_string()),
            ("oauth_version", "1.0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let mut signed = protocol.clone();
        for text in [request.query, request.form].into_iter().flatten() {
            signed.extend(parse_pairs(text).unwrap_or_default());
        }
        let address = address(request.scheme, request.authority, request.path);
        let base = base_string(request.method, &address, &signed);
        protocol.push(("oauth_signature".to_owned(), method.sign(&base, &self.secret)));
        header::write(&protocol)
    }
}

/// A nonce: 128 random bits as text.
pub fn nonce() -> String {
    let mut bits = [0; 16];
    // The kernel's generator fails only before it is seeded, and then the clock still differs.
    if rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty()).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        bits = now.unwrap_or_default().as_nanos().to_le_bytes();
    }
    encode(&bits.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
