//! What AWS refused, told by its error code: who is at fault, whether to try again, the way out.
//!
//! The two APIs answer in two forms (XML and JSON); both become a [`Refusal`]. Only codes decide;
//! messages are AWS's words for people and are passed on. Codes that are not listed go by the
//! status of the answer.

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError};
use serde_json::Value;

use crate::xml::{child, text_of};

/// AWS's messages are a sentence or two; an encoded authorization message can be 10 kB.
const MESSAGE_CHARS_MAX: usize = 500;

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Of the answer.
    pub(crate) status: u16,
    /// `RequestLimitExceeded`; empty where the answer has none.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
    /// For AWS's support.
    pub(crate) request_id: Option<String>,
    /// What was asked: `ec2 RegisterImage`.
    pub(crate) call: String,
    /// How far AWS's clock is ahead of ours, in seconds; `None` = not told.
    pub(crate) clock_ahead_s: Option<i64>,
}

/// Why a call has no good answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// AWS answered and refused.
    Refused(Box<Refusal>),
    /// No answer, or the stage is to end.
    Failed(PluginError),
}

impl CallError {
    /// Was it refused with this code?
    pub(crate) fn is(&self, code: &str) -> bool {
        matches!(self, CallError::Refused(refusal) if refusal.code == code)
    }

    /// Is what the call named not there? A bare 404 says that about the address and nothing else.
    pub(crate) fn is_not_found(&self) -> bool {
        let CallError::Refused(refusal) = self else { return false };
        refusal.kind() == Kind::NotFound && !refusal.code.is_empty()
    }
}

impl From<PluginError> for CallError {
    fn from(error: PluginError) -> CallError {
        CallError::Failed(error)
    }
}

impl From<CallError> for PluginError {
    fn from(error: CallError) -> PluginError {
        match error {
            CallError::Refused(refusal) => refusal.into_error(),
            CallError::Failed(error) => error,
        }
    }
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Too many calls: again, later.
    Throttled,
    /// AWS's own trouble: again, later.
    Unavailable,
    /// The signature's time is too far from AWS's.
    Clock,
    /// The keys were valid once.
    Expired,
    /// The keys are wrong.
    Keys,
    /// The keys are right and may not do this.
    Permission,
    /// A limit of the account.
    Quota,
    /// What was named is not there.
    NotFound,
    /// It exists.
    Exists,
    /// What we sent arrived damaged.
    Damaged,
    /// A value of the request.
    Value,
}

/// Signatures are refused from 5 minutes of difference on; the answer itself may take some.
const CLOCK_TOLERANCE_S: i64 = 240;

impl Refusal {
    /// Reads an answer of the EC2 Query API (XML) or of the EBS direct APIs (JSON).
    pub(crate) fn read(status: u16, error_type: Option<&str>, body: &str) -> Refusal {
        let mut refusal = Refusal {
            status,
            code: String::new(),
            message: String::new(),
            request_id: None,
            call: String::new(),
            clock_ahead_s: None,
        };
        if let Ok(Value::Object(object)) = serde_json::from_str::<Value>(body) {
            let text = |names: [&str; 3]| {
                names.iter().find_map(|name| object.get(*name)).and_then(Value::as_str)
            };
            let kind = text(["__type", "code", "Code"]).or(error_type).unwrap_or_default();
            refusal.code = bare_code(kind);
            refusal.message = shortened(text(["message", "Message", "errorMessage"]).unwrap_or(""));
        } else if let Ok(document) = roxmltree::Document::parse(body) {
            let root = document.root_element();
            let error = child(root, "Errors").and_then(|errors| child(errors, "Error"));
            if let Some(error) = error.or_else(|| child(root, "Error")) {
                refusal.code = bare_code(text_of(error, "Code").unwrap_or_default());
                refusal.message = shortened(text_of(error, "Message").unwrap_or_default());
            }
            let id = text_of(root, "RequestID").or_else(|| text_of(root, "RequestId"));
            refusal.request_id = id.map(str::to_owned);
        } else {
            refusal.code = bare_code(error_type.unwrap_or_default());
        }
        refusal
    }

