//! The layout side-car: lets a host see that a Rust plugin was built with the same table types.
//!
//! The C tables are the ABI; this only proves that both sides read them alike. A Rust plugin built
//! with the `layout-check` feature exports abi_stable's header of a module that holds types and no
//! behaviour; [`check`] compares it with this crate's own types and words the precise difference.
//! Plugins without it (C, others) are no worse off: they get the structural checks. Never
//! `RootModule::load_from*`: it would answer with the first library for every later one.
//!
//! abi_stable compares data structs as a whole. When one of them grows (ABI 1.1), the host compares
//! a 1.0 plugin with the frozen `released_1_0` instead of the current types.

use std::ffi::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};

use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::{AbiHeader, AbiHeaderRef, LibHeader, ROOT_MODULE_LOADER_NAME};
use abi_stable::StableAbi;

mod difference;
#[cfg(test)]
mod released_1_0;
mod root_module;
mod side_car;

#[doc(hidden)] // for the export macros
pub use root_module::{side_car_header, SideCarHeader};
pub use root_module::{SideCar, SideCar_Ref};
use side_car::side_car_type;

/// The symbol of the side-car, for `dlsym`.
pub const SIDE_CAR_SYMBOL: &str = ROOT_MODULE_LOADER_NAME;

/// A mismatch is worded in at most this many bytes: it ends in an API answer, and abi_stable's own
/// text for one moved field has 18 kB.
pub const MISMATCH_BYTES_MAX: usize = 2048;

/// What the side-car says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutCheck {
    /// Both sides have the same types.
    Checked,
    /// The library has no side-car.
    Absent,
    /// It has one of another abi_stable version (named here), which cannot be compared.
    OtherVersion(String),
    /// The types differ; the difference, at most [`MISMATCH_BYTES_MAX`] bytes.
    Mismatch(String),
}

/// Compares a library's side-car with this crate's types. Runs the library's code (it registers
/// its type information), so only in the process that will call the plugin anyway.
///
/// # Safety
/// `side_car` is NULL (no such symbol) or the address of [`SIDE_CAR_SYMBOL`] in a library that is
/// never unloaded. A library that lies about what lies there can crash the process.
pub unsafe fn check(side_car: *const c_void) -> LayoutCheck {
    if side_car.is_null() {
        return LayoutCheck::Absent;
    }
    // SAFETY: every abi_stable, whatever its version, has an AbiHeader at this symbol, for ever.
    let header = unsafe { &*(side_car as *const AbiHeader) };
    if !header.is_valid() {
        let version = format!("abi_stable ABI {}.{}", header.abi_major, header.abi_minor);
        return LayoutCheck::OtherVersion(version);
    }
    // SAFETY: AbiHeaderRef is a transparent wrapper of a reference to an AbiHeader.
    let header: AbiHeaderRef = unsafe { std::mem::transmute(header) };
    match catch_unwind(AssertUnwindSafe(|| difference_to_ours(header))) {
        Ok(None) => LayoutCheck::Checked,
        Ok(Some(text)) => LayoutCheck::Mismatch(shortened(text)),
        Err(_) => LayoutCheck::Mismatch("comparing the layouts panicked".to_owned()),
    }
}

/// In words; `None` = no difference.
fn difference_to_ours(header: AbiHeaderRef) -> Option<String> {
    let header: &'static LibHeader = match header.upgrade() {
        Ok(header) => header,
        Err(error) => return Some(format!("the C calling convention differs: {error}")),
    };
    let theirs = match header.layout() {
        Some(layout) => layout,
        None => return Some("the side-car carries no types".to_owned()),
    };
    let compared = check_layout_compatibility(<SideCar_Ref as StableAbi>::LAYOUT, theirs);
    compared.err().map(|errors| difference::in_words(&errors))
}

/// At most [`MISMATCH_BYTES_MAX`] bytes of it.
fn shortened(mut text: String) -> String {
    const MORE: &str = " …";
    if text.len() > MISMATCH_BYTES_MAX {
        let mut end = MISMATCH_BYTES_MAX - MORE.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MORE);
    }
    text
}

#[cfg(test)]
mod tests;
