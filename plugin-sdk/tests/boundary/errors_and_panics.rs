//! What happens when plugin code fails: reported once, never across the boundary.

use std::sync::atomic::Ordering;
use std::time::Duration;

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::author::{
    ErrorCode, Host, OsPlugin, Plugin, PluginError, Resource, Result, Stage,
};
use imagefactory_plugin_sdk::os_plugin;

use crate::fake_host::{FakeHost, PluginInstance, StageTexts};

/// Does what the parameter `do` says.
struct Clumsy {
    host: Host,
    panics_when_dropped: bool,
}

/// A panic payload whose own Drop panics: dropping it outside of a catch would end the process.
struct Spiteful;

impl Drop for Spiteful {
    fn drop(&mut self) {
        panic!("and once more");
    }
}

impl Plugin for Clumsy {
    const ID: &'static str = "Clumsy";
    const VERSION: &'static str = "1.0.0";

    fn create(host: Host) -> Result<Clumsy> {
        match host.config_json("create")?.as_deref() {
            Some("fail") => Err(PluginError::new(ErrorCode::Unavailable, "not today")),
            Some("panic") => panic!("no instance for you"),
            other => Ok(Clumsy { host, panics_when_dropped: other == Some("panic-later") }),
        }
    }

    fn abort(&self) {
        panic!("in abort");
    }
}

impl Drop for Clumsy {
    fn drop(&mut self) {
        if self.panics_when_dropped {
            panic!("in drop");
        }
    }
}

impl OsPlugin for Clumsy {
    fn create_base_image(&self, stage: &Stage<'_>) -> Result<()> {
        match stage.text_parameter("do")?.unwrap_or_default().as_str() {
            "panic" => panic!("the {} fell\nover", "bootloader"),
            "panic-spitefully" => std::panic::panic_any(Spiteful),
            "fail" => Err(PluginError::user_fault("Fedora 99 is not known")
                .hint("see the list of releases")
                .vendor_code("NoSuchRelease")
                .details_json(r#"{"release":99}"#)
                .retry_after(Duration::from_secs(2))),
            "fail-with-a-file" => {
                std::fs::File::open("/nonexistent/base.raw")?;
                Ok(())
            }
            "vendor" => Err(PluginError::new(ErrorCode::Vendor(1234), "mine")),
            "bad-vendor" => Err(PluginError::new(ErrorCode::Vendor(0), "looks like success")),
            "ignore-a-refusal" => {
                self.host.set_result_json("refused", "1").unwrap_err();
                self.host.will_create(&Resource::scratch("t", "k"))
            }
            _ => self.host.set_result_json("refused", "1"),
        }
    }
}

fn clumsy() -> &'static imgf_plugin {
    os_plugin!(Clumsy)
}

