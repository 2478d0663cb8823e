//! The C headers as a plugin author's compiler sees them.
//!
//! Every header of `plugin-sdk/include` must compile by itself, as C99 and as C++11, with warnings
//! as errors; `layout.h` must really refuse a layout that differs. What the declarations say is
//! compared elsewhere: with the Rust twin in `abi_layout.rs`, with the release in `abi_golden.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_reader;

use std::process::Command;

use abi_reader::{header_files, include_dir};

/// The dialects that the headers promise, with the compiler and the flags that hold them to it.
const DIALECTS: [(&str, &[&str]); 2] =
    [("gcc", &["-x", "c", "-std=c99"]), ("g++", &["-x", "c++", "-std=c++11"])];

/// Compiles `text` (no linking) in `dialect`; the compiler's complaint is the error.
fn check_compiles(dialect: (&str, &[&str]), text: &str, defines: &[&str]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("unit.c");
    std::fs::write(&source, text).unwrap();
    let done = Command::new(dialect.0)
        .args(dialect.1)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
        .arg(include_dir())
        .args(defines)
        .arg(&source)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {}: {e}; install gcc and g++", dialect.0));
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

#[test]
fn every_header_compiles_alone_as_c99_and_cpp11_without_a_warning() {
    let headers = header_files();
    assert!(headers.len() >= 20, "only {} headers were found", headers.len());
    for dialect in DIALECTS {
        for (name, _) in &headers {
            // The typedef: ISO C forbids a unit without any declaration, and status.h has none.
            let unit = format!("#include <imagefactory/{name}>\ntypedef int after_it;\n");
            if let Err(complaint) = check_compiles(dialect, &unit, &[]) {
                panic!("{name} does not compile alone with {}:\n{complaint}", dialect.0);
            }
        }
    }
}

#[test]
fn plugin_h_includes_every_other_header() {
    let headers = header_files();
    let (_, plugin) = headers.iter().find(|(name, _)| name == "plugin.h").unwrap();
    for (name, _) in headers.iter().filter(|(name, _)| name != "plugin.h") {
        let line = format!("#include <imagefactory/{name}>\n");
        assert!(plugin.contains(&line), "plugin.h does not include {name}");
    }
}

#[test]
fn headers_may_be_included_twice_and_in_any_order() {
    let mut unit = String::new();
    let headers = header_files();
    for (name, _) in headers.iter().rev().chain(headers.iter()) {
        unit += &format!("#include <imagefactory/{name}>\n");
    }
    for dialect in DIALECTS {
        check_compiles(dialect, &unit, &[]).unwrap();
    }
}

#[test]
fn layout_h_refuses_a_compiler_that_lays_out_otherwise() {
    // Packing changes nothing here (the next test), so the odd compiler is one whose four-byte
    // integer takes eight.
    let unit = "#include <stdint.h>\n#define uint32_t uint64_t\n#include <imagefactory/layout.h>\n";
    let complaint = check_compiles(DIALECTS[0], unit, &[]).unwrap_err();
    assert!(complaint.contains("imgf_layout_of_imgf_error"), "{complaint}");
}

#[test]
fn no_struct_changes_under_pragma_pack_because_none_has_padding() {
    let unit = "#pragma pack(push, 1)\n#include <imagefactory/layout.h>\n#pragma pack(pop)\n";
    for dialect in DIALECTS {
        check_compiles(dialect, unit, &[]).unwrap();
    }
}

#[test]
fn headers_keep_to_a_hundred_columns_of_ascii() {
    for (name, text) in header_files() {
        for (number, line) in text.lines().enumerate() {
            assert!(line.len() <= 100, "{name}:{}: {} columns", number + 1, line.len());
            assert!(line.is_ascii(), "{name}:{}: not ASCII", number + 1);
        }
    }
}
