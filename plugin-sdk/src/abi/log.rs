//! `log.h`: severities of `imgf_host.log`.

use super::struct_layout::abi_constants;

abi_constants! {
    /// The operation fails because of this.
    pub const IMGF_LOG_ERROR: u32 = 1;
    /// Odd, but it went on.
    pub const IMGF_LOG_WARN: u32 = 2;
    /// One line per thing worth knowing.
    pub const IMGF_LOG_INFO: u32 = 3;
    /// For the plugin's developers.
    pub const IMGF_LOG_DEBUG: u32 = 4;
    /// Everything.
    pub const IMGF_LOG_TRACE: u32 = 5;
}
