//! Rules 406 to 409: input that no good client sends.

use imagefactory_model::stage::Operation;
use imagefactory_plugin_sdk::abi::{
    IMGF_E_INVALID_ARGUMENT, IMGF_E_NOT_FOUND, IMGF_E_PANIC, IMGF_E_QUOTA, IMGF_E_UNSUPPORTED,
    IMGF_OK,
};
use serde_json::{Map, Value, json};

use super::bench::Bench;
use super::faults::expect_one_of;
use super::mock_host::Script;
use super::operation::is_known;
use super::stage_input::{StageTexts, TEXT_NAMES};

/// What refuses a client's input.
const REFUSALS: [i32; 4] =
    [IMGF_E_INVALID_ARGUMENT, IMGF_E_UNSUPPORTED, IMGF_E_NOT_FOUND, IMGF_E_QUOTA];
/// Ten times what the host accepts by default.
const HUGE_TEMPLATE_BYTES: usize = 10 << 20;

/// Runs every operation with texts that `change` has changed.
fn each_with(bench: &Bench, when: &str, change: impl Fn(&mut StageTexts)) {
    let Some(subject) = bench.subject() else { return };
    for operation in bench.operations(&subject) {
        if operation == Operation::Cleanup {
            continue;
        }
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        let mut texts = StageTexts::new(bench, &run.folders, operation);
        change(&mut texts);
        bench.report.phase(format!("{} when {when}", operation.name()));
        let returned = run.operation_with(operation, &texts);
        expect_one_of(bench, &returned, &REFUSALS, when);
    }
}

/// 406: templates that are no templates.
pub(super) fn stands_malformed_templates(bench: &Bench) {
    let good = bench.order.scenario.template_xml.clone();
    let half = good.char_indices().nth(good.chars().count() / 2).map_or(0, |(at, _)| at);
    let deep = "<a>".repeat(20_000);
    let cases: [(&str, &str, &str); 8] = [
        ("the template is empty", "", "{}"),
        ("the template breaks off", &good[..half], "{"),
        ("the template is no XML", "not a template at all", "not json"),
        ("the template has no content", "<template/>", "{}"),
        ("the template has another root", "<?xml version=\"1.0\"?><other><name/></other>", "[]"),
        ("the template is nested 20,000 deep", &deep, "[[[[[[[[[["),
        (
            "the template has an entity",
            "<!DOCTYPE t [<!ENTITY e \"x\">]><template><name>&e;</name></template>",
            "null",
        ),
        ("the template holds control characters", "<template>\u{1}\u{2}</template>", "\"\\u0001\""),
    ];
    for (when, xml, json) in cases {
        each_with(bench, when, |texts| {
            if texts.get("template_xml").is_some() {
                texts.set("template_xml", Some(xml.into()));
                texts.set("template_json", Some(json.into()));
            }
        });
    }
}

/// 407: a template of 10 MB.
pub(super) fn stands_a_huge_template(bench: &Bench) {
    const PLACE: &str = "imagefactory-validate-huge";
    let text = "imagefactory ".repeat(HUGE_TEMPLATE_BYTES / 13);
    let good = &bench.order.scenario.template_xml;
    let end = good.rfind("</template>").unwrap_or(good.len());
    let xml = format!("{}<description>{text}</description>{}", &good[..end], &good[end..]);
    let mut value: Value =
        serde_json::from_str(&bench.order.scenario.template_json).unwrap_or_else(|_| json!({}));
    if let Some(fields) = value.as_object_mut() {
        fields.insert("description".into(), PLACE.into());
    }
    let json = value.to_string().replace(PLACE, &text);
    each_with(bench, "the template has 10 MB", |texts| {
        if texts.get("template_xml").is_some() {
            texts.set("template_xml", Some(xml.clone().into_bytes()));
            texts.set("template_json", Some(json.clone().into_bytes()));
        }
    });
}

/// 408: parameters missing, extra, of another type.
pub(super) fn stands_odd_parameters(bench: &Bench) {
    let good = &bench.order.scenario.parameters;
    let mut cases: Vec<(String, Value)> = vec![
        ("there are no parameters".into(), json!({})),
        ("the parameters are no object".into(), json!([])),
    ];
    let mut extra = good.clone();
    extra.insert("imagefactory_validate_unknown".into(), json!({"deep": [1, null, "x"]}));
    cases.push(("there is a parameter more".into(), Value::Object(extra)));
    for name in good.keys().take(32) {
        let with = |value: Option<Value>| -> Value {
            let mut changed: Map<String, Value> = good.clone();
            changed.remove(name);
            changed.extend(value.map(|value| (name.clone(), value)));
            Value::Object(changed)
        };
        cases.push((format!("the parameter {name} is missing"), with(None)));
        for value in [Value::Null, json!(true), json!(-1e300), json!(""), json!({}), json!([[]])] {
            cases.push((format!("the parameter {name} is {value}"), with(Some(value))));
        }
    }
    for (when, parameters) in cases {
        let text = parameters.to_string().into_bytes();
        each_with(bench, &when, |texts| texts.set("parameters_json", Some(text.clone())));
    }
}

/// 409: absent is not empty, and neither is a crash.
pub(super) fn tells_absent_from_empty(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    for operation in bench.operations(&subject) {
        if operation == Operation::Cleanup {
            continue;
        }
        for name in TEXT_NAMES {
            for (how, text) in [("absent", None), ("empty", Some(Vec::new()))] {
                let Some(run) = bench.start(&subject, Script::default()) else { return };
                let mut texts = StageTexts::new(bench, &run.folders, operation);
                texts.set(name, text);
                bench.report.phase(format!("{} when {name} is {how}", operation.name()));
                let returned = run.operation_with(operation, &texts);
                let code = returned.code;
                if code != IMGF_OK && (!is_known(code) || code == IMGF_E_PANIC) {
                    let told = returned.told();
                    bench.report.failed(format!(
                        "{} answered {told} when {name} is {how}",
                        operation.name()
                    ));
                }
            }
        }
    }
}