    /// What it means.
    pub(crate) fn kind(&self) -> Kind {
        let clock_is_off = self.clock_ahead_s.is_some_and(|ahead| ahead.abs() > CLOCK_TOLERANCE_S);
        match self.code.as_str() {
            "RequestTimeTooSkewed" | "RequestInTheFuture" => Kind::Clock,
            "SignatureDoesNotMatch"
            | "InvalidSignatureException"
            | "AuthFailure"
            | "RequestExpired"
            | "InvalidSignature"
                if clock_is_off =>
            {
                Kind::Clock
            }
            "RequestLimitExceeded"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "ConcurrentLimitExceededException"
            | "SlowDown"
            | "BandwidthLimitExceeded"
            | "ConcurrentTagAccess"
            | "SnapshotCreationPerVolumeRateExceeded" => Kind::Throttled,
            "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired"
            | "TokenRefreshRequired" => Kind::Expired,
            "AuthFailure"
            | "SignatureDoesNotMatch"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "InvalidSignature"
            | "InvalidAccessKeyId"
            | "MissingAuthenticationToken"
            | "IncompleteSignature"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignatureException"
            | "InvalidToken" => Kind::Keys,
            "UnauthorizedOperation"
            | "AccessDenied"
            | "AccessDeniedException"
            | "OptInRequired"
            | "PendingVerification"
            | "Blocked"
            | "OperationNotPermitted" => Kind::Permission,
            "ServiceQuotaExceededException" | "PendingSnapshotLimitExceeded" => Kind::Quota,
            code if code.ends_with("LimitExceeded") || code.ends_with("QuotaExceeded") => {
                Kind::Quota
            }
            "ResourceNotFoundException" | "InvalidSnapshotID.NotFound" => Kind::NotFound,
            code if code.ends_with(".NotFound") || code.ends_with(".Unavailable") => Kind::NotFound,
            // Of an AMI that was deregistered before: AWS answers with NotFound or with this.
            "InvalidAMIID.Deregistered" => Kind::NotFound,
            code if code.ends_with(".Duplicate") || code.ends_with(".InUse") => Kind::Exists,
            "InvalidChecksum" | "ChecksumMismatch" | "BadDigest" => Kind::Damaged,
            "InternalError"
            | "InternalFailure"
            | "InternalServerException"
            | "Unavailable"
            | "ServiceUnavailable"
            | "ServiceUnavailableException"
            | "RequestTimeout"
            | "RequestTimeoutException" => Kind::Unavailable,
            _ => match self.status {
                429 => Kind::Throttled,
                401 => Kind::Keys,
                402 => Kind::Quota,
                403 => Kind::Permission,
                404 | 410 => Kind::NotFound,
                408 | 500.. => Kind::Unavailable,
                _ => Kind::Value,
            },
        }
    }

    /// May the same call succeed a moment later?
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.kind(), Kind::Throttled | Kind::Unavailable | Kind::Damaged)
    }

    fn into_error(self) -> PluginError {
        let (call, status) = (&self.call, self.status);
        let said = match (self.code.is_empty(), self.message.is_empty()) {
            (true, true) => format!("status {status}"),
            (true, false) => self.message.clone(),
            (false, true) => self.code.clone(),
            (false, false) => format!("{}: {}", self.code, self.message),
        };
        let error = |code| PluginError::new(code, format!("{call} was refused: {said}"));
        let error = match self.kind() {
            Kind::Throttled => error(ErrorCode::Unavailable)
                .retryable()
                .hint("AWS limits the account's calls; lower ec2_upload_concurrency, or wait"),
            Kind::Unavailable => {
                error(ErrorCode::Unavailable).retryable().hint("try again when AWS has recovered")
            }
            Kind::Clock => {
                let ahead = self.clock_ahead_s.unwrap_or_default();
                let (minutes, way) = (ahead.abs() / 60, if ahead > 0 { "behind" } else { "ahead" });
                error(ErrorCode::Auth).hint(format!(
                    "this machine's clock is {minutes} minutes {way} of AWS's; set it by NTP"
                ))
            }
            Kind::Expired => error(ErrorCode::Auth)
                .by_user()
                .hint("get new temporary credentials and order again"),
            Kind::Keys => error(ErrorCode::Auth).by_user().hint(
                "check access_key, secret_access_key and session_token, and that the region is \
                 of the same partition",
            ),
            Kind::Permission => error(ErrorCode::Permission).by_user().hint(
                "give the access key's user or role the actions that plugins/ec2-cloud/README.md \
                 lists",
            ),
            Kind::Quota => error(ErrorCode::Quota).by_user().hint(
                "delete what is no longer needed, or ask AWS for a higher quota in this region",
            ),
            Kind::NotFound => error(ErrorCode::NotFound).by_user(),
            Kind::Exists => error(ErrorCode::AlreadyExists).by_user(),
            Kind::Damaged => error(ErrorCode::Io).retryable().hint("check the network's path"),
            Kind::Value => error(ErrorCode::InvalidArgument).by_user(),
        };
        match self.code.is_empty() {
            true => error,
            false => error.vendor_code(self.code),
        }
    }
}

