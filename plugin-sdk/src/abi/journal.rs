//! `journal.h`: what exists outside the process because of a stage.
//!
//! `WILL_CREATE` is durable before `imgf_host.journal` returns, so that nothing can exist that the
//! host does not know of. All events of one resource carry one token, chosen by the plugin and put
//! on the resource, so that it can be found again when only `WILL_CREATE` was reached.

use super::struct_layout::{abi_constants, abi_struct};
use super::text::imgf_str;

abi_struct! {
    /// One event in the life of one resource.
    pub struct imgf_journal_entry = 80 {
        /// `sizeof(imgf_journal_entry)` of the side that fills it.
        pub struct_size: u32,
        /// `IMGF_JOURNAL_WILL_CREATE`, `_CREATED` or `_REMOVED`.
        pub event: u32,
        /// `IMGF_JOURNAL_SCRATCH` or 0.
        pub flags: u32,
        /// 0.
        pub reserved0: u32,
        /// The same in all events of one resource.
        pub token: imgf_str,
        /// `libvirt-domain`, `ebs-snapshot`, ...
        pub kind: imgf_str,
        /// As the outside names it; absent in `WILL_CREATE` when not known yet.
        pub resource_id: imgf_str,
        /// A JSON object, what cleanup needs (region, endpoint); no secrets; absent allowed.
        pub details_json: imgf_str,
    }
}

abi_constants! {
    /// About to be made.
    pub const IMGF_JOURNAL_WILL_CREATE: u32 = 1;
    /// Exists.
    pub const IMGF_JOURNAL_CREATED: u32 = 2;
    /// Is gone.
    pub const IMGF_JOURNAL_REMOVED: u32 = 3;
    /// A helper (VM, mount): removed before the stage runs again. Without it: part of the
    /// product, taken over by the next attempt, removed only if the order fails for good.
    pub const IMGF_JOURNAL_SCRATCH: u32 = 1;
}
