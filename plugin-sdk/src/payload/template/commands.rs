//! `<commands>` and `<precommands>`: what runs in the guest, in which order. Either no command has
//! a position and they run as written, or all have one and the positions are 1, 2, 3 … without gap.

use std::fmt;

use roxmltree::Node;
use serde::{Deserialize, Serialize};

use super::vocabulary as rule;
use super::{contents, source, ContentType, TemplateRules};
use crate::payload::finding::quoted;
use crate::payload::xml::walk::Walk;

/// A command, or a script, that runs in the guest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// For people and logs.
    pub name: String,
    /// How `command` is written.
    #[serde(rename = "type")]
    pub kind: ContentType,
    /// The command, trimmed; never empty.
    pub command: String,
    /// As given; the list that it stands in is in running order already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

impl Command {
    /// The command's bytes; `None` where they must be fetched from `command`, a URL.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.kind.bytes(&self.command)
    }
}

/// Commands may hold passwords: only their length is shown.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({:?}, {:?}, {} bytes)", self.name, self.kind, self.command.len())
    }
}

/// In running order.
pub(super) fn read_commands<'d>(
    walk: &mut Walk<'d>,
    node: Node<'d, 'd>,
    rules: &TemplateRules,
) -> Vec<Command> {
    let commands = walk.open(node, &rule::COMMANDS);
    let mut read = Vec::with_capacity(commands.children().len());
    let mut order_is_known = true;
    for &child in commands.children() {
        let command = walk.open(child, &rule::COMMAND);
        let content = walk.text_of(child);
        let kind = contents::read_type(walk, &command);
        if content.is_empty() {
            let message = "the <command> is empty; write what to run, or remove it";
            walk.find(child, message.to_owned());
        } else if let Some(kind) = kind {
            contents::check_content(walk, child, kind, &content);
            if kind == ContentType::Url {
                source::check_fetched(walk, child, &content, rules.source);
            }
        }
        let position = command.attribute("position").and_then(|text| {
            let position = read_position(text);
            if position.is_none() {
                order_is_known = false;
                let message = format!("the position {} is no whole number", quoted(text));
                walk.find(child, message);
            }
            position
        });
        let name = command.attribute("name").unwrap_or("").to_owned();
        let kind = kind.unwrap_or(ContentType::Raw);
        read.push((child, Command { name, kind, command: content, position }));
    }
    if order_is_known {
        sort_by_position(walk, &mut read);
    }
    read.into_iter().map(|(_, command)| command).collect()
}

/// ASCII digits only. Numbers beyond 64 bits are no position: no template has so many commands.
fn read_position(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn sort_by_position<'d>(walk: &mut Walk<'d>, commands: &mut [(Node<'d, 'd>, Command)]) {
    if commands.iter().all(|(_, command)| command.position.is_none()) {
        return;
    }
    if let Some((node, command)) = commands.iter().find(|(_, each)| each.position.is_none()) {
        let message = format!(
            "the command {} has no position, but others have; give all of them one, or none",
            quoted(&command.name)
        );
        walk.find(*node, message);
        return;
    }
    commands.sort_by_key(|(_, command)| command.position);
    for (index, (node, command)) in commands.iter().enumerate() {
        let expected = index as u64 + 1;
        let found = command.position.unwrap_or(expected);
        if found != expected {
            let problem = if found < expected { "is there already" } else { "leaves a gap" };
            let message = format!(
                "the position {found} of the command {} {problem}; {} commands run as 1 to {}",
                quoted(&command.name),
                commands.len(),
                commands.len()
            );
            walk.find(*node, message);
            return;
        }
    }
}
