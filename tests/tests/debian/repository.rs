//! Small repositories of packages, made and signed here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Runs a program to its end; answers what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A signing key of its own.
pub(crate) struct SigningKey {
    home: tempfile::TempDir,
}

impl SigningKey {
    pub(crate) fn new() -> SigningKey {
        let key = SigningKey { home: tempfile::tempdir().unwrap() };
        let make = ["--quick-generate-key", "tests@example.org", "ed25519", "sign", "never"];
        run(key.gpg().args(make));
        key
    }

    /// The public half, in ASCII armour.
    pub(crate) fn public(&self) -> String {
        run(self.gpg().args(["--armor", "--export"]))
    }

    fn gpg(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
        gpg.arg("--homedir").arg(self.home.path());
        gpg
    }
}

impl Drop for SigningKey {
    /// gpg's agent would outlive its folder.
    fn drop(&mut self) {
        let mut end = Command::new("gpgconf");
        end.arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).status().ok();
    }
}

/// A package with one file, `/usr/share/NAME`, that holds its version.
pub(crate) fn make_package(folder: &Path, name: &str, version: &str, more: &str) -> PathBuf {
    let tree = tempfile::tempdir().unwrap();
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nSection: misc\n\
         Maintainer: Tests <tests@example.org>\nDescription: of a test\n{more}"
    );
    fs::create_dir_all(tree.path().join("DEBIAN")).unwrap();
    fs::create_dir_all(tree.path().join("usr/share")).unwrap();
    fs::write(tree.path().join("DEBIAN/control"), control).unwrap();
    fs::write(tree.path().join("usr/share").join(name), version).unwrap();
    let package = folder.join(format!("{name}_{version}_all.deb"));
    let mut build = Command::new("dpkg-deb");
    run(build.args(["--root-owner-group", "--build"]).arg(tree.path()).arg(&package));
    package
}

/// Writes the indices of a repository whose packages lie in `pool`.
pub(crate) fn index(folder: &Path, suite: &str, components: &[&str], key: Option<&SigningKey>) {
    let mut packages = String::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder.join("pool")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let control = run(Command::new("dpkg-deb").arg("--field").arg(&file));
        let name = file.file_name().unwrap().to_str().unwrap();
        packages.push_str(&format!(
            "{}\nFilename: pool/{name}\nSize: {}\nSHA256: {}\n\n",
            control.trim_end(),
            bytes.len(),
            sha256(&bytes)
        ));
    }
    let dist = folder.join("dists").join(suite);
    let mut sums = String::new();
    for (number, component) in components.iter().enumerate() {
        let binary = dist.join(component).join("binary-amd64");
        fs::create_dir_all(&binary).unwrap();
        // Everything is in the first component; the others are there and empty.
        let text = if number == 0 { packages.as_str() } else { "" };
        fs::write(binary.join("Packages"), text).unwrap();
        let (digest, bytes) = (sha256(text.as_bytes()), text.len());
        sums.push_str(&format!(" {digest} {bytes} {component}/binary-amd64/Packages\n"));
    }
    let release = format!(
        "Origin: Tests\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\n\
         Components: {}\nDate: Mon, 01 Jan 2024 00:00:00 UTC\nSHA256:\n{sums}",
        components.join(" ")
    );
    fs::write(dist.join("Release"), release).unwrap();
    if let Some(key) = key {
        let mut sign = key.gpg();
        sign.args(["--yes", "--clear-sign", "--output"]).arg(dist.join("InRelease"));
        run(sign.arg(dist.join("Release")));
    }
}
