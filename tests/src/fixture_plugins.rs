//! Plugins in C (and plain rustc) from `tests/fixtures`, compiled once.
//!
//! A fixture is a folder: all its `*.c` make one library, or its `plugin.rs` makes one with plain
//! rustc, without cargo. The result lies in the build folder under a name that holds a hash of all
//! that went in (sources, headers, flags), so a second run or a second process compiles nothing.
//! [`install`] makes a `plugins.d` entry of it: manifest and library side by side.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use imagefactory_model::frames::{PluginKind, PluginLibrary};
use serde_json::Value;

use crate::binaries;

/// As the fixtures are written: C11 with GNU functions, warnings as errors, debuggable.
const C_FLAGS: [&str; 10] = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O1",
    "-g",
    "-fPIC",
    "-fvisibility=hidden",
    "-pthread",
];

/// Compiles `tests/fixtures/NAME/*.c` into one library and answers its path.
pub fn c_library(name: &str) -> PathBuf {
    c_library_with(name, &[])
}

/// The same with further compiler arguments (`-DSIN_AT_LOAD=…`); each set is a library of its own.
pub fn c_library_with(name: &str, arguments: &[&str]) -> PathBuf {
    let folder = fixture_folder(name);
    let include = binaries::workspace().join("plugin-sdk/include");
    let sources = files_below(&folder, &["c"]);
    assert!(!sources.is_empty(), "no C file in {}", folder.display());
    let mut inputs = files_below(&folder, &["c", "h"]);
    inputs.extend(files_below(&include, &["h"]));
    let mut flags: Vec<String> = C_FLAGS.iter().chain(arguments).map(ToString::to_string).collect();
    flags.push(format!("-I{}", include.display()));
    compiled(name, &inputs, &flags, |library| {
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler.args(&flags).arg("-shared").arg("-o").arg(library).args(&sources);
        compiler
    })
}

/// Compiles `tests/fixtures/NAME/plugin.rs` with plain rustc, unwinding as Rust's default is.
pub fn rust_library(name: &str) -> PathBuf {
    let source = fixture_folder(name).join("plugin.rs");
    let flags =
        ["--edition=2021", "--crate-type=cdylib", "--crate-name=plugin", "-Cprefer-dynamic=no"];
    let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
    compiled(name, std::slice::from_ref(&source), &flags, |library| {
        let mut compiler =
            Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        compiler.args(&flags).arg("-o").arg(library).arg(&source);
        compiler
    })
}

/// Puts a library into `plugins_d` as `ID.so` beside a copy of the fixture's manifest `ID.json`,
/// both owned by the caller and writable by nobody else, and answers how a stage names it.
pub fn install(plugins_d: &Path, fixture: &str, library: &Path) -> PluginLibrary {
    let folder = fixture_folder(fixture);
    let manifest = files_below(&folder, &["json"]);
    assert_eq!(manifest.len(), 1, "one manifest in {}", folder.display());
    install_with_manifest(plugins_d, &manifest[0], library)
}

/// The same for a plugin whose manifest lies elsewhere (`plugin-manifests/MockOS.json`).
pub fn install_with_manifest(plugins_d: &Path, manifest: &Path, library: &Path) -> PluginLibrary {
    let text = fs::read_to_string(manifest).expect("the manifest is there");
    let value: Value = serde_json::from_str(&text).expect("the manifest is JSON");
    let field = |name: &str| value[name].as_str().expect("a manifest's text field").to_owned();
    let id = field("id");
    fs::create_dir_all(plugins_d).expect("plugins.d can be made");
    let path = plugins_d.join(format!("{id}.so"));
    fs::copy(library, &path).expect("the library can be copied");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode can be set");
    fs::write(plugins_d.join(format!("{id}.json")), text).expect("the manifest can be copied");
    let kind = if field("type") == "cloud" { PluginKind::Cloud } else { PluginKind::Os };
    let version = field("version");
    // SAFETY: geteuid has no preconditions and cannot fail.
    let trusted_uid = Some(unsafe { libc::geteuid() });
    PluginLibrary { id, version, kind, path, sha256: None, trusted_uid }
}

/// `tests/fixtures/NAME`.
pub fn fixture_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Runs the compiler unless the same inputs were compiled before. Atomic: others see all or
/// nothing.
fn compiled(
    name: &str,
    inputs: &[PathBuf],
    flags: &[String],
    compiler: impl Fn(&Path) -> Command,
) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    flags.hash(&mut hasher);
    for input in inputs {
        fs::read(input).expect("a source file can be read").hash(&mut hasher);
    }
    let cache = binaries::build_folder().join("fixture-plugins");
    let library = cache.join(format!("{name}-{:016x}.so", hasher.finish()));
    if library.exists() {
        return library;
    }
    fs::create_dir_all(&cache).expect("the build folder is writable");
    let unfinished = tempfile::Builder::new().suffix(".so").tempfile_in(&cache).expect("a file");
    let output = compiler(unfinished.path()).output().expect("the compiler can be started");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the fixture {name} does not compile:\n{complaints}");
    unfinished.persist(&library).expect("the build folder is writable");
    library
}

/// Files of these extensions in a folder and below, sorted: a hash must not depend on readdir.
fn files_below(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a fixture's folder can be read") {
        let path = entry.expect("a folder's entry can be read").path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            found.extend(files_below(&path, extensions));
        } else if extension.is_some_and(|extension| extensions.contains(&extension)) {
            found.push(path);
        }
    }
    found.sort();
    found
}
