//! Any text as a template: it is refused, or its JSON form means the same; never a panic.
#![no_main]

use imagefactory_plugin_sdk::payload::template::{Template, TemplateRules};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for rules in [TemplateRules::rest(), TemplateRules::command_line()] {
        match Template::parse(text, &rules) {
            Ok(template) => {
                let json = template.to_json().expect("a template has a JSON form");
                let again = Template::from_json(&json).expect("the JSON form is readable");
                assert_eq!(again, template);
            }
            Err(error) => {
                assert!(!error.findings.is_empty(), "refused without a reason");
                assert!(error.to_string().len() < 200_000, "an error longer than a page");
            }
        }
    }
});
