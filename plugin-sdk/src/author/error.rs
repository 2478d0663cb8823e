//! The one error of the author's layer: what the user reads, and what the host decides by.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::abi::*;

/// What every operation of a plugin returns.
pub type Result<T> = std::result::Result<T, PluginError>;

/// The kind of an error, as in `status.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// A defect of this plugin (or of the host, when a host service answers it).
    Internal,
    /// Not implemented.
    Unsupported,
    /// A value that was handed over is wrong.
    InvalidArgument,
    /// The call came at the wrong time.
    InvalidState,
    /// What was named does not exist.
    NotFound,
    /// What was to be made exists and is not ours.
    AlreadyExists,
    /// Not allowed.
    Permission,
    /// Credentials were refused, or there are none.
    Auth,
    /// Reading, writing or transferring failed.
    Io,
    /// Something outside did not answer in time.
    Timeout,
    /// Ended early because the host asked for it: no failure.
    Cancelled,
    /// A limit was reached: disk, memory, the account's quota.
    Quota,
    /// Not reachable or overloaded.
    Unavailable,
    /// No common ABI version.
    Abi,
    /// A panic was stopped at the boundary.
    Panic,
    /// The plugin's own, 1000 or more; lower numbers become [`ErrorCode::Internal`].
    Vendor(i32),
}

impl ErrorCode {
    /// The number in `status.h`; never 0.
    pub fn number(self) -> i32 {
        match self {
            ErrorCode::Internal => IMGF_E_INTERNAL,
            ErrorCode::Unsupported => IMGF_E_UNSUPPORTED,
            ErrorCode::InvalidArgument => IMGF_E_INVALID_ARGUMENT,
            ErrorCode::InvalidState => IMGF_E_INVALID_STATE,
            ErrorCode::NotFound => IMGF_E_NOT_FOUND,
            ErrorCode::AlreadyExists => IMGF_E_ALREADY_EXISTS,
            ErrorCode::Permission => IMGF_E_PERMISSION,
            ErrorCode::Auth => IMGF_E_AUTH,
            ErrorCode::Io => IMGF_E_IO,
            ErrorCode::Timeout => IMGF_E_TIMEOUT,
            ErrorCode::Cancelled => IMGF_E_CANCELLED,
            ErrorCode::Quota => IMGF_E_QUOTA,
            ErrorCode::Unavailable => IMGF_E_UNAVAILABLE,
            ErrorCode::Abi => IMGF_E_ABI,
            ErrorCode::Panic => IMGF_E_PANIC,
            ErrorCode::Vendor(number) if number >= IMGF_E_VENDOR => number,
            ErrorCode::Vendor(_) => IMGF_E_INTERNAL,
        }
    }

    /// The kind of a number that a host service answered; unknown ones are [`ErrorCode::Internal`].
    pub fn from_number(number: i32) -> ErrorCode {
        match number {
            IMGF_E_UNSUPPORTED => ErrorCode::Unsupported,
            IMGF_E_INVALID_ARGUMENT => ErrorCode::InvalidArgument,
            IMGF_E_INVALID_STATE => ErrorCode::InvalidState,
            IMGF_E_NOT_FOUND => ErrorCode::NotFound,
            IMGF_E_ALREADY_EXISTS => ErrorCode::AlreadyExists,
            IMGF_E_PERMISSION => ErrorCode::Permission,
            IMGF_E_AUTH => ErrorCode::Auth,
            IMGF_E_IO => ErrorCode::Io,
            IMGF_E_TIMEOUT => ErrorCode::Timeout,
            IMGF_E_CANCELLED => ErrorCode::Cancelled,
            IMGF_E_QUOTA => ErrorCode::Quota,
            IMGF_E_UNAVAILABLE => ErrorCode::Unavailable,
            IMGF_E_ABI => ErrorCode::Abi,
            IMGF_E_PANIC => ErrorCode::Panic,
            number if number >= IMGF_E_VENDOR => ErrorCode::Vendor(number),
            _ => ErrorCode::Internal,
        }
    }
}

/// Why an operation failed: fact, values, way out.
///
/// ```
/// use imagefactory_plugin_sdk::author::{ErrorCode, PluginError};
///
/// let error = PluginError::new(ErrorCode::Quota, "the account holds 20 of 20 images")
///     .hint("delete an image, or ask the provider for a higher limit")
///     .vendor_code("ImageLimitExceeded");
/// assert_eq!(error.to_string(), "the account holds 20 of 20 images");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginError {
    // Boxed, so that a Result<()> stays small in the plugin's own functions.
    facts: Box<Facts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    code: ErrorCode,
    message: String,
    hint: Option<String>,
    vendor_code: Option<String>,
    details_json: Option<String>,
    os_errno: i32,
    retryable: bool,
    retry_after: Option<Duration>,
    user_fault: bool,
}

