//! Any text as target content, JSON and XML: refused, or usable and the same after a round trip.
#![no_main]

use imagefactory_plugin_sdk::payload::target_content::{
    TargetContent, TargetContentFile, TargetContentPlace,
};
use imagefactory_plugin_sdk::payload::xml::XmlLimits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(content) = TargetContent::from_json(text) {
        for bytes in content.files.iter().map(|file| file.bytes()) {
            assert!(bytes.is_some(), "a checked file has no bytes");
        }
        for bytes in content.commands.iter().map(|command| command.bytes()) {
            assert!(bytes.is_some(), "a checked command has no bytes");
        }
        let json = content.to_json().expect("target content has a JSON form");
        assert_eq!(TargetContent::from_json(&json).expect("the JSON form is readable"), content);
    }
    if let Ok(file) = TargetContentFile::parse(text, &XmlLimits::default()) {
        let place = TargetContentPlace { target: "ec2", os: "F", version: "1", arch: "i386" };
        let _ = file.content_for(&place);
    }
});
