//! DockerCloud as the runner meets it: through its tables, on a fake host; root file systems are
//! made by `mke2fs`, layers are read by `tar`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::payload::template::{Template, TemplateRules};
use serde_json::Value;

use crate::DockerCloud;
use crate::compression::digest_of;
use crate::fake_host::{FakeHost, PluginInstance, StageTexts, check_manifest};

const TDL: &str = "<template><name>My Debian</name><os><name>Debian</name><version>12</version>\
    <arch>x86_64</arch><install type='url'><url>http://mirror.example/debian</url></install>\
    </os></template>";

fn docker_cloud() -> &'static imgf_plugin {
    imagefactory_plugin_sdk::cloud_plugin!(DockerCloud)
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {complaints}");
    output.stdout
}

/// A base image, and a host to make target images with.
struct Place {
    folder: tempfile::TempDir,
    host: Box<FakeHost>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder, host: FakeHost::new() };
        place.make_tree();
        let image = place.path("base.raw");
        std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        let (tree, image) = (place.path("tree"), image);
        run("mke2fs", &["-q", "-t", "ext4", "-d", tree.to_str().unwrap(), image.to_str().unwrap()]);
        let paths = [(IMGF_PATH_INPUT_IMAGE, "base.raw"), (IMGF_PATH_WORK_DIR, "")];
        for (which, name) in paths {
            let path = place.path(name).to_str().unwrap().to_owned();
            place.host.record().paths.insert(which, path);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make_tree(&self) {
        let tree = self.path("tree");
        let file = |name: &str, content: &[u8]| {
            let path = tree.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n");
        file("etc/machine-id", b"0123456789abcdef\n");
        file("etc/fstab", b"UUID=x / ext4\n");
        file("etc/ssh/ssh_host_rsa_key", b"secret\n");
        file("boot/vmlinuz-6.1", b"kernel");
        file("usr/lib/modules/6.1/x.ko", b"module");
        file("usr/bin/tool", &[7; 10_000]);
        file("proc/left", b"x");
        file(
            "var/lib/dpkg/status",
            b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n",
        );
        file(&format!("usr/share/{}/name", "long".repeat(40)), b"long");
        std::fs::set_permissions(tree.join("usr/bin/tool"), PermissionsExt::from_mode(0o4755))
            .unwrap();
        std::fs::hard_link(tree.join("usr/bin/tool"), tree.join("usr/bin/same")).unwrap();
        symlink("/usr/bin/tool", tree.join("usr/bin/link")).unwrap();
        let attribute = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(tree.join("usr/bin/tool"), "user.note", b"kept", attribute).unwrap();
        let holes = std::fs::File::create(tree.join("var/holes")).unwrap();
        holes.set_len(3 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&holes, b"middle", 1 << 20).unwrap();
    }

    fn stage(&self, parameters: &str) -> StageTexts {
        let template = Template::parse(TDL, &TemplateRules::rest()).unwrap();
        StageTexts {
            target: Some("docker".to_owned()),
            template_json: Some(template.to_json().unwrap()),
            parameters_json: Some(parameters.to_owned()),
            ..StageTexts::new()
        }
    }

    /// Makes a target image of that name; it must succeed.
    fn make(&self, name: &str, parameters: &str) -> PathBuf {
        let output = self.path(name);
        self.host
            .record()
            .paths
            .insert(IMGF_PATH_OUTPUT_IMAGE, output.to_str().unwrap().to_owned());
        let instance = PluginInstance::create(docker_cloud(), &self.host).unwrap();
        let answer = instance.should_create(&self.stage(parameters));
        assert_eq!(answer, (IMGF_OK, 0), "{:?}", self.host.record().errors);
        output
    }

    /// Makes one that cannot be made; answers what the user reads.
    fn refused(&self, parameters: &str) -> String {
        let output = self.path("refused").to_str().unwrap().to_owned();
        self.host.record().paths.insert(IMGF_PATH_OUTPUT_IMAGE, output);
        let instance = PluginInstance::create(docker_cloud(), &self.host).unwrap();
        assert_ne!(instance.should_create(&self.stage(parameters)).0, IMGF_OK, "{parameters}");
        assert!(!self.path("refused").exists(), "{parameters}");
        let error = self.host.record().errors.pop().unwrap();
        format!("{} {}", error.message, error.hint.unwrap_or_default())
    }
}

/// A file of an archive.
fn file_of(archive: &Path, name: &str) -> Vec<u8> {
    run("tar", &["-xOf", archive.to_str().unwrap(), name])
}

fn json_of(archive: &Path, name: &str) -> Value {
    serde_json::from_slice(&file_of(archive, name)).unwrap()
}

fn blob(archive: &Path, digest: &Value) -> Vec<u8> {
    let digest = digest.as_str().unwrap();
    let content = file_of(archive, &format!("blobs/{}", digest.replace(':', "/")));
    assert_eq!(digest_of(&content), digest, "blobs are what they are called");
    content
}

/// Manifest and configuration of the main image.
fn documents_of(archive: &Path) -> (Value, Value) {
    let index = json_of(archive, "index.json");
    let manifest = blob(archive, &index["manifests"][0]["digest"]);
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let config = blob(archive, &manifest["config"]["digest"]);
    (manifest, serde_json::from_slice(&config).unwrap())
}

#[test]
fn it_is_the_plugin_that_its_manifest_describes() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-manifests/DockerCloud.json");
    check_manifest(docker_cloud(), &std::fs::read_to_string(path).unwrap());
}

