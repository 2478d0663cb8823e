//! Where packages and contents come from: other repositories with keys of their own, files,
//! URLs, installation media, and an archive of Ubuntu's shape.

use std::fs;
use std::path::Path;
use std::process::Command;

use imagefactory_tests::factory::{Factory, debian_mirror};
use imagefactory_tests::file_server::FileServer;
use serde_json::{Value, json};

use super::customised::Disk;
use super::repository::{SigningKey, index, make_package, run, sha256};
use super::{BOOKWORM, build, check_complete, is_long_run};

/// Everything on loopback stands behind this name, which the configuration maps.
const PUBLIC: &str = "http://files.example";

async fn factory_with(server: &FileServer) -> Factory {
    let url = server.url();
    Factory::start_with_debian_and(|configuration| {
        configuration.public_settings["mirrors"][PUBLIC] = json!(url);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn other_repositories_package_files_and_contents_behind_urls_are_in_the_image() {
    if !is_long_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (pool, key) = (folder.path().join("extra/pool"), SigningKey::new());
    fs::create_dir_all(&pool).unwrap();
    for version in ["1.0", "2.0"] {
        make_package(&pool, "imagefactory-hello", version, "Recommends: imagefactory-more\n");
    }
    make_package(&pool, "imagefactory-more", "1.0", "");
    make_package(folder.path(), "imagefactory-file", "3.0", "");
    index(&folder.path().join("extra"), "tests", &["main"], Some(&key));
    fs::write(folder.path().join("content"), "from afar").unwrap();
    fs::write(folder.path().join("script"), "#!/bin/sh\necho \"$0\" > /etc/script-ran\n").unwrap();
    let server = FileServer::serve(folder.path());
    let factory = factory_with(&server).await;
    let template = format!(
        "<template><name>sources</name><os><name>Debian</name><version>12</version>\
         <arch>x86_64</arch><install type='url'><url>http://debian.example/debian</url></install>\
         <icicle><extra_command>dpkg-query -W -f '${{Section}}\\n'</extra_command></icicle></os>\
         <precommands><command name='early'>test ! -e /usr/bin/less; echo early > /etc/early\
         </command></precommands>\
         <repositories><repository name='extra'><url>{PUBLIC}/extra tests main</url>\
         <signed>yes</signed></repository></repositories>\
         <packages><package name='less'/>\
         <package name='imagefactory-hello=1.0'><repository>extra</repository>\
         <arguments>--install-recommends</arguments></package>\
         <package name='imagefactory-file'><file>{PUBLIC}/imagefactory-file_3.0_all.deb</file>\
         </package></packages>\
         <files><file name='/etc/far' type='url'>{PUBLIC}/content</file></files>\
         <commands><command name='script' type='url'>{PUBLIC}/to/{}/script</command>\
         <command name='offline'>test ! -e /sys/class/net/eth0; ! getent hosts debian.example\
         </command></commands></template>",
        server.url()
    );
    // The redirect leads to loopback, which only the operator can allow.
    let refused = build(&factory, &template, json!({"repository_keys": {"extra": key.public()}}));
    let error = refused.await.status_detail.error.unwrap_or_default();
    assert!(error.contains("private address"), "{error}");
    let template = template.replace(&format!("{PUBLIC}/to/{}", server.url()), PUBLIC);
    let image = build(&factory, &template, json!({"repository_keys": {"extra": key.public()}}));
    let image = image.await;
    check_complete(&factory, &image);

    let disk = Disk::of(&factory, &image);
    assert_eq!(disk.text("usr/share/imagefactory-hello"), "1.0", "the version that was asked for");
    assert_eq!(disk.text("usr/share/imagefactory-more"), "1.0", "its recommendation");
    assert_eq!(disk.text("usr/share/imagefactory-file"), "3.0", "a package that is a file");
    assert_eq!(disk.text("etc/far"), "from afar");
    assert_eq!(disk.text("etc/early"), "early\n");
    assert!(disk.has("etc/script-ran") && disk.has("usr/bin/less"));
    let sources = disk.text("etc/apt/sources.list");
    let line = format!(
        "deb [signed-by=/etc/apt/keyrings/imagefactory-extra.asc] {PUBLIC}/extra tests main"
    );
    assert!(sources.contains(&line), "{sources}");
    assert_eq!(disk.text("etc/apt/keyrings/imagefactory-extra.asc"), key.public());
    let fetched = &image.properties["fetched"][format!("{PUBLIC}/content")];
    assert_eq!(*fetched, json!(format!("sha256:{}", sha256(b"from afar"))));
    let icicle = image.icicle.unwrap_or_default();
    let hello = "<package name=\"imagefactory-hello-1.0.all\"><extra>misc</extra>";
    assert!(icicle.replace(['\n'], "").replace("  ", "").contains(hello), "{icicle}");
}

/// The packages of an image of this machine's mirror, as files in `pool`.
fn download_pool(pool: &Path, names: &[String]) {
    fs::create_dir_all(pool).unwrap();
    let state = tempfile::tempdir().unwrap();
    fs::create_dir_all(state.path().join("lists/partial")).unwrap();
    let mirror = debian_mirror().expect("this machine's apt sources name a mirror");
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let list = format!("deb [signed-by={keyring}] {mirror} bookworm main\n");
    fs::write(state.path().join("sources.list"), list).unwrap();
    let apt = || {
        let mut apt = Command::new("apt-get");
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        apt.current_dir(pool).args(["-q", "-o", "Dir::Etc::sourceparts=-"]);
        apt.args(["-o", &option("Dir::Etc::sourcelist", &state.path().join("sources.list"))]);
        apt.args(["-o", &option("Dir::State::lists", &state.path().join("lists"))]);
        apt.args(["-o", &option("Dir::Cache", state.path())]);
        apt.args(["-o", "APT::Sandbox::User=root"]);
        apt
    };
    run(apt().arg("update"));
    run(apt().arg("download").args(names));
}

fn names_of(icicle: &str) -> Vec<String> {
    let starts = icicle.match_indices("<package name=\"");
    let ends = starts.map(|(at, start)| icicle[at + start.len()..].split('"').next().unwrap());
    // NAME-VERSION.ARCH, and a version has no hyphen before its revision but in native packages.
    ends.map(str::to_owned).collect()
}

fn package_names(image: &imagefactory_model::image::Image) -> Vec<String> {
    let known = run(Command::new("apt-cache").arg("pkgnames"));
    let known: std::collections::BTreeSet<&str> = known.lines().collect();
    let longest = |entry: &String| {
        let hyphens = entry.match_indices('-').map(|(at, _)| at);
        let names: Vec<&str> = hyphens.map(|at| &entry[..at]).collect();
        let name = names.into_iter().rev().find(|name| known.contains(name));
        name.unwrap_or_else(|| panic!("what package is {entry}?")).to_owned()
    };
    names_of(image.icicle.as_deref().unwrap_or_default()).iter().map(longest).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iso_and_an_archive_of_ubuntus_shape_made_of_debian_packages_are_sources() {
    if !is_long_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = FileServer::serve(folder.path());
    let factory = factory_with(&server).await;
    let plain = BOOKWORM.replace("<packages><package name='less'/></packages>", "");
    let first = build(&factory, &plain, json!({})).await;
    check_complete(&factory, &first);
    let archive = folder.path().join("archive");
    download_pool(&archive.join("pool"), &package_names(&first));

    check_iso(&factory, folder.path(), &archive).await;
    check_ubuntu(&factory, &archive).await;
}

async fn check_iso(factory: &Factory, folder: &Path, archive: &Path) {
    index(archive, "bookworm", &["main"], None);
    let iso = folder.join("debian.iso");
    let mut make = Command::new("xorriso");
    run(make.args(["-as", "mkisofs", "-quiet", "-R", "-o"]).arg(&iso).arg(archive));
    let digest = sha256(&fs::read(&iso).unwrap());
    let template = |sum: &str| {
        fs::write(folder.join("SHA256SUMS"), format!("{sum}  debian.iso\n")).unwrap();
        BOOKWORM.replace("<packages><package name='less'/></packages>", "").replace(
            "<install type='url'><url>http://debian.example/debian</url>",
            &format!(
                "<install type='iso'><iso>{PUBLIC}/debian.iso</iso>\
                 <sha256sum>{PUBLIC}/SHA256SUMS</sha256sum>"
            ),
        )
    };
    let wrong = build(factory, &template(&"0".repeat(64)), json!({"fresh": true})).await;
    let error = wrong.status_detail.error.unwrap_or_default();
    assert!(error.contains(&digest) && error.contains(&"0".repeat(64)), "{error}");
    let image = build(factory, &template(&digest), json!({"boot_test": true})).await;
    check_complete(factory, &image);
    let sources = Disk::of(factory, &image).text("etc/apt/sources.list");
    assert!(!sources.contains("copy:"), "{sources}");
}

async fn check_ubuntu(factory: &Factory, archive: &Path) {
    let depends = "Depends: linux-image-cloud-amd64\n";
    make_package(&archive.join("pool"), "linux-image-virtual", "6.8", depends);
    let key = SigningKey::new();
    index(archive, "noble", &["main", "universe"], Some(&key));
    let template = BOOKWORM
        .replace("<name>Debian</name>", "<name>Ubuntu</name>")
        .replace("<version>12", "<version>24.04")
        .replace("<packages><package name='less'/></packages>", "")
        .replace("http://debian.example/debian", &format!("{PUBLIC}/archive"));
    let keys: Value = json!({"repository_keys": {"install": key.public()}, "boot_test": true});
    let image = build(factory, &template, keys).await;
    check_complete(factory, &image);
    assert_eq!(image.properties["suite"], "noble");
    let sources = Disk::of(factory, &image).text("etc/apt/sources.list");
    assert!(sources.contains(&format!("{PUBLIC}/archive noble main universe")), "{sources}");
}

#[tokio::test(flavor = "multi_thread")]
async fn debian_11_and_13_are_built_and_boot() {
    if !is_long_run() {
        return;
    }
    let factory = Factory::start_with_debian().await;
    for (version, firmware) in [("13", "uefi"), ("11", "bios")] {
        let template = BOOKWORM.replace("<version>12", &format!("<version>{version}"));
        let parameters = json!({"boot_test": true, "boot_firmware": firmware});
        let image = build(&factory, &template, parameters).await;
        check_complete(&factory, &image);
        assert_eq!(image.properties["verified"]["ok"], true);
    }
}
