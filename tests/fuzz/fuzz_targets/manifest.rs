//! Any bytes as a plugin's manifest or its drop-in: refused with reasons, or read; never a panic.
#![no_main]

use imagefactory_plugin_sdk::payload::manifest::{Manifest, ManifestDropIn};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((manifest, _warnings)) = Manifest::parse(bytes, "Plugin") {
        assert_eq!(manifest.id, "Plugin", "the id is the file's name");
        let canonical = serde_json::to_vec(&manifest).expect("a manifest has a JSON form");
        let (again, _) = Manifest::parse(&canonical, "Plugin").expect("the form is readable");
        assert_eq!(again, manifest);
    }
    if let Err(error) = ManifestDropIn::parse(bytes) {
        assert!(!error.to_string().is_empty());
    }
});
