//! What gets in, and the list of attacks that do not.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imagefactory_store::embedded::EmbeddedStore;
use sha1::{Digest, Sha1};

use super::*;
use crate::signer::{Consumer, Unsigned, nonce};

const PATH: &str = "/imagefactory/base_images";
const NOW: i64 = 1_700_000_000;

struct Rig {
    verifier: Verifier,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(folder.path()).await.unwrap());
        let clients = BTreeMap::from([("ck".to_owned(), "s3&cret".to_owned())]);
        Rig { verifier: Verifier::new(clients, store, || NOW), _folder: folder }
    }

    async fn check(&self, request: &SignedRequest<'_>, wanted: Result<&str, &str>) {
        match (self.verifier.verify(request).await, wanted) {
            (Ok(key), Ok(wanted)) => assert_eq!(key, wanted),
            (Err(denied), Err(says)) => {
                assert!(denied.to_string().contains(says), "{denied}, not {says}");
            }
            (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
        }
    }
}

fn consumer() -> Consumer {
    Consumer { key: "ck".to_owned(), secret: "s3&cret".to_owned() }
}

fn unsigned<'a>(query: Option<&'a str>, form: Option<&'a str>) -> Unsigned<'a> {
    Unsigned {
        method: "POST",
        scheme: "https",
        authority: "factory.example:8075",
        path: PATH,
        query,
        form,
    }
}

fn header(request: &Unsigned<'_>, timestamp: i64) -> String {
    let method = SignatureMethod::HmacSha1;
    consumer().authorization(request, method, timestamp.unsigned_abs(), &nonce())
}

fn request<'a>(authorization: &'a [&'a str], body: &'a [u8]) -> SignedRequest<'a> {
    SignedRequest {
        method: "POST",
        scheme: "https",
        authority: "factory.example:8075",
        path: PATH,
        query: None,
        authorization,
        content_type: Some("application/json"),
        body,
    }
}

#[tokio::test]
async fn what_was_signed_gets_in_with_both_methods() {
    let rig = Rig::new().await;
    for method in [SignatureMethod::HmacSha1, SignatureMethod::HmacSha256] {
        let now = NOW.unsigned_abs();
        let header = consumer().authorization(&unsigned(None, None), method, now, &nonce());
        rig.check(&request(&[&header], b"{}"), Ok("ck")).await;
    }
}

#[tokio::test]
async fn an_independent_signer_agrees_about_forms_with_odd_characters() {
    #[derive(oauth1_request::Request)]
    struct Form {
        template: String,
        z: String,
    }
    let form = Form { template: "<template> &ü+%".into(), z: "a+b c".into() };
    let url = format!("https://factory.example:8075{PATH}");
    let credentials = oauth1_request::Credentials::new("ck", "s3&cret");
    let mut builder =
        oauth1_request::Builder::<_, _>::new(credentials, oauth1_request::HmacSha1::new());
    builder.nonce("independent").timestamp(std::num::NonZeroU64::new(NOW.unsigned_abs()));
    let header = builder.post(url, &form);
    let body = oauth1_request::to_form(&form);
    let rig = Rig::new().await;
    let authorization = [header.as_str()];
    let signed = SignedRequest {
        content_type: Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"),
        ..request(&authorization, body.as_bytes())
    };
    rig.check(&signed, Ok("ck")).await;
    let tampered = body.replace("ck", "xx").replace('z', "y");
    let signed = SignedRequest { body: tampered.as_bytes(), ..signed };
    rig.check(&signed, Err("signature is wrong")).await;
}

#[tokio::test]
async fn a_replay_is_refused_and_stays_refused_after_a_restart() {
    let rig = Rig::new().await;
    let header = header(&unsigned(None, None), NOW);
    rig.check(&request(&[&header], b""), Ok("ck")).await;
    rig.check(&request(&[&header], b""), Err("used before")).await;
    let store = Arc::clone(&rig.verifier.store);
    let clients = BTreeMap::from([("ck".to_owned(), "s3&cret".to_owned())]);
    let restarted = Rig { verifier: Verifier::new(clients, store, || NOW), ..rig };
    restarted.check(&request(&[&header], b""), Err("used before")).await;
}

