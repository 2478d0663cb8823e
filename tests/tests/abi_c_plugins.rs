//! What all plugins of `tests/fixtures/c` have in common: one exported symbol, negotiation,
//! descriptor and tables that agree with the manifest. They show that the headers alone are enough
//! to write a plugin. What each does is `abi_c_os.rs` and `abi_c_cloud.rs`; how the real host runs
//! them is `abi_old_plugins.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_build;
mod abi_host;

use abi_build::{exported_symbols, fixtures, library};
use abi_host::Plugin;
use imagefactory_plugin_sdk::abi;
use imagefactory_plugin_sdk::payload::manifest::Manifest;
use serde_json::{Value, json};

#[test]
fn c_plugins_export_the_entry_symbol_and_nothing_else() {
    for id in ["CMockOS", "CMockCloud", "CxxMockOS"] {
        assert_eq!(exported_symbols(&library(id)), [abi::IMGF_ENTRY_SYMBOL], "{id}");
    }
}

#[test]
fn descriptors_and_tables_are_what_the_manifests_say() {
    for id in ["CMockOS", "CMockCloud", "CxxMockOS"] {
        let text = std::fs::read_to_string(fixtures().join(format!("{id}.json"))).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let plugin = Plugin::load(&library(id));
        assert_eq!(plugin.id(), manifest["id"]);
        assert_eq!(plugin.version(), manifest["version"]);
        let kind = if manifest["type"] == "os" { abi::IMGF_KIND_OS } else { abi::IMGF_KIND_CLOUD };
        assert_eq!(plugin.kind(), kind);
        assert_eq!(manifest["capabilities"], json!(operations(&plugin)), "{id}");
    }
}

/// Non-NULL operations of a plugin's tables, in the order of the header.
fn operations(plugin: &Plugin) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut slot = |name, there| found.extend(if there { Some(name) } else { None });
    if let Some(os) = plugin.interface::<abi::imgf_os_v1>(abi::IMGF_IFACE_OS_V1) {
        slot("create_base_image", os.create_base_image.is_some());
        slot("create_target_image", os.create_target_image.is_some());
    }
    if let Some(os) = plugin.interface::<abi::imgf_os_inputs_v1>(abi::IMGF_IFACE_OS_INPUTS_V1) {
        slot("resolve_inputs", os.resolve_inputs.is_some());
    }
    if let Some(os) = plugin.interface::<abi::imgf_os_verify_v1>(abi::IMGF_IFACE_OS_VERIFY_V1) {
        slot("verify_image", os.verify_image.is_some());
    }
    if let Some(cloud) = plugin.interface::<abi::imgf_cloud_v1>(abi::IMGF_IFACE_CLOUD_V1) {
        let will = cloud.builder_will_create_target_image.is_some();
        slot(
            "builder_should_create_target_image",
            cloud.builder_should_create_target_image.is_some(),
        );
        slot("builder_will_create_target_image", will);
        slot("builder_did_create_target_image", cloud.builder_did_create_target_image.is_some());
        slot("push_image_to_provider", cloud.push_image_to_provider.is_some());
        slot("snapshot_image_on_provider", cloud.snapshot_image_on_provider.is_some());
        slot("delete_from_provider", cloud.delete_from_provider.is_some());
    }
    if let Some(table) = plugin.interface::<abi::imgf_cleanup_v1>(abi::IMGF_IFACE_CLEANUP_V1) {
        slot("cleanup", table.cleanup.is_some());
    }
    found
}

#[test]
fn manifests_of_fixtures_old_plugins_and_template_are_read_without_a_finding() {
    let root = fixtures().join("../../..");
    let folders = ["tests/fixtures/c", "tests/old-plugins/1.0-rc", "plugin-sdk/examples/c"];
    let mut read = 0;
    for folder in folders {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let id = path.file_stem().unwrap().to_str().unwrap();
            let (manifest, findings) = Manifest::parse(&std::fs::read(&path).unwrap(), id)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(findings.is_empty(), "{}: {findings:?}", path.display());
            assert_eq!(manifest.id, id);
            read += 1;
        }
    }
    assert_eq!(read, 7);
}

#[test]
fn interface_ids_are_compared_in_full_and_without_a_nul() {
    let plugin = Plugin::load(&library("CMockOS"));
    let there = |id: &str| plugin.interface::<abi::imgf_os_v1>(id).is_some();
    assert!(there("imagefactory.os/1"));
    for id in
        ["", "imagefactory.os/", "imagefactory.os/10", "imagefactory.os/2", "imagefactory.cloud/1"]
    {
        assert!(!there(id), "{id:?}");
    }
    assert!(there(&"imagefactory.os/1/and more"[..17]), "the id ends with its length");
}

#[test]
fn negotiation_reads_the_stated_size_and_touches_nothing_behind_what_it_knows() {
    for id in ["CMockOS", "CMockCloud", "CxxMockOS"] {
        let plugin = Plugin::load(&library(id));
        for stated in [0, 4, 24, abi::IMGF_NEGOTIATE_SIZE_1_0 - 1] {
            let (status, after) = plugin.negotiate_stating(stated);
            assert_eq!(status, abi::IMGF_E_INVALID_ARGUMENT, "{id}: {stated} bytes");
            assert!(after.known.plugin.is_null() && after.known.chosen_abi == 0, "{id}: {stated}");
        }
        for stated in [abi::IMGF_NEGOTIATE_SIZE_1_0, 56, 64] {
            let (status, after) = plugin.negotiate_stating(stated);
            assert_eq!(status, abi::IMGF_OK, "{id}: {stated} bytes");
            assert_eq!(after.tail, [0xa5; 16], "{id}: {stated}");
        }
    }
}

#[test]
fn negotiation_takes_1_0_from_any_range_around_it_and_refuses_others_with_a_sentence() {
    for id in ["CMockOS", "CMockCloud", "CxxMockOS"] {
        let plugin = Plugin::load(&library(id));
        let wide = plugin.negotiate(abi::IMGF_ABI(0, 9), abi::IMGF_ABI(3, 7));
        assert_eq!((wide.status, wide.chosen_abi), (abi::IMGF_OK, abi::IMGF_ABI_1_0));
        for (min, max) in [((1, 1), (2, 0)), ((0, 1), (0, 9))] {
            let answer = plugin.negotiate(abi::IMGF_ABI(min.0, min.1), abi::IMGF_ABI(max.0, max.1));
            assert_eq!(answer.status, abi::IMGF_E_ABI);
            assert!(answer.refusal.contains(id) && answer.refusal.contains("1.0"));
            assert!(answer.plugin.is_null());
        }
    }
}
