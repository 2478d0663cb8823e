//! The handle on the host: what it refuses, copies, and says when something is missing.

use std::sync::atomic::Ordering;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::author::{
    ErrorCode, Host, OsPlugin, Plugin, PluginError, Resource, Result, Stage,
};
use imagefactory_plugin_sdk::os_plugin;

use crate::fake_host::{FakeHost, JournalRecord, PluginInstance};

/// Where the instances of this file leave their host handle, as a careless plugin could.
static LEFT_BEHIND: Mutex<Option<Host>> = Mutex::new(None);
/// One test at a time takes it from there.
static ONE: Mutex<()> = Mutex::new(());

struct Leaving;

impl Plugin for Leaving {
    const ID: &'static str = "Leaving";
    const VERSION: &'static str = "1.0.0";

    fn create(host: Host) -> Result<Leaving> {
        *LEFT_BEHIND.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(host);
        Ok(Leaving)
    }
}

impl OsPlugin for Leaving {
    fn create_base_image(&self, _stage: &Stage<'_>) -> Result<()> {
        Ok(())
    }
}

/// Gives the test the handle of a living instance.
fn with_host(test: impl FnOnce(&FakeHost, &Host)) {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let fake = FakeHost::new();
    let instance = PluginInstance::create(os_plugin!(Leaving), &fake).unwrap();
    let host = LEFT_BEHIND.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take().unwrap();
    test(&fake, &host);
    drop(instance);
    let calls = fake.calls.load(Ordering::SeqCst);
    // Whatever the test was about: afterwards nothing gets through any more.
    host.info("too late");
    assert!(host.is_cancelled());
    assert_eq!(host.work_dir().unwrap_err().code(), ErrorCode::InvalidState);
    assert_eq!(host.cancel_fd(), None);
    assert!(host.secret("default").is_err());
    assert_eq!(fake.calls.load(Ordering::SeqCst), calls, "no call after destroy");
}

#[test]
fn a_host_table_with_a_hole_or_too_short_is_refused_without_a_call() {
    let fake = FakeHost::new();
    let create = os_plugin!(Leaving).create.unwrap();
    let whole = fake.table();
    for broken in [
        imgf_host { log: None, ..whole },
        imgf_host { get_interface: None, ..whole },
        imgf_host { struct_size: imgf_host::SIZE - 8, ..whole },
        imgf_host { struct_size: 0, ..whole },
    ] {
        let mut out = std::ptr::null_mut();
        // SAFETY: a whole table and a place for the instance.
        assert_eq!(unsafe { create(&broken, &mut out) }, IMGF_E_INVALID_ARGUMENT);
        assert!(out.is_null());
    }
    let mut out = std::ptr::null_mut();
    // SAFETY: NULL is refused.
    unsafe {
        assert_eq!(create(std::ptr::null(), &mut out), IMGF_E_INVALID_ARGUMENT);
        assert_eq!(create(&whole, std::ptr::null_mut()), IMGF_E_INVALID_ARGUMENT);
    }
    assert_eq!(fake.calls.load(Ordering::SeqCst), 0);
}

#[test]
fn paths_and_configuration_tell_missing_from_broken() {
    with_host(|fake, host| {
        fake.record().paths.insert(IMGF_PATH_WORK_DIR, "/work dir".to_owned());
        fake.record().config.insert("mirror".to_owned(), r#""http://m/""#.to_owned());
        assert_eq!(host.work_dir().unwrap().to_str(), Some("/work dir"));
        assert_eq!(host.cache_dir().unwrap(), None);
        let error = host.input_image().unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound);
        assert_eq!(error.message(), "host.path_get: there is no such thing here");
        assert_eq!(host.config_json("mirror").unwrap().as_deref(), Some(r#""http://m/""#));
        assert_eq!(host.config_json("other").unwrap(), None);
    });
}

#[test]
fn a_secret_is_given_back_at_once_and_can_be_had_twice() {
    with_host(|fake, host| {
        fake.record().secrets.insert("default".to_owned(), "hunter2".to_owned());
        let (first, second) = (host.secret("default").unwrap(), host.secret("default").unwrap());
        assert_eq!((first.expose(), second.expose()), ("hunter2", "hunter2"));
        assert_eq!(fake.record().secrets_released, 2);
        assert_eq!(host.secret("other").unwrap_err().code(), ErrorCode::NotFound);
    });
}

#[test]
fn the_journal_gets_each_event_with_the_same_token() {
    with_host(|fake, host| {
        let vm = Resource::scratch("stage-1", "libvirt-domain");
        host.will_create(&vm).unwrap();
        let vm = vm.with_id("7").with_details_json(r#"{"uri":"qemu:///system"}"#);
        host.created(&vm).unwrap();
        host.removed(&vm).unwrap();
        let entry = |event, resource_id: Option<&str>, details: Option<&str>| JournalRecord {
            event,
            scratch: true,
            token: "stage-1".to_owned(),
            kind: "libvirt-domain".to_owned(),
            resource_id: resource_id.map(str::to_owned),
            details_json: details.map(str::to_owned),
        };
        let uri = Some(r#"{"uri":"qemu:///system"}"#);
        let expected = [
            entry(IMGF_JOURNAL_WILL_CREATE, None, None),
            entry(IMGF_JOURNAL_CREATED, Some("7"), uri),
            entry(IMGF_JOURNAL_REMOVED, Some("7"), uri),
        ];
        assert_eq!(fake.record().journal, expected);
    });
}

#[test]
fn further_interfaces_work_and_their_absence_is_a_clear_error() {
    with_host(|fake, host| {
        assert_eq!(host.checkpoint_json("part").unwrap(), None);
        host.put_checkpoint_json("part", "3").unwrap();
        assert_eq!(host.checkpoint_json("part").unwrap().as_deref(), Some("3"));
        host.add_artifact("serial.log", "text/plain", "/work/serial.log".as_ref()).unwrap();
        assert_eq!(fake.record().artifacts[0].2, "/work/serial.log");
        let lock = host.lock("oz", Duration::from_secs(1)).unwrap();
        assert_eq!(fake.record().locks, ["oz"]);
        drop(lock);
        assert!(fake.record().locks.is_empty());
        assert_eq!(host.next_listen_port().unwrap(), 49152);

        fake.has_interfaces.store(false, Ordering::Release);
        let error = host.put_checkpoint_json("part", "4").unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unsupported);
        assert_eq!(error.message(), "this host does not offer imagefactory.host.checkpoint/1");
        assert!(host.lock("oz", Duration::ZERO).is_err());
    });
}

#[test]
fn a_sleep_ends_as_soon_as_the_stage_is_to_end() {
    with_host(|fake, host| {
        host.sleep_unless_cancelled(Duration::from_millis(1)).unwrap();
        let asked = fake.descriptor_asked.load(Ordering::SeqCst);
        host.progress("install", "working", 1, 2).unwrap();
        let begin = Instant::now();
        let slept = std::thread::scope(|threads| {
            let sleeper = threads.spawn(|| host.sleep_unless_cancelled(Duration::from_secs(120)));
            // Cancelled only when it sleeps, or is about to.
            while fake.descriptor_asked.load(Ordering::SeqCst) == asked {
                assert!(begin.elapsed() < Duration::from_secs(60), "it does not wait on anything");
                std::thread::yield_now();
            }
            fake.cancel();
            sleeper.join().unwrap()
        });
        assert_eq!(slept, Err(PluginError::cancelled()));
        assert!(begin.elapsed() < Duration::from_secs(60));
        let error = host.progress("install", "working", 2, 2).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Cancelled);
    });
}
