//! `error.h`: what went wrong, for people and for the host's decision to try again.

use super::struct_layout::{abi_constants, abi_struct};
use super::text::imgf_str;

abi_struct! {
    /// One error, handed to `imgf_host.report_error` right before an operation returns non-zero.
    pub struct imgf_error = 88 {
        /// `sizeof(imgf_error)` of the side that fills it.
        pub struct_size: u32,
        /// `IMGF_E_*`, the same that the operation returns.
        pub code: i32,
        /// `IMGF_ERR_*`.
        pub flags: u32,
        /// The system's error number; 0 = none.
        pub os_errno: i32,
        /// Do not try again before this many milliseconds; 0 = unknown.
        pub retry_after_ms: u64,
        /// One line for people: fact, values, way out.
        pub message: imgf_str,
        /// What the user can do; absent allowed.
        pub hint: imgf_str,
        /// The provider's own code, `InvalidAMIID.NotFound`; absent allowed.
        pub vendor_code: imgf_str,
        /// A JSON object; absent allowed. No secrets.
        pub details_json: imgf_str,
    }
}

abi_constants! {
    /// The same call may succeed later.
    pub const IMGF_ERR_RETRYABLE: u32 = 1;
    /// The template, the parameters, the provider or the credentials are at fault.
    pub const IMGF_ERR_USER_FAULT: u32 = 2;
}
