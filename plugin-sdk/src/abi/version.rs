//! `version.h`: ABI versions as one number, so that ranges can be compared.

use super::struct_layout::abi_constants;

/// The ABI version `major.minor` as one number; both parts are below 65536.
#[allow(non_snake_case)] // the header's macro
pub const fn IMGF_ABI(major: u32, minor: u32) -> u32 {
    (major << 16) | minor
}

abi_constants! {
    /// The version that these twins describe.
    pub const IMGF_ABI_1_0: u32 = IMGF_ABI(1, 0);
}
