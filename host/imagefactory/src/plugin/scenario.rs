//! What the operations of a validation are given: defaults that follow from the manifest, and what
//! the plugin's own `<Id>.validate.json` says instead.
//!
//! The file is the plugin author's; its keys are closed, so that a misspelt one is told and not
//! ignored. `docs/guides/validator.md` describes them.

use std::collections::BTreeMap;
use std::path::Path;

use imagefactory_model::frames::PluginKind;
use imagefactory_model::stage::Operation;
use imagefactory_model::validation::{ENDPOINT_PLACEHOLDER, Scenario};
use imagefactory_plugin_sdk::payload::template::{Template, TemplateRules};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::PluginError;
use super::subject::Subject;

/// Fixtures are a template, a provider and a few parameters.
const FIXTURES_BYTES_MAX: u64 = 4 << 20;
/// Enough for plugins that look at the input's content, little enough to be hashed often.
const INPUT_IMAGE_BYTES: u64 = 64 << 10;
/// A stage of a fixture may not last longer than a validation is waited for.
const INPUT_IMAGE_BYTES_MAX: u64 = 1 << 30;

/// `<Id>.validate.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fixtures {
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    operations: Option<Vec<Operation>>,
    template: Option<String>,
    template_file: Option<String>,
    parameters: Map<String, Value>,
    slow_parameters: Map<String, Value>,
    target: Option<String>,
    provider: Option<Value>,
    credentials: Option<String>,
    config: Map<String, Value>,
    input_image_bytes: Option<u64>,
    delete_identifier: Option<String>,
    endpoint_codes: BTreeMap<String, Vec<i32>>,
}

/// The scenario of a plugin.
pub(crate) fn scenario_of(subject: &Subject) -> Result<Scenario, PluginError> {
    let path = subject.folder().join(format!("{}.validate.json", subject.stem()));
    let wrong = |message: String| PluginError::Fixtures { path: path.clone(), message };
    let fixtures = read(&path)?;
    let template_xml = match (&fixtures.template, &fixtures.template_file) {
        (Some(_), Some(_)) => {
            return Err(wrong("template and template_file are both given".into()));
        }
        (Some(template), None) => template.clone(),
        (None, Some(file)) => {
            let file = subject.folder().join(file);
            std::fs::read_to_string(&file)
                .map_err(|source| PluginError::File { path: file, source })?
        }
        (None, None) => default_template(subject),
    };
    let template = Template::parse(&template_xml, &TemplateRules::command_line())
        .map_err(|error| wrong(format!("the template: {error}")))?;
    let template_json = template.to_json().map_err(|error| wrong(error.to_string()))?;
    let provider = fixtures.provider.map(|provider| match provider {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let parameters = Value::Object(fixtures.parameters.clone()).to_string();
    let uses_endpoint = provider.as_ref().is_some_and(|text| text.contains(ENDPOINT_PLACEHOLDER))
        || parameters.contains(ENDPOINT_PLACEHOLDER);
    Ok(Scenario {
        operations: fixtures.operations.unwrap_or_else(|| default_operations(subject)),
        template_xml,
        template_json,
        parameters: fixtures.parameters,
        slow_parameters: fixtures.slow_parameters,
        target: fixtures.target.or_else(|| default_target(subject)),
        provider: provider.or_else(|| default_provider(subject)),
        credentials: Some(fixtures.credentials.unwrap_or_else(default_credentials)),
        config: fixtures.config,
        input_image_bytes: fixtures
            .input_image_bytes
            .unwrap_or(INPUT_IMAGE_BYTES)
            .min(INPUT_IMAGE_BYTES_MAX),
        delete_identifier: fixtures.delete_identifier,
        uses_endpoint,
        endpoint_codes: fixtures.endpoint_codes,
    })
}

fn read(path: &Path) -> Result<Fixtures, PluginError> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Fixtures::default());
        }
        Err(source) => return Err(PluginError::File { path: path.to_owned(), source }),
    };
    let mut text = String::new();
    let read = file.take(FIXTURES_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|source| PluginError::File { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|error| PluginError::Fixtures {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

/// All that the manifest offers, in the order of a build.
fn default_operations(subject: &Subject) -> Vec<Operation> {
    let offered =
        subject.document.as_ref().and_then(|manifest| manifest["capabilities"].as_array());
    let Some(offered) = offered else { return Operation::ALL.to_vec() };
    let offers = |operation: &Operation| offered.iter().any(|name| name == operation.name());
    Operation::ALL.into_iter().filter(offers).collect()
}

/// A template for the first OS that the plugin serves.
fn default_template(subject: &Subject) -> String {
    let field = |index: usize, otherwise: &str| -> String {
        let pointer = format!("/targets/0/{index}");
        let given = match subject.kind() {
            PluginKind::Os => subject.text(&pointer),
            PluginKind::Cloud => "",
        };
        // Names of systems are plain; what would need escapes in XML is left to fixtures.
        let plain = given.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if given.is_empty() || !plain { otherwise.to_owned() } else { given.to_owned() }
    };
    format!(
        "<template><name>validate</name><os><name>{}</name><version>{}</version>\
         <arch>{}</arch><install type='url'><url>http://127.0.0.1/os/</url></install></os>\
         <description>imagefactory plugin validate</description></template>",
        field(0, "Validate"),
        field(1, "1"),
        field(2, "x86_64"),
    )
}

fn default_target(subject: &Subject) -> Option<String> {
    match subject.kind() {
        PluginKind::Os => Some("validate".to_owned()),
        PluginKind::Cloud => {
            Some(subject.text("/targets/0/0")).filter(|text| !text.is_empty()).map(str::to_owned)
        }
    }
}

/// A provider whose ledger the validator counts; plugins that know no ledger ignore the key.
fn default_provider(subject: &Subject) -> Option<String> {
    let cloud = subject.kind() == PluginKind::Cloud;
    cloud.then(|| r#"{"name":"validate","ledger":"${LEDGER}/ledger"}"#.to_owned())
}

/// Unlike anything that would stand in a log by accident.
fn default_credentials() -> String {
    "<provider_credentials><validate_credentials><password>canary-7f3a9c51e2d84b06</password>\
     </validate_credentials></provider_credentials>"
        .to_owned()
}
