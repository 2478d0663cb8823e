//! The signature base string of RFC 5849, section 3.4.1, and its HMAC.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha1::Sha1;
use sha2::Sha256;

/// All but RFC 3986's unreserved characters (RFC 5849, 3.6).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Signature methods of this factory. PLAINTEXT would send the secret, RSA needs no shared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureMethod {
    /// RFC 5849; what the clients of 2012 use.
    HmacSha1,
    /// The same with SHA-256.
    HmacSha256,
}

impl SignatureMethod {
    /// The value of `oauth_signature_method`.
    pub fn name(self) -> &'static str {
        match self {
            SignatureMethod::HmacSha1 => "HMAC-SHA1",
            SignatureMethod::HmacSha256 => "HMAC-SHA256",
        }
    }

    /// The method of this name.
    pub fn parse(name: &str) -> Option<SignatureMethod> {
        [SignatureMethod::HmacSha1, SignatureMethod::HmacSha256]
            .into_iter()
            .find(|method| method.name() == name)
    }

    /// The signature of a base string, base64.
    pub fn sign(self, base_string: &str, secret: &str) -> String {
        STANDARD.encode(
            match self {
                SignatureMethod::HmacSha1 => mac::<Hmac<Sha1>>(base_string, secret).map(finish),
                SignatureMethod::HmacSha256 => mac::<Hmac<Sha256>>(base_string, secret).map(finish),
            }
            .unwrap_or_default(),
        )
    }

    /// Is this the signature (raw, not base64)? Takes the same time for every wrong one.
    pub fn is_signature(self, signature: &[u8], base_string: &str, secret: &str) -> bool {
        match self {
            SignatureMethod::HmacSha1 => mac::<Hmac<Sha1>>(base_string, secret)
                .is_some_and(|mac| mac.verify_slice(signature).is_ok()),
            SignatureMethod::HmacSha256 => mac::<Hmac<Sha256>>(base_string, secret)
                .is_some_and(|mac| mac.verify_slice(signature).is_ok()),
        }
    }
}

fn finish<M: Mac>(mac: M) -> Vec<u8> {
    mac.finalize().into_bytes().to_vec()
}

/// `None` is impossible: HMAC takes keys of any length. The token's secret is empty: two legs.
fn mac<M: Mac + KeyInit>(base_string: &str, secret: &str) -> Option<M> {
    let key = format!("{}&", encode(secret));
    let mut mac = <M as KeyInit>::new_from_slice(key.as_bytes()).ok()?;
    mac.update(base_string.as_bytes());
    Some(mac)
}

/// The base string: method, address without query, and all parameters sorted.
pub fn base_string(method: &str, address: &str, parameters: &[(String, String)]) -> String {
    let mut encoded: Vec<(String, String)> =
        parameters.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    encoded.sort();
    let joined: Vec<String> =
        encoded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{}&{}&{}", method.to_ascii_uppercase(), encode(address), encode(&joined.join("&")))
}

/// Scheme, authority and path as they are signed: lower case, without the scheme's own port.
pub fn address(scheme: &str, authority: &str, path: &str) -> String {
    let scheme = scheme.to_ascii_lowercase();
    let authority = authority.to_ascii_lowercase();
    let own_port = match scheme.as_str() {
        "https" => ":443",
        _ => ":80",
    };
    let authority = authority.strip_suffix(own_port).unwrap_or(&authority);
    let path = if path.is_empty() { "/" } else { path };
    format!("{scheme}://{authority}{path}")
}

/// Name and value pairs of a query or a form. `None`: bytes that are no UTF-8.
pub fn parse_pairs(text: &str) -> Option<Vec<(String, String)>> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode_form(name)?, decode_form(value)?))
        })
        .collect()
}

/// Percent-encoding of RFC 5849, 3.6.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Percent-decoding. `None`: bytes that are no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

fn decode_form(text: &str) -> Option<String> {
    decode(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5849, section 3.4.1.1 to 3.4.1.3, its own example.
    #[test]
    fn the_rfcs_example_gives_the_rfcs_base_string() {
        let mut parameters = parse_pairs("b5=%3D%253D&a3=a&c%40=&a2=r%20b").unwrap();
        parameters.extend(parse_pairs("c2&a3=2+q").unwrap());
        for (name, value) in [
            ("oauth_consumer_key", "9djdj82h48djs9d2"),
            ("oauth_token", "kkk9d7dh3k39sjv7"),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", "137131201"),
            ("oauth_nonce", "7d8f3e4a"),
        ] {
            parameters.push((name.to_owned(), value.to_owned()));
        }
        let address = address("HTTP", "EXAMPLE.COM:80", "/request");
        assert_eq!(
            base_string("post", &address, &parameters),
            "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D\
             %253D%25253D%26c%2540%3D%26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce\
             %3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26oauth_timestamp%3D137131201%26\
             oauth_token%3Dkkk9d7dh3k39sjv7"
        );
    }

    #[test]
    fn only_the_schemes_own_port_is_left_out() {
        assert_eq!(address("https", "h:443", "/p"), "https://h/p");
        assert_eq!(address("https", "h:80", "/p"), "https://h:80/p");
        assert_eq!(address("http", "h:8075", ""), "http://h:8075/");
    }

    #[test]
    fn a_signature_is_its_own_and_no_others() {
        for method in [SignatureMethod::HmacSha1, SignatureMethod::HmacSha256] {
            let signature = STANDARD.decode(method.sign("base", "secret")).unwrap();
            assert!(method.is_signature(&signature, "base", "secret"));
            assert!(!method.is_signature(&signature, "base", "other"));
            assert!(!method.is_signature(&signature, "basf", "secret"));
            assert!(!method.is_signature(&signature[1..], "base", "secret"));
            assert!(!method.is_signature(&[], "base", "secret"));
        }
    }
}
