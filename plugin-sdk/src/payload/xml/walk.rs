//! Walks an XML tree along a closed vocabulary: a table says which attributes and children an
//! element has and how often, and the walk reports whatever departs from it, with line, column and
//! the nearest known name. Meaning (numbers, URLs, order) is the callers' business. The walk goes
//! exactly as deep as the callers' code asks, never as deep as the document.

use roxmltree::{Document, Node};

use crate::payload::finding::{quoted, Finding, Findings};
use crate::payload::nearest::nearest;

/// How often a child may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    One,
    AtMostOne,
    Any,
}

/// What an element may hold. `attributes`: name and whether it is required.
#[derive(Debug)]
pub(crate) struct ElementRule {
    pub(crate) attributes: &'static [(&'static str, bool)],
    pub(crate) children: &'static [(&'static str, Times)],
}

/// An element that holds text only.
pub(crate) const TEXT: ElementRule = ElementRule { attributes: &[], children: &[] };

/// What becomes of names that the vocabulary does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownNames {
    /// A finding like any other.
    Refused,
    /// Ignored, as the document's format always was; kept as a remark.
    Remarked,
}

/// One walk through one document.
pub(crate) struct Walk<'d> {
    document: &'d Document<'d>,
    unknown: UnknownNames,
    pub(crate) findings: Findings,
    pub(crate) remarks: Findings,
}

/// An element whose attributes and children were checked against its rule.
pub(crate) struct Opened<'d> {
    pub(crate) node: Node<'d, 'd>,
    children: Vec<Node<'d, 'd>>,
}

impl<'d> Opened<'d> {
    /// The first child of that name. A second one was reported already.
    pub(crate) fn child(&self, name: &str) -> Option<Node<'d, 'd>> {
        self.children.iter().copied().find(|child| child.tag_name().name() == name)
    }

    /// All children that the vocabulary knows, in document order.
    pub(crate) fn children(&self) -> &[Node<'d, 'd>] {
        &self.children
    }

    /// The attribute's value, as written.
    pub(crate) fn attribute(&self, name: &str) -> Option<&'d str> {
        self.node.attribute(name)
    }
}

impl<'d> Walk<'d> {
    pub(crate) fn new(document: &'d Document<'d>, unknown: UnknownNames) -> Self {
        let (findings, remarks) = (Findings::default(), Findings::default());
        Walk { document, unknown, findings, remarks }
    }

    /// The root element, if it has that name and no namespace.
    pub(crate) fn root(&mut self, name: &str) -> Option<Node<'d, 'd>> {
        let root = self.document.root_element();
        if root.tag_name().name() == name && root.tag_name().namespace().is_none() {
            return Some(root);
        }
        let message = match root.tag_name().namespace() {
            Some(namespace) => format!(
                "the outermost element is <{}> of the namespace {}; it must be <{name}> without a \
                 namespace",
                root.tag_name().name(),
                quoted(namespace)
            ),
            None => format!(
                "the outermost element is <{}>; it must be <{name}>",
                shown_name(root.tag_name().name())
            ),
        };
        self.find(root, message);
        None
    }

