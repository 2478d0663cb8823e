//! XML that we write: elements in a chain, on xmltree. Escapes are the library's.

use xmltree::{Element, XMLNode};

/// An element with children, built in a chain.
pub(crate) struct Xml(pub(crate) Element);

impl Xml {
    /// `<name/>`.
    pub(crate) fn new(name: &str) -> Xml {
        Xml(Element::new(name))
    }

    /// `<name>text</name>`.
    pub(crate) fn text(name: &str, text: impl ToString) -> Xml {
        let mut element = Element::new(name);
        element.children.push(XMLNode::Text(text.to_string()));
        Xml(element)
    }

    /// With an attribute.
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Xml {
        self.0.attributes.insert(name.into(), value.to_string());
        self
    }

    /// With a child.
    pub(crate) fn child(mut self, child: Xml) -> Xml {
        self.0.children.push(XMLNode::Element(child.0));
        self
    }

    /// With a child `<name>text</name>`.
    pub(crate) fn leaf(self, name: &str, text: impl ToString) -> Xml {
        self.child(Xml::text(name, text))
    }

    /// With these children.
    pub(crate) fn children(self, children: impl IntoIterator<Item = Xml>) -> Xml {
        children.into_iter().fold(self, Xml::child)
    }

    /// As a document, in UTF-8.
    pub(crate) fn document(&self) -> std::result::Result<String, xmltree::Error> {
        let mut bytes = Vec::new();
        self.0.write(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
