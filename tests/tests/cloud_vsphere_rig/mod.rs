//! A vCenter for tests: govmomi's simulator, started on a port of its own and ended with the test.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use imagefactory_tests::binaries;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The account; the password is looked for in everything that the factory leaves.
pub(crate) const USER: &str = "factory@vsphere.local";
pub(crate) const PASSWORD: &str = "canary-vsphere-7";

/// A running simulator with the inventory of its model: DC0, DC0_C0, LocalDS_0, VM Network.
pub(crate) struct Vcenter {
    child: Child,
    /// Closing it ends the simulator.
    input: Option<ChildStdin>,
    /// `https://127.0.0.1:PORT/sdk`.
    pub(crate) url: String,
    /// What was uploaded, and the simulator's certificate.
    pub(crate) folder: TempDir,
}

impl Vcenter {
    /// Starts it.
    pub(crate) fn start() -> Vcenter {
        let build = binaries::workspace().join("tests/clouds/vcsim/build");
        let built = Command::new(build).output().expect("tests/clouds/vcsim/build runs");
        let why = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "no vcsim (tests/clouds/install-servers): {why}");
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(String::from_utf8_lossy(&built.stdout).trim())
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("vcsim starts");
        let mut input = child.stdin.take().expect("a pipe");
        writeln!(input, "{USER}\n{PASSWORD}").expect("vcsim reads");
        let mut url = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut url).expect("vcsim says where it listens");
        Vcenter { child, input: Some(input), url: url.trim().to_owned(), folder }
    }

    /// A provider definition for a place in its inventory.
    pub(crate) fn provider(&self) -> Value {
        let ca = std::fs::read_to_string(self.folder.path().join("ca.pem")).expect("a certificate");
        json!({
            "api-url": self.url, "datastore": "LocalDS_0", "compute_resource": "DC0_C0",
            "network_name": "VM Network", "ca_certificate": ca,
        })
    }

    /// The original's credentials.
    pub(crate) fn credentials() -> String {
        format!(
            "<provider_credentials><vsphere_credentials><username>{USER}</username>\
             <password>{PASSWORD}</password></vsphere_credentials></provider_credentials>"
        )
    }

    /// Names of all machines, and which are templates; asked of the simulator itself.
    pub(crate) fn machines(&self) -> Vec<(String, bool)> {
        let script = binaries::workspace().join("tests/clouds/vcsim/machines");
        let output = Command::new(script)
            .arg(&self.url)
            .env("VCSIM_LOGIN", format!("{USER}\n{PASSWORD}"))
            .output()
            .expect("tests/clouds/vcsim/machines runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let machine = |line: &str| {
            let (is_template, name) = line.split_once(' ').expect("two words");
            (name.to_owned(), is_template == "true")
        };
        text.lines().map(machine).collect()
    }

    /// Machines that are not of the simulator's own model.
    pub(crate) fn imported(&self) -> Vec<(String, bool)> {
        self.machines().into_iter().filter(|(name, _)| !name.starts_with("DC0_")).collect()
    }

    /// What was uploaded last, if anything.
    pub(crate) fn uploaded(&self) -> Option<PathBuf> {
        let path = self.folder.path().join("disk-0.vmdk");
        path.exists().then_some(path)
    }

    /// From now on each upload breaks off after a moment, or no longer.
    pub(crate) fn break_uploads(&self, broken: bool) {
        let mark = self.folder.path().join("break-uploads");
        if broken {
            std::fs::write(mark, "").expect("the folder is writable");
        } else {
            std::fs::remove_file(mark).expect("it was there");
        }
    }
}

impl Drop for Vcenter {
    fn drop(&mut self) {
        drop(self.input.take());
        // Ended by itself is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
