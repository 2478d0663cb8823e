//! What a plugin author in C is handed: the template of `plugin-sdk/examples/c` and the pkg-config
//! file. Both are used here as an author uses them: copied out of the tree, made, installed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_build;
mod abi_host;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use abi_build::exported_symbols;
use abi_host::{Plugin, RecordingHost, Stage};
use imagefactory_plugin_sdk::abi;

fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("plugin-sdk")
}

/// A copy of the template, since nothing may be built in the source tree.
fn copied_template() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(sdk().join("examples/c")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// make in `folder`, without what the test's own make or cargo put into the environment.
fn make_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut make = Command::new("make");
    make.current_dir(folder).env_remove("MAKEFLAGS").env_remove("CFLAGS").args(arguments);
    make
}

fn make(folder: &Path, arguments: &[&str]) -> Output {
    let done = make_command(folder, arguments).output();
    done.unwrap_or_else(|e| panic!("cannot run make: {e}; install make"))
}

fn expect_success(done: &Output) {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_c_template_builds_without_a_warning_and_exports_one_symbol() {
    let folder = copied_template();
    let include = format!("CPPFLAGS=-I{} -Werror", sdk().join("include").display());
    expect_success(&make(folder.path(), &[&include]));
    assert_eq!(exported_symbols(&folder.path().join("HelloOS.so")), [abi::IMGF_ENTRY_SYMBOL]);
}

#[test]
fn the_c_template_builds_an_image() {
    let folder = copied_template();
    let include = format!("CPPFLAGS=-I{}", sdk().join("include").display());
    expect_success(&make(folder.path(), &[&include]));
    let host = RecordingHost::new(folder.path());
    let plugin = Plugin::load(&folder.path().join("HelloOS.so"));
    let instance = plugin.create(&host);
    let status =
        instance.call(instance.os().create_base_image, &Stage::with_template("<template/>"));
    assert_eq!(status, abi::IMGF_OK, "{:?}", host.recorded().errors);
    assert_eq!(std::fs::read_to_string(host.output()).unwrap(), "Hello from a plugin\n".repeat(4));
    assert_eq!(host.recorded().results["format"], "raw");

    host.cancel();
    std::fs::remove_file(host.output()).unwrap();
    let status =
        instance.call(instance.os().create_base_image, &Stage::with_template("<template/>"));
    assert_eq!(status, abi::IMGF_E_CANCELLED);
}

#[test]
fn the_c_template_and_its_manifest_agree() {
    let text = std::fs::read_to_string(sdk().join("examples/c/HelloOS.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let source = std::fs::read_to_string(sdk().join("examples/c/hello_os.c")).unwrap();
    for (define, key) in [("PLUGIN_ID", "id"), ("PLUGIN_VERSION", "version")] {
        let line = format!("#define {define} {}\n", manifest[key]);
        assert!(source.contains(&line), "{line}");
    }
    assert_eq!(manifest["library"]["path"], "HelloOS.so");
}

/// The folder of a pkg-config file made from the template for an installation below `prefix`.
fn installed_pkg_config(prefix: &Path) -> PathBuf {
    let template = std::fs::read_to_string(sdk().join("imagefactory-plugin.pc.in")).unwrap();
    let text = template
        .replace("@PREFIX@", prefix.to_str().unwrap())
        .replace("@LIBDIR@", "${prefix}/lib64")
        .replace("@INCLUDEDIR@", "${prefix}/include")
        .replace("@VERSION@", "1.0.0");
    let folder = prefix.join("lib64/pkgconfig");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("imagefactory-plugin.pc"), text).unwrap();
    folder
}

/// What pkg-config says, by its own rules: `pkgconf` and `pkg-config` are the same program here.
fn pkg_config(folder: &Path, question: &str) -> String {
    let done = Command::new("pkg-config")
        .env("PKG_CONFIG_PATH", folder)
        .args([question, "imagefactory-plugin"])
        .output()
        .unwrap_or_else(|e| panic!("cannot run pkg-config: {e}; install pkg-config"));
    expect_success(&done);
    String::from_utf8(done.stdout).unwrap().trim().to_string()
}

#[test]
fn pkg_config_tells_the_folder_of_plugins_the_abi_and_where_the_headers_are() {
    let prefix = tempfile::tempdir().unwrap();
    let folder = installed_pkg_config(prefix.path());
    let below = |path: &str| prefix.path().join(path).display().to_string();
    let plugindir = pkg_config(&folder, "--variable=plugindir");
    assert_eq!(plugindir, below("lib64/imagefactory/plugins.d"));
    assert_eq!(pkg_config(&folder, "--variable=abi"), "1.0");
    assert_eq!(pkg_config(&folder, "--variable=includedir"), below("include"));
    assert_eq!(pkg_config(&folder, "--cflags"), format!("-I{}", below("include")));
    assert_eq!(pkg_config(&folder, "--libs"), "");
}

#[test]
fn make_install_puts_library_and_manifest_where_pkg_config_says() {
    let prefix = tempfile::tempdir().unwrap();
    let pkg_config = installed_pkg_config(prefix.path());
    let installed = prefix.path().join("include");
    std::fs::create_dir_all(&installed).unwrap();
    std::os::unix::fs::symlink(sdk().join("include/imagefactory"), installed.join("imagefactory"))
        .unwrap();
    let folder = copied_template();
    let stage = tempfile::tempdir().unwrap();
    let destdir = format!("DESTDIR={}", stage.path().display());
    let installed = make_command(folder.path(), &["install", &destdir])
        .env("PKG_CONFIG_PATH", &pkg_config)
        .output();
    expect_success(&installed.expect("make can be run"));
    let plugins = prefix.path().join("lib64/imagefactory/plugins.d");
    let plugins = stage.path().join(plugins.strip_prefix("/").unwrap());
    for name in ["HelloOS.so", "HelloOS.json"] {
        assert!(plugins.join(name).is_file(), "{name} is not in {}", plugins.display());
    }
}
