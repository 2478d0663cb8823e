//! `<files>`, and the three ways in which files and commands carry their content: as it is, in
//! base64, or as a URL that the stage fetches later.

use roxmltree::Node;
use serde::{Deserialize, Serialize};

use super::packages::LastOfAName;
use super::vocabulary as rule;
use super::{source, TemplateRules};
use crate::payload::base64;
use crate::payload::finding::quoted;
use crate::payload::xml::walk::{tag, Opened, Walk};

/// How a content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    /// As it is.
    Raw,
    /// Bytes in base64.
    Base64,
    /// Where it is fetched from.
    Url,
}

impl ContentType {
    /// The content's bytes; `None` where it must be fetched, or is base64 that was never checked
    /// and does not decode.
    pub(crate) fn bytes(self, content: &str) -> Option<Vec<u8>> {
        match self {
            ContentType::Raw => Some(content.as_bytes().to_vec()),
            ContentType::Base64 => base64::decode(content).ok(),
            ContentType::Url => None,
        }
    }
}

/// A file to put into the image.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateFile {
    /// Its path in the image.
    pub name: String,
    /// How `file` is written.
    #[serde(rename = "type")]
    pub kind: ContentType,
    /// The content, trimmed; may be empty.
    pub file: String,
}

impl TemplateFile {
    /// The file's bytes; `None` where they must be fetched from `file`, a URL.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.kind.bytes(&self.file)
    }
}

/// File contents may be keys or passwords: only their length is shown.
impl std::fmt::Debug for TemplateFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TemplateFile({:?}, {:?}, {} bytes)", self.name, self.kind, self.file.len())
    }
}

pub(super) fn read_files<'d>(
    walk: &mut Walk<'d>,
    node: Node<'d, 'd>,
    rules: &TemplateRules,
) -> Vec<TemplateFile> {
    let files = walk.open(node, &rule::FILES);
    let mut read = LastOfAName::default();
    for &child in files.children() {
        let file = walk.open(child, &rule::FILE);
        let name = file.attribute("name").unwrap_or("").to_owned();
        let content = walk.text_of(child);
        if let Some(kind) = read_type(walk, &file) {
            check_content(walk, child, kind, &content);
            if kind == ContentType::Url {
                source::check_fetched(walk, child, &content, rules.source);
            }
            read.insert(name.clone(), TemplateFile { name, kind, file: content });
        }
    }
    read.entries
}

/// The `type` attribute; without one the content is raw.
pub(super) fn read_type<'d>(walk: &mut Walk<'d>, of: &Opened<'d>) -> Option<ContentType> {
    match of.attribute("type") {
        None | Some("raw") => Some(ContentType::Raw),
        Some("base64") => Some(ContentType::Base64),
        Some("url") => Some(ContentType::Url),
        Some(other) => {
            let message = format!(
                "<{}> has the type {}; known are raw, base64 and url",
                tag(of.node),
                quoted(other)
            );
            walk.find(of.node, message);
            None
        }
    }
}

/// Base64 must decode; a URL must be there.
pub(super) fn check_content<'d>(
    walk: &mut Walk<'d>,
    node: Node<'d, 'd>,
    kind: ContentType,
    content: &str,
) {
    if let Err(why) = check_encoding(kind, content) {
        walk.find(node, format!("the content of <{}> {why}", tag(node)));
    }
}

/// The end of a sentence that starts with the content.
pub(crate) fn check_encoding(kind: ContentType, content: &str) -> Result<(), String> {
    match kind {
        ContentType::Base64 => match base64::decode(content) {
            Ok(_) => Ok(()),
            Err(why) => Err(format!("is not base64: it {why}")),
        },
        ContentType::Url if content.is_empty() => {
            Err("is empty where type=\"url\" needs a URL".to_owned())
        }
        _ => Ok(()),
    }
}
