//! A plugin as a library: what `examples/hello_os.rs`, built by cargo beside this test, exports.

// A test stops where something is not as it should be; so do its helpers, outside of #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::c_void;
use std::path::PathBuf;

use imagefactory_plugin_sdk::abi::*;
use libloading::Library;

/// Loads `examples/libhello_os.so` for ever. `cargo test` builds it; `cargo test --test library`
/// alone does not.
fn hello_os() -> &'static Library {
    let this_test: PathBuf = std::env::current_exe().unwrap();
    let library = this_test.ancestors().nth(2).unwrap().join("examples/libhello_os.so");
    assert!(library.exists(), "{} is not there: run `cargo test`", library.display());
    // SAFETY: our own example; it has no constructors, and it is never unloaded.
    Box::leak(Box::new(unsafe { Library::new(library) }.unwrap()))
}

/// The address of a symbol; NULL if there is none.
fn address_of(symbol: &str) -> *const c_void {
    // SAFETY: only the address is taken.
    unsafe { hello_os().get::<*const c_void>(symbol.as_bytes()) }
        .map_or(std::ptr::null(), |symbol| *symbol)
}

#[test]
fn the_entry_symbol_answers_with_the_plugin() {
    let mut question = imgf_negotiate {
        struct_size: imgf_negotiate::SIZE,
        host_abi_min: IMGF_ABI_1_0,
        host_abi_max: IMGF_ABI_1_0,
        flags: IMGF_NEGOTIATE_DESCRIBE_ONLY,
        chosen_abi: 0,
        reserved0: 0,
        plugin: std::ptr::null(),
        refusal: imgf_str::ABSENT,
    };
    // SAFETY: the symbol's type is frozen; the question is whole, the answer static.
    let id = unsafe {
        let entry = hello_os()
            .get::<imagefactory_plugin_negotiate_fn>(IMGF_ENTRY_SYMBOL.as_bytes())
            .unwrap();
        assert_eq!(entry(&mut question), IMGF_OK);
        (*question.plugin).id.text().unwrap()
    };
    assert_eq!(id, Some("HelloOS"));
}

/// abi_stable's symbol, as the export macro writes it.
const SIDE_CAR: &str = "_1as_0lib_1header_0root_bmodule_bloader";

#[cfg(feature = "layout-check")]
#[test]
fn another_library_of_this_sdk_has_the_same_layout() {
    use imagefactory_plugin_sdk::layout::{check, LayoutCheck, SIDE_CAR_SYMBOL};

    assert_eq!(SIDE_CAR_SYMBOL, SIDE_CAR);
    let side_car = address_of(SIDE_CAR_SYMBOL);
    assert!(!side_car.is_null());
    // SAFETY: the address of that symbol, in a library that is never unloaded.
    assert_eq!(unsafe { check(side_car) }, LayoutCheck::Checked);
}

#[cfg(not(feature = "layout-check"))]
#[test]
fn without_the_feature_there_is_no_side_car() {
    assert!(address_of(SIDE_CAR).is_null());
}
