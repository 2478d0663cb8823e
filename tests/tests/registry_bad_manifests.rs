//! Bad manifests, with real files: each is listed with its reason, and the rest of the factory
//! works.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set its scene has failed"
)]

mod registry_rig;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use imagefactory_registry::listing::plugin_objects;
use imagefactory_registry::{DescribedPlugins, Registry, SearchPath};
use registry_rig::{Machine, cloud, os, sentence, set_mode, write};
use serde_json::json;

/// Puts a sound plugin beside whatever `spoil` does, and expects the sound one to serve and the
/// entry `id` to be listed in `state` with all of `words`.
#[track_caller]
fn check_bad(id: &str, state: &str, words: &[&str], spoil: impl FnOnce(&Machine)) {
    let machine = Machine::new();
    machine.install(&cloud("Good", &["good"]));
    spoil(&machine);
    let registry = machine.scan();
    assert_eq!(registry.cloud_plugin("good").unwrap().id(), "Good", "the rest works");
    let entry = registry.entry(id).unwrap_or_else(|| panic!("{id} is not listed"));
    let sentence = sentence(entry);
    assert_eq!(entry.state.name(), state, "{sentence}");
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in: {sentence}");
    }
    // What clients see: the original's key, and no path of this machine.
    let listed = plugin_objects(&registry, |id| format!("/plugins/{id}"));
    let object = listed.iter().find(|object| object.id == id).unwrap();
    let error = object.error.as_deref().unwrap();
    assert!(!error.contains(machine.lib().to_str().unwrap()), "{error}");
    assert_eq!(object.active, Some(false));
}

fn write_lib(machine: &Machine, name: &str, text: &[u8]) {
    write(&machine.lib().join(name), text);
}

#[test]
fn a_manifest_that_is_not_json() {
    check_bad("Bad", "error", &["not readable JSON", "line 1 column 2", "Bad.json"], |machine| {
        write_lib(machine, "Bad.json", b"{oops}");
    });
}

#[test]
fn a_manifest_that_is_cut_off() {
    check_bad("Bad", "error", &["cut off"], |machine| {
        let text = cloud("Bad", &["bad"]).to_string();
        write_lib(machine, "Bad.json", &text.as_bytes()[..text.len() / 2]);
    });
}

#[test]
fn a_manifest_in_utf_16() {
    check_bad("Bad", "error", &["not readable JSON"], |machine| {
        let text: Vec<u8> =
            cloud("Bad", &["bad"]).to_string().encode_utf16().flat_map(u16::to_le_bytes).collect();
        write_lib(machine, "Bad.json", &text);
    });
}

#[test]
fn a_manifest_that_is_json_but_no_manifest() {
    check_bad("Bad", "error", &["must be an object, not a list"], |machine| {
        write_lib(machine, "Bad.json", b"[]");
    });
    check_bad("Bad", "error", &["/type: is missing", "/version: is missing"], |machine| {
        write_lib(machine, "Bad.json", b"{}");
    });
}

#[test]
fn a_manifest_of_100_megabytes() {
    check_bad("Bad", "error", &["104857600 bytes", "1048576"], |machine| {
        let path = machine.lib().join("Bad.json");
        write(&path, b"{");
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100 << 20).unwrap();
    });
}

#[test]
fn a_manifest_that_is_a_folder() {
    check_bad("Bad", "error", &["Bad.json is a folder"], |machine| {
        fs::create_dir(machine.lib().join("Bad.json")).unwrap();
    });
}

#[test]
fn a_manifest_that_is_a_fifo_does_not_make_the_scan_wait() {
    check_bad("Bad", "error", &["not a regular file"], |machine| {
        let path = machine.lib().join("Bad.json");
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    });
}

#[test]
fn a_manifest_that_is_a_symbolic_link() {
    check_bad("Bad", "error", &["symbolic link"], |machine| {
        symlink(machine.lib().join("Good.json"), machine.lib().join("Bad.json")).unwrap();
    });
}

