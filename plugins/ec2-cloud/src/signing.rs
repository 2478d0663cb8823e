//! Signature Version 4 on a request, by `aws-sigv4`.
//!
//! The payload's hash is handed in where the caller has it already: a block's checksum is at once
//! its payload hash, so signing 512 KiB costs no second pass.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};

/// What is signed.
pub(crate) struct Signable<'s> {
    /// `PUT`.
    pub(crate) method: &'s str,
    /// Whole, encoded.
    pub(crate) url: &'s str,
    /// All that are sent and known; `Host` follows from the address.
    pub(crate) headers: &'s [(&'static str, String)],
    /// sha256 of the body, lower-case hex.
    pub(crate) payload_sha256: &'s str,
    /// In the scope of the signature.
    pub(crate) service: &'static str,
    /// In the scope of the signature.
    pub(crate) region: &'s str,
}

/// A header to add; some hold the session token.
pub(crate) struct SignatureHeader {
    /// Lower case.
    pub(crate) name: &'static str,
    /// Its value.
    pub(crate) value: String,
}

/// The headers that make it a signed request at this time.
pub(crate) fn signature(
    signable: &Signable<'_>,
    keys: &Credentials,
    time: SystemTime,
) -> Result<Vec<SignatureHeader>> {
    let identity = keys.clone().into();
    let mut settings = SigningSettings::default();
    // The payload's hash travels with the request, so that a body that was changed on the way is
    // refused by its receiver.
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(signable.region)
        .name(signable.service)
        .time(time)
        .settings(settings)
        .build()
        .map_err(unsigned)?
        .into();
    let headers = signable.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let body = SignableBody::Precomputed(signable.payload_sha256.to_owned());
    let request =
        SignableRequest::new(signable.method, signable.url, headers, body).map_err(unsigned)?;
    let (instructions, _) = sign(request, &params).map_err(unsigned)?.into_parts();
    let (headers, _) = instructions.into_parts();
    let headers = headers
        .iter()
        .map(|header| SignatureHeader { name: header.name(), value: header.value().to_owned() });
    Ok(headers.collect())
}

fn unsigned(error: impl std::error::Error) -> PluginError {
    // An address or a header that is none; the keys are in no error of the signer.
    PluginError::new(ErrorCode::InvalidArgument, format!("the request cannot be signed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::credentials::keys;

    #[test]
    fn a_signature_covers_the_time_the_token_and_the_payload() {
        let keys = keys(
            "AKIDEXAMPLE".to_owned(),
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            Some("token".to_owned()),
            None,
        );
        let content_type = "application/x-www-form-urlencoded; charset=utf-8".to_owned();
        let signable = Signable {
            method: "GET",
            url: "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
            headers: &[("content-type", content_type)],
            payload_sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            service: "iam",
            region: "us-east-1",
        };
        // 2015-08-30T12:36:00Z
        let time = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let headers = signature(&signable, &keys, time).unwrap();
        let of =
            |name: &str| headers.iter().find(|header| header.name == name).unwrap().value.as_str();
        assert_eq!(of("x-amz-date"), "20150830T123600Z");
        assert_eq!(of("x-amz-security-token"), "token");
        assert_eq!(of("x-amz-content-sha256"), signable.payload_sha256);
        let authorization = of("authorization");
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/"));
        assert!(authorization.contains(
            "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token"
        ));
    }
}
