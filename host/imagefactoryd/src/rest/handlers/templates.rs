//! POST `/templates/validate`: judges a template at once, without ordering anything.

use std::sync::Arc;

use hyper::http::StatusCode;
use imagefactory_plugin_sdk::payload::template::{Install, Template, TemplateRules};
use serde_json::{Value, json};

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};
use crate::rest::bodies::{self, Payload};
use crate::rest::orders;
use crate::rest::problems::Problem;
use crate::rest::request::Request;

/// 200 with what the template says and which OS plugin serves it, or 422 with every finding.
pub(crate) async fn validate(rest: &Arc<Rest>, request: &Request, body: Payload) -> Answer {
    let template = match bodies::xml_itself(request, &body)? {
        Some(xml) => xml,
        None => {
            let mut fields = bodies::fields(request, body, "base_image", None).await?;
            let template = orders::template(&mut fields)?;
            orders::unknown_fields(request, &fields)?;
            template.ok_or_else(|| Problem::bad_request("'template' is missing"))?
        }
    };
    rest.started().await;
    let rules = TemplateRules {
        require_root_password: rest.dispatcher.configuration().tdl_require_root_pw,
        ..TemplateRules::rest()
    };
    // XML of up to a megabyte: milliseconds that other requests need not wait for.
    let parsed = tokio::task::spawn_blocking(move || Template::parse(&template, &rules)).await;
    let parsed = parsed.map_err(|error| Problem::internal(&error))?;
    let template = parsed.map_err(|error| {
        let errors = error.findings.iter().map(|finding| {
            json!({"line": finding.line, "column": finding.column, "detail": finding.message})
        });
        let detail = format!("the template has {} findings", error.findings.len());
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_errors(errors.collect())
    })?;
    let registry = rest.dispatcher.registry();
    let os = &template.os;
    match registry.os_plugin(&os.name, &os.version, os.arch.name()) {
        Ok(entry) => {
            let document = json!({"template": summary(&template), "plugin": entry.id()});
            Ok(answers::json(StatusCode::OK, &document))
        }
        Err(missing) => {
            let errors = vec![json!({"line": 0, "column": 0, "detail": missing.to_string()})];
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, missing.to_string());
            Err(problem.with_errors(errors))
        }
    }
}

/// What a person checks; no password and no content.
fn summary(template: &Template) -> Value {
    let os = &template.os;
    let (install, url) = match &os.install {
        Install::Url { url } => ("url", url),
        Install::Iso { iso, .. } => ("iso", iso),
    };
    json!({
        "name": template.name,
        "description": template.description,
        "os": {
            "name": os.name,
            "version": os.version,
            "arch": os.arch.name(),
            "install": {"type": install, "url": imagefactory_model::document::masked_url(url)},
            "rootpw_given": os.rootpw.is_some(),
        },
        "disk_size_bytes": template.disk_size.as_ref().and_then(|size| size.bytes())
            .and_then(|bytes| u64::try_from(bytes).ok()),
        "packages": template.packages.iter().map(|package| &package.name).collect::<Vec<_>>(),
        "repositories": template.repositories.iter().map(|all| &all.name).collect::<Vec<_>>(),
        "files": template.files.iter().map(|file| &file.name).collect::<Vec<_>>(),
        "commands": template.commands.iter().map(|command| &command.name).collect::<Vec<_>>(),
    })
}
