//! Elements with their attributes and texts, and a document of them. Attributes stand in the order
//! of their names, so that the same descriptor has the same bytes.

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use xmltree::{Element, EmitterConfig, XMLNode};

/// An element with attributes.
pub(crate) fn element(name: &str, attributes: &[(&str, &str)]) -> Element {
    let mut element = Element::new(name);
    for (name, value) in attributes {
        element.attributes.insert((*name).to_owned(), (*value).to_owned());
    }
    element
}

/// An element with nothing but text.
pub(crate) fn text(name: &str, content: &str) -> Element {
    let mut element = Element::new(name);
    element.children.push(XMLNode::Text(content.to_owned()));
    element
}

/// Several of those.
pub(crate) fn texts(parent: &mut Element, contents: &[(&str, &str)]) {
    contents.iter().for_each(|(name, content)| add(parent, text(name, content)));
}

/// Puts a child at the end.
pub(crate) fn add(parent: &mut Element, child: Element) {
    parent.children.push(XMLNode::Element(child));
}

/// The document, indented, with a line end.
pub(crate) fn document(root: &Element) -> Result<Vec<u8>> {
    let mut xml = Vec::new();
    let config = EmitterConfig::new().perform_indent(true);
    root.write_with_config(&mut xml, config).map_err(|error| {
        PluginError::new(ErrorCode::Internal, format!("a descriptor's XML: {error}"))
    })?;
    xml.push(b'\n');
    Ok(xml)
}