#[test]
fn a_manifest_that_may_not_be_read() {
    // Root reads everything. So, where this test is root, one thread of it becomes somebody else;
    // the test harness and the other tests stay what they are.
    let checked = std::thread::spawn(|| {
        let machine = Machine::new();
        machine.install(&cloud("Good", &["good"]));
        machine.install(&cloud("Bad", &["bad"]));
        set_mode(&machine.lib().join("Bad.json"), 0o000);
        set_mode(machine.lib().parent().unwrap(), 0o755);
        let path = machine.search_path();
        let registry = as_an_ordinary_user(|| Registry::scan(&path, &DescribedPlugins::default()));
        assert_eq!(registry.cloud_plugin("good").unwrap().id(), "Good", "the rest works");
        sentence(registry.entry("Bad").unwrap())
    });
    let sentence = checked.join().unwrap();
    assert!(sentence.starts_with("error: "), "{sentence}");
    assert!(sentence.contains("permission denied"), "{sentence}");
    assert!(sentence.contains("chmod a+r"), "{sentence}");
}

/// Runs something in this thread as nobody, if it is root's.
fn as_an_ordinary_user<T>(run: impl FnOnce() -> T) -> T {
    use rustix::process::{Uid, geteuid};
    use rustix::thread::set_thread_res_uid;
    if !geteuid().is_root() {
        return run();
    }
    let nobody = Uid::from_raw(65534);
    set_thread_res_uid(Uid::ROOT, nobody, Uid::ROOT).unwrap();
    let result = run();
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap();
    result
}

#[test]
fn a_manifest_that_others_can_change() {
    check_bad("Bad", "error", &["has mode 0666", "chmod go-w", "Bad.json"], |machine| {
        machine.install(&cloud("Bad", &["bad"]));
        set_mode(&machine.lib().join("Bad.json"), 0o666);
    });
}

#[test]
fn a_library_that_others_can_change() {
    check_bad("Bad", "error", &["has mode 0775", "chmod go-w", "Bad.so"], |machine| {
        machine.install(&cloud("Bad", &["bad"]));
        set_mode(&machine.lib().join("Bad.so"), 0o775);
    });
}

#[test]
fn a_folder_that_others_can_change_makes_all_its_plugins_unusable() {
    let machine = Machine::new();
    machine.install(&cloud("Bad", &["bad"]));
    machine.override_with(&cloud("Good", &["good"]));
    set_mode(&machine.lib(), 0o777);
    let registry = machine.scan();
    assert_eq!(registry.cloud_plugin("good").unwrap().id(), "Good");
    let sentence = sentence(registry.entry("Bad").unwrap());
    let hint = format!("chmod go-w {}", machine.lib().display());
    assert!(sentence.contains(&hint), "{sentence}");
    assert_eq!(registry.notices().len(), 1, "the operator hears of the folder once");
}

#[test]
fn a_file_of_a_user_who_is_not_trusted() {
    if !rustix::process::geteuid().is_root() {
        return check_foreign_owner_as_an_ordinary_user();
    }
    check_bad("Bad", "error", &["belongs to user 65534", "chown root"], |machine| {
        machine.install(&cloud("Bad", &["bad"]));
        std::os::unix::fs::chown(machine.lib().join("Bad.json"), Some(65534), None).unwrap();
    });
}

/// Who cannot give files away distrusts himself instead.
fn check_foreign_owner_as_an_ordinary_user() {
    let machine = Machine::new();
    machine.install(&cloud("Bad", &["bad"]));
    let path = SearchPath::new().with_folder(machine.lib());
    let registry = Registry::scan(&path, &DescribedPlugins::default());
    let sentence = sentence(registry.entry("Bad").unwrap());
    assert!(sentence.contains("belongs to user"), "{sentence}");
}

#[test]
fn a_library_outside_of_the_manifests_folder() {
    for path in ["../Bad.so", "x/../../Bad.so", "./Bad.so", ""] {
        check_bad("Bad", "error", &["/library/path"], |machine| {
            let mut manifest = cloud("Bad", &["bad"]);
            manifest["library"]["path"] = json!(path);
            machine.install(&manifest);
        });
    }
    check_bad("Bad", "error", &["absolute", "override folder"], |machine| {
        let mut manifest = cloud("Bad", &["bad"]);
        manifest["library"]["path"] = json!("/bin/sh");
        machine.install(&manifest);
    });
}

