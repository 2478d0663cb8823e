//! Statuses of the ABI as the host reads them.

use imagefactory_plugin_sdk::abi::{
    IMGF_E_ABI, IMGF_E_ALREADY_EXISTS, IMGF_E_AUTH, IMGF_E_CANCELLED, IMGF_E_INTERNAL,
    IMGF_E_INVALID_ARGUMENT, IMGF_E_INVALID_STATE, IMGF_E_IO, IMGF_E_NOT_FOUND, IMGF_E_PANIC,
    IMGF_E_PERMISSION, IMGF_E_QUOTA, IMGF_E_TIMEOUT, IMGF_E_UNAVAILABLE, IMGF_E_UNSUPPORTED,
    IMGF_E_VENDOR, IMGF_OK,
};

/// The status as the host takes it: what nobody defined is IMGF_E_INTERNAL (status.h).
pub fn known_status(status: i32) -> i32 {
    match status {
        IMGF_OK..=IMGF_E_PANIC | IMGF_E_VENDOR.. => status,
        _ => IMGF_E_INTERNAL,
    }
}

/// The name in status.h.
pub fn status_name(status: i32) -> &'static str {
    match status {
        IMGF_OK => "IMGF_OK",
        IMGF_E_INTERNAL => "IMGF_E_INTERNAL",
        IMGF_E_UNSUPPORTED => "IMGF_E_UNSUPPORTED",
        IMGF_E_INVALID_ARGUMENT => "IMGF_E_INVALID_ARGUMENT",
        IMGF_E_INVALID_STATE => "IMGF_E_INVALID_STATE",
        IMGF_E_NOT_FOUND => "IMGF_E_NOT_FOUND",
        IMGF_E_ALREADY_EXISTS => "IMGF_E_ALREADY_EXISTS",
        IMGF_E_PERMISSION => "IMGF_E_PERMISSION",
        IMGF_E_AUTH => "IMGF_E_AUTH",
        IMGF_E_IO => "IMGF_E_IO",
        IMGF_E_TIMEOUT => "IMGF_E_TIMEOUT",
        IMGF_E_CANCELLED => "IMGF_E_CANCELLED",
        IMGF_E_QUOTA => "IMGF_E_QUOTA",
        IMGF_E_UNAVAILABLE => "IMGF_E_UNAVAILABLE",
        IMGF_E_ABI => "IMGF_E_ABI",
        IMGF_E_PANIC => "IMGF_E_PANIC",
        IMGF_E_VENDOR.. => "a vendor's code",
        _ => "an undefined code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undefined_status_counts_as_internal_and_a_vendor_code_stays() {
        assert_eq!(known_status(IMGF_E_PANIC + 1), IMGF_E_INTERNAL);
        assert_eq!(known_status(999), IMGF_E_INTERNAL);
        assert_eq!(known_status(-1), IMGF_E_INTERNAL);
        assert_eq!(known_status(1000), 1000);
        assert_eq!(known_status(IMGF_E_IO), IMGF_E_IO);
    }
}
