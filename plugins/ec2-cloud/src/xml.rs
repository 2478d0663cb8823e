//! Reading the few elements that matter out of an XML answer.
//!
//! roxmltree parses without recursion and refuses DTDs, so no answer can overflow a stack or name a
//! file. Namespaces are not compared: each version of EC2's API has its own.

use roxmltree::Node;

/// The first child element of that name.
pub(crate) fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.is_element() && child.tag_name().name() == name)
}

/// The text of the first child element of that name.
pub(crate) fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name).and_then(|child| child.text())
}

/// The entries of a list: `<name><item>…</item><item>…</item></name>`.
pub(crate) fn items<'a, 'input>(
    node: Node<'a, 'input>,
    name: &str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    let list = child(node, name);
    list.into_iter().flat_map(|list| list.children()).filter(|item| item.has_tag_name_of("item"))
}

trait TagName {
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl TagName for Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}
