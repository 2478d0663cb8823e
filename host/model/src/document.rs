//! An image as a JSON document, with the key names of 2012.
//!
//! One shape, read by many: the answer to POST and the body of callbacks (`{"base_image": {…}}`),
//! and with other key names the `.meta` files that scripts read. REST adds `href`, and for GET it
//! nests parents and children. Source: the REST document's examples; rest-contract.md "One image".

use serde_json::{Map, Value, json};

use crate::image::{Image, ImageKind};

/// The fields of the answer to POST, without `href`.
pub fn fields(image: &Image) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| {
        fields.insert(key.to_owned(), value);
    };
    put("_type", image.kind.type_name().into());
    put("id", image.id.to_string().into());
    put("template", json!(image.template));
    put("icicle", json!(image.icicle));
    put("status", image.status.name().into());
    put(
        "status_detail",
        json!({
            "activity": image.status_detail.activity,
            "error": image.status_detail.error,
            "error_code": image.status_detail.error_code,
        }),
    );
    put("percent_complete", image.percent_complete.into());
    put("parameters", parameters(image));
    put("properties", Value::Object(image.properties.clone()));
    let parent = image.parent.map(|id| id.to_string());
    match image.kind {
        ImageKind::BaseImage => {}
        ImageKind::TargetImage => {
            put("target", json!(image.target));
            put("base_image_id", json!(parent));
        }
        ImageKind::ProviderImage => {
            put("target", json!(image.target));
            put("provider", json!(image.provider));
            put("target_image_id", json!(parent));
            put("identifier_on_provider", json!(image.identifier_on_provider));
            put("provider_account_identifier", json!(image.provider_account_identifier));
        }
    }
    fields
}

/// `{"base_image": {…}}`: the fields under their root key, as callbacks carry them.
pub fn rooted(image: &Image) -> Value {
    let mut root = Map::new();
    root.insert(image.kind.name().to_owned(), Value::Object(fields(image)));
    Value::Object(root)
}

/// The `.meta` file beside a body: the original's keys, for scripts that read them.
///
/// `data` is the path of the body. Credentials stay out, as everywhere.
pub fn meta(image: &Image, data: Option<&std::path::Path>) -> Value {
    let mut meta = fields(image);
    meta.remove("_type");
    meta.remove("id");
    meta.insert("type".into(), image.kind.type_name().into());
    meta.insert("identifier".into(), image.id.to_string().into());
    meta.insert("data".into(), json!(data.map(|path| path.to_string_lossy())));
    Value::Object(meta)
}

/// Not sent: `{}` on base and target images, `null` on provider images (the document's examples).
/// Callback URLs are shown with their password masked.
fn parameters(image: &Image) -> Value {
    match (&image.parameters, image.kind) {
        (None, ImageKind::ProviderImage) => Value::Null,
        (None, _) => Value::Object(Map::new()),
        (Some(sent), _) => {
            let mut shown = sent.clone();
            if let Some(Value::Array(urls)) = shown.get_mut("callbacks") {
                for url in urls {
                    if let Value::String(text) = url {
                        *text = masked_url(text);
                    }
                }
            }
            Value::Object(shown)
        }
    }
}

/// The URL with the password of its user information as `***`.
pub fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    match authority.rsplit_once('@') {
        Some((user_information, host)) => {
            let user = user_information.split_once(':').map_or(user_information, |(user, _)| user);
            format!("{scheme}://{user}:***@{host}{tail}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Destination;

    fn check_masked(url: &str, shown: &str) {
        assert_eq!(masked_url(url), shown);
    }

    #[test]
    fn passwords_of_callback_urls_are_masked() {
        check_masked("http://a:b@h/p", "http://a:***@h/p");
        check_masked("http://a:b@c@h/p?q=x@y", "http://a:***@h/p?q=x@y");
        check_masked("http://h/p@q", "http://h/p@q");
        check_masked("http://token@h", "http://token:***@h");
        check_masked("nonsense", "nonsense");
    }

    #[test]
    fn unsent_parameters_differ_by_kind_as_the_document_prints_them() {
        let base = Image::new_base("<template/>".into(), None);
        assert_eq!(fields(&base).get("parameters"), Some(&json!({})));
        let provider = Image::new_provider(
            None,
            None,
            Destination { target: "ec2".into(), provider: "p".into(), credentials_name: None },
            None,
        );
        assert_eq!(fields(&provider).get("parameters"), Some(&Value::Null));
        assert_eq!(fields(&provider).get("target_image_id"), Some(&Value::Null));
    }
}
