//! What a plugin reads of a stage: absent is not empty, and the struct may be older or newer.

use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::author::{Host, OsPlugin, Plugin, Result, Stage};
use imagefactory_plugin_sdk::os_plugin;

use crate::fake_host::{FakeHost, PluginInstance, StageTexts};

/// Writes down what it sees.
struct Reader {
    host: Host,
    seen: Mutex<Vec<String>>,
}

impl Plugin for Reader {
    const ID: &'static str = "Reader";
    const VERSION: &'static str = "1.0.0";

    fn create(host: Host) -> Result<Reader> {
        Ok(Reader { host, seen: Mutex::default() })
    }
}

impl OsPlugin for Reader {
    fn create_base_image(&self, stage: &Stage<'_>) -> Result<()> {
        let mut seen = self.seen.lock().unwrap();
        seen.push(format!(
            "{} {:?} {:?} {:?} {:?}",
            stage.attempt(),
            stage.target(),
            stage.provider(),
            stage.credential_name(),
            stage.deadline().map(|at| at.duration_since(UNIX_EPOCH).unwrap()),
        ));
        if let Some(name) = stage.text_parameter("number")? {
            seen.push(format!("{:?}", stage.number_parameter(&name)?));
        }
        self.host.info(&seen.join("|"));
        Ok(())
    }
}

fn reader() -> &'static imgf_plugin {
    os_plugin!(Reader)
}

/// Runs create_base_image on a raw struct; the status and what the plugin saw.
fn see(stage: *const imgf_stage) -> (i32, String) {
    let host = FakeHost::new();
    let instance = PluginInstance::create(reader(), &host).unwrap();
    let os: &imgf_os_v1 = instance.table(IMGF_IFACE_OS_V1).unwrap();
    // SAFETY: a living instance; each caller's stage is readable as far as it says.
    let status = unsafe { os.create_base_image.unwrap()(instance.pointer, stage) };
    let record = host.record();
    let seen = record.lines.first().map(|line| line.message.clone());
    let told = record.errors.first().map(|error| error.message.clone());
    (status, seen.or(told).unwrap_or_default())
}

#[test]
fn absent_and_empty_texts_are_told_apart() {
    let stage = StageTexts { provider: Some(String::new()), ..StageTexts::new() };
    assert_eq!(stage.with(|stage| see(stage)), (IMGF_OK, r#"1 None Some("") None None"#.into()));
}

#[test]
fn a_newer_hosts_longer_struct_is_read_as_far_as_it_is_known() {
    #[repr(C)]
    struct Newer {
        stage: imgf_stage,
        unknown: [u64; 4],
    }
    let stage = StageTexts { target: Some("ec2".to_owned()), attempt: 7, ..StageTexts::new() };
    let seen = stage.with(|stage| {
        let struct_size = std::mem::size_of::<Newer>() as u32;
        let newer = Newer { stage: imgf_stage { struct_size, ..*stage }, unknown: [u64::MAX; 4] };
        see(&newer.stage)
    });
    assert_eq!(seen, (IMGF_OK, r#"7 Some("ec2") None None None"#.to_owned()));
}

#[test]
fn what_an_older_hosts_shorter_struct_lacks_is_absent() {
    let stage = StageTexts {
        target: Some("ec2".to_owned()),
        provider: Some("somewhere".to_owned()),
        credential_name: Some("default".to_owned()),
        ..StageTexts::new()
    };
    let offset = |name: &str| {
        imgf_stage::FIELDS.iter().find(|field| field.name == name).unwrap().offset as u32
    };
    // Ends behind `target`: the bytes of the others are there, but not part of the struct.
    let cut = offset("provider");
    let seen = stage.with(|stage| see(&imgf_stage { struct_size: cut, ..*stage }));
    assert_eq!(seen, (IMGF_OK, r#"1 Some("ec2") None None None"#.to_owned()));
    // Ends in the middle of `provider`: half a text is none.
    let seen = stage.with(|stage| see(&imgf_stage { struct_size: cut + 8, ..*stage }));
    assert_eq!(seen, (IMGF_OK, r#"1 Some("ec2") None None None"#.to_owned()));
}

#[test]
fn a_stage_that_breaks_the_contract_is_refused_and_not_read() {
    let (status, message) = see(std::ptr::null());
    assert_eq!(status, IMGF_E_INVALID_ARGUMENT);
    assert!(message.contains("NULL"), "{message}");

    let tiny = StageTexts::new().with(|stage| see(&imgf_stage { struct_size: 3, ..*stage }));
    assert_eq!(tiny.0, IMGF_E_INVALID_ARGUMENT);

    let without_id = StageTexts { stage_id: None, ..StageTexts::new() };
    let (status, message) = without_id.with(|stage| see(stage));
    assert_eq!(status, IMGF_E_INVALID_ARGUMENT);
    assert_eq!(message, "the host's stage has no stage_id");

    let broken = b"caf\xe9";
    let provider = imgf_str { ptr: broken.as_ptr(), len: broken.len() };
    let (status, message) = StageTexts::new().with(|stage| see(&imgf_stage { provider, ..*stage }));
    assert_eq!(status, IMGF_E_INVALID_ARGUMENT);
    assert_eq!(message, "the host's stage has a provider that is not UTF-8");
}

#[test]
fn a_deadline_is_a_point_in_time() {
    let stage = StageTexts { deadline_unix_ms: 1500, ..StageTexts::new() };
    let (_, seen) = stage.with(|stage| see(stage));
    assert!(seen.ends_with(&format!("{:?}", Some(Duration::from_millis(1500)))), "{seen}");
}

#[test]
fn a_parameter_of_another_type_is_the_users_fault() {
    let read = |parameters: &str| {
        let parameters_json = Some(parameters.to_owned());
        StageTexts { parameters_json, ..StageTexts::new() }.with(|stage| see(stage))
    };
    assert_eq!(read(r#"{"number":"n","n":12}"#).1, "1 None None None None|Some(12)");
    assert_eq!(read(r#"{"number":"n","n":null}"#).1, "1 None None None None|None");
    let (status, message) = read(r#"{"number":"n","n":"12"}"#);
    assert_eq!(status, IMGF_E_INVALID_ARGUMENT);
    assert_eq!(message, r#"parameter n is "12", not a whole number"#);
    let (status, message) = read(r#"{"number":"#);
    assert_eq!(status, IMGF_E_INVALID_ARGUMENT);
    assert_eq!(message, "the host's stage has broken parameters: not JSON at byte 10");
}
