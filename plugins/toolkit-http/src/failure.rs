//! Why no answer came, as an error for people: which host and port, what happened, what to do.
//!
//! Causes are told apart by their types along the error's chain, never by their words.

use std::error::Error;
use std::io;

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError};
use reqwest::Url;
use rustls::CertificateError;

use crate::names::NameError;
use crate::redaction::host_and_port;

const SPEAKS_TLS: &str = "does the port speak TLS? if it speaks plain HTTP, write http://";

/// Why an attempt has no answer.
pub(crate) enum Failure {
    /// It is to end: cancelled, stopped, or our own fault. No repetition.
    Final(PluginError),
    /// The service was not reached: nothing of the request has been sent.
    NotReached(PluginError),
    /// It broke off; the service may have got all of it.
    BrokenOff(PluginError),
}

impl Failure {
    pub(crate) fn into_error(self) -> PluginError {
        match self {
            Failure::Final(error) | Failure::NotReached(error) | Failure::BrokenOff(error) => error,
        }
    }
}

/// The failure that reqwest tells of.
pub(crate) fn transport_failure(error: reqwest::Error, url: &Url) -> Failure {
    // The address may hold secrets; ours is shown without them.
    let error = error.without_url();
    let at = host_and_port(url);
    if let Some(cause) = cause_of::<NameError>(&error) {
        let message = format!("{cause} (for {at})");
        let failure = PluginError::new(ErrorCode::Unavailable, message)
            .hint(format!("is {:?} spelled right, and does this machine resolve it?", cause.name));
        return Failure::NotReached(failure.retryable());
    }
    if let Some(cause) = cause_of::<rustls::Error>(&error) {
        return tls_failure(cause, &at);
    }
    if error.is_connect() && error.is_timeout() {
        let message = format!("{at} does not answer: no connection in time");
        let failure = PluginError::new(ErrorCode::Timeout, message)
            .hint("is the address right, and does a firewall let this machine through?");
        return Failure::NotReached(failure.retryable());
    }
    if error.is_connect() {
        let message = if has_kind(&error, io::ErrorKind::ConnectionRefused) {
            format!("nothing listens at {at} (connection refused)")
        } else {
            format!("{at} cannot be reached: {}", innermost(&error))
        };
        let hung_up = has_kind(&error, io::ErrorKind::UnexpectedEof);
        let hint = if hung_up && url.scheme() == "https" {
            SPEAKS_TLS
        } else {
            "is the service running, and are host and port right?"
        };
        let failure = PluginError::new(ErrorCode::Unavailable, message).hint(hint);
        return Failure::NotReached(failure.retryable());
    }
    if error.is_builder() {
        let message = format!("the request to {at} cannot be made: {}", innermost(&error));
        return Failure::Final(PluginError::user_fault(message));
    }
    let message = format!("the connection to {at} was cut: {}", innermost(&error));
    let failure = PluginError::new(ErrorCode::Io, message)
        .hint("a proxy, the network or the service broke it off; its log may say why");
    Failure::BrokenOff(failure.retryable())
}

fn tls_failure(cause: &rustls::Error, at: &str) -> Failure {
    let rustls::Error::InvalidCertificate(certificate) = cause else {
        let message = format!("no TLS with {at}: {cause}");
        let failure = PluginError::new(ErrorCode::Io, message).hint(SPEAKS_TLS);
        return Failure::Final(failure.vendor_code("tls"));
    };
    let hint = match certificate {
        CertificateError::UnknownIssuer => {
            "give the certificate of its authority in the provider's definition, or add it to \
             the system's"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "renew the certificate there, or set the clock here"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "use the name that stands in the certificate"
        }
        _ => "ask the provider's administrator for a valid certificate",
    };
    let message = format!("the certificate of {at} is not trusted: {certificate}");
    let failure = PluginError::new(ErrorCode::Permission, message).hint(hint);
    Failure::Final(failure.vendor_code("tls-certificate"))
}

/// The first cause of this type; also one within an [`io::Error`], whose `source` hides it.
fn cause_of<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn has_kind(error: &(dyn Error + 'static), kind: io::ErrorKind) -> bool {
    let mut errors = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    errors.any(|error| error.kind() == kind)
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    fn below<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(boxed) => Some(boxed),
            None => cause.source(),
        }
    }
    std::iter::successors(Some(error), |cause| below(*cause))
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