    /// Checks one element against its rule, not its children's children.
    pub(crate) fn open(&mut self, node: Node<'d, 'd>, rule: &ElementRule) -> Opened<'d> {
        self.check_attributes(node, rule);
        let mut children = Vec::new();
        let known: Vec<&str> = rule.children.iter().map(|(name, _)| *name).collect();
        let mut seen = vec![0usize; known.len()];
        for child in node.children() {
            if child.is_text() {
                if !rule.children.is_empty() && !is_xml_blank(child.text().unwrap_or("")) {
                    let message = format!(
                        "text stands directly inside <{}>; it holds only {}",
                        tag(node),
                        listed(&known)
                    );
                    self.find(child, message);
                }
                continue;
            }
            if !child.is_element() {
                continue;
            }
            let index = known.iter().position(|name| *name == child.tag_name().name());
            match index.filter(|_| child.tag_name().namespace().is_none()) {
                Some(index) => {
                    seen[index] += 1;
                    let single = matches!(rule.children[index].1, Times::One | Times::AtMostOne);
                    if single && seen[index] == 2 {
                        let message = format!(
                            "<{}> has a second <{}>; there may be one",
                            tag(node),
                            known[index]
                        );
                        self.find(child, message);
                    }
                    children.push(child);
                }
                None => self.unknown_child(node, child, &known),
            }
        }
        for (index, (name, times)) in rule.children.iter().enumerate() {
            if seen[index] == 0 && *times == Times::One {
                self.find(node, format!("<{}> has no <{name}>; add one", tag(node)));
            }
        }
        Opened { node, children }
    }

    /// The text of an element without child elements, trimmed. Comments do not end it.
    pub(crate) fn text(&mut self, node: Node<'d, 'd>) -> String {
        self.open(node, &TEXT);
        self.text_of(node)
    }

    /// The trimmed text of an element that was opened already.
    pub(crate) fn text_of(&self, node: Node<'d, 'd>) -> String {
        let mut text = String::new();
        for child in node.children().filter(|child| child.is_text()) {
            text.push_str(child.text().unwrap_or(""));
        }
        text.trim().to_owned()
    }

    /// Adds a finding at the element's place.
    pub(crate) fn find(&mut self, node: Node<'_, '_>, message: String) {
        let finding = place(self.document, &self.findings, node, message);
        self.findings.add(finding);
    }

    /// Adds a remark at the element's place: odd, but accepted.
    pub(crate) fn remark(&mut self, node: Node<'_, '_>, message: String) {
        let finding = place(self.document, &self.remarks, node, message);
        self.remarks.add(finding);
    }

    fn check_attributes(&mut self, node: Node<'d, 'd>, rule: &ElementRule) {
        let known: Vec<&str> = rule.attributes.iter().map(|(name, _)| *name).collect();
        for attribute in node.attributes() {
            if attribute.namespace().is_none() && known.contains(&attribute.name()) {
                continue;
            }
            let name = shown_name(attribute.name());
            let message = match (nearest(attribute.name(), &known), known.is_empty()) {
                (Some(near), _) => {
                    format!("<{}> has no attribute {name}; did you mean {near}?", tag(node))
                }
                (None, true) => format!("<{}> has no attributes; remove {name}", tag(node)),
                (None, false) => {
                    format!("<{}> has no attribute {name}; it has {}", tag(node), known.join(", "))
                }
            };
            self.unknown(node, message);
        }
        for (name, _) in rule.attributes.iter().filter(|(_, required)| *required) {
            if node.attribute(*name).is_none() {
                self.find(node, format!("<{}> lacks the attribute {name}", tag(node)));
            }
        }
    }

    fn unknown_child(&mut self, node: Node<'d, 'd>, child: Node<'d, 'd>, known: &[&str]) {
        let name = child.tag_name().name();
        let shown = shown_name(name);
        let message = if let Some(namespace) = child.tag_name().namespace() {
            format!("<{shown}> of the namespace {} is not known here", quoted(namespace))
        } else if let Some(near) = nearest(name, known) {
            format!("<{}> has no element <{shown}>; did you mean <{near}>?", tag(node))
        } else if known.is_empty() {
            format!("<{}> holds text only; remove the element <{shown}>", tag(node))
        } else {
            format!("<{}> has no element <{shown}>; it has {}", tag(node), listed(known))
        };
        self.unknown(child, message);
    }

    fn unknown(&mut self, node: Node<'_, '_>, message: String) {
        match self.unknown {
            UnknownNames::Refused => self.find(node, message),
            UnknownNames::Remarked => self.remark(node, format!("{message} (ignored)")),
        }
    }
}

/// Finding a place costs a pass over the document, so it is spared once no more are kept.
fn place(document: &Document<'_>, to: &Findings, node: Node<'_, '_>, message: String) -> Finding {
    if to.is_full() {
        return Finding { line: 0, column: 0, message };
    }
    let position = document.text_pos_at(node.range().start);
    Finding { line: position.row, column: position.col, message }
}

/// An element's own name; it was matched with the vocabulary or is shown through this.
pub(crate) fn tag(node: Node<'_, '_>) -> String {
    shown_name(node.tag_name().name())
}

/// XML's own idea of blank, which is narrower than Unicode's.
fn is_xml_blank(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' ' | '\t' | '\r' | '\n'))
}

/// A name from the document, shortened: names may be a megabyte long. XML names hold no controls.
fn shown_name(name: &str) -> String {
    let mut shown: String = name.chars().take(60).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    shown
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ")
}