#[test]
fn a_library_that_is_a_link_to_elsewhere() {
    check_bad("Bad", "error", &["Bad.so is a symbolic link"], |machine| {
        machine.install(&cloud("Bad", &["bad"]));
        fs::remove_file(machine.lib().join("Bad.so")).unwrap();
        symlink("/bin/sh", machine.lib().join("Bad.so")).unwrap();
    });
    check_bad("Bad", "error", &["away is a symbolic link"], |machine| {
        let mut manifest = cloud("Bad", &["bad"]);
        manifest["library"]["path"] = json!("away/sh");
        machine.install(&manifest);
        symlink("/bin", machine.lib().join("away")).unwrap();
    });
}

#[test]
fn a_library_that_is_missing_or_a_folder() {
    check_bad("Bad", "error", &["the library Bad.so is missing", "install it"], |machine| {
        machine.install(&cloud("Bad", &["bad"]));
        fs::remove_file(machine.lib().join("Bad.so")).unwrap();
    });
    check_bad("Bad", "error", &["the library Bad.so is a folder"], |machine| {
        machine.install(&cloud("Bad", &["bad"]));
        fs::remove_file(machine.lib().join("Bad.so")).unwrap();
        fs::create_dir(machine.lib().join("Bad.so")).unwrap();
    });
    check_bad("Bad", "error", &["/library is missing"], |machine| {
        let mut manifest = cloud("Bad", &["bad"]);
        manifest.as_object_mut().unwrap().remove("library");
        machine.install(&manifest);
    });
}

#[test]
fn an_absolute_library_counts_in_the_override_folder() {
    let machine = Machine::new();
    let mut manifest = cloud("Dev", &["dev"]);
    let elsewhere = machine.lib().join("target-Dev.so");
    write(&elsewhere, b"not loaded");
    manifest["library"]["path"] = json!(elsewhere);
    machine.override_with(&manifest);
    let registry = machine.scan();
    let entry = registry.cloud_plugin("dev").unwrap();
    assert_eq!(entry.library().unwrap().path, elsewhere);
}

#[test]
fn the_runner_is_told_of_a_library_by_its_real_name() {
    let machine = Machine::new();
    machine.install(&cloud("X", &["x"]));
    let link = machine.etc().join("link-to-lib");
    symlink("../lib", &link).unwrap();
    let path = machine.search_path().with_folder(&link);
    let registry = Registry::scan(&path, &DescribedPlugins::default());
    let shadowed = &registry.entries()[1];
    assert_eq!(shadowed.path(), &link.join("X.json"));
    let real = fs::canonicalize(machine.lib()).unwrap().join("X.so");
    assert_eq!(shadowed.library().unwrap().path, real);
}

#[test]
fn a_library_in_a_folder_below_is_found() {
    let machine = Machine::new();
    let mut manifest = cloud("Below", &["below"]);
    manifest["library"]["path"] = json!("below/Below.so");
    machine.install(&manifest);
    fs::create_dir(machine.lib().join("below")).unwrap();
    set_mode(&machine.lib().join("below"), 0o755);
    write(&machine.lib().join("below/Below.so"), b"not loaded");
    assert_eq!(machine.scan().cloud_plugin("below").unwrap().id(), "Below");
}

#[test]
fn an_abi_range_that_is_not_ours() {
    for req in ["^2.0", ">=1.1", "=0.9"] {
        check_bad("Bad", "error", &["needs plugin ABI", req, "speaks 1.0"], |machine| {
            let mut manifest = cloud("Bad", &["bad"]);
            manifest["abi"]["req"] = json!(req);
            machine.install(&manifest);
        });
    }
    check_bad("Bad", "error", &["/abi/req", "no version requirement"], |machine| {
        let mut manifest = cloud("Bad", &["bad"]);
        manifest["abi"]["req"] = json!("newest");
        machine.install(&manifest);
    });
}

