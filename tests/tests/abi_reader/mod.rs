//! Reads C headers well enough to compare them: comments off, white space flat, one declaration at
//! a time. It knows the shapes that our headers use (integer, text and function-like macros,
//! structs of plain fields and function pointers, prototypes, typedefs) and stops at anything else,
//! so that nothing can hide from the comparison. Used by the `abi_*` tests.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests crate lies in the repository").to_path_buf()
}

/// What a plugin's compiler gets with -I.
pub(crate) fn include_dir() -> PathBuf {
    root().join("plugin-sdk/include")
}

/// Name and text of each header of the current ABI, by name.
pub(crate) fn header_files() -> Vec<(String, String)> {
    headers_in(&include_dir().join("imagefactory"))
}

/// Name and text of each `*.h` in `folder`, by name.
pub(crate) fn headers_in(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder);
    for entry in entries.unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.ends_with(".h"), "{name} is no header");
        found.push((name, std::fs::read_to_string(&path).unwrap()));
    }
    found.sort();
    found
}

/// One thing that a header says, without its comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Declaration {
    /// `#define NAME value` with an integer value.
    Integer { name: String, value: String },
    /// `#define NAME "text"`.
    Text { name: String, value: String },
    /// `#define NAME(args) body`, and the definitions of IMGF_EXPORT.
    Macro { name: String, body: String },
    /// `struct name { field; … }`, each field in one flat line.
    Struct { name: String, fields: Vec<Field> },
    /// A prototype or a typedef without a body.
    Line { text: String },
}

/// One member of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// `create_base_image`.
    pub(crate) name: String,
    /// `int32_t (*create_base_image)(imgf_instance *self, const imgf_stage *st)`.
    pub(crate) text: String,
}

impl Declaration {
    /// What it declares; the whole line where it has no name of its own.
    pub(crate) fn name(&self) -> &str {
        match self {
            Declaration::Integer { name, .. }
            | Declaration::Text { name, .. }
            | Declaration::Macro { name, .. }
            | Declaration::Struct { name, .. } => name,
            Declaration::Line { text } => text,
        }
    }

    /// One canonical text: equal if and only if the declarations are.
    pub(crate) fn canonical(&self) -> String {
        match self {
            Declaration::Integer { name, value } | Declaration::Text { name, value } => {
                format!("define {name} {value}")
            }
            Declaration::Macro { name, body } => format!("define {name} {body}"),
            Declaration::Struct { name, fields } => {
                let fields: Vec<&str> = fields.iter().map(|f| f.text.as_str()).collect();
                format!("struct {name} {{ {}; }}", fields.join("; "))
            }
            Declaration::Line { text } => text.clone(),
        }
    }
}

/// All declarations of one header text. `layout.h` declares nothing of its own and is skipped.
pub(crate) fn declarations(name: &str, text: &str) -> Vec<Declaration> {
    if name == "layout.h" {
        return Vec::new();
    }
    let plain = without_comments(text).replace("\\\n", " ");
    let mut found = Vec::new();
    let mut code = String::new();
    for line in plain.lines() {
        match line.trim_start().strip_prefix('#') {
            Some(directive) => found.extend(from_directive(name, directive.trim())),
            None => {
                code.push_str(line);
                code.push(' ');
            }
        }
    }
    found.extend(from_code(name, &flat(&code)));
    found
}

/// The text without `/* … */`; each comment becomes one blank.
fn without_comments(text: &str) -> String {
    assert!(!text.contains("//"), "C99 line comments are not our style");
    let mut plain = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find("/*") {
        plain.push_str(&rest[..begin]);
        plain.push(' ');
        let end = rest[begin..].find("*/").expect("a comment ends");
        rest = &rest[begin + end + 2..];
    }
    plain + rest
}

/// White space of any kind and length becomes one blank, none at the ends.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn from_directive(header: &str, directive: &str) -> Option<Declaration> {
    let directive = flat(directive);
    let (word, rest) = directive.split_once(' ').unwrap_or((&directive, ""));
    match word {
        "ifndef" | "ifdef" | "if" | "else" | "endif" | "include" | "undef" => return None,
        "define" => {}
        _ => panic!("{header}: unknown directive #{directive}"),
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, body) = (rest[..end].to_string(), rest[end..].trim().to_string());
    if name.starts_with("IMAGEFACTORY_") && name.ends_with("_H") && body.is_empty() {
        return None; // include guard
    }
    assert!(name.starts_with("IMGF_"), "{header}: {name} lacks the prefix IMGF_");
    Some(if body.starts_with('"') {
        Declaration::Text { name, value: body }
    } else if name == "IMGF_EXPORT" || rest[end..].starts_with('(') {
        Declaration::Macro { name, body }
    } else {
        Declaration::Integer { name, value: body }
    })
}

/// Splits at the semicolons (and the braces of extern "C") of the outermost level.
fn from_code(header: &str, code: &str) -> Vec<Declaration> {
    let code = code.replace("extern \"C\" {", ""); // its closing brace is dropped below
    let mut found = Vec::new();
    let mut depth = 0_i32;
    let mut begin = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => begin = at + 1, // of extern "C"
            '}' => depth -= 1,
            ';' if depth == 0 => {
                found.push(from_statement(header, code[begin..at].trim()));
                begin = at + 1;
            }
            _ => {}
        }
    }
    assert!(code[begin..].trim().is_empty(), "{header}: cannot read {:?}", &code[begin..]);
    found
}

fn from_statement(header: &str, statement: &str) -> Declaration {
    let Some((head, rest)) = statement.split_once('{') else {
        return Declaration::Line { text: flat(statement) };
    };
    let name = head.trim().trim_start_matches("typedef ").trim_start_matches("struct ").trim();
    let (body, alias) = rest.rsplit_once('}').expect("a struct ends");
    assert!(
        alias.trim() == name || !head.starts_with("typedef"),
        "{header}: struct {name} is called {alias} too"
    );
    let fields = body.split(';').map(flat).filter(|f| !f.is_empty());
    Declaration::Struct {
        name: name.to_string(),
        fields: fields.map(|text| Field { name: field_name(&text), text }).collect(),
    }
}

fn field_name(text: &str) -> String {
    assert!(!text.contains(", reserved"), "one field a line: {text}");
    let word = match text.split_once("(*") {
        Some((_, rest)) => rest.split(')').next().unwrap_or_default(),
        None => text.rsplit([' ', '*']).next().unwrap_or_default(),
    };
    assert!(!word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    word.to_string()
}
