//! `status.h`: what every function of the ABI that can fail returns.
//!
//! 0 is success and a positive number an error; values are never reused. Numbers from
//! [`IMGF_E_VENDOR`] on are a plugin's own; an unknown positive number below it counts as
//! [`IMGF_E_INTERNAL`]; negative numbers are the host's.

use super::struct_layout::abi_constants;

abi_constants! {
    /// Done.
    pub const IMGF_OK: i32 = 0;
    /// A defect of the side that answers.
    pub const IMGF_E_INTERNAL: i32 = 1;
    /// Optional operation or service that is not implemented.
    pub const IMGF_E_UNSUPPORTED: i32 = 2;
    /// An argument, a parameter or a document that cannot be used.
    pub const IMGF_E_INVALID_ARGUMENT: i32 = 3;
    /// Not now: the call does not fit what happened before.
    pub const IMGF_E_INVALID_STATE: i32 = 4;
    /// What was named does not exist.
    pub const IMGF_E_NOT_FOUND: i32 = 5;
    /// What was to be made exists already.
    pub const IMGF_E_ALREADY_EXISTS: i32 = 6;
    /// Known, but not allowed to.
    pub const IMGF_E_PERMISSION: i32 = 7;
    /// Credentials are missing, wrong or expired.
    pub const IMGF_E_AUTH: i32 = 8;
    /// Reading or writing failed.
    pub const IMGF_E_IO: i32 = 9;
    /// It took longer than it may.
    pub const IMGF_E_TIMEOUT: i32 = 10;
    /// Somebody asked for it to end.
    pub const IMGF_E_CANCELLED: i32 = 11;
    /// A limit of the account or of the machine is reached.
    pub const IMGF_E_QUOTA: i32 = 12;
    /// Not reachable or overloaded: try again later.
    pub const IMGF_E_UNAVAILABLE: i32 = 13;
    /// No common ABI version.
    pub const IMGF_E_ABI: i32 = 14;
    /// A panic or exception was stopped at the boundary.
    pub const IMGF_E_PANIC: i32 = 15;
}

/// The first of the numbers that a plugin may give a meaning of its own.
pub const IMGF_E_VENDOR: i32 = 1000;
