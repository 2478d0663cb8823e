//! LocalCloud as the runner meets it: through its tables, on a fake host.

use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::abi::*;

use crate::LocalCloud;
use crate::fake_host::check_manifest;
use crate::fake_host::{FakeHost, PluginInstance, StageTexts};
use crate::libvirt_server::{self, LibvirtServer};

const STAGE: &str = "11111111-2222-4333-8444-555555555555";
const OTHER_STAGE: &str = "99999999-2222-4333-8444-555555555555";

fn local_cloud() -> &'static imgf_plugin {
    imagefactory_plugin_sdk::cloud_plugin!(LocalCloud)
}

/// A folder for images, and a target image to push.
struct Place {
    folder: tempfile::TempDir,
    host: Box<FakeHost>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("images")).unwrap();
        let input = folder.path().join("target.raw");
        let mut content = vec![0; 1 << 20];
        content[1000..2000].fill(7);
        std::fs::write(&input, content).unwrap();
        let host = FakeHost::new();
        host.record().paths.insert(IMGF_PATH_INPUT_IMAGE, input.to_str().unwrap().to_owned());
        Place { folder, host }
    }

    fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    fn stage(&self, parameters: &str) -> StageTexts {
        StageTexts {
            target: Some("local".to_owned()),
            provider: Some(self.images().display().to_string()),
            parameters_json: Some(parameters.to_owned()),
            images_json: Some(r#"{"target":{"format":"raw"}}"#.to_owned()),
            ..StageTexts::new()
        }
    }

    fn push(&self, stage: &StageTexts) -> i32 {
        let instance = PluginInstance::create(local_cloud(), &self.host).unwrap();
        let cloud: &imgf_cloud_v1 = instance.table(IMGF_IFACE_CLOUD_V1).unwrap();
        instance.run(cloud.push_image_to_provider, stage)
    }

    fn delete(&self, identifier: &Path, image_id: Option<&str>) -> i32 {
        let identifier = identifier.display();
        let mut stage = StageTexts {
            images_json: Some(format!(r#"{{"self":{{"identifier_on_provider":"{identifier}"}}}}"#)),
            ..self.stage("{}")
        };
        stage.image_id = image_id.map(str::to_owned).or(stage.image_id);
        let instance = PluginInstance::create(local_cloud(), &self.host).unwrap();
        let cloud: &imgf_cloud_v1 = instance.table(IMGF_IFACE_CLOUD_V1).unwrap();
        instance.run(cloud.delete_from_provider, &stage)
    }

    /// Cleans up what the journal says, as after a crash.
    fn clean_up(&self) -> i32 {
        let entries: Vec<String> = self
            .host
            .record()
            .journal
            .iter()
            .map(|entry| {
                let details = entry.details_json.as_deref().unwrap_or("null");
                format!(
                    r#"{{"event":"will_create","scratch":false,"token":"{}","kind":"{}",
                    "resource_id":null,"details":{details}}}"#,
                    entry.token, entry.kind
                )
            })
            .collect();
        let instance = PluginInstance::create(local_cloud(), &self.host).unwrap();
        instance.cleanup(&self.stage("{}"), &format!("[{}]", entries.join(",")))
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.images()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn it_is_the_plugin_that_its_manifest_describes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-manifests/LocalCloud.json");
    check_manifest(local_cloud(), &std::fs::read_to_string(path).unwrap());
}

#[test]
fn a_push_announces_each_file_before_and_confirms_it_after() {
    let place = Place::new();
    assert_eq!(place.push(&place.stage(r#"{"name":"web","format":"raw"}"#)), IMGF_OK);
    let names = ["web.raw", "web.raw.json", "web.raw.sha256", "web.raw.xml"];
    assert_eq!(place.files(), names);
    let record = place.host.record();
    let events: Vec<u32> = record.journal.iter().map(|entry| entry.event).collect();
    assert_eq!(events, [[IMGF_JOURNAL_WILL_CREATE; 4], [IMGF_JOURNAL_CREATED; 4]].concat());
    assert_eq!(record.journal[0].token, STAGE);
    let path = place.images().join("web.raw");
    assert_eq!(record.results["identifier_on_provider"], format!("{path:?}"));
}

#[test]
fn a_second_attempt_takes_over_what_is_finished_and_clears_away_what_is_not() {
    let place = Place::new();
    let stage = place.stage(r#"{"name":"web","format":"raw"}"#);
    assert_eq!(place.push(&stage), IMGF_OK);
    let image = place.images().join("web.raw");
    let made = std::fs::metadata(&image).unwrap();
    let inode = |facts: &std::fs::Metadata| std::os::unix::fs::MetadataExt::ino(facts);
    let again = StageTexts { attempt: 2, ..stage.clone() };
    assert_eq!(place.push(&again), IMGF_OK);
    assert_eq!(inode(&std::fs::metadata(&image).unwrap()), inode(&made), "the same file");

    // As after a kill in the middle: a claim, a file with its name and one without.
    std::fs::remove_file(place.images().join("web.raw.xml")).unwrap();
    std::fs::write(place.images().join(format!(".{STAGE}.partial")), "half").unwrap();
    assert_eq!(place.push(&again), IMGF_OK);
    assert_eq!(place.files().len(), 4, "{:?}", place.files());
    // The number of an inode may be given out again at once; its birth is another.
    let born = |facts: &std::fs::Metadata| (inode(facts), facts.created().unwrap());
    assert_ne!(born(&std::fs::metadata(&image).unwrap()), born(&made), "made anew");
}

#[test]
fn the_name_of_another_image_or_of_any_file_is_not_taken() {
    let place = Place::new();
    let stage = place.stage(r#"{"name":"web","format":"raw"}"#);
    assert_eq!(place.push(&stage), IMGF_OK);
    let other = StageTexts { stage_id: Some(OTHER_STAGE.to_owned()), ..stage.clone() };
    assert_eq!(place.push(&other), IMGF_E_ALREADY_EXISTS);
    assert_eq!(place.files().len(), 4);

    std::fs::write(place.images().join("db.raw"), "somebody's").unwrap();
    assert_eq!(place.push(&place.stage(r#"{"name":"db","format":"raw"}"#)), IMGF_E_ALREADY_EXISTS);
    assert_eq!(std::fs::read(place.images().join("db.raw")).unwrap(), b"somebody's");
    assert_eq!(place.files().len(), 5, "nothing of the refused push: {:?}", place.files());
}

#[test]
fn cleanup_removes_what_the_stage_made_and_nothing_else() {
    let place = Place::new();
    let stage = place.stage(r#"{"name":"web","format":"raw"}"#);
    std::fs::write(place.images().join("web.raw.xml.bak"), "somebody's").unwrap();
    assert_eq!(place.push(&stage), IMGF_OK);
    std::fs::write(place.images().join(format!(".{STAGE}.partial")), "half").unwrap();
    for _twice in 0..2 {
        assert_eq!(place.clean_up(), IMGF_OK);
        assert_eq!(place.files(), ["web.raw.xml.bak"]);
    }
    let record = place.host.record();
    let removed = record.journal.iter().filter(|entry| entry.event == IMGF_JOURNAL_REMOVED);
    assert!(removed.count() >= 4);
}

#[test]
fn cleanup_of_a_lost_claim_leaves_the_winners_files() {
    let place = Place::new();
    let stage = place.stage(r#"{"name":"web","format":"raw"}"#);
    assert_eq!(place.push(&stage), IMGF_OK);
    place.host.record().journal.clear();
    let other = StageTexts { stage_id: Some(OTHER_STAGE.to_owned()), ..stage };
    assert_eq!(place.push(&other), IMGF_E_ALREADY_EXISTS);
    assert_eq!(place.clean_up(), IMGF_OK);
    assert_eq!(place.files().len(), 4);
}

#[test]
fn deleting_removes_all_four_files_once_and_only_this_images() {
    let place = Place::new();
    assert_eq!(place.push(&place.stage(r#"{"name":"web","format":"raw"}"#)), IMGF_OK);
    let image = place.images().join("web.raw");
    let other = "00000000-7777-4888-9999-aaaaaaaaaaaa";
    assert_eq!(place.delete(&image, Some(other)), IMGF_OK);
    assert_eq!(place.files().len(), 4, "the name belongs to another image by now");
    for _twice in 0..2 {
        assert_eq!(place.delete(&image, None), IMGF_OK);
        assert!(place.files().is_empty(), "{:?}", place.files());
    }
    std::fs::write(&image, "nobody knows whose").unwrap();
    assert_eq!(place.delete(&image, None), IMGF_E_INVALID_STATE);
    assert_eq!(place.delete(Path::new("web.raw"), None), IMGF_E_NOT_FOUND);
    assert_eq!(place.delete(Path::new("/srv/../etc/passwd"), None), IMGF_E_NOT_FOUND);
    assert!(image.exists());
}

#[test]
fn a_push_that_is_cancelled_before_it_starts_makes_nothing() {
    let place = Place::new();
    place.host.cancel();
    assert_eq!(place.push(&place.stage(r#"{"format":"raw"}"#)), IMGF_E_CANCELLED);
    assert!(place.files().is_empty(), "{:?}", place.files());
}

/// What the user reads when a wish cannot be met.
fn check_refused(provider: &str, parameters: &str, code: i32, sentence: &str) {
    let place = Place::new();
    let provider = provider.replace("IMAGES", place.images().to_str().unwrap());
    let stage = StageTexts { provider: Some(provider), ..place.stage(parameters) };
    assert_eq!(place.push(&stage), code, "{:?}", place.host.record().errors);
    let error = place.host.the_error();
    let said = format!("{} {}", error.message, error.hint.unwrap_or_default());
    assert!(said.contains(sentence), "{said}");
    assert!(place.files().is_empty(), "{:?}", place.files());
}

#[test]
fn what_cannot_be_made_is_refused_with_a_sentence_and_leaves_nothing() {
    const WRONG: i32 = IMGF_E_INVALID_ARGUMENT;
    check_refused("", "{}", WRONG, "names no folder");
    check_refused("{", "{}", WRONG, "the provider's definition");
    check_refused("images", "{}", WRONG, "not an absolute path");
    check_refused("IMAGES/../images", "{}", WRONG, "without \"..\"");
    check_refused("IMAGES/nowhere", "{}", IMGF_E_NOT_FOUND, "mkdir -p");
    check_refused("IMAGES", r#"{"name":"../web"}"#, WRONG, "cannot be an image's");
    check_refused("IMAGES", r#"{"name":".web"}"#, WRONG, "cannot be an image's");
    check_refused("IMAGES", r#"{"name":"-web"}"#, WRONG, "cannot be an image's");
    check_refused("IMAGES", r#"{"name":""}"#, WRONG, "cannot be an image's");
    check_refused("IMAGES", r#"{"format":"vdi"}"#, WRONG, "raw, qcow2, vmdk");
    check_refused("IMAGES", r#"{"format":"raw","compression":"zstd"}"#, WRONG, "only none");
    check_refused("IMAGES", r#"{"format":"vmdk","compression":"zstd"}"#, WRONG, "none or zlib");
    check_refused("IMAGES", r#"{"compression":"lzma"}"#, WRONG, "none, zlib, zstd");
    check_refused("IMAGES", r#"{"domain_type":"xen"}"#, WRONG, "kvm, qemu");
    check_refused(r#"{"directory":"IMAGES","name":"a/b"}"#, "{}", WRONG, "cannot be an image's");
}

#[test]
fn parameters_come_before_the_provider_and_the_provider_before_the_defaults() {
    let place = Place::new();
    let provider =
        format!(r#"{{"directory":{:?},"format":"raw","name":"of-provider"}}"#, place.images());
    let stage = StageTexts { provider: Some(provider), ..place.stage(r#"{"name":"mine"}"#) };
    assert_eq!(place.push(&stage), IMGF_OK);
    assert!(place.images().join("mine.raw").exists(), "{:?}", place.files());
    let used = place.host.result("effective_parameters").unwrap();
    assert_eq!(used, r#"{"compression":"none","domain_type":"kvm","format":"raw","name":"mine"}"#);
}

#[test]
fn a_pool_takes_images_keeps_those_of_others_and_gives_ours_back() {
    let server = LibvirtServer::start();
    let place = Place::new();
    let program = format!("{:?}", libvirt_server::program().display().to_string());
    place.host.record().config.insert("libvirt_program".to_owned(), program);
    let work = place.folder.path().join("work");
    std::fs::create_dir(&work).unwrap();
    place.host.record().paths.insert(IMGF_PATH_WORK_DIR, work.to_str().unwrap().to_owned());
    let stage = |name: &str| StageTexts {
        provider: Some(format!(r#"{{"libvirt":"{}","pool":"default"}}"#, server.uri())),
        ..place.stage(&format!(r#"{{"name":"{name}","format":"qcow2","domain_type":"qemu"}}"#))
    };
    assert_eq!(place.push(&stage("web")), IMGF_OK, "{:?}", place.host.record().errors);
    assert_eq!(server.volumes(), ["web.qcow2"]);
    let pushed = server.pool_folder().join("web.qcow2");
    let target = place.folder.path().join("target.raw");
    let same = ["compare", "-f", "raw", "-F", "qcow2"];
    let mut compare = std::process::Command::new("qemu-img");
    let compared = compare.args(same).arg(&target).arg(&pushed).output().unwrap();
    assert!(compared.status.success(), "the volume's disk is the target image's");
    let identifier = place.host.result("identifier_on_provider").unwrap();
    assert_eq!(identifier, format!("\"{}#default/web.qcow2\"", server.uri()));
    let domain = place.host.record().artifacts[0].2.clone();
    server.virsh(&["define", &domain]); // libvirt takes it
    server.virsh(&["undefine", "web"]);

    // Another stage must not touch it; the same one makes it anew.
    assert_eq!(place.push(&stage("web")), IMGF_OK, "an attempt after a crash");
    let theirs = Place::new();
    let program = format!("{:?}", libvirt_server::program().display().to_string());
    theirs.host.record().config.insert("libvirt_program".to_owned(), program);
    theirs.host.record().paths.insert(IMGF_PATH_WORK_DIR, work.to_str().unwrap().to_owned());
    assert_eq!(theirs.push(&stage("web")), IMGF_E_ALREADY_EXISTS);
    let error = theirs.host.the_error();
    assert!(error.message.contains("'default' has a volume 'web.qcow2'"), "{}", error.message);
    assert_eq!(server.volumes(), ["web.qcow2"]);

    let identifier = identifier.trim_matches('"').to_owned();
    assert_eq!(place.delete(Path::new(&identifier), None), IMGF_OK);
    assert_eq!(server.volumes(), Vec::<String>::new());
    assert_eq!(place.delete(Path::new(&identifier), None), IMGF_OK, "gone already");

    // What a push that was killed left is taken away by cleanup.
    assert_eq!(place.push(&stage("late")), IMGF_OK);
    assert_eq!(place.clean_up(), IMGF_OK);
    assert_eq!(server.volumes(), Vec::<String>::new());
}
