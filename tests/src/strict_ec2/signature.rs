//! Signature Version 4, checked as AWS describes it; written from that description and not with the
//! signer of the plugin, so that one mistake does not hide another.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use super::faults::Fault;
use super::wire::{Answer, Asked};
use super::{ACCESS_KEY, SECRET_KEY, Shared};

/// AWS's tolerance.
const TOLERANCE_S: i64 = 300;

/// What a good signature says.
pub(crate) struct Signed {
    pub(crate) service: String,
    pub(crate) region: String,
}

/// Why a request is refused, in the words of both services.
pub(crate) struct BadSignature {
    ec2: Fault,
    ebs: Fault,
}

impl BadSignature {
    pub(crate) fn into_answer(self, asked: &Asked) -> Answer {
        match asked.path.starts_with("/snapshots") {
            true => self.ebs.into_answer("ebs"),
            false => self.ec2.into_answer("ec2"),
        }
    }
}

/// Demands a signature that is right in every part.
pub(crate) fn check(asked: &Asked, shared: &Shared) -> Result<Signed, BadSignature> {
    let authorization = asked.header("authorization").ok_or_else(|| missing("authorization"))?;
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(|| missing("scheme"))?;
    let part = |name: &str| {
        let part = rest.split(", ").find_map(|part| part.strip_prefix(name));
        part.ok_or_else(|| missing(name))
    };
    let credential = part("Credential=")?;
    let (signed, given) = (part("SignedHeaders=")?, part("Signature=")?);
    let scope: Vec<&str> = credential.split('/').collect();
    let [key, day, region, service, "aws4_request"] = scope[..] else {
        return Err(missing("scope"));
    };
    if key != ACCESS_KEY {
        return Err(refused(
            ("AuthFailure", "AWS was not able to validate the provided access credentials"),
            ("UnrecognizedClientException", "The security token included is invalid"),
        ));
    }
    let time = asked.header("x-amz-date").ok_or_else(|| missing("x-amz-date"))?;
    let faults = shared.faults();
    let now = faults.clock().now_s();
    let (token, unsigned) = (faults.session_token.clone(), faults.unsigned_payloads);
    drop(faults);
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let then = time::PrimitiveDateTime::parse(time, format).map_err(|_| missing("a good date"))?;
    if (then.assume_utc().unix_timestamp() - now).abs() > TOLERANCE_S || !time.starts_with(day) {
        let server = OffsetDateTime::from_unix_timestamp(now).expect("a time");
        let message = format!("Signature expired: {time} is now earlier than {server}");
        return Err(refused(("AuthFailure", &message), ("InvalidSignatureException", &message)));
    }
    if asked.header("x-amz-security-token") != token.as_deref() {
        return Err(refused(
            ("RequestExpired", "Request has expired."),
            ("ExpiredTokenException", "The security token included in the request is expired"),
        ));
    }
    let names: Vec<&str> = signed.split(';').collect();
    let must = asked.headers.iter().map(|(name, _)| name.as_str());
    let must = must.filter(|name| *name == "host" || name.starts_with("x-amz-"));
    if let Some(loose) = must.into_iter().find(|name| !names.contains(name)) {
        return Err(wrong(&format!("{loose} is not signed")));
    }
    let payload = hex(&asked.sha256);
    match asked.header("x-amz-content-sha256") {
        Some(said) if said != payload => return Err(wrong("the payload is another")),
        Some(_) => {}
        None if unsigned => {}
        None => return Err(wrong("the payload is not signed")),
    }
    let payloads = [payload.as_str(), "UNSIGNED-PAYLOAD"];
    let usable = if unsigned { &payloads[..] } else { &payloads[..1] };
    let signing_key = [day, region, service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{SECRET_KEY}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    for payload in usable {
        let canonical = canonical_request(asked, &names, payload);
        let canonical = hex(&Sha256::digest(canonical.as_bytes()).into());
        let scope = scope[1..].join("/");
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}");
        if hex_of(&hmac(&signing_key, to_sign.as_bytes())) == given {
            return Ok(Signed { service: service.to_owned(), region: region.to_owned() });
        }
    }
    Err(wrong("The request signature we calculated does not match the signature you provided"))
}

/// Paths and queries of these APIs need no escapes, so none are made here.
fn canonical_request(asked: &Asked, names: &[&str], payload: &str) -> String {
    let mut query: Vec<&str> = asked.query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let header = |name: &&str| {
        let value = asked.header(name).unwrap_or_default();
        format!("{name}:{}\n", value.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let headers: String = names.iter().map(header).collect();
    let (method, path, names) = (&asked.method, &asked.path, names.join(";"));
    format!("{method}\n{path}\n{}\n{headers}\n{names}\n{payload}", query.join("&"))
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn hex(digest: &[u8; 32]) -> String {
    hex_of(digest)
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn missing(what: &str) -> BadSignature {
    let message = format!("the request is missing {what}");
    refused(
        ("MissingAuthenticationToken", &message),
        ("MissingAuthenticationTokenException", &message),
    )
}

fn wrong(message: &str) -> BadSignature {
    refused(("SignatureDoesNotMatch", message), ("InvalidSignatureException", message))
}

fn refused(ec2: (&'static str, &str), ebs: (&'static str, &str)) -> BadSignature {
    let fault = |(code, message): (&'static str, &str)| {
        let status = if code == "AuthFailure" { 401 } else { 403 };
        Fault { status, code, message: message.to_owned() }
    };
    BadSignature { ec2: fault(ec2), ebs: fault(ebs) }
}
