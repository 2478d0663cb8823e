//! Reads the fields of one JSON object and remembers which names it was asked for.
//!
//! What was asked for is what is known: whatever is left over at the end is an unknown key, warned
//! of with the nearest known name. So the list of known keys cannot disagree with the code that
//! reads them. Wrong types are problems of the report, and the field then counts as absent.

use serde_json::{Map, Value};

use super::finding::{child, Report, FINDINGS_MAX};
use crate::payload::nearest::nearest;

/// Longest text of an ordinary field in bytes: descriptions and URLs are far below.
const TEXT_BYTES_MAX: usize = 4096;

/// Most entries of a list. The longest real one, TinMan's targets, has ten.
const LIST_ITEMS_MAX: usize = 256;

pub(super) struct ObjectReader<'v> {
    pointer: String,
    fields: &'v Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'v> ObjectReader<'v> {
    /// A reader of `value`, if it is an object.
    pub(super) fn open(value: &'v Value, pointer: &str, report: &mut Report) -> Option<Self> {
        match value {
            Value::Object(fields) => {
                Some(ObjectReader { pointer: pointer.to_owned(), fields, known: Vec::new() })
            }
            other => {
                report.problem(pointer, format!("must be an object, not {}", sort_of(other)));
                None
            }
        }
    }

    /// The pointer of one of its fields.
    pub(super) fn pointer_to(&self, key: &str) -> String {
        child(&self.pointer, key)
    }

    /// Any value.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'v Value> {
        self.known.push(key);
        self.fields.get(key)
    }

    /// A text of at most [`TEXT_BYTES_MAX`] without control characters.
    pub(super) fn text(&mut self, key: &'static str, report: &mut Report) -> Option<&'v str> {
        let value = self.value(key)?;
        text_of(value, &self.pointer_to(key), report)
    }

    /// A text that the document should have; where it is missing, a warning and the empty text.
    pub(super) fn expected_text(&mut self, key: &'static str, report: &mut Report) -> String {
        if !self.fields.contains_key(key) {
            report.warning(self.pointer_to(key), "is missing");
        }
        self.text(key, report).unwrap_or_default().to_owned()
    }

    /// A text that obeys `rule`.
    pub(super) fn text_by(
        &mut self,
        key: &'static str,
        rule: Rule,
        report: &mut Report,
    ) -> Option<&'v str> {
        let text = self.text(key, report)?;
        rule.check(text, &self.pointer_to(key), report)
    }

    /// A list of texts that obey `rule`, each at most once.
    pub(super) fn texts_by(
        &mut self,
        key: &'static str,
        rule: Rule,
        report: &mut Report,
    ) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for (pointer, item) in self.items(key, report) {
            let text = text_of(item, &pointer, report)
                .and_then(|text| rule.check(text, &pointer, report))
                .unwrap_or_default();
            if text.is_empty() {
                continue;
            }
            if texts.iter().any(|earlier| earlier == text) {
                report.warning(pointer, format!("{:?} stands twice", text));
            } else {
                texts.push(text.to_owned());
            }
        }
        texts
    }

    /// The items of a list with their pointers.
    pub(super) fn items(
        &mut self,
        key: &'static str,
        report: &mut Report,
    ) -> Vec<(String, &'v Value)> {
        let pointer = self.pointer_to(key);
        match self.value(key) {
            None => Vec::new(),
            Some(Value::Array(items)) if items.len() <= LIST_ITEMS_MAX => items
                .iter()
                .enumerate()
                .map(|(index, item)| (format!("{}/{}", pointer, index), item))
                .collect(),
            Some(Value::Array(items)) => {
                let message =
                    format!("has {} entries; at most {} are read", items.len(), LIST_ITEMS_MAX);
                report.problem(pointer, message);
                Vec::new()
            }
            Some(other) => {
                report.problem(pointer, format!("must be a list, not {}", sort_of(other)));
                Vec::new()
            }
        }
    }

    /// true or false.
    pub(super) fn flag(&mut self, key: &'static str, report: &mut Report) -> Option<bool> {
        match self.value(key)? {
            Value::Bool(flag) => Some(*flag),
            other => {
                let message = format!("must be true or false, not {}", sort_of(other));
                report.problem(self.pointer_to(key), message);
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        least: u64,
        most: u64,
        report: &mut Report,
    ) -> Option<u64> {
        let value = self.value(key)?;
        match value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                let given =
                    if value.is_number() { value.to_string() } else { sort_of(value).into() };
                let message =
                    format!("must be a whole number from {} to {}, not {}", least, most, given);
                report.problem(self.pointer_to(key), message);
                None
            }
        }
    }

    /// A reader of an object inside this one.
    pub(super) fn object(
        &mut self,
        key: &'static str,
        report: &mut Report,
    ) -> Option<ObjectReader<'v>> {
        let value = self.value(key)?;
        ObjectReader::open(value, &self.pointer_to(key), report)
    }

    /// The fields whose names begin with `x-`.
    pub(super) fn extensions(&self) -> Map<String, Value> {
        let vendors = self.fields.iter().filter(|(key, _)| key.starts_with("x-"));
        vendors.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Warns of each key that nobody asked for, except `x-…`.
    pub(super) fn finish_open(self, report: &mut Report) {
        let strangers = self.unknown_keys().filter(|key| !key.starts_with("x-"));
        // More are not kept, and looking for near names has its price.
        for key in strangers.take(FINDINGS_MAX + 1) {
            report.warning(self.pointer_to(key), self.unknown_key_message(key));
        }
    }

    /// As [`Self::finish_open`], for objects that have no `x-…` keys.
    pub(super) fn finish(self, report: &mut Report) {
        for key in self.unknown_keys().take(FINDINGS_MAX + 1) {
            report.warning(self.pointer_to(key), self.unknown_key_message(key));
        }
    }

    /// The keys that nobody asked for.
    fn unknown_keys(&self) -> impl Iterator<Item = &'v String> + '_ {
        self.fields.keys().filter(move |key| !self.known.contains(&key.as_str()))
    }

    /// The sentence about an unknown key, with the nearest known name.
    fn unknown_key_message(&self, key: &str) -> String {
        match nearest(key, &self.known) {
            Some(name) => format!("unknown key; did you mean {:?}?", name),
            None => "unknown key".to_owned(),
        }
    }
}

