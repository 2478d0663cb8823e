//! Just enough JSON for a plugin without dependencies: reads members of a document, writes objects.
//!
//! With the `payload` feature serde does this better; this exists so that a plugin on the core alone
//! can read its parameters. Documents are checked as a whole before anything is read; nesting is
//! bounded.

use std::fmt;

/// Deeper documents are refused, so that a hostile one cannot exhaust the stack (serde_json's own
/// bound).
const DEPTH_MAX: usize = 128;

/// One value of a document that is known to be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a> {
    text: &'a str,
}

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// The byte at which it ceases to be JSON.
    pub at: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON at byte {}", self.at)
    }
}

impl std::error::Error for JsonError {}

impl<'a> Json<'a> {
    /// Checks a whole document.
    pub fn parse(text: &'a str) -> Result<Json<'a>, JsonError> {
        let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
        scanner.blanks();
        let start = scanner.at;
        scanner.value(DEPTH_MAX).ok_or(JsonError { at: scanner.at })?;
        let end = scanner.at;
        scanner.blanks();
        if scanner.at == text.len() {
            Ok(Json { text: &text[start..end] })
        } else {
            Err(JsonError { at: scanner.at })
        }
    }

    /// The value as it stands in the document.
    pub fn raw(&self) -> &'a str {
        self.text
    }

    /// Is it an object?
    pub fn is_object(&self) -> bool {
        self.text.starts_with('{')
    }

    /// Is it null?
    pub fn is_null(&self) -> bool {
        self.text == "null"
    }

    /// A member of an object; the last one of a name counts.
    pub fn member(&self, name: &str) -> Option<Json<'a>> {
        self.members().filter(|(key, _)| key == name).last().map(|(_, value)| value)
    }

    /// The members of an object in their order; nothing for any other value.
    pub fn members(&self) -> impl Iterator<Item = (String, Json<'a>)> {
        let mut items = Items::of(self.text, b'{');
        std::iter::from_fn(move || {
            let key = items.next()?.as_text()?;
            items.next().map(|value| (key, value))
        })
    }

    /// The elements of an array in their order; nothing for any other value.
    pub fn elements(&self) -> impl Iterator<Item = Json<'a>> {
        Items::of(self.text, b'[')
    }

    /// The text that it is, without its quotes and escapes.
    pub fn as_text(&self) -> Option<String> {
        self.text.strip_prefix('"')?.strip_suffix('"').map(unescape)
    }

    /// The whole number from 0 on that it is.
    pub fn as_u64(&self) -> Option<u64> {
        self.text.parse().ok()
    }

    /// The number that it is.
    pub fn as_f64(&self) -> Option<f64> {
        let is_number = self.text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        if is_number {
            self.text.parse().ok()
        } else {
            None
        }
    }

    /// True or false, if it is one of them.
    pub fn as_bool(&self) -> Option<bool> {
        self.text.parse().ok()
    }
}

/// The values between the brackets of an object (keys and values in turn) or an array.
struct Items<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
}

impl<'a> Items<'a> {
    fn of(text: &'a str, bracket: u8) -> Items<'a> {
        let bytes = if text.as_bytes().first() == Some(&bracket) { text.as_bytes() } else { b"" };
        Items { text, scanner: Scanner { bytes, at: 1 } }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        self.scanner.blanks();
        while matches!(self.scanner.peek(), Some(b',') | Some(b':')) {
            self.scanner.at += 1;
            self.scanner.blanks();
        }
        let start = self.scanner.at;
        self.scanner.value(DEPTH_MAX)?;
        Some(Json { text: &self.text[start..self.scanner.at] })
    }
}

/// Walks over JSON; stops (`None`) where it ceases to be JSON.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Some(())
        } else {
            None
        }
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'{' => self.list(b'}', depth, |scanner, depth| {
                scanner.string()?;
                scanner.blanks();
                scanner.expect(b':')?;
                scanner.blanks();
                scanner.value(depth)
            }),
            b'[' => self.list(b']', depth, Scanner::value),
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// What stands between brackets: items with commas between them.
    fn list(
        &mut self,
        end: u8,
        depth: usize,
        item: impl Fn(&mut Self, usize) -> Option<()>,
    ) -> Option<()> {
        self.at += 1;
        self.blanks();
        if self.expect(end).is_some() {
            return Some(());
        }
        loop {
            item(self, depth)?;
            self.blanks();
            if self.expect(end).is_some() {
                return Some(());
            }
            self.expect(b',')?;
            self.blanks();
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Some(())
        } else {
            None
        }
    }

    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            match self.peek()? {
                b'"' => return self.expect(b'"'),
                b'\\' => self.escape()?,
                0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        self.at += 1;
        let kind = self.peek()?;
        let digits = if kind == b'u' { 4 } else { 0 };
        if !b"\"\\/bfnrtu".contains(&kind) {
            return None;
        }
        self.at += 1;
        for _ in 0..digits {
            if !self.peek()?.is_ascii_hexdigit() {
                return None;
            }
            self.at += 1;
        }
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1, // no digit may follow: 007 is no number
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start {
            Some(())
        } else {
            None
        }
    }
}

/// The text that the inside of a JSON string stands for; a lone surrogate becomes U+FFFD.
fn unescape(inside: &str) -> String {
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