fn run(instance: &PluginInstance<'_>, what: &str) -> i32 {
    let os: &imgf_os_v1 = instance.table(IMGF_IFACE_OS_V1).unwrap();
    let stage =
        StageTexts { parameters_json: Some(format!(r#"{{"do":"{what}"}}"#)), ..StageTexts::new() };
    instance.run(os.create_base_image, &stage)
}

#[test]
fn a_panic_is_reported_with_its_text_and_poisons_the_instance() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(clumsy(), &host).unwrap();
    assert_eq!(run(&instance, "panic"), IMGF_E_PANIC);
    let error = host.the_error();
    assert_eq!(error.code, IMGF_E_PANIC);
    assert_eq!(error.message, "panic: the bootloader fell over");

    // What it was doing is half done: the instance does nothing more.
    assert_eq!(run(&instance, "ignore-a-refusal"), IMGF_E_PANIC);
    assert!(host.record().journal.is_empty());
    assert_eq!(host.record().errors.len(), 2, "each failed operation reports once");

    // Another instance in the same process is not affected.
    let other = PluginInstance::create(clumsy(), &host).unwrap();
    assert_eq!(run(&other, "ignore-a-refusal"), IMGF_OK);
}

#[test]
fn a_panic_payload_that_panics_when_dropped_is_never_dropped() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(clumsy(), &host).unwrap();
    assert_eq!(run(&instance, "panic-spitefully"), IMGF_E_PANIC);
    assert_eq!(host.the_error().message, "panic: (it carried no text)");
}

#[test]
fn an_error_is_reported_once_with_all_its_facts() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(clumsy(), &host).unwrap();
    assert_eq!(run(&instance, "fail"), IMGF_E_INVALID_ARGUMENT);
    let error = host.the_error();
    assert_eq!(error.code, IMGF_E_INVALID_ARGUMENT);
    assert_eq!(error.flags, IMGF_ERR_USER_FAULT | IMGF_ERR_RETRYABLE);
    assert_eq!(error.retry_after_ms, 2000);
    assert_eq!(error.message, "Fedora 99 is not known");
    assert_eq!(error.hint.as_deref(), Some("see the list of releases"));
    assert_eq!(error.vendor_code.as_deref(), Some("NoSuchRelease"));
    assert_eq!(error.details_json.as_deref(), Some(r#"{"release":99}"#));
}

#[test]
fn success_reports_no_error_even_if_a_host_call_was_refused() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(clumsy(), &host).unwrap();
    assert_eq!(run(&instance, "ignore-a-refusal"), IMGF_OK);
    assert!(host.record().errors.is_empty());
}

#[test]
fn an_io_error_becomes_a_code_with_its_errno() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(clumsy(), &host).unwrap();
    assert_eq!(run(&instance, "fail-with-a-file"), IMGF_E_NOT_FOUND);
    assert_eq!(host.the_error().os_errno, 2);
}

#[test]
fn a_failed_host_call_carries_the_hosts_own_words() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(clumsy(), &host).unwrap();
    assert_eq!(run(&instance, ""), IMGF_E_INVALID_ARGUMENT);
    let error = host.the_error();
    assert_eq!(error.message, "host.set_result: this operation has no result of that name");
}

#[test]
fn vendor_codes_are_kept_and_never_look_like_success() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(clumsy(), &host).unwrap();
    assert_eq!(run(&instance, "vendor"), 1234);
    assert_eq!(run(&instance, "bad-vendor"), IMGF_E_INTERNAL);
    assert_eq!(host.record().errors[1].code, IMGF_E_INTERNAL);
}

#[test]
fn a_failing_create_reports_and_leaves_no_instance() {
    for (wish, code, message) in [
        ("fail", IMGF_E_UNAVAILABLE, "not today"),
        ("panic", IMGF_E_PANIC, "panic: no instance for you"),
    ] {
        let host = FakeHost::new();
        host.record().config.insert("create".to_owned(), wish.to_owned());
        assert_eq!(PluginInstance::create(clumsy(), &host).err(), Some(code));
        assert_eq!(host.the_error().message, message);
    }
}

#[test]
fn a_panic_in_abort_is_logged_and_poisons() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(clumsy(), &host).unwrap();
    let os: &imgf_os_v1 = instance.table(IMGF_IFACE_OS_V1).unwrap();
    // SAFETY: a living instance; NULL is ignored.
    unsafe {
        os.abort.unwrap()(instance.pointer);
        os.abort.unwrap()(std::ptr::null_mut());
    }
    assert_eq!(host.record().lines[0].message, "in abort: panic: in abort");
    assert_eq!(run(&instance, "ignore-a-refusal"), IMGF_E_PANIC);
}

#[test]
fn a_panic_while_destroyed_is_logged_and_stops_there() {
    let host = FakeHost::new();
    host.record().config.insert("create".to_owned(), "panic-later".to_owned());
    drop(PluginInstance::create(clumsy(), &host).unwrap());
    let lines = host.record().lines.clone();
    assert_eq!(lines[0].message, "while the instance was destroyed: panic: in drop");
    let calls = host.calls.load(Ordering::SeqCst);
    // SAFETY: destroy ignores NULL.
    unsafe { clumsy().destroy.unwrap()(std::ptr::null_mut()) };
    assert_eq!(host.calls.load(Ordering::SeqCst), calls);
}
