//! JSON strings to text and back, and objects written member by member.

/// A text as a JSON string, quotes included.
pub fn quote(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            c if u32::from(c) < 0x20 => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// Writes a JSON object member by member.
///
/// ```
/// use imagefactory_plugin_sdk::author::json::Object;
///
/// let verified = Object::new().bool("ok", true).text("how", "boots in \"4 s\"").end();
/// assert_eq!(verified, r#"{"ok":true,"how":"boots in \"4 s\""}"#);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Object {
    members: String,
}

impl Object {
    /// An empty object.
    pub fn new() -> Object {
        Object::default()
    }

    /// A member that is a text.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Object {
        self.json(name, &quote(value))
    }

    /// A member that is a whole number.
    #[must_use]
    pub fn number(self, name: &str, value: u64) -> Object {
        self.json(name, &value.to_string())
    }

    /// A member that is true or false.
    #[must_use]
    pub fn bool(self, name: &str, value: bool) -> Object {
        self.json(name, if value { "true" } else { "false" })
    }

    /// A member that is JSON already.
    #[must_use]
    pub fn json(mut self, name: &str, value_json: &str) -> Object {
        if !self.members.is_empty() {
            self.members.push(',');
        }
        self.members.push_str(&quote(name));
        self.members.push(':');
        self.members.push_str(value_json);
        self
    }

    /// The object's text.
    pub fn end(self) -> String {
        format!("{{{}}}", self.members)
    }
}

/// The text that the inside of a JSON string stands for; a lone surrogate becomes U+FFFD.
pub(super) fn unescape(inside: &str) -> String {
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let kind = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or("");
        match kind {
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            b'u' => {
                let mut units = vec![hex_unit(&mut rest)];
                let high = (0xd800..0xdc00).contains(&units[0]);
                if high && rest.starts_with("\\u") {
                    rest = &rest[2..];
                    units.push(hex_unit(&mut rest));
                }
                text.extend(char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')));
            }
            other => text.push(char::from(other)),
        }
    }
    text.push_str(rest);
    text
}

/// Takes four hexadecimal digits off the front.
fn hex_unit(rest: &mut &str) -> u16 {
    let digits = rest.get(..4).unwrap_or("");
    *rest = rest.get(4..).unwrap_or("");
    u16::from_str_radix(digits, 16).unwrap_or(0xfffd)
}