#[test]
fn a_layer_has_all_that_belongs_into_a_container_and_nothing_of_the_machine() {
    let place = Place::new();
    let archive = place.make("image.tar", r#"{"compress":"none"}"#);
    let (manifest, config) = documents_of(&archive);
    let layer = place.path("layer.tar");
    std::fs::write(&layer, blob(&archive, &manifest["layers"][0]["digest"])).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    assert_eq!(config["architecture"], "amd64");

    let names = String::from_utf8(run("tar", &["-tf", layer.to_str().unwrap()])).unwrap();
    let names: Vec<&str> = names.lines().collect();
    for gone in [
        "etc/fstab",
        "etc/ssh/ssh_host_rsa_key",
        "boot/vmlinuz-6.1",
        "usr/lib/modules/6.1/",
        "proc/left",
    ] {
        assert!(!names.contains(&gone), "{gone}: {names:?}");
    }
    for there in ["etc/passwd", "boot/", "usr/lib/modules/", "proc/", "usr/bin/link"] {
        assert!(names.contains(&there), "{there}: {names:?}");
    }
    let out = place.path("out");
    std::fs::create_dir(&out).unwrap();
    run(
        "tar",
        &[
            "-xpf",
            layer.to_str().unwrap(),
            "--xattrs",
            "--xattrs-include=*",
            "-C",
            out.to_str().unwrap(),
        ],
    );
    let (tool, same) = (out.join("usr/bin/tool"), out.join("usr/bin/same"));
    let facts = |path: &Path| std::fs::symlink_metadata(path).unwrap();
    assert_eq!(std::fs::read(&tool).unwrap(), [7; 10_000]);
    assert_eq!(facts(&same).permissions().mode() & 0o7777, 0o4755);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(facts(&tool).ino(), facts(&same).ino(), "hard links are hard links");
    assert_eq!(std::fs::read_link(out.join("usr/bin/link")).unwrap(), Path::new("/usr/bin/tool"));
    assert_eq!(facts(&out.join("etc/machine-id")).len(), 0, "an empty one is a new one");
    let mut value = [0; 16];
    let read = rustix::fs::getxattr(&tool, "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..read], b"kept");
    let mut expected = vec![0; 3 << 20];
    expected[1 << 20..(1 << 20) + 6].copy_from_slice(b"middle");
    assert!(std::fs::read(out.join("var/holes")).unwrap() == expected, "holes are zeros");
    assert!(facts(&layer).len() < 1 << 20, "and cost nothing");
    let long = out.join(format!("usr/share/{}/name", "long".repeat(40)));
    assert_eq!(std::fs::read(long).unwrap(), b"long");
    let from_tree = facts(&place.path("tree/etc/passwd")).mtime();
    assert_eq!(facts(&out.join("etc/passwd")).mtime(), from_tree);
}

#[test]
fn the_same_base_image_gives_the_same_bytes() {
    let place = Place::new();
    for compression in ["gzip", "zstd", "none"] {
        let parameters = format!(r#"{{"compress":"{compression}","docker_disk":"referrer"}}"#);
        let one = std::fs::read(place.make(&format!("{compression}-1.tar"), &parameters)).unwrap();
        let two = std::fs::read(place.make(&format!("{compression}-2.tar"), &parameters)).unwrap();
        assert!(one == two, "{compression}");
    }
}

#[test]
fn the_originals_parameters_are_taken_in_their_shapes() {
    let place = Place::new();
    let original = r#"{"repository":"Team/Web","tag":"1.0","docker_cmd":"[ \"/bin/sh\", \"-l\" ]",
        "docker_env":"[ \"A=b\", \"PATH=/bin\" ]","docker_label":"{ \"k\": \"v\" }",
        "comment":"Mine","dockerversion":"1.0.0"}"#;
    let archive = place.make("original.tar", original);
    let (_, config) = documents_of(&archive);
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["/bin/sh", "-l"]));
    assert_eq!(config["config"]["Env"], serde_json::json!(["A=b", "PATH=/bin"]));
    assert_eq!(config["config"]["Labels"], serde_json::json!({"k": "v"}));
    assert_eq!(config["history"][0]["comment"], "Mine");
    let docker = json_of(&archive, "manifest.json");
    assert_eq!(docker[0]["RepoTags"][0], "team/web:1.0");
    let id = json_of(&archive, "repositories")["team/web"]["1.0"].clone();
    assert_eq!(docker[0]["Config"], format!("blobs/sha256/{}", id.as_str().unwrap()));
    // The same without quotes, and what is null is not there.
    let ours = r#"{"docker_cmd":["/bin/sh"],"docker_env":{"A":"b"},"docker_label":"null",
        "docker_entrypoint":"exec top","docker_exposed_ports":["80/tcp"]}"#;
    let archive = place.make("ours.tar", ours);
    let (_, config) = documents_of(&archive);
    let expected = serde_json::json!({"Cmd": ["/bin/sh"], "Env": ["A=b"],
        "Entrypoint": ["/bin/sh", "-c", "exec top"], "ExposedPorts": {"80/tcp": {}}});
    assert_eq!(config["config"], expected);
    assert_eq!(json_of(&archive, "manifest.json")[0]["RepoTags"][0], "my-debian:latest");
}

