//! MockOS as the runner meets it: through its tables, on a fake host.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::abi::*;

use crate::fake_host::check_manifest;
use crate::fake_host::{FakeHost, PluginInstance, StageTexts};
use crate::MockOs;

const TEMPLATE: &str = "<template><name>a</name></template>";

fn mock_os() -> &'static imgf_plugin {
    imagefactory_plugin_sdk::os_plugin!(MockOs)
}

/// A host with a folder, an output path, and `base.raw` as its input path.
fn host_in(folder: &Path) -> Box<FakeHost> {
    let host = FakeHost::new();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    host.record().paths.insert(IMGF_PATH_OUTPUT_IMAGE, path("output.raw"));
    host.record().paths.insert(IMGF_PATH_INPUT_IMAGE, path("base.raw"));
    host
}

fn stage(template: &str, parameters_json: &str) -> StageTexts {
    StageTexts {
        template_xml: Some(template.to_owned()),
        parameters_json: Some(parameters_json.to_owned()),
        ..StageTexts::new()
    }
}

fn build(host: &FakeHost, stage: &StageTexts) -> i32 {
    let instance = PluginInstance::create(mock_os(), host).unwrap();
    let os: &imgf_os_v1 = instance.table(IMGF_IFACE_OS_V1).unwrap();
    instance.run(os.create_base_image, stage)
}

/// Builds a base image in a folder of its own; what is in it.
fn base_image(template: &str, parameters_json: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let host = host_in(folder.path());
    assert_eq!(build(&host, &stage(template, parameters_json)), IMGF_OK);
    std::fs::read(folder.path().join("output.raw")).unwrap()
}

#[test]
fn it_is_the_plugin_that_its_manifest_describes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-manifests/MockOS.json");
    check_manifest(mock_os(), &std::fs::read_to_string(path).unwrap());
}

