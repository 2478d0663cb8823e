//! Certificates: the right one, the wrong ones, and none at all.

use super::*;

/// An authority, and a server with a certificate of it for these names.
fn server(names: &[&str], expired: bool) -> (Server, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut certificate = rcgen::CertificateParams::new(names).unwrap();
    if expired {
        certificate.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    (Server::start_tls(config, |_, _| answer(200, "safe")), authority_certificate.pem())
}

fn check_refused(server: &Server, ca_pem: Option<String>, sentence: &str) {
    let factory = Factory::new();
    let client = factory.client_with(|options| options.ca_pem = ca_pem);
    let error = client.send(&get(&server.url("/"))).unwrap_err();
    let said = format!("{error:?}");
    assert!(said.contains(sentence) && said.contains(&server.address.to_string()), "{said}");
    assert_eq!(error.code(), ErrorCode::Permission, "{said}");
    assert!(server.seen().is_empty());
}

#[test]
fn only_a_certificate_that_is_trusted_valid_and_for_that_name_is_taken() {
    let (good, ca) = server(&["127.0.0.1"], false);
    let factory = Factory::new();
    let client = factory.client_with(|options| options.ca_pem = Some(ca.clone()));
    assert_eq!(client.send(&get(&good.url("/"))).unwrap().text(), "safe");
    let (untrusted, _) = server(&["127.0.0.1"], false);
    check_refused(&untrusted, None, "give the certificate of its authority");
    check_refused(&untrusted, Some(ca), "is not trusted");
    let (other_name, ca) = server(&["elsewhere.example"], false);
    check_refused(&other_name, Some(ca), "use the name that stands in the certificate");
    let (expired, ca) = server(&["127.0.0.1"], true);
    check_refused(&expired, Some(ca), "renew the certificate");
}

#[test]
fn insecure_takes_any_certificate_and_says_so() {
    let (any, _) = server(&["elsewhere.example"], true);
    let factory = Factory::new();
    let client = factory.client_with(|options| options.insecure = true);
    assert_eq!(client.send(&get(&any.url("/"))).unwrap().text(), "safe");
    assert!(factory.said().contains("certificates are not checked"), "{}", factory.said());
}

#[test]
fn plain_http_behind_an_https_address_is_explained() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::io::Read::read(&mut stream, &mut [0; 1000]).ok();
                std::io::Write::write_all(&mut stream, answer).ok();
            }
        });
        let factory = Factory::new();
        let error = factory.client().send(&get(&url)).unwrap_err();
        assert!(format!("{error:?}").contains("write http://"), "{error:?}");
    }
}

#[test]
fn what_is_no_certificate_is_refused_before_anything_is_sent() {
    let factory = Factory::new();
    for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let options = HttpOptions { ca_pem: Some(text.to_owned()), ..HttpOptions::default() };
        let error = HttpClient::new(&factory.host, options).err().unwrap();
        assert!(error.code() == ErrorCode::InvalidArgument, "{text:?}: {error}");
    }
}
