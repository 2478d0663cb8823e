//! The C headers and their Rust twin, compared field by field.
//!
//! A C program is generated from the headers' own text; compiled as C99 it prints where each field
//! of each struct lies and what each constant is worth. The twin (`plugin-sdk/src/abi`) lists the
//! same about itself. Both lists must be equal, in names, order, sizes and values, and the twin's
//! source must spell the same types. `plugin-sdk/abi/<version>/layout.json` is compared in
//! `abi_golden.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_reader;

use std::fmt::Write as _;
use std::process::Command;

use abi_reader::{Declaration, declarations, header_files, include_dir, root};
use imagefactory_plugin_sdk::abi;

/// All declarations of the current headers.
fn current() -> Vec<Declaration> {
    header_files().iter().flat_map(|(name, text)| declarations(name, text)).collect()
}

/// What C says, one fact a line: `struct NAME SIZE`, `field STRUCT NAME OFFSET SIZE`,
/// `number NAME VALUE`, `text NAME VALUE`.
fn facts_of_c() -> Vec<String> {
    let mut body = String::new();
    for declaration in current() {
        match declaration {
            Declaration::Struct { name, fields } => {
                writeln!(body, "printf(\"struct {name} %zu\\n\", sizeof({name}));").unwrap();
                for field in fields {
                    let at = format!("offsetof({name}, {})", field.name);
                    let size = format!("sizeof((({name} *)0)->{})", field.name);
                    let label = format!("field {name} {}", field.name);
                    writeln!(body, "printf(\"{label} %zu %zu\\n\", {at}, {size});").unwrap();
                }
            }
            Declaration::Integer { name, .. } => {
                writeln!(body, "printf(\"number {name} %lld\\n\", (long long){name});").unwrap();
            }
            Declaration::Text { name, .. } => {
                writeln!(body, "printf(\"text {name} %s\\n\", {name});").unwrap();
            }
            Declaration::Macro { .. } | Declaration::Line { .. } => {}
        }
    }
    let program = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include <imagefactory/plugin.h>\n\
         int main(void) {{\n{body}return 0;\n}}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("facts.c"), folder.path().join("facts"));
    std::fs::write(&source, program).unwrap();
    let built = Command::new("gcc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(include_dir())
        .arg("-o")
        .args([&binary, &source])
        .output()
        .unwrap_or_else(|e| panic!("cannot run gcc: {e}; install gcc"));
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(&binary).output().unwrap();
    assert!(ran.status.success());
    String::from_utf8(ran.stdout).unwrap().lines().map(String::from).collect()
}

/// The same list, from the twin's own lists.
fn facts_of_rust() -> Vec<String> {
    let mut facts = Vec::new();
    for layout in abi::LAYOUTS {
        facts.push(format!("struct {} {}", layout.name, layout.size));
        for field in layout.fields {
            let place = format!("{} {} {}", field.name, field.offset, field.size);
            facts.push(format!("field {} {place}", layout.name));
        }
    }
    for (name, value) in abi::CONSTANTS {
        facts.push(format!("number {name} {value}"));
    }
    for (name, value) in abi::STRINGS {
        facts.push(format!("text {name} {value}"));
    }
    facts
}

/// `structs and fields in the order of declaration`, by struct; everything else sorted.
fn sorted(mut facts: Vec<String>) -> Vec<String> {
    // Stable and by the struct's name only, so that the order of fields stays what it is.
    facts.sort_by_key(|fact| {
        let mut words = fact.split(' ');
        let kind = words.next().unwrap_or_default();
        let group = if matches!(kind, "struct" | "field") { "layout" } else { kind };
        (group.to_string(), words.next().unwrap_or_default().to_string())
    });
    facts
}

#[test]
fn every_field_and_constant_of_the_rust_twin_is_where_c_has_it() {
    let (c, rust) = (sorted(facts_of_c()), sorted(facts_of_rust()));
    assert!(c.len() > 150, "only {} facts: the header reader misses something", c.len());
    let only_c: Vec<_> = c.iter().filter(|fact| !rust.contains(fact)).collect();
    let only_rust: Vec<_> = rust.iter().filter(|fact| !c.contains(fact)).collect();
    assert!(
        only_c.is_empty() && only_rust.is_empty(),
        "the headers and plugin-sdk/src/abi differ\nonly in C: {only_c:#?}\n\
         only in Rust: {only_rust:#?}"
    );
    assert_eq!(c, rust, "the same fields, but in another order");
}

