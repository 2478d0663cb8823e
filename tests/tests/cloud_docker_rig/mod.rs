//! A daemon with DockerCloud, a small bootable-looking disk to make containers of, real registries
//! on loopback, and the judges.

#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

mod registry_server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use serde_json::{Value, json};

pub(crate) use registry_server::{Authentication, RegistryServer};

/// Stands in credentials, and must stand nowhere else.
pub(crate) const PASSWORD: &str = "correct-horse-7-battery";

/// The user that it belongs to.
pub(crate) const USER: &str = "factory";

/// The disk of the tests: GPT, one ext4 partition.
const DISK_MIB: u64 = 24;

/// Runs a program; it must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = attempt(program, arguments);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {complaints}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program.
pub(crate) fn attempt(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{program} (tests/clouds/install-servers): {error}"))
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

/// A daemon with DockerCloud and one base image.
pub(crate) struct Rig {
    pub(crate) daemon: Daemon,
    base: String,
}

impl Rig {
    /// Started, with the base image in the store; it has `bytes` of content that compresses to
    /// nothing less, beside a busybox.
    pub(crate) async fn start_with(bytes: u64) -> Rig {
        Rig::launch(bytes, 30).await
    }

    /// The same, but requests are repeated for a second only.
    pub(crate) async fn start_impatient() -> Rig {
        Rig::launch(0, 1).await
    }

    async fn launch(bytes: u64, retry_for_s: u64) -> Rig {
        let daemon = Setup::default()
            .plugin("DockerCloud", "docker_cloud")
            .with("plugin_settings", json!({"DockerCloud": {"http": {"retry_for_s": retry_for_s}}}))
            .with("credentials", json!({"registry": login(PASSWORD)}))
            .start();
        let disk = make_disk(daemon.folder.path(), bytes);
        let url = format!("{}/imagefactory/base_images", daemon.url());
        let template = format!("template={TDL_MOCK}");
        let body = format!("image_body=@{}", text(&disk));
        let answer = run("curl", &["-sS", "--form-string", &template, "-F", &body, &url]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let base = answer["base_image"]["id"].as_str();
        let base = base.unwrap_or_else(|| panic!("{answer:#}")).to_owned();
        let image = daemon.finished(&base).await;
        assert_eq!(image["status"], "COMPLETE", "{image:#}");
        std::fs::remove_file(disk).expect("it goes");
        Rig { daemon, base }
    }

    /// With as little as a container can do with.
    pub(crate) async fn start() -> Rig {
        Rig::start_with(0).await
    }

    /// A finished target image.
    pub(crate) async fn target_image(&self, parameters: Value) -> String {
        let body = json!({"target_image": {"target": "docker", "base_image_id": self.base,
            "parameters": parameters}});
        let order = self.daemon.order("/imagefactory/target_images", &body).await;
        let id = order["id"].as_str().expect("an id").to_owned();
        let image = self.daemon.finished(&id).await;
        assert_eq!(image["status"], "COMPLETE", "{image:#}\n{}", self.log(&id).await);
        id
    }

    /// Orders a push.
    pub(crate) async fn order(&self, target: &str, provider: &Value, more: Value) -> String {
        let mut order = json!({"target": "docker", "provider": provider,
            "target_image_id": target, "credentials": "none"});
        for (key, value) in more.as_object().expect("an object") {
            order[key.as_str()] = value.clone();
        }
        let path = "/imagefactory/provider_images";
        let order = self.daemon.order(path, &json!({"provider_image": order})).await;
        order["id"].as_str().expect("an id").to_owned()
    }

    /// A push that has ended.
    pub(crate) async fn push(&self, target: &str, provider: &Value, more: Value) -> Value {
        let id = self.order(target, provider, more).await;
        self.daemon.finished(&id).await
    }

    /// One that must succeed.
    pub(crate) async fn pushed(&self, target: &str, provider: &Value, more: Value) -> Value {
        let image = self.push(target, provider, more).await;
        let log = self.log(image["id"].as_str().expect("an id")).await;
        assert_eq!(image["status"], "COMPLETE", "{image:#}\n{log}");
        image
    }

    /// Deletes a provider image and waits until it is gone.
    pub(crate) async fn delete(&self, id: &str, credentials: Option<Value>) {
        let path = format!("/imagefactory/provider_images/{id}");
        let mut request = self.daemon.request(reqwest::Method::DELETE, &path);
        if let Some(credentials) = credentials {
            request = request.json(&json!({"credentials": credentials}));
        }
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
        self.daemon.gone(id).await;
    }

    /// An image's log.
    pub(crate) async fn log(&self, id: &str) -> String {
        for kind in ["target_images", "provider_images"] {
            let answer = self.daemon.get(&format!("/imagefactory/{kind}/{id}/log")).await;
            if answer.status().is_success() {
                return answer.text().await.unwrap_or_default();
            }
        }
        String::new()
    }

    /// Where a target image's file lies.
    pub(crate) fn body(&self, id: &str) -> PathBuf {
        let found =
            run("find", &[text(&self.daemon.storage()), "-type", "f", "-name", &format!("{id}*")]);
        let bodies = found.lines().map(PathBuf::from);
        let largest = bodies.max_by_key(|path| path.metadata().map_or(0, |facts| facts.len()));
        largest.unwrap_or_else(|| panic!("no body of {id} in {found}"))
    }

    /// No file of the factory has the password, and neither has its log.
    pub(crate) fn assert_secrets_kept(&self) {
        assert!(!self.daemon.log().contains(PASSWORD), "the daemon's log tells the password");
        let folder = text(self.daemon.folder.path());
        let found = attempt("grep", &["-rlaF", PASSWORD, folder]);
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        // The operator's own file, from which named credentials are read.
        let told = found.lines().find(|path| !path.ends_with("/imagefactory.conf"));
        assert_eq!(told, None, "a file tells the password");
    }
}

/// What the user reads.
pub(crate) fn error_of(image: &Value) -> String {
    let detail = &image["status_detail"];
    let error = &detail["error"];
    format!("{} {} {}", error.as_str().unwrap_or_default(), error, detail["hint"])
}

/// Credentials as JSON text.
pub(crate) fn login(password: &str) -> String {
    json!({"username": USER, "password": password}).to_string()
}

/// The blobs and documents of a target image, unpacked.
pub(crate) fn unpack(archive: &Path, into: &Path) {
    std::fs::create_dir_all(into).expect("a folder");
    run("tar", &["-xf", text(archive), "-C", text(into)]);
}

/// A JSON file.
pub(crate) fn read_json(path: &Path) -> Value {
    let content = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&content).expect("JSON")
}

/// A tree with busybox, in an ext4, in a GPT.
fn make_disk(folder: &Path, bytes: u64) -> PathBuf {
    let tree = folder.join("tree");
    for name in ["bin", "etc", "boot", "proc", "sys", "dev", "tmp", "root", "var/lib/dpkg"] {
        std::fs::create_dir_all(tree.join(name)).expect("a folder");
    }
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("the package busybox-static");
    for name in ["sh", "cat", "id", "ls", "stat"] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name)).expect("a link");
    }
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("a file");
    std::fs::write(tree.join("etc/fstab"), "LABEL=root / ext4\n").expect("a file");
    std::fs::write(tree.join("boot/vmlinuz-6.1"), "no kernel").expect("a file");
    let status = "Package: busybox-static\nStatus: install ok installed\nVersion: 1:1.35.0-4\n\
        Architecture: amd64\n";
    std::fs::write(tree.join("var/lib/dpkg/status"), status).expect("a file");
    let mut random = std::fs::File::open("/dev/urandom").expect("chance");
    let mut content = std::io::Read::take(&mut random, bytes);
    let mut file = std::fs::File::create(tree.join("var/content")).expect("a file");
    std::io::copy(&mut content, &mut file).expect("content");
    let mib = DISK_MIB + bytes.div_ceil(1 << 20) * 5 / 4;
    let disk = folder.join("disk.raw");
    std::fs::File::create(&disk).expect("a file").set_len((mib + 2) << 20).expect("a size");
    let table = format!("label: gpt\nstart=2048, size={}\n", mib * 2048 - 2048);
    let script = folder.join("table");
    std::fs::write(&script, table).expect("a file");
    run("sh", &["-c", &format!("sfdisk -q {} < {}", text(&disk), text(&script))]);
    let size = format!("{}k", mib * 1024 - 1024);
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", "-E", "offset=1048576", "-d", text(&tree), text(&disk), &size],
    );
    std::fs::remove_dir_all(&tree).expect("it goes");
    disk
}
