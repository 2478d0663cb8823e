//! The Query API's forms.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::wire::Asked;

/// Parameters by name.
pub(crate) type Form = BTreeMap<String, String>;

/// Of the body of a request.
pub(crate) fn form_of(asked: &Asked) -> Form {
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    let text =
        |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (text(name), text(value))).collect()
}

/// `RegisterImage`.
pub(crate) fn action_of(asked: &Asked) -> String {
    form_of(asked).get("Action").cloned().unwrap_or_else(|| "Unknown".to_owned())
}

/// `Name.1`, `Name.2`, …
pub(crate) fn list(form: &Form, name: &str) -> Vec<String> {
    (1..).map_while(|number| form.get(&format!("{name}.{number}")).cloned()).collect()
}

/// The tags of a kind of resource, of all `TagSpecification.N`.
pub(crate) fn tags_for(form: &Form, resource: &str) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for number in 1.. {
        let prefix = format!("TagSpecification.{number}");
        let Some(kind) = form.get(&format!("{prefix}.ResourceType")) else { break };
        if kind == resource {
            tags.extend(pairs(form, &format!("{prefix}.Tag")));
        }
    }
    tags
}

/// `Tag.1.Key`, `Tag.1.Value`, …
pub(crate) fn pairs(form: &Form, prefix: &str) -> BTreeMap<String, String> {
    let pair = |number: u32| {
        let key = form.get(&format!("{prefix}.{number}.Key"))?;
        Some((key.clone(), form.get(&format!("{prefix}.{number}.Value"))?.clone()))
    };
    (1..).map_while(pair).collect()
}

/// The filters: name and its values.
pub(crate) fn filters(form: &Form) -> Vec<(String, Vec<String>)> {
    let filter = |number: u32| {
        let name = form.get(&format!("Filter.{number}.Name"))?.clone();
        Some((name, list(form, &format!("Filter.{number}.Value"))))
    };
    (1..).map_while(filter).collect()
}
