//! `template check`: judges a template without building it. Exit status 1 if it is refused, or if
//! no plugin would build it.

use std::path::Path;

use imagefactory_configuration::settings::Settings;
use imagefactory_plugin_sdk::payload::finding::Finding;
use imagefactory_plugin_sdk::payload::template::{Template, TemplateRules};
use imagefactory_registry::{DescribedPlugins, Registry};
use serde_json::{Value, json};

use crate::error::{CommandError, FAILED};
use crate::inputs;
use crate::output::Output;
use crate::remote::RemoteFactory;

/// What was found.
pub(crate) struct Judgement {
    /// What is wrong with the template.
    pub(crate) findings: Vec<Finding>,
    /// Name, version, arch of its operating system, where it could be read.
    pub(crate) os: Option<[String; 3]>,
    /// The plugin that would build it, or why there is none.
    pub(crate) plugin: Result<String, String>,
}

impl Judgement {
    /// From a daemon's answer: a summary, or a problem with findings.
    pub(crate) fn from_wire(answer: &Value, is_refused: bool) -> Judgement {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if is_refused {
            let errors = answer["errors"].as_array().into_iter().flatten();
            let place = |value: &Value| {
                value.as_u64().and_then(|place| u32::try_from(place).ok()).unwrap_or(0)
            };
            let mut findings: Vec<Finding> = errors
                .map(|error| Finding {
                    line: place(&error["line"]),
                    column: place(&error["column"]),
                    message: text(&error["detail"]).unwrap_or_default(),
                })
                .collect();
            if findings.is_empty() {
                let message = text(&answer["detail"]).unwrap_or_else(|| "it is refused".to_owned());
                findings.push(Finding { line: 0, column: 0, message });
            }
            return Judgement { findings, os: None, plugin: Err(String::new()) };
        }
        let os = &answer["template"]["os"];
        let part = |key: &str| text(&os[key]);
        let os = part("name").zip(part("version")).zip(part("arch"));
        Judgement {
            findings: Vec::new(),
            os: os.map(|((name, version), arch)| [name, version, arch]),
            plugin: text(&answer["plugin"]).ok_or_else(|| "no plugin builds it".to_owned()),
        }
    }
}

/// With this process's plugins, as their manifests say; nothing is loaded and no store is needed.
pub(super) fn check_here(
    file: &Path,
    settings: &Settings,
    output: Output,
) -> Result<u8, CommandError> {
    let text = inputs::text(file, "the template")?;
    let rules = TemplateRules {
        require_root_password: settings.factory.tdl_require_root_pw,
        ..TemplateRules::command_line()
    };
    let judgement = match Template::parse(&text, &rules) {
        Err(refused) => {
            Judgement { findings: refused.findings, os: None, plugin: Err(String::new()) }
        }
        Ok(template) => {
            let registry = Registry::scan(&settings.factory.plugins, &DescribedPlugins::default());
            let os = [
                template.os.name.clone(),
                template.os.version.clone(),
                template.os.arch.name().to_owned(),
            ];
            let found = registry.os_plugin(&os[0], &os[1], &os[2]);
            let plugin =
                found.map(|entry| entry.id().to_owned()).map_err(|missing| missing.to_string());
            Judgement { findings: Vec::new(), os: Some(os), plugin }
        }
    };
    tell(file, &judgement, output)
}

/// With a daemon's rules and plugins.
pub(super) async fn check_there(
    file: &Path,
    daemon: &RemoteFactory,
    output: Output,
) -> Result<u8, CommandError> {
    let text = inputs::text(file, "the template")?;
    let judgement = daemon.judge(&text).await?;
    tell(file, &judgement, output)
}

fn tell(file: &Path, judgement: &Judgement, output: Output) -> Result<u8, CommandError> {
    let plugin = judgement.plugin.as_ref();
    let is_good = judgement.findings.is_empty() && plugin.is_ok();
    if output.is_json() {
        let os = judgement
            .os
            .as_ref()
            .map(|[name, version, arch]| json!({"name": name, "version": version, "arch": arch}));
        output.document(&json!({
            "valid": is_good,
            "findings": judgement.findings,
            "os": os,
            "plugin": plugin.ok(),
            "error": plugin.err().filter(|why| !why.is_empty()).map_or(Value::Null, |why| json!(why)),
        }))?;
    } else {
        output.text(&lines(file, judgement))?;
    }
    Ok(if is_good { 0 } else { FAILED })
}

/// `FILE:LINE:COLUMN: sentence`, as compilers say it, so that editors jump there.
fn lines(file: &Path, judgement: &Judgement) -> String {
    let file = file.display();
    let mut lines = String::new();
    for finding in &judgement.findings {
        let place = match finding.line {
            0 => String::new(),
            line => format!("{line}:{}:", finding.column),
        };
        lines.push_str(&format!("{file}:{place} {}\n", finding.message));
    }
    match (&judgement.plugin, &judgement.os) {
        (Ok(plugin), Some([name, version, arch])) => {
            lines.push_str(&format!("{file}: {name} {version} {arch}, built by {plugin}\n"));
        }
        (Ok(plugin), None) => lines.push_str(&format!("{file}: built by {plugin}\n")),
        (Err(why), _) if !why.is_empty() => lines.push_str(&format!("{file}: {why}\n")),
        (Err(_), _) => {}
    }
    lines
}