#[test]
fn packages_and_disk_are_attached_to_the_container() {
    let place = Place::new();
    let archive = place.make("image.tar", r#"{"docker_disk":"referrer"}"#);
    let main = json_of(&archive, "index.json")["manifests"][0].clone();
    let referrers = json_of(&archive, "referrers.json");
    let kinds: Vec<&str> = referrers["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["artifactType"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["application/vnd.cyclonedx+json", "application/vnd.imagefactory.disk.v1"]);
    for one in referrers["manifests"].as_array().unwrap() {
        let manifest: Value = serde_json::from_slice(&blob(&archive, &one["digest"])).unwrap();
        assert_eq!(manifest["subject"]["digest"], main["digest"]);
        assert_eq!(blob(&archive, &manifest["config"]["digest"]), b"{}");
        let content = blob(&archive, &manifest["layers"][0]["digest"]);
        if one["artifactType"] == "application/vnd.cyclonedx+json" {
            let sbom: Value = serde_json::from_slice(&content).unwrap();
            assert_eq!(sbom["components"][0]["purl"], "pkg:deb/debian/a@1?arch=amd64");
        } else {
            std::fs::write(place.path("disk.gz"), content).unwrap();
            let disk = run("gzip", &["-dc", place.path("disk.gz").to_str().unwrap()]);
            assert!(disk == std::fs::read(place.path("base.raw")).unwrap());
        }
    }
}

#[test]
fn the_tar_alone_and_the_disk_alone_are_made_where_asked_for() {
    let place = Place::new();
    let plain = place.make("plain.tar.gz", r#"{"create_docker_metadata":"False"}"#);
    let names = String::from_utf8(run("tar", &["-tzf", plain.to_str().unwrap()])).unwrap();
    assert!(names.lines().any(|name| name == "etc/passwd"), "{names}");
    let disk = place.make("disk.tar", r#"{"docker_disk":"only","compress":"none"}"#);
    let index = json_of(&disk, "index.json");
    let manifest = blob(&disk, &index["manifests"][0]["digest"]);
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["artifactType"], "application/vnd.imagefactory.disk.v1");
    let content = blob(&disk, &manifest["layers"][0]["digest"]);
    assert!(content == std::fs::read(place.path("base.raw")).unwrap());
}

#[test]
fn what_cannot_be_made_is_refused_with_a_sentence_and_leaves_nothing() {
    let place = Place::new();
    let check = |parameters: &str, sentence: &str| {
        let said = place.refused(parameters);
        assert!(said.contains(sentence), "{parameters}: {said}");
    };
    check(r#"{"compress":"xz"}"#, "zstd is as small");
    check(r#"{"compress":"lzma"}"#, "not one of gzip, zstd, none");
    check(r#"{"repository":"a b"}"#, "cannot be a repository's name");
    check(r#"{"tag":"a/b"}"#, "cannot be a tag");
    check(r#"{"docker_cmd":"[ \"/bin/sh\""}"#, "begins like JSON and is none");
    check(r#"{"docker_env":["A"]}"#, "a list of NAME=value");
    check(r#"{"docker_label":["a"]}"#, "an object of texts");
    check(r#"{"docker_leave_out":["all"]}"#, "kernel, boot-loader, firmware, machine");
    check(r#"{"docker_exclude":"usr"}"#, "no absolute path");
    check(r#"{"docker_disk":"yes"}"#, "none, referrer, only");
    std::fs::write(place.path("base.raw"), vec![0; 1 << 20]).unwrap();
    check("{}", "no root file system that a container can be made of");
}

#[test]
fn what_was_made_otherwise_is_not_pushed() {
    let place = Place::new();
    let stage =
        StageTexts { provider: Some("registry.example/team".to_owned()), ..place.stage("{}") };
    let instance = PluginInstance::create(docker_cloud(), &place.host).unwrap();
    let cloud: &imgf_cloud_v1 = instance.table(IMGF_IFACE_CLOUD_V1).unwrap();
    assert_eq!(instance.run(cloud.push_image_to_provider, &stage), IMGF_E_INVALID_ARGUMENT);
    assert!(place.host.the_error().message.contains("no image layout"));
}
