//! POST of provider images: pushed from a target image, or by template with everything they need.

use std::sync::Arc;

use imagefactory_dispatch::requests::{CredentialsGiven, NewProviderImage};
use imagefactory_model::image::ImageKind;
use serde_json::Value;

use crate::rest::Rest;
use crate::rest::answers::Answer;
use crate::rest::bodies::{self, Fields, Payload};
use crate::rest::orders;
use crate::rest::problems::Problem;
use crate::rest::request::Request;
use crate::rest::routes::Found;

/// 202 with the new provider image.
pub(crate) async fn create(
    rest: &Arc<Rest>,
    request: &Request,
    found: &Found,
    body: Payload,
) -> Answer {
    let idempotency = orders::idempotency(request, found, &body)?;
    let in_path = super::images::parent_in_path(found, "target_image_id", ImageKind::TargetImage)?;
    let mut fields = bodies::fields(request, body, "provider_image", None).await?;
    let (target, provider, credentials) = required(&mut fields)?;
    let from = orders::made_from(&mut fields, "target_image_id", in_path)?;
    let options = orders::options(&mut fields, idempotency)?;
    let unknown = orders::unknown_fields(request, &fields)?;
    super::images::check_grandparent(rest, found).await?;
    rest.started().await;
    let new = NewProviderImage { target, provider, credentials, from, options };
    let accepted = rest.dispatcher.build_provider_image(new).await?;
    orders::accepted(request, found, accepted, unknown)
}

/// `target`, `provider` and `credentials`; the refusal names what is missing and shows no secret.
fn required(fields: &mut Fields) -> Result<(String, Value, CredentialsGiven), Problem> {
    let target = fields.text("target")?.map(|target| target.trim().to_owned());
    let provider = fields.value("provider").filter(|provider| !is_blank(provider));
    let credentials = orders::credentials(fields);
    let shown_credentials = match credentials {
        CredentialsGiven::Absent => None,
        CredentialsGiven::Named(_) | CredentialsGiven::Inline(_) => Some("REDACTED".to_owned()),
    };
    match (target, provider) {
        (Some(target), Some(provider)) if shown_credentials.is_some() => {
            Ok((target, provider, credentials))
        }
        (target, provider) => {
            let provider = provider.map(|provider| provider.to_string());
            let all = [
                ("target", target.map(|target| format!("{target:?}"))),
                ("provider", provider),
                ("credentials", shown_credentials),
            ];
            let missing: Vec<&str> =
                all.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
            let given: Vec<String> = all
                .iter()
                .filter_map(|(name, value)| {
                    let shown: String = value.as_ref()?.chars().take(200).collect();
                    Some(format!("{name}: {shown}"))
                })
                .collect();
            let given = if given.is_empty() { "nothing".to_owned() } else { given.join(", ") };
            Err(Problem::bad_request(format!(
                "missing: {}; given: {given}; a provider image needs target, provider and \
                 credentials",
                missing.join(", ")
            )))
        }
    }
}

fn is_blank(provider: &Value) -> bool {
    provider.as_str().is_some_and(|text| text.trim().is_empty())
}