impl PluginError {
    /// An error with its one line for people. No secrets in it.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> PluginError {
        PluginError {
            facts: Box::new(Facts {
                code,
                message: message.into(),
                hint: None,
                vendor_code: None,
                details_json: None,
                os_errno: 0,
                retryable: false,
                retry_after: None,
                user_fault: false,
            }),
        }
    }

    /// The template, a parameter, the provider or the credentials are wrong.
    pub fn user_fault(message: impl Into<String>) -> PluginError {
        PluginError::new(ErrorCode::InvalidArgument, message).by_user()
    }

    /// The operation ends because the host asked for it.
    pub fn cancelled() -> PluginError {
        PluginError::new(ErrorCode::Cancelled, "cancelled")
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> PluginError {
        self.facts.hint = Some(hint.into());
        self
    }

    /// The provider's own code: `InvalidAMIID.NotFound`.
    #[must_use]
    pub fn vendor_code(mut self, code: impl Into<String>) -> PluginError {
        self.facts.vendor_code = Some(code.into());
        self
    }

    /// A JSON object for machines. No secrets.
    #[must_use]
    pub fn details_json(mut self, json: impl Into<String>) -> PluginError {
        self.facts.details_json = Some(json.into());
        self
    }

    /// The same stage may succeed if it runs again; the host tries a few times.
    #[must_use]
    pub fn retryable(mut self) -> PluginError {
        self.facts.retryable = true;
        self
    }

    /// Retryable, but not before this time has passed.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> PluginError {
        self.facts.retryable = true;
        self.facts.retry_after = Some(pause);
        self
    }

    /// The request is at fault, not the plugin or the factory.
    #[must_use]
    pub fn by_user(mut self) -> PluginError {
        self.facts.user_fault = true;
        self
    }

    /// Says in front of the message what was being done: `cannot read base.raw: no such file`.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> PluginError {
        self.facts.message = format!("{}: {}", what, self.facts.message);
        self
    }

    /// Its kind.
    pub fn code(&self) -> ErrorCode {
        self.facts.code
    }

    /// Its one line.
    pub fn message(&self) -> &str {
        &self.facts.message
    }

    /// Shows the error to `use_it` as the C struct, which borrows from it.
    pub(super) fn with_abi<R>(&self, use_it: impl FnOnce(&imgf_error) -> R) -> R {
        let facts = &*self.facts;
        // "One line for people": a panic's message may have several.
        let message = facts.message.replace(&['\n', '\r'][..], " ");
        let pause = facts.retry_after.unwrap_or_default().as_millis();
        use_it(&imgf_error {
            struct_size: imgf_error::SIZE,
            code: facts.code.number(),
            flags: (if facts.retryable { IMGF_ERR_RETRYABLE } else { 0 })
                | (if facts.user_fault { IMGF_ERR_USER_FAULT } else { 0 }),
            os_errno: facts.os_errno,
            retry_after_ms: pause.min(u128::from(u64::MAX)) as u64,
            message: imgf_str::new(&message),
            hint: imgf_str::optional(facts.hint.as_deref()),
            vendor_code: imgf_str::optional(facts.vendor_code.as_deref()),
            details_json: imgf_str::optional(facts.details_json.as_deref()),
        })
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.facts.message)
    }
}

impl std::error::Error for PluginError {}

impl From<io::Error> for PluginError {
    fn from(error: io::Error) -> PluginError {
        /// "No space left on device" and "disk quota exceeded" on Linux.
        const ENOSPC: i32 = 28;
        const EDQUOT: i32 = 122;
        let os_errno = error.raw_os_error().unwrap_or(0);
        let code = match (os_errno, error.kind()) {
            (ENOSPC, _) | (EDQUOT, _) => ErrorCode::Quota,
            (_, io::ErrorKind::NotFound) => ErrorCode::NotFound,
            (_, io::ErrorKind::AlreadyExists) => ErrorCode::AlreadyExists,
            (_, io::ErrorKind::PermissionDenied) => ErrorCode::Permission,
            (_, io::ErrorKind::TimedOut) => ErrorCode::Timeout,
            _ => ErrorCode::Io,
        };
        let mut mapped = PluginError::new(code, error.to_string());
        mapped.facts.os_errno = os_errno;
        mapped
    }
}
