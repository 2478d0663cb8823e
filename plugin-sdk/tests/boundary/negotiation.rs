//! The plugin's half of negotiation: which hosts it goes with, and what it writes.

use std::sync::Mutex;

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::author::{Host, OsPlugin, Plugin, Result, Stage};

use crate::fake_host::driver::negotiate;

struct Exported;

impl Plugin for Exported {
    const ID: &'static str = "Exported";
    const VERSION: &'static str = "3.2.1";

    fn create(_host: Host) -> Result<Exported> {
        Ok(Exported)
    }
}

impl OsPlugin for Exported {
    fn create_base_image(&self, _stage: &Stage<'_>) -> Result<()> {
        Ok(())
    }
}

imagefactory_plugin_sdk::export_os_plugin!(Exported);

extern "C" {
    // What the macro above exports: declared as a host knows it.
    fn imagefactory_plugin_negotiate(n: *mut imgf_negotiate) -> i32;
}

/// One test at a time where the number of questions counts.
static REFUSING: Mutex<()> = Mutex::new(());

fn ask(min: u32, max: u32) -> (i32, imgf_negotiate) {
    negotiate(imagefactory_plugin_negotiate, min, max)
}

fn check_common(min: u32, max: u32, common: Option<u32>) {
    let (status, answer) = ask(min, max);
    match common {
        Some(version) => {
            assert_eq!((status, answer.chosen_abi), (IMGF_OK, version), "{min:x} to {max:x}");
            assert!(!answer.plugin.is_null() && answer.refusal.is_absent());
        }
        None => {
            assert_eq!((status, answer.chosen_abi), (IMGF_E_ABI, 0), "{min:x} to {max:x}");
            assert!(answer.plugin.is_null());
        }
    }
}

#[test]
fn a_common_version_is_found_wherever_there_is_one() {
    let _one = REFUSING.lock();
    check_common(IMGF_ABI_1_0, IMGF_ABI_1_0, Some(IMGF_ABI_1_0));
    check_common(IMGF_ABI_1_0, IMGF_ABI(1, 7), Some(IMGF_ABI_1_0));
    check_common(IMGF_ABI(0, 9), IMGF_ABI(2, 3), Some(IMGF_ABI_1_0));
    check_common(0, u32::MAX, Some(IMGF_ABI_1_0));
    check_common(IMGF_ABI(1, 1), IMGF_ABI(2, 0), None);
    check_common(IMGF_ABI(0, 1), IMGF_ABI(0, 9), None);
    check_common(IMGF_ABI(2, 0), IMGF_ABI(1, 0), None);
}

#[test]
fn a_refusal_names_both_ranges_and_stays_where_it_is() {
    let _one = REFUSING.lock();
    let refusal = |min, max| {
        let (_, answer) = ask(min, max);
        // SAFETY: a refusal has static storage.
        (answer.refusal.ptr, unsafe { answer.refusal.text() }.unwrap().unwrap())
    };
    let (address, text) = refusal(IMGF_ABI(2, 0), IMGF_ABI(3, 4));
    assert_eq!(text, "this plugin speaks plugin ABI 1.0, the host speaks 2.0 to 3.4");
    assert_eq!(refusal(IMGF_ABI(2, 0), IMGF_ABI(3, 4)), (address, text));
    for many in 0..200 {
        assert!(refusal(IMGF_ABI(9, many), IMGF_ABI(9, many)).1.starts_with("this plugin speaks"));
    }
}

#[test]
fn a_longer_struct_is_answered_and_its_unknown_tail_left_alone() {
    #[repr(C)]
    struct Newer {
        known: imgf_negotiate,
        unknown: [u8; 40],
    }
    let (_, question) = ask(IMGF_ABI_1_0, IMGF_ABI_1_0);
    let struct_size = std::mem::size_of::<Newer>() as u32;
    let mut newer =
        Newer { known: imgf_negotiate { struct_size, ..question }, unknown: [0xA5; 40] };
    // SAFETY: a whole struct of our own, larger than the plugin knows.
    let status = unsafe { imagefactory_plugin_negotiate(&mut newer.known) };
    assert_eq!(status, IMGF_OK);
    assert_eq!(newer.unknown, [0xA5; 40]);
    assert_eq!(newer.known.struct_size, struct_size);
}

#[test]
fn a_shorter_struct_and_null_are_refused_without_writing() {
    // SAFETY: NULL is allowed.
    let status = unsafe { imagefactory_plugin_negotiate(std::ptr::null_mut()) };
    assert_eq!(status, IMGF_E_INVALID_ARGUMENT);
    #[repr(align(8))] // as a host's struct is, so that only the size is wrong
    struct Place([u32; 16]);
    for stated in [0, 3, 4, 24, imgf_negotiate::SIZE - 1] {
        let mut place = Place([0xA5_A5_A5_A5; 16]);
        place.0[0] = stated;
        let before = place.0;
        let question = place.0.as_mut_ptr() as *mut imgf_negotiate;
        // SAFETY: 64 bytes are readable and writable, more than is stated.
        let status = unsafe { imagefactory_plugin_negotiate(question) };
        assert_eq!((status, place.0), (IMGF_E_INVALID_ARGUMENT, before), "stated {stated}");
    }
}

#[test]
fn the_descriptor_is_the_plugins_and_always_the_same() {
    let (_, first) = ask(IMGF_ABI_1_0, IMGF_ABI_1_0);
    let (_, second) = std::thread::spawn(|| {
        let (status, answer) = ask(IMGF_ABI_1_0, IMGF_ABI_1_0);
        (status, answer.plugin as usize)
    })
    .join()
    .unwrap();
    assert_eq!(first.plugin as usize, second);
    // SAFETY: a descriptor has static storage.
    let plugin = unsafe { &*first.plugin };
    assert_eq!(plugin.struct_size, imgf_plugin::SIZE);
    assert_eq!((plugin.abi_version, plugin.kind), (IMGF_ABI_1_0, IMGF_KIND_OS));
    // SAFETY: static texts.
    let (id, version) = unsafe { (plugin.id.text(), plugin.version.text()) };
    assert_eq!((id, version), (Ok(Some("Exported")), Ok(Some("3.2.1"))));
}
