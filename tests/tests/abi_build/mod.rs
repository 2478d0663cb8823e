//! Compiles the C and C++ fixtures of `tests/fixtures/c` with the flags that plugin authors are
//! told to use. One compilation a test process and fixture; the library replaces its predecessor in
//! one step, because other tests may be loading that. Needs gcc, g++ and binutils.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The repository.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests crate lies in the repository").to_path_buf()
}

/// `tests/fixtures/c`.
pub(crate) fn fixtures() -> PathBuf {
    root().join("tests/fixtures/c")
}

/// CMockOS, CMockCloud, CxxMockOS or the template HelloOS as a library.
pub(crate) fn library(id: &str) -> PathBuf {
    let (compiler, dialect, source) = match id {
        "CMockOS" => ("gcc", "-std=c99", fixtures().join("mock_os.c")),
        "CMockCloud" => ("gcc", "-std=c99", fixtures().join("mock_cloud.c")),
        "CxxMockOS" => ("g++", "-std=c++11", fixtures().join("cxx_os.cpp")),
        "HelloOS" => ("gcc", "-std=c99", root().join("plugin-sdk/examples/c/hello_os.c")),
        _ => panic!("there is no fixture {id}"),
    };
    build(compiler, dialect, &source, id)
}

/// The C fixture of this file name compiled as C++.
pub(crate) fn c_source_as_cpp(source: &str) -> PathBuf {
    build("g++", "-std=c++11", &fixtures().join(source), &format!("{source}-as-cpp"))
}

/// The versions whose headers are frozen, oldest first: the folders of `plugin-sdk/abi`.
pub(crate) fn released_abis() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("plugin-sdk/abi")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The host of `tests/old-plugins/hosts`, compiled with the frozen headers of one version.
pub(crate) fn old_host(abi: &str) -> PathBuf {
    let host = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("old-host-{abi}"));
    let done = Command::new("gcc")
        .args(["-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(root().join("plugin-sdk/abi").join(abi).join("include"))
        .arg(root().join("tests/old-plugins/hosts/host.c"))
        .args(["-ldl", "-o"])
        .arg(&host)
        .output()
        .unwrap_or_else(|e| panic!("cannot run gcc: {e}; install gcc"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    host
}

/// What this process has compiled. The lock is held while compiling, so nothing is compiled twice.
static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

fn build(compiler: &str, dialect: &str, source: &Path, name: &str) -> PathBuf {
    let mut built = BUILT.lock().unwrap_or_else(|e| e.into_inner());
    built.entry(name.into()).or_insert_with(|| compile(compiler, dialect, source, name)).clone()
}

fn compile(compiler: &str, dialect: &str, source: &Path, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi-plugins");
    std::fs::create_dir_all(&folder).unwrap();
    let fresh = folder.join(format!("{name}-{}", std::process::id()));
    let exports = root().join("plugin-sdk/examples/c/exports.map");
    let done = Command::new(compiler)
        .args([dialect, "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .args([
            "-fPIC",
            "-fvisibility=hidden",
            "-shared",
            "-Wl,-z,relro",
            "-Wl,-z,now",
            "-Wl,--no-undefined",
        ])
        .arg(format!("-Wl,--version-script={}", exports.display()))
        .arg("-I")
        .arg(root().join("plugin-sdk/include"))
        .arg("-o")
        .arg(&fresh)
        .args(if compiler == "g++" { ["-x", "c++"].as_slice() } else { &[] })
        .arg(source)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {compiler}: {e}; install gcc and g++"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let library = folder.join(format!("{name}.so"));
    std::fs::rename(&fresh, &library).unwrap();
    library
}

/// Names of the symbols that a library defines for others.
pub(crate) fn exported_symbols(library: &Path) -> Vec<String> {
    let done = Command::new("nm")
        .args(["-D", "--defined-only", "--format=posix"])
        .arg(library)
        .output()
        .unwrap_or_else(|e| panic!("cannot run nm: {e}; install binutils"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

/// MockOS by plain `rustc`, without cargo, on the SDK's core alone: what a distribution's own old
/// compiler can do.
pub(crate) fn mock_os_by_plain_rustc(rustc: &Path) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("old-rustc-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let sdk = folder.join("libimagefactory_plugin_sdk.rlib");
    let compile = |name: &str, kind: &str, source: &str, arguments: &[String]| {
        let done = Command::new(rustc)
            .args(["--edition", "2021", "-C", "opt-level=1", "--crate-name", name])
            .args(["--crate-type", kind, "--out-dir"])
            .arg(&folder)
            .args(arguments)
            .arg(root().join(source))
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap_or_else(|e| panic!("cannot run {}: {e}", rustc.display()));
        let complaint = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{source} with {}:\n{complaint}", rustc.display());
    };
    compile("imagefactory_plugin_sdk", "rlib", "plugin-sdk/src/lib.rs", &[]);
    let extern_sdk = ["--extern".into(), format!("imagefactory_plugin_sdk={}", sdk.display())];
    compile("mock_os", "cdylib", "plugins/mock-os/src/lib.rs", &extern_sdk);
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi-plugins/mock-os-old-rustc.so");
    std::fs::create_dir_all(library.parent().expect("a folder")).unwrap();
    std::fs::rename(folder.join("libmock_os.so"), &library).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    library
}