/// A test on a text and its description in words.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    /// Does the text obey?
    pub(super) holds: fn(&str) -> bool,
    /// Completes "must be …".
    pub(super) wanted: &'static str,
}

impl Rule {
    fn check<'t>(self, text: &'t str, pointer: &str, report: &mut Report) -> Option<&'t str> {
        if (self.holds)(text) {
            return Some(text);
        }
        report.problem(pointer, format!("must be {}, not {}", self.wanted, shown(text)));
        None
    }
}

/// A value as a text, or a problem.
pub(super) fn text_of<'v>(value: &'v Value, pointer: &str, report: &mut Report) -> Option<&'v str> {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES_MAX => {
            let message = format!("has {} bytes; at most {} are read", text.len(), TEXT_BYTES_MAX);
            report.problem(pointer, message);
            None
        }
        Value::String(text) if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => {
            report.problem(pointer, "holds control characters");
            None
        }
        Value::String(text) => Some(text),
        other => {
            report.problem(pointer, format!("must be a text, not {}", sort_of(other)));
            None
        }
    }
}

/// What sort of JSON value it is, in words.
pub(super) fn sort_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A text for a message: quoted, and no longer than a line.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    if text.chars().count() > CHARS_MAX {
        format!("{:?}…", text.chars().take(CHARS_MAX).collect::<String>())
    } else {
        format!("{:?}", text)
    }
}