#[test]
fn equal_templates_give_equal_images_and_different_ones_different() {
    let image = base_image(TEMPLATE, "{}");
    assert_eq!(image.len(), 1 << 20);
    assert!(image.starts_with(b"mock image "));
    assert_eq!(image, base_image(TEMPLATE, r#"{"mock_steps":2}"#));
    assert_ne!(image, base_image("<template/>", "{}"));
}

#[test]
fn the_size_is_a_parameter_and_the_file_is_sparse() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let host = host_in(folder.path());
    assert_eq!(build(&host, &stage(TEMPLATE, r#"{"mock_size_bytes":1073741824}"#)), IMGF_OK);
    let about = std::fs::metadata(folder.path().join("output.raw")).unwrap();
    assert_eq!(about.len(), 1 << 30);
    assert!(about.blocks() * 512 < 1 << 20, "{} blocks", about.blocks());
    assert_eq!(base_image(TEMPLATE, r#"{"mock_size_bytes":512}"#).len(), 512);
}

#[test]
fn a_build_sets_its_results_and_tells_its_progress() {
    let folder = tempfile::tempdir().unwrap();
    let host = host_in(folder.path());
    assert_eq!(build(&host, &stage(TEMPLATE, r#"{"mock_steps":2}"#)), IMGF_OK);
    assert_eq!(host.result("format").as_deref(), Some(r#""raw""#));
    assert!(host.result("icicle").unwrap().contains("<icicle>"));
    assert_eq!(
        host.result("effective_parameters").as_deref(),
        Some(r#"{"mock_duration_ms":0,"mock_steps":2,"mock_size_bytes":1048576}"#)
    );
    let told = |done| ("install".to_owned(), done, 2);
    assert_eq!(host.record().progress, [told(0), told(1), told(2)]);
}

#[test]
fn the_target_image_is_the_base_image_and_what_the_cloud_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let host = host_in(folder.path());
    std::fs::write(folder.path().join("base.raw"), "mock image 1\n").unwrap();
    let instance = PluginInstance::create(mock_os(), &host).unwrap();
    assert_eq!(instance.add_content(r#"{"packages":["a"]}"#), IMGF_OK);
    assert_eq!(instance.add_content(r#"{"packages":["b"]}"#), IMGF_OK);
    let os: &imgf_os_v1 = instance.table(IMGF_IFACE_OS_V1).unwrap();
    assert_eq!(instance.run(os.create_target_image, &stage(TEMPLATE, "{}")), IMGF_OK);
    let image = std::fs::read_to_string(folder.path().join("output.raw")).unwrap();
    assert_eq!(image, "mock image 1\n{\"packages\":[\"a\"]}\n{\"packages\":[\"b\"]}\n");
    let base = std::fs::read_to_string(folder.path().join("base.raw")).unwrap();
    assert_eq!(base, "mock image 1\n", "the input is never written");
}

#[test]
fn an_image_is_verified_by_its_first_line() {
    let verify = |image: &str| {
        let folder = tempfile::tempdir().unwrap();
        let host = host_in(folder.path());
        std::fs::write(folder.path().join("base.raw"), image).unwrap();
        let instance = PluginInstance::create(mock_os(), &host).unwrap();
        let table: &imgf_os_verify_v1 = instance.table(IMGF_IFACE_OS_VERIFY_V1).unwrap();
        assert_eq!(instance.run(table.verify_image, &StageTexts::new()), IMGF_OK);
        host.result("verified").unwrap()
    };
    assert!(verify("mock image 1\n").starts_with(r#"{"ok":true,"#));
    assert!(verify("").starts_with(r#"{"ok":false,"#));
}

#[test]
fn the_input_digest_is_the_plugins_own_version() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(mock_os(), &host).unwrap();
    let table: &imgf_os_inputs_v1 = instance.table(IMGF_IFACE_OS_INPUTS_V1).unwrap();
    assert_eq!(instance.run(table.resolve_inputs, &StageTexts::new()), IMGF_OK);
    assert_eq!(host.result("input_digest").as_deref(), Some(r#""MockOS 2.0.0""#));
}

#[test]
fn failures_are_had_on_demand() {
    let fail = |parameters: &str, attempt: u32| {
        let folder = tempfile::tempdir().unwrap();
        let host = host_in(folder.path());
        let status = build(&host, &StageTexts { attempt, ..stage(TEMPLATE, parameters) });
        let error = host.record().errors.first().cloned();
        (status, error.map(|error| (error.message, error.flags)))
    };
    assert_eq!(
        fail(r#"{"mock_fail":"no power"}"#, 1),
        (IMGF_E_INTERNAL, Some(("no power".to_owned(), 0)))
    );
    let wish = r#"{"mock_fail_retryable_times":2}"#;
    let (status, error) = fail(wish, 2);
    assert_eq!((status, error.unwrap().1), (IMGF_E_UNAVAILABLE, IMGF_ERR_RETRYABLE));
    assert_eq!(fail(wish, 3), (IMGF_OK, None));
    let (status, error) = fail(r#"{"mock_steps":0}"#, 1);
    let user = ("mock_steps is 0, not 1 to 1000".to_owned(), IMGF_ERR_USER_FAULT);
    assert_eq!((status, error), (IMGF_E_INVALID_ARGUMENT, Some(user)));
}

#[test]
fn a_cancelled_build_ends_at_once_and_leaves_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let host = host_in(folder.path());
    let begin = Instant::now();
    let status = std::thread::scope(|threads| {
        let building =
            threads.spawn(|| build(&host, &stage(TEMPLATE, r#"{"mock_duration_ms":600000}"#)));
        while host.record().progress.is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(60), "no progress");
            std::thread::yield_now();
        }
        host.cancel();
        building.join().unwrap()
    });
    assert_eq!(status, IMGF_E_CANCELLED);
    assert!(begin.elapsed() < Duration::from_secs(60));
    let left: Vec<PathBuf> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_output_that_exists_already_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let host = host_in(folder.path());
    std::fs::write(folder.path().join("output.raw"), "mine").unwrap();
    assert_eq!(build(&host, &stage(TEMPLATE, "{}")), IMGF_E_ALREADY_EXISTS);
    assert_eq!(std::fs::read(folder.path().join("output.raw")).unwrap(), b"mine");
}
