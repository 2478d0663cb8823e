//! XML bodies: `<target_image><target>ec2</target></target_image>`, the document's own example.
//!
//! Read by the plugin SDK's hardened reader (no DTD, no entities, bounded depth). A `<template>`
//! may be nested as XML or be text; `<parameters>` has one child for each parameter, or is JSON
//! text.

use imagefactory_plugin_sdk::payload::xml::{self, XmlLimits};
use roxmltree::Node;
use serde_json::{Map, Value};

use super::Fields;
use super::form::insert;
use crate::rest::problems::Problem;

/// The fields below the root element.
pub(super) fn parse(text: &str, root: &str) -> Result<Fields, Problem> {
    // The body is within its own limit already; depth and number of elements are bounded here.
    let limits = XmlLimits { bytes_max: text.len(), ..XmlLimits::default() };
    let document = xml::parse(text, &limits)
        .map_err(|finding| Problem::bad_request(format!("the body: {finding}")))?;
    let element = document.root_element();
    if element.tag_name().name() != root {
        let found: String = element.tag_name().name().chars().take(60).collect();
        return Err(Problem::bad_request(format!(
            "the body's outermost element is <{found}>, and this address takes <{root}>"
        )));
    }
    let mut fields = Map::new();
    for child in element.children().filter(Node::is_element) {
        let name = child.tag_name().name();
        match name {
            "template" => insert(&mut fields, name, template(text, child))?,
            "parameters" if child.children().any(|inner| inner.is_element()) => {
                fields.insert(name.to_owned(), Value::Object(parameters(child)));
            }
            // Provider definitions and credentials are XML as often as text.
            _ if child.children().any(|inner| inner.is_element()) => {
                insert(&mut fields, name, inner_source(text, child))?;
            }
            _ => insert(&mut fields, name, text_of(child))?,
        }
    }
    Ok(Fields::new(fields))
}

/// `<template>` as XML of its own, or the text inside it. A wrapped one
/// (`<template><template>…</template></template>`) is the inner one.
fn template(source: &str, element: Node<'_, '_>) -> String {
    let children: Vec<Node<'_, '_>> = element.children().filter(Node::is_element).collect();
    match children.as_slice() {
        [] => text_of(element),
        [inner] if inner.tag_name().name() == "template" => source[inner.range()].to_owned(),
        _ => source[element.range()].to_owned(),
    }
}

fn parameters(element: Node<'_, '_>) -> Map<String, Value> {
    let children = element.children().filter(Node::is_element);
    children.map(|child| (child.tag_name().name().to_owned(), text_of(child).into())).collect()
}

fn text_of(element: Node<'_, '_>) -> String {
    element.children().filter_map(|child| child.is_text().then(|| child.text()).flatten()).collect()
}

/// The source between an element's tags.
fn inner_source(source: &str, element: Node<'_, '_>) -> String {
    let start = element.first_child().map(|child| child.range().start);
    let end = element.last_child().map(|child| child.range().end);
    match (start, end) {
        (Some(start), Some(end)) => source[start..end].trim().to_owned(),
        _ => String::new(),
    }
}