/// `com.amazonaws.ebs#ThrottlingException:http://…` is `ThrottlingException`.
fn bare_code(code: &str) -> String {
    let code = code.split(':').next().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default().trim();
    code.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(100).collect()
}

/// One line of bounded length.
fn shortened(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_kind(status: u16, code: &str, kind: Kind) {
        let body =
            format!("<Response><Errors><Error><Code>{code}</Code></Error></Errors></Response>");
        assert_eq!(Refusal::read(status, None, &body).kind(), kind, "{code}");
        let json = format!(r#"{{"__type":"com.amazonaws.ebs#{code}","message":"m"}}"#);
        assert_eq!(Refusal::read(status, None, &json).kind(), kind, "{code}");
        assert_eq!(Refusal::read(status, Some(&format!("{code}:http://x/")), "").kind(), kind);
    }

    #[test]
    fn codes_decide_and_the_status_where_there_is_no_known_one() {
        check_kind(503, "RequestLimitExceeded", Kind::Throttled);
        check_kind(400, "RequestThrottledException", Kind::Throttled);
        check_kind(400, "ThrottlingException", Kind::Throttled);
        check_kind(400, "SnapshotLimitExceeded", Kind::Quota);
        check_kind(402, "ServiceQuotaExceededException", Kind::Quota);
        check_kind(401, "AuthFailure", Kind::Keys);
        check_kind(400, "RequestExpired", Kind::Expired);
        check_kind(403, "UnauthorizedOperation", Kind::Permission);
        check_kind(400, "InvalidAMIID.NotFound", Kind::NotFound);
        check_kind(400, "InvalidAMIName.Duplicate", Kind::Exists);
        check_kind(400, "InvalidParameterValue", Kind::Value);
        check_kind(500, "SomethingNew", Kind::Unavailable);
        check_kind(429, "", Kind::Throttled);
    }

    #[test]
    fn a_wrong_clock_is_told_from_wrong_keys_by_the_answers_date() {
        let body = r#"{"__type":"InvalidSignatureException","message":"Signature expired"}"#;
        let mut refusal = Refusal::read(403, None, body);
        assert_eq!(refusal.kind(), Kind::Keys);
        refusal.clock_ahead_s = Some(3700);
        assert_eq!(refusal.kind(), Kind::Clock);
        assert!(format!("{:?}", refusal.into_error()).contains("61 minutes behind"));
    }

    #[test]
    fn an_answer_that_is_no_document_at_all_is_read_too() {
        let deep = format!("{}{}", "<a>".repeat(100_000), "x");
        for body in ["", "<html>", "gateway", "[]", "{", deep.as_str()] {
            let refusal = Refusal::read(502, None, body);
            assert_eq!(refusal.kind(), Kind::Unavailable);
        }
    }

    #[test]
    fn messages_are_one_line_of_bounded_length() {
        let body = format!("{{\"message\":\"a\\nb {}\"}}", "x".repeat(5000));
        let refusal = Refusal::read(400, None, &body);
        assert!(refusal.message.starts_with("a b x") && refusal.message.len() < 600);
    }
}
