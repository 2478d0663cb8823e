//! The workspace's own files as text, for tests that hold rules about them (tidy, floors).
//!
//! Walks the folders instead of asking git, so that the rules hold in an unpacked archive too. What
//! `.gitignore` names is left out. [`code_of`] blanks out comments and texts, so that a rule about
//! code does not stumble over a sentence about code.

use std::fs;
use std::path::{Path, PathBuf};

use crate::binaries;

/// Folders that hold results, not sources.
const NOT_OURS: [&str; 7] =
    ["target", ".git", "corpus", "artifacts", "coverage", "__pycache__", "node_modules"];

/// One file of the workspace.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// Its text; bytes that are no UTF-8 are replaced.
    pub text: String,
}

impl SourceFile {
    /// For planting a file that a rule must object to.
    pub fn planted(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    /// Without the dot; empty if it has none.
    pub fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|extension| extension.to_str()).unwrap_or("")
    }

    /// Lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// All files of these extensions, sorted by path.
pub fn files(extensions: &[&str]) -> Vec<SourceFile> {
    let root = binaries::workspace();
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace can be read") {
            let entry = entry.expect("an entry of the workspace can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) {
                open.push(entry.path());
            }
            let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
            if kind.is_file() && (extensions.contains(&extension) || extensions.contains(&&*name)) {
                found.push(read(&root, entry.path()));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no {extensions:?} in {}", root.display());
    found
}

fn read(root: &Path, path: PathBuf) -> SourceFile {
    let bytes = fs::read(&path).expect("a file of the workspace can be read");
    let relative = path.strip_prefix(root).expect("it was found below the workspace");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    SourceFile { path: relative.to_string_lossy().into_owned(), text }
}

/// Rust source with comments and the inside of texts replaced by spaces; line numbers stay.
pub fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest),
            'r' if !ends_in_name(&code) => raw_text(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        code.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[skipped..];
    }
    code
}

fn ends_in_name(code: &str) -> bool {
    code.chars().last().is_some_and(|last| last.is_alphanumeric() || last == '_')
}

/// Bytes of the comment at the start, nested ones included.
fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Bytes of the quoted text at the start.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Bytes of `r"…"` or `r##"…"##` at the start; 0 = it is neither.
fn raw_text(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..].find(&end).map_or(text.len(), |at| body + at + end.len())
}

/// Bytes of the character literal at the start; 0 = a lifetime.
fn character(text: &str) -> usize {
    let inside: Vec<(usize, char)> = text.char_indices().skip(1).take(2).collect();
    match inside.as_slice() {
        [(_, '\\'), ..] => {
            text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 3)
        }
        [_, (at, '\'')] => at + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::code_of;

    #[test]
    fn comments_and_texts_vanish_and_code_and_lines_stay() {
        let source = "let a = \"unsafe \\\" x\"; // unsafe\n/* unsafe /* more */ */ fn b<'a>() { '\"' }\n\
                      let c = r#\"unsafe \"quoted\" \"#; let d = '\\''; unsafe {}";
        let code = code_of(source);
        assert_eq!(code.matches("unsafe").count(), 1, "{code}");
        assert_eq!(code.lines().count(), source.lines().count());
        assert!(code.contains("fn b<'a>()") && code.contains("let d ="), "{code}");
    }
}