#[test]
fn no_struct_has_padding_that_could_carry_stale_bytes() {
    for layout in abi::LAYOUTS {
        let fields: usize = layout.fields.iter().map(|f| f.size).sum();
        assert_eq!(fields, layout.size, "{} has padding", layout.name);
    }
}

#[test]
fn every_field_of_the_rust_twin_has_the_type_that_c_gives_it() {
    let twin = rust_fields();
    let mut compared = 0;
    for declaration in current() {
        let Declaration::Struct { name, fields } = declaration else { continue };
        for field in fields {
            let key = (name.clone(), field.name.clone());
            let (_, rust) = twin
                .iter()
                .find(|(k, _)| *k == key)
                .unwrap_or_else(|| panic!("{name}.{} is not in the twin's source", field.name));
            assert_eq!(rust_type_of(&field.text), *rust, "{name}.{}: {}", field.name, field.text);
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} fields were compared");
}

/// ((struct, field), type) of everything inside `abi_struct!` in the twin's source, types without
/// blanks and parameter names.
fn rust_fields() -> Vec<((String, String), String)> {
    let mut found = Vec::new();
    let folder = root().join("plugin-sdk/src/abi");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("struct_layout.rs") {
            continue; // the macro itself
        }
        let text = std::fs::read_to_string(path).unwrap();
        let code: String = text
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join(" ");
        for part in code.split("pub struct ").skip(1) {
            let Some((head, rest)) = part.split_once('{') else { continue };
            let name = head.split([' ', '=']).next().unwrap_or_default().to_string();
            let body = &rest[..rest.find('}').expect("a struct ends")];
            for field in body.split("pub ").skip(1) {
                let (field, ty) = field.split_once(':').expect("a field has a type");
                let ty = ty.split_whitespace().collect::<Vec<_>>().join(" ");
                let ty = ty.trim_end_matches(',').to_string();
                found.push(((name.clone(), field.trim().to_string()), without_names(&ty)));
            }
        }
    }
    found
}

/// `Option<unsafe extern "C" fn(ctx: *mut c_void) -> i32>` without `ctx: `, commas normalised.
fn without_names(ty: &str) -> String {
    let Some((head, rest)) = ty.split_once("fn(") else { return ty.to_string() };
    let (args, tail) = rest.split_once(')').expect("an argument list ends");
    let args = args.split(',').map(str::trim).filter(|a| !a.is_empty());
    let args = args.map(|arg| arg.rsplit(": ").next().unwrap_or(arg));
    format!("{head}fn({}){tail}", args.collect::<Vec<_>>().join(", "))
}

/// How Rust spells the type of a C field: the dictionary of this ABI, complete and closed.
fn rust_type_of(c: &str) -> String {
    let Some((returns, rest)) = c.split_once("(*") else {
        return rust_plain_type(
            c.rsplit_once([' ', '*']).map_or(c, |(ty, name)| {
                if c.contains('*') { c.trim_end_matches(name) } else { ty }
            }),
        );
    };
    let (_, args) = rest.split_once(")(").expect("a function pointer has arguments");
    let args = args.trim_end_matches(')').split(',').map(|arg| {
        let arg = arg.trim();
        let name = arg.rsplit([' ', '*']).next().unwrap_or_default();
        rust_plain_type(arg.trim_end_matches(name))
    });
    let args = args.collect::<Vec<_>>().join(", ");
    let returns = match rust_plain_type(returns).as_str() {
        "()" => String::new(),
        ty => format!(" -> {ty}"),
    };
    format!("Option<unsafe extern \"C\" fn({args}){returns}>")
}

fn rust_plain_type(c: &str) -> String {
    let c = c.trim().trim_end_matches(' ');
    if let Some(pointee) = c.strip_suffix('*') {
        let pointee = pointee.trim();
        let (word, target) = match pointee.strip_prefix("const ") {
            Some(target) => ("const", target),
            None => ("mut", pointee),
        };
        return format!("*{word} {}", rust_pointee(target));
    }
    match c {
        "void" => "()",
        "uint32_t" => "u32",
        "uint64_t" => "u64",
        "int32_t" => "i32",
        "size_t" => "usize",
        "imgf_str" => "imgf_str",
        other => panic!("{other} is not in the dictionary of types"),
    }
    .to_string()
}

fn rust_pointee(c: &str) -> String {
    match c.trim() {
        "void" => "c_void".to_string(),
        // Text is bytes; the sign of Rust's c_char depends on the CPU.
        "char" => "u8".to_string(),
        pointer if pointer.ends_with('*') => rust_plain_type(pointer),
        name if name.starts_with("imgf_") => name.to_string(),
        integer => rust_plain_type(integer),
    }
}