#[test]
fn another_machine_or_another_factory() {
    check_bad("Bad", "inactive", &["for pdp11", std::env::consts::ARCH], |machine| {
        let mut manifest = cloud("Bad", &["bad"]);
        manifest["library"]["arch"] = json!("pdp11");
        machine.install(&manifest);
    });
    check_bad("Bad", "inactive", &["needs imagefactory >=99"], |machine| {
        let mut manifest = cloud("Bad", &["bad"]);
        manifest["requires"] = json!({"host": ">=99"});
        machine.install(&manifest);
    });
}

#[test]
fn a_parameters_schema_that_is_none() {
    check_bad("Bad", "error", &["/parameters_schema/properties/a/type"], |machine| {
        let mut manifest = cloud("Bad", &["bad"]);
        manifest["parameters_schema"] =
            json!({"type": "object", "properties": {"a": {"type": "strin"}}});
        machine.install(&manifest);
    });
}

#[test]
fn an_id_that_is_not_the_files_name() {
    check_bad("Bad", "error", &["/id", "\"Other\"", "\"Bad\""], |machine| {
        machine.install(&cloud("Other", &["bad"]));
        fs::rename(machine.lib().join("Other.json"), machine.lib().join("Bad.json")).unwrap();
    });
    check_bad("b a d", "error", &["cannot be a plugin's id"], |machine| {
        write_lib(machine, "b a d.json", b"{}");
    });
}

#[test]
fn a_manifest_of_the_python_factory_is_listed_and_never_executed() {
    let info = r#"{"type": "os", "targets": [["Fedora", null, null]], "description": "D",
        "maintainer": {"name": "N", "email": "E", "url": "U"}, "version": "1.0", "license": "L"}"#;
    check_bad("TinMan", "inactive", &["unsupported", "Python", "never executed"], |machine| {
        write_lib(machine, "TinMan.info", info.as_bytes());
    });
}

#[test]
fn a_broken_drop_in_makes_the_plugin_unusable() {
    for (text, words) in [
        ("{", "cut off"),
        (r#"{"library":{"path":"/bin/sh"}}"#, "/library: unknown key"),
        (r#"{"sandbox":{"profil":"cloud"}}"#, "did you mean \"profile\""),
    ] {
        check_bad("Bad", "error", &["a drop-in is unusable", words, "50-x.json"], |machine| {
            machine.install(&cloud("Bad", &["bad"]));
            machine.drop_in("Bad", "50-x.json", text);
        });
    }
}

#[test]
fn more_than_a_thousand_manifests_are_cut_at_the_thousandth_by_name() {
    let machine = Machine::new();
    for number in (0..1010).rev() {
        write_lib(&machine, &format!("P{number:04}.json"), b"{}");
    }
    let registry = machine.scan();
    assert_eq!(registry.entries().len(), 1000);
    assert!(registry.entry("P0999").is_some());
    assert!(registry.entry("P1000").is_none());
    assert!(registry.notices()[0].message.contains("more than 1000"));
}

#[test]
fn what_is_no_manifest_is_not_looked_at() {
    let machine = Machine::new();
    for name in [".hidden.json", "X.json~", "X.so", "README", "X.json.rpmnew"] {
        write_lib(&machine, name, b"{");
    }
    let registry = machine.scan();
    assert!(registry.entries().is_empty());
    assert!(registry.notices().is_empty());
}

#[test]
fn a_missing_folder_is_an_empty_one_and_a_file_in_its_place_is_told_of() {
    let machine = Machine::new();
    machine.install(&os("Good", json!([["A", null, null]])));
    fs::remove_dir(machine.etc()).unwrap();
    assert!(machine.scan().notices().is_empty());
    write(Path::new(&machine.etc()), b"");
    let registry = machine.scan();
    assert_eq!(registry.notices().len(), 1);
    assert_eq!(registry.os_plugin("A", "1", "x").unwrap().id(), "Good");
}
