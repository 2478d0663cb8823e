//! Target content: what a target image gets beside its template. Cloud plugins ask for it in their
//! will-hook (JSON); operators configure it in target_content.xml (`file.rs`). One closed type for
//! both; the OS plugin applies it.

mod file;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::file::{TargetContentFile, TargetContentPlace};

use super::finding::{quoted, Finding};
use super::template::{check_encoding, ContentType, Package, Repository, TemplateFile};

/// Longest JSON document. Scripts and small files travel in it, images do not; a frame between
/// runner and daemon holds four of them.
pub const TARGET_CONTENT_BYTES_MAX: usize = 4 << 20;

/// What to add to a target image. Absent lists are empty; unknown keys are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetContent {
    /// Configured before packages are installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Repository>,
    /// Installed in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Package>,
    /// Written after packages are installed; raw or base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<TemplateFile>,
    /// Run last, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<TargetCommand>,
}

/// A command of target content: a template's command without a position.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetCommand {
    /// For people and logs.
    pub name: String,
    /// Raw or base64.
    #[serde(rename = "type")]
    pub kind: ContentType,
    /// The command; never empty.
    pub command: String,
}

impl TargetCommand {
    /// The command's bytes.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.kind.bytes(&self.command)
    }
}

/// Commands may hold passwords: only their length is shown.
impl fmt::Debug for TargetCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetCommand({:?}, {:?}, {} bytes)", self.name, self.kind, self.command.len())
    }
}

/// Target content that was refused. For JSON the plugin is at fault, for the file its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetContentError {
    /// At least one.
    pub findings: Vec<Finding>,
}

impl fmt::Display for TargetContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the target content is refused: ")?;
        for (index, finding) in self.findings.iter().enumerate() {
            write!(f, "{}{finding}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for TargetContentError {}

impl TargetContent {
    /// Nothing to add: the OS plugin need not touch the image.
    pub fn is_empty(&self) -> bool {
        *self == TargetContent::default()
    }

    /// Reads and checks what a cloud plugin gave to `add_cloud_plugin_content`.
    pub fn from_json(json: &str) -> Result<TargetContent, TargetContentError> {
        if json.len() > TARGET_CONTENT_BYTES_MAX {
            let message = format!(
                "the document has {} bytes; at most {TARGET_CONTENT_BYTES_MAX} are read",
                json.len()
            );
            return Err(TargetContentError { findings: vec![whole(message)] });
        }
        let content: TargetContent = serde_json::from_str(json).map_err(|error| {
            let (line, column) = (error.line() as u32, error.column() as u32);
            // serde_json ends its message with the place, which we show in front.
            let text = error.to_string();
            let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
            TargetContentError {
                findings: vec![Finding { line, column, message: message.to_owned() }],
            }
        })?;
        content.check()?;
        Ok(content)
    }

    /// The document for `add_cloud_plugin_content`.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Is every entry usable? Callers that build a value themselves ask before they send it.
    pub fn check(&self) -> Result<(), TargetContentError> {
        let mut findings = Vec::new();
        for (index, repository) in self.repositories.iter().enumerate() {
            if repository.name.is_empty() || repository.url.is_empty() {
                findings.push(whole(format!("repositories[{index}] needs a name and a url")));
            }
        }
        for (index, package) in self.packages.iter().enumerate() {
            if package.name.is_empty() {
                findings.push(whole(format!("packages[{index}] needs a name")));
            }
        }
        for (index, file) in self.files.iter().enumerate() {
            if !file.name.starts_with('/') {
                findings.push(whole(format!(
                    "files[{index}] has the name {}; write the path in the image, from /",
                    quoted(&file.name)
                )));
            }
            check_entry(&format!("files[{index}].file"), file.kind, &file.file, &mut findings);
        }
        for (index, command) in self.commands.iter().enumerate() {
            let place = format!("commands[{index}].command");
            if command.command.trim().is_empty() {
                findings.push(whole(format!("{place} is empty; write what to run")));
            }
            check_entry(&place, command.kind, &command.command, &mut findings);
        }
        findings.truncate(super::finding::FINDINGS_MAX);
        if findings.is_empty() {
            return Ok(());
        }
        Err(TargetContentError { findings })
    }
}

/// Cloud plugins bring what they need: a URL is the template's privilege, whose digest is recorded.
fn check_entry(place: &str, kind: ContentType, content: &str, findings: &mut Vec<Finding>) {
    if kind == ContentType::Url {
        findings.push(whole(format!("{place} is a url; target content is raw or base64")));
    } else if let Err(why) = check_encoding(kind, content) {
        findings.push(whole(format!("{place} {why}")));
    }
}

fn whole(message: String) -> Finding {
    Finding { line: 0, column: 0, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(json: &str, expected: &str) {
        let error = TargetContent::from_json(json).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn the_originals_shape_is_read() {
        let content = TargetContent::from_json(
            r#"{"commands":[{"name":"c","type":"raw","command":"yum -y install x"}],
                "files":[{"name":"/etc/x","type":"base64","file":"aGk="},
                         {"name":"/etc/empty","type":"raw","file":""}]}"#,
        )
        .unwrap();
        assert_eq!(content.files[0].bytes().unwrap(), b"hi");
        assert_eq!(content.commands[0].bytes().unwrap(), b"yum -y install x");
        assert!(!content.is_empty());
        assert!(TargetContent::from_json("{}").unwrap().is_empty());
    }

    #[test]
    fn repositories_have_a_templates_defaults() {
        let content = TargetContent::from_json(
            r#"{"repositories":[{"name":"r","url":"http://h/"}],"packages":[{"name":"p"}]}"#,
        )
        .unwrap();
        let repository = &content.repositories[0];
        assert!(!repository.signed && repository.persisted && !repository.sslverify);
    }

    #[test]
    fn what_cannot_be_applied_is_refused() {
        check_refused("", "EOF");
        check_refused("{\n\"x\":1}", "line 2:3: unknown field `x`");
        check_refused(r#"{"packages":[{"nam":"p"}]}"#, "unknown field `nam`");
        check_refused(r#"{"packages":[{"name":""}]}"#, "packages[0] needs a name");
        check_refused(
            r#"{"files":[{"name":"/a","type":"base64","file":"a"}]}"#,
            "files[0].file is not base64",
        );
        check_refused(r#"{"files":[{"name":"a","type":"raw","file":""}]}"#, "from /");
        check_refused(
            r#"{"commands":[{"name":"c","type":"url","command":"http://h/"}]}"#,
            "raw or base64",
        );
        check_refused(r#"{"commands":[{"name":"c","type":"raw","command":" "}]}"#, "is empty");
        check_refused(r#"{"repositories":[{"name":"r","url":""}]}"#, "repositories[0]");
        check_refused(&" ".repeat(TARGET_CONTENT_BYTES_MAX + 1), "are read");
        check_refused(&"[".repeat(100_000), "");
    }

    #[test]
    fn target_content_round_trips() {
        let json = r#"{"files":[{"name":"/f","type":"raw","file":"x"}]}"#;
        let content = TargetContent::from_json(json).unwrap();
        assert_eq!(content.to_json().unwrap(), json);
        assert!(!format!("{content:?}").contains("\"x\""), "contents stay out of logs");
    }
}
