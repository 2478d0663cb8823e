//! `progress.h`: how far a stage is.

use super::struct_layout::abi_struct;
use super::text::imgf_str;

abi_struct! {
    /// One report for `imgf_host.progress`.
    pub struct imgf_progress = 56 {
        /// `sizeof(imgf_progress)` of the side that fills it.
        pub struct_size: u32,
        /// 0.
        pub flags: u32,
        /// Units done in this phase; never falls within a phase.
        pub done: u64,
        /// Units in all; 0 = unknown.
        pub total: u64,
        /// Stable id, `[a-z0-9-]+`: `install`, `upload`.
        pub phase: imgf_str,
        /// One line for people.
        pub message: imgf_str,
    }
}
