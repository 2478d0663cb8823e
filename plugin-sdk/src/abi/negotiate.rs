//! `negotiate.h`: the one exported function, frozen for ever. It settles the ABI version before
//! anything else happens.

use super::descriptor::imgf_plugin;
use super::struct_layout::{abi_constants, abi_strings, abi_struct};
use super::text::imgf_str;

abi_struct! {
    /// What the host offers and what the plugin answers.
    pub struct imgf_negotiate = 48 {
        /// In: `sizeof(imgf_negotiate)` of the host.
        pub struct_size: u32,
        /// In: the oldest ABI that the host serves.
        pub host_abi_min: u32,
        /// In: the newest.
        pub host_abi_max: u32,
        /// In: `IMGF_NEGOTIATE_DESCRIBE_ONLY` or 0.
        pub flags: u32,
        /// Out: the version both will use.
        pub chosen_abi: u32,
        /// 0.
        pub reserved0: u32,
        /// Out: the descriptor.
        pub plugin: *const imgf_plugin,
        /// Out, with `IMGF_E_ABI`: why not, in static storage.
        pub refusal: imgf_str,
    }
}

abi_constants! {
    /// `sizeof(imgf_negotiate)` in ABI 1.0, the least that a host sends. Plugins compare with this
    /// and not with the size of the struct, which grows with the SDK.
    pub const IMGF_NEGOTIATE_SIZE_1_0: u32 = 48;
    /// The plugin is only described: no instance follows.
    pub const IMGF_NEGOTIATE_DESCRIBE_ONLY: u32 = 1;
}

abi_strings! {
    /// The name under which a library exports [`imagefactory_plugin_negotiate_fn`].
    pub const IMGF_ENTRY_SYMBOL = "imagefactory_plugin_negotiate";
}

/// The type of the one exported function: 0, or `IMGF_E_ABI` with a refusal.
#[allow(non_camel_case_types)] // after the symbol
pub type imagefactory_plugin_negotiate_fn = unsafe extern "C" fn(*mut imgf_negotiate) -> i32;
