//! The comparison of layouts: ours with the released one, and with mutated ones.

use super::*;

fn difference(
    interface: &'static abi_stable::type_layout::TypeLayout,
    implementation: &'static abi_stable::type_layout::TypeLayout,
) -> Option<String> {
    let compared = check_layout_compatibility(interface, implementation);
    compared.err().map(|errors| shortened(difference::in_words(&errors)))
}

/// The same module over an `imgf_os_v1` whose two operations changed places: same size, same
/// alignment, and every call would go to the wrong function.
mod swapped_operations {
    #![allow(missing_docs, non_camel_case_types, unreachable_pub, dead_code)]

    use crate::abi::*;

    #[repr(C)]
    #[derive(abi_stable::StableAbi)]
    pub struct imgf_os_v1 {
        pub struct_size: u32,
        pub reserved0: u32,
        pub create_target_image:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
        pub create_base_image:
            Option<unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32>,
        pub add_cloud_plugin_content:
            Option<unsafe extern "C" fn(*mut imgf_instance, imgf_str) -> i32>,
        pub abort: Option<unsafe extern "C" fn(*mut imgf_instance)>,
    }
    super::side_car_type! {}
}

/// The same module over an `imgf_negotiate` with one field of another type of the same size.
mod signed_version {
    #![allow(missing_docs, non_camel_case_types, unreachable_pub, dead_code)]

    use crate::abi::{
        imgf_cleanup_v1, imgf_cloud_v1, imgf_host_artifact_v1, imgf_host_checkpoint_v1,
        imgf_host_reserve_v1, imgf_os_inputs_v1, imgf_os_v1, imgf_os_verify_v1,
    };

    #[repr(C)]
    #[derive(abi_stable::StableAbi)]
    pub struct imgf_negotiate {
        pub struct_size: u32,
        pub host_abi_min: i32,
        pub host_abi_max: u32,
        pub flags: u32,
        pub chosen_abi: u32,
        pub reserved0: u32,
        pub plugin: *const crate::abi::imgf_plugin,
        pub refusal: crate::abi::imgf_str,
    }
    super::side_car_type! {}
}

#[test]
fn the_released_layout_is_still_ours() {
    let released = <released_1_0::SideCar_Ref as StableAbi>::LAYOUT;
    assert_eq!(difference(released, <SideCar_Ref as StableAbi>::LAYOUT), None);
    assert_eq!(difference(<SideCar_Ref as StableAbi>::LAYOUT, released), None);
}

#[test]
fn swapped_operations_are_refused_with_their_names() {
    let mutated = <swapped_operations::SideCar_Ref as StableAbi>::LAYOUT;
    let text = difference(<SideCar_Ref as StableAbi>::LAYOUT, mutated).unwrap();
    assert_eq!(
        text,
        "imgf_os_v1: field create_base_image expected, create_target_image found, \
         field create_target_image expected, create_base_image found"
    );
}

#[test]
fn a_field_of_another_type_is_refused_with_both_types() {
    let mutated = <signed_version::SideCar_Ref as StableAbi>::LAYOUT;
    let text = difference(<SideCar_Ref as StableAbi>::LAYOUT, mutated).unwrap();
    assert_eq!(text, "imgf_negotiate.host_abi_min: type u32 expected, i32 found");
}

#[test]
fn our_own_header_is_checked_and_none_is_absent() {
    static HEADER: SideCarHeader = side_car_header();
    // SAFETY: a side-car header with static storage; NULL is allowed.
    unsafe {
        assert_eq!(check(&HEADER as *const SideCarHeader as *const c_void), LayoutCheck::Checked);
        assert_eq!(check(std::ptr::null()), LayoutCheck::Absent);
    }
}

#[test]
fn a_header_of_another_abi_stable_is_not_compared() {
    let mut foreign = AbiHeader::VALUE;
    foreign.abi_minor += 1;
    // SAFETY: an AbiHeader is there, and its version says that nothing behind it may be read.
    let answer = unsafe { check(&foreign as *const AbiHeader as *const c_void) };
    assert!(matches!(answer, LayoutCheck::OtherVersion(_)), "{answer:?}");
}

#[test]
fn a_long_difference_is_cut_between_characters() {
    let cut = shortened("ä".repeat(MISMATCH_BYTES_MAX));
    assert!(cut.len() <= MISMATCH_BYTES_MAX && cut.ends_with(" …"), "{}", cut.len());
}