#[tokio::test]
async fn timestamps_out_of_the_window_are_refused() {
    let rig = Rig::new().await;
    for (timestamp, wanted) in [
        (NOW - 300, Ok("ck")),
        (NOW + 300, Ok("ck")),
        (NOW - 301, Err("301 s away")),
        (NOW + 301, Err("301 s away")),
    ] {
        let header = header(&unsigned(None, None), timestamp);
        rig.check(&request(&[&header], b""), wanted).await;
    }
}

#[tokio::test]
async fn after_a_power_cut_what_may_have_been_accepted_is_refused() {
    let rig = Rig::new().await;
    let first = header(&unsigned(None, None), NOW);
    rig.check(&request(&[&first], b""), Ok("ck")).await;
    // Another boot, and the nonces of the last seconds are lost.
    rig.verifier.store.forget_nonces_before(i64::MAX).await.unwrap();
    let store = Arc::clone(&rig.verifier.store);
    let clients = BTreeMap::from([("ck".to_owned(), "s3&cret".to_owned())]);
    let mut verifier = Verifier::new(clients, store, || NOW);
    verifier.boot_id = "another boot".to_owned();
    let rig = Rig { verifier, ..rig };
    rig.check(&request(&[&first], b""), Err("before this server's last start")).await;
    let later = header(&unsigned(None, None), NOW + MARK_AHEAD_S);
    rig.check(&request(&[&later], b""), Ok("ck")).await;
}

#[tokio::test]
async fn who_is_unsigned_unknown_or_wrong_is_refused() {
    let rig = Rig::new().await;
    rig.check(&request(&[], b""), Err("there is none")).await;
    rig.check(&request(&["Basic Y2s6c2VjcmV0"], b""), Err("there is none")).await;
    let good = header(&unsigned(None, None), NOW);
    rig.check(&request(&[&good, &good], b""), Err("not a well-formed")).await;
    let unknown = good.replace("\"ck\"", "\"kc\"");
    rig.check(&request(&[&unknown], b""), Err("unknown or the signature")).await;
    let plain = good.replace("HMAC-SHA1", "PLAINTEXT");
    rig.check(&request(&[&plain], b""), Err("is not offered")).await;
    let with_token = good.replace("OAuth ", "OAuth oauth_token=\"t\", ");
    rig.check(&request(&[&with_token], b""), Err("not a well-formed")).await;
}

#[tokio::test]
async fn what_was_signed_for_elsewhere_is_refused_here() {
    let rig = Rig::new().await;
    let header = header(&unsigned(None, None), NOW);
    let authorization = [header.as_str()];
    let signed = request(&authorization, b"");
    for wrong in [
        SignedRequest { authority: "other.example:8075", ..signed },
        SignedRequest { scheme: "http", ..signed },
        SignedRequest { path: "/imagefactory/target_images", ..signed },
        SignedRequest { method: "DELETE", ..signed },
        SignedRequest { query: Some("limit=1"), ..signed },
    ] {
        rig.check(&wrong, Err("signature is wrong")).await;
    }
}

#[tokio::test]
async fn protocol_parameters_elsewhere_than_in_the_header_are_pollution() {
    let rig = Rig::new().await;
    let query = "oauth_nonce=other";
    let header = header(&unsigned(Some(query), None), NOW);
    let authorization = [header.as_str()];
    let signed = SignedRequest { query: Some(query), ..request(&authorization, b"") };
    rig.check(&signed, Err("not a well-formed")).await;
}

#[tokio::test]
async fn a_body_hash_is_verified_when_it_is_there() {
    let rig = Rig::new().await;
    let body = b"{\"base_image\": {}}";
    let signed_header = |hash: &str| {
        let mut protocol: Vec<(String, String)> = [
            ("oauth_consumer_key", "ck"),
            ("oauth_nonce", &nonce()),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", &NOW.to_string()),
            ("oauth_body_hash", hash),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let address = address("https", "factory.example:8075", PATH);
        let base = base_string("POST", &address, &protocol);
        let signature = SignatureMethod::HmacSha1.sign(&base, "s3&cret");
        protocol.push(("oauth_signature".to_owned(), signature));
        header::write(&protocol)
    };
    let good = signed_header(&STANDARD.encode(Sha1::digest(body)));
    rig.check(&request(&[&good], body), Ok("ck")).await;
    let bad = signed_header(&STANDARD.encode(Sha1::digest(b"another body")));
    rig.check(&request(&[&bad], body), Err("not the hash")).await;
}
