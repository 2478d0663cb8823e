//! DockerCloud against Docker's own registry: what `skopeo` reads there, and what `runc` runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod cloud_docker_rig;

use std::path::Path;
use std::process::Command;

use cloud_docker_rig::{
    Authentication, PASSWORD, RegistryServer, Rig, USER, attempt, error_of, login, read_json, run,
    text, unpack,
};
use imagefactory_tests::strict_registry::{Behaviour, StrictRegistry};
use imagefactory_tests::{binaries, fixture_plugins};
use serde_json::{Value, json};

/// The digest behind an identifier.
fn digest_in(identifier: &Value) -> &str {
    identifier.as_str().unwrap().split_once('@').unwrap().1
}

/// The same blobs under the same names, in two image layouts.
fn assert_same_blobs(one: &Path, other: &Path) {
    let one = text(one);
    let other = text(other);
    let script = "cd \"$1/blobs/sha256\" && for blob in *; do \
        cmp \"$blob\" \"$2/blobs/sha256/$blob\" || exit 1; done";
    run("sh", &["-c", script, "sh", one, other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_read_back_bit_by_bit_and_its_container_runs() {
    let rig = Rig::start().await;
    let registry = RegistryServer::start();
    let target = rig
        .target_image(json!({
            "docker_cmd":
                "[ \"/bin/sh\", \"-c\", \"echo ran as $(id -u) $GREETING; ls /boot /etc\" ]",
            "docker_env": ["GREETING=hello", "PATH=/bin"],
            "docker_label": {"made.by": "tests"},
        }))
        .await;
    let image = rig.pushed(&target, &registry.provider("team/debian"), json!({})).await;
    let folder = tempfile::tempdir().unwrap();

    // The registry has what we say, by digest and by tag.
    let identifier = &image["identifier_on_provider"];
    let expected = format!("{}/team/debian@sha256:", registry.authority);
    assert!(identifier.as_str().unwrap().starts_with(&expected), "{identifier}");
    let digest = digest_in(identifier).to_owned();
    assert_eq!(registry.digest("team/debian:latest").as_deref(), Some(digest.as_str()));
    assert_eq!(image["provider_account_identifier"], registry.authority);

    // Copied back, every blob is the target image's.
    let (back, ours) = (folder.path().join("back"), folder.path().join("ours"));
    unpack(&rig.body(&target), &ours);
    let source = format!("docker://{}/team/debian:latest", registry.authority);
    let layout = format!("oci:{}:back", text(&back));
    run("skopeo", &["--insecure-policy", "copy", "--src-tls-verify=false", &source, &layout]);
    assert_same_blobs(&back, &ours);
    let config = run("skopeo", &["inspect", "--config", &layout]);
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["config"]["Labels"]["made.by"], "tests");

    // It really is a container.
    let printed = run_container(&back, "back", &folder.path().join("bundle"));
    assert!(printed.contains("ran as 0 hello"), "{printed}");
    assert!(printed.contains("passwd"), "{printed}");
    assert!(!printed.contains("vmlinuz") && !printed.contains("fstab"), "{printed}");

    // The list of packages is attached, by the tag that stands for referrers here.
    let tag = digest.replace(':', "-");
    let list = format!("docker://{}/team/debian:{tag}", registry.authority);
    let list = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &list]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["manifests"][0]["artifactType"], "application/vnd.cyclonedx+json");

    rig.delete(image["id"].as_str().unwrap(), None).await;
    assert_eq!(registry.digest("team/debian:latest"), None);
    let left = registry.manifests();
    let left: Vec<_> = left.iter().filter(|path| path.contains("/revisions/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Unpacks an image and runs it; what it prints.
fn run_container(layout: &Path, tag: &str, bundle: &Path) -> String {
    let image = format!("{}:{tag}", text(layout));
    run("umoci", &["unpack", "--image", &image, text(bundle)]);
    let file = bundle.join("config.json");
    let mut config = read_json(&file);
    config["process"]["terminal"] = json!(false);
    std::fs::write(&file, config.to_string()).unwrap();
    let name = format!("imagefactory-test-{}", std::process::id());
    let state = bundle.join("state");
    let output = Command::new("runc")
        .args(["--root", text(&state), "run", "--bundle", text(bundle), &name])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "runc: {printed}{complaints}");
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn one_archive_is_an_oci_layout_and_a_docker_archive_with_every_compression() {
    let rig = Rig::start().await;
    let registry = RegistryServer::start();
    for compression in ["gzip", "zstd", "none"] {
        let parameters = json!({"compress": compression, "repository": "Team/Web", "tag": "1.0"});
        let target = rig.target_image(parameters).await;
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("image.tar");
        std::fs::copy(rig.body(&target), &archive).unwrap();
        for kind in ["oci-archive", "docker-archive"] {
            let source = format!("{kind}:{}", text(&archive));
            let layout = format!("dir:{}/{kind}", text(folder.path()));
            run("skopeo", &["--insecure-policy", "copy", &source, &layout]);
        }
        let list = run("tar", &["-tf", text(&archive)]);
        assert_eq!(list.lines().last(), Some("repositories"), "as readers of its time want it");
        // And another way into a registry than ours leads to the same image.
        let provider = json!({"registry": registry.authority, "plain_http": true});
        let image = rig.pushed(&target, &provider, json!({})).await;
        let destination = format!("docker://{}/by/skopeo:1.0", registry.authority);
        let source = format!("oci-archive:{}", text(&archive));
        run(
            "skopeo",
            &["--insecure-policy", "copy", "--dest-tls-verify=false", &source, &destination],
        );
        // skopeo packs what is not packed.
        if compression != "none" {
            let theirs = registry.digest("by/skopeo:1.0").unwrap();
            assert_eq!(theirs, digest_in(&image["identifier_on_provider"]), "{compression}");
        }
        assert_eq!(
            image["docker_reference"].as_str().or(image["properties"]["docker_reference"].as_str()),
            Some(format!("{}/team/web:1.0", registry.authority).as_str())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootable_disk_is_an_artefact_by_itself_or_attached_to_its_container() {
    let rig = Rig::start().await;
    let registry = StrictRegistry::start(Behaviour { referrers: true, ..Behaviour::default() });
    let provider = json!({"registry": registry.authority(), "plain_http": true});
    for wish in ["only", "referrer"] {
        let parameters = json!({"docker_disk": wish, "repository": wish});
        let target = rig.target_image(parameters).await;
        let image = rig.pushed(&target, &provider, json!({})).await;
        let holdings = registry.holdings();
        let manifests = holdings.manifests.iter().filter(|(key, _)| key.starts_with(wish));
        let manifests = manifests.map(|(_, it)| serde_json::from_slice::<Value>(&it.text).unwrap());
        let disk = manifests
            .into_iter()
            .find(|it| it["artifactType"] == "application/vnd.imagefactory.disk.v1")
            .expect("an artefact with the disk");
        if wish == "referrer" {
            let main = digest_in(&image["identifier_on_provider"]);
            assert_eq!(disk["subject"]["digest"], main);
            assert!(
                !holdings.tags.keys().any(|tag| tag.contains("sha256-")),
                "{:?}",
                holdings.tags
            );
        }
        let layer = &disk["layers"][0];
        assert_eq!(layer["annotations"]["org.opencontainers.image.title"], "disk.raw.gz");
        let blob = &holdings.blobs[&format!("{wish}@{}", layer["digest"].as_str().unwrap())];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), blob).unwrap();
        let script = format!("gzip -dc {} | sha256sum", text(file.path()));
        let sum = run("sh", &["-c", &script]);
        let expected = layer["annotations"]["imagefactory.disk.digest"].as_str().unwrap();
        assert_eq!(format!("sha256:{}", &sum[..64]), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_another_repository_are_mounted_and_not_sent_again() {
    let rig = Rig::start().await;
    let target = rig.target_image(json!({})).await;
    let registry = StrictRegistry::start(Behaviour::default());
    let provider = |repository: &str| {
        json!({"registry": registry.authority(), "plain_http": true, "repository": repository,
            "mount_from": ["one"]})
    };
    rig.pushed(&target, &provider("one"), json!({})).await;
    let sent = registry.holdings().upload_bytes;
    assert!(sent > 100_000, "{sent}");
    rig.pushed(&target, &provider("two"), json!({})).await;
    assert_eq!(registry.holdings().upload_bytes, sent, "nothing was sent again");
    // And where it lies already it is not even asked for.
    rig.pushed(&target, &provider("one"), json!({"parameters": {"tag": "again"}})).await;
    assert_eq!(registry.holdings().upload_bytes, sent);
    assert_eq!(registry.holdings().tags.len(), 5, "three tags, and two lists of referrers");
}

/// One push with each form of credentials, and one with a wrong password.
async fn check_login(authentication: Authentication, rig: &Rig, target: &str) {
    let registry = RegistryServer::start_with(authentication, false, json!({}));
    let provider = registry.provider("team/debian");
    let xml = format!(
        "<docker_credentials><username>{USER}</username><password>{PASSWORD}\
        </password></docker_credentials>"
    );
    for credentials in [json!(login(PASSWORD)), json!(xml), json!("@registry")] {
        let more = json!({"credentials": credentials});
        let image = rig.pushed(target, &provider, more).await;
        let account = format!("{USER}@{}", registry.authority);
        assert_eq!(image["provider_account_identifier"], account);
        rig.delete(image["id"].as_str().unwrap(), Some(credentials)).await;
        let left = registry.manifests();
        assert!(!left.iter().any(|path| path.contains("/revisions/")), "{left:?}");
    }
    for more in [json!({"credentials": login("wrong-pass-0-word")}), json!({})] {
        let image = rig.push(target, &provider, more).await;
        assert_eq!(image["status"], "FAILED");
        let said = error_of(&image);
        assert!(said.contains("does not let in"), "{said}");
        assert!(said.contains("check user and password"), "{said}");
        assert!(!said.contains("wrong-pass-0-word"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_tokens_open_a_registry_and_stand_nowhere() {
    let rig = Rig::start().await;
    let target = rig.target_image(json!({})).await;
    check_login(Authentication::Basic, &rig, &target).await;
    check_login(Authentication::Token, &rig, &target).await;
    rig.assert_secrets_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_a_certificate_of_its_own_authority_is_trusted_only_with_it() {
    let rig = Rig::start().await;
    let target = rig.target_image(json!({})).await;
    let registry = RegistryServer::start_with(Authentication::Basic, true, json!({}));
    let more = json!({"credentials": login(PASSWORD)});
    rig.pushed(&target, &registry.provider("tls"), more.clone()).await;
    let digest = run(
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            "--creds",
            &format!("{USER}:{PASSWORD}"),
            "--format",
            "{{.Digest}}",
            &format!("docker://{}/tls:latest", registry.authority),
        ],
    );
    assert!(digest.starts_with("sha256:"), "{digest}");

    let mut untrusted = registry.provider("untrusted");
    untrusted["ca"].take();
    let untrusted = json!({"registry": registry.authority, "repository": "untrusted"});
    let image = rig.push(&target, &untrusted, more.clone()).await;
    let said = error_of(&image);
    assert!(said.contains("is not trusted") && said.contains("certificate"), "{said}");
    let plain = json!({"registry": registry.authority, "plain_http": true, "repository": "plain"});
    let image = rig.push(&target, &plain, more).await;
    assert_eq!(image["status"], "FAILED", "a TLS port does not answer plain HTTP: {image:#}");
    assert!(!registry.manifests().iter().any(|path| path.contains("plain")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_forbids_deleting_is_told_apart() {
    let rig = Rig::start().await;
    let target = rig.target_image(json!({})).await;
    let registry = RegistryServer::start_with(
        Authentication::None,
        false,
        json!({"delete": {"enabled": false}}),
    );
    let image = rig.pushed(&target, &registry.provider("kept"), json!({})).await;
    let id = image["id"].as_str().unwrap();
    let answer = rig.daemon.delete(&format!("/imagefactory/provider_images/{id}")).await;
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let image = rig.daemon.wait(id, |image| image["status"] == "DELETEFAILED").await;
    let said = error_of(&image);
    assert!(said.contains("does not allow deleting (405)"), "{said}");
    assert!(said.contains("storage.delete.enabled"), "{said}");
    assert!(registry.digest("kept:latest").is_some());
    // Somebody has removed it by hand: deleting twice is no error.
    let other = RegistryServer::start();
    let image = rig.pushed(&target, &other.provider("gone"), json!({})).await;
    let reference = image["identifier_on_provider"].as_str().unwrap();
    attempt("skopeo", &["delete", "--tls-verify=false", &format!("docker://{reference}")]);
    rig.delete(image["id"].as_str().unwrap(), None).await;
}

#[test]
fn it_meets_the_duties_that_the_validator_can_try() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = binaries::workspace().join("plugin-manifests/DockerCloud.json");
    let library = binaries::plugin_library("docker_cloud");
    fixture_plugins::install_with_manifest(folder.path(), &manifest, &library);
    let fixtures = binaries::workspace().join("plugins/docker-cloud/DockerCloud.validate.json");
    std::fs::copy(fixtures, folder.path().join("DockerCloud.validate.json")).unwrap();
    let answer = Command::new(binaries::imagefactory())
        .args(["plugin", "validate", "--json", "--level", "3", "--rounds", "20", "--points", "3"])
        .arg(folder.path().join("DockerCloud.json"))
        .env_remove("IMAGEFACTORY_PLUGIN_PATH")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let rules = report["rules"].as_array().unwrap();
    let outcome = |rule: &Value| rule["outcome"].as_str().unwrap().to_owned();
    let broken =
        rules.iter().filter(|rule| !["success", "skipped"].contains(&outcome(rule).as_str()));
    let broken: Vec<&Value> = broken.collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let met = rules.iter().filter(|rule| outcome(rule) == "success").count();
    assert!(met >= 40, "only {met} rules were tried");
}
