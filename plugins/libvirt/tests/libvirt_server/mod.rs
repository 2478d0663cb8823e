//! A real libvirtd for tests: an ordinary user's (`session`), with all its folders and its socket
//! in a temporary one, so that it meets no other libvirt of the machine. Ended with the value, by
//! its own process id. Shared by the tests of the program and of the plugins that use it.

#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so a test fails")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// It scans QEMU's capabilities when it starts: 1 s alone, many on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// `nobody`: libvirtd of root would be the system's.
const USER: &str = "65534";

pub(crate) struct LibvirtServer {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl LibvirtServer {
    /// Started, with an empty storage pool `default`.
    pub(crate) fn start() -> LibvirtServer {
        // Short: a socket's path has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("lv-").tempdir_in("/tmp").unwrap();
        let path = folder.path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["run", "config/libvirt", "cache", "data", "home", "pool"] {
            std::fs::create_dir_all(path.join(name)).unwrap();
        }
        // Without a log daemon of its own, which would outlive it.
        let log = "stdio_handler = \"file\"\n";
        std::fs::write(path.join("config/libvirt/qemu.conf"), log).unwrap();
        let open = "unix_sock_rw_perms = \"0777\"\nauth_unix_rw = \"none\"\n";
        std::fs::write(path.join("config/libvirt/libvirtd.conf"), open).unwrap();
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| {
            use std::os::unix::fs::MetadataExt;
            me.uid() == 0
        });
        let mut command = match is_root {
            true => {
                run("chown", &["-R", &format!("{USER}:{USER}"), path.to_str().unwrap()]);
                let mut command = Command::new("setpriv");
                command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]);
                command.arg("/usr/sbin/libvirtd");
                command
            }
            false => Command::new("/usr/sbin/libvirtd"),
        };
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        for (name, folder) in [
            ("HOME", "home"),
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_DATA_HOME", "data"),
        ] {
            command.env(name, path.join(folder));
        }
        let daemon = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("libvirtd is installed (packaging/install-dependencies)");
        let server = LibvirtServer { folder, daemon };
        server.wait_until_it_answers();
        // Its folder is its user's alone; stages have users of their own.
        let run_folder = server.folder.path().join("run/libvirt");
        std::fs::set_permissions(run_folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let pool = server.pool_folder();
        server.virsh(&["pool-create-as", "default", "dir", "--target", pool.to_str().unwrap()]);
        server
    }

    fn wait_until_it_answers(&self) {
        let begin = Instant::now();
        while !self.asks(&["version"]).status.success() {
            assert!(begin.elapsed() < START_PATIENCE, "libvirtd does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Its address.
    pub(crate) fn uri(&self) -> String {
        let socket = self.folder.path().join("run/libvirt/libvirt-sock");
        format!("qemu+unix:///session?socket={}", socket.display())
    }

    /// Where the volumes of its pool lie.
    pub(crate) fn pool_folder(&self) -> PathBuf {
        self.folder.path().join("pool")
    }

    /// Names in the pool.
    pub(crate) fn volumes(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.pool_folder()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What virsh says; it must succeed.
    pub(crate) fn virsh(&self, arguments: &[&str]) -> String {
        let output = self.asks(arguments);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "virsh {arguments:?}: {complaints}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn asks(&self, arguments: &[&str]) -> std::process::Output {
        let mut virsh = Command::new("virsh");
        virsh.env("HOME", self.folder.path()).args(["-q", "-c", &self.uri()]).args(arguments);
        virsh.output().expect("virsh is installed (packaging/install-dependencies)")
    }
}

impl Drop for LibvirtServer {
    fn drop(&mut self) {
        // setpriv has become libvirtd, so it is the same process.
        Command::new("kill").arg(self.daemon.id().to_string()).status().ok();
        self.daemon.wait().ok();
    }
}

/// The program, built.
pub(crate) fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let target = root.join("target/libvirt");
    let manifest = root.join("plugins/libvirt/Cargo.toml");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["build", "--quiet", "--manifest-path", manifest.to_str().unwrap()];
    let status = Command::new(cargo).args(arguments).arg("--target-dir").arg(&target).status();
    assert!(status.unwrap().success(), "imagefactory-libvirt is built (libvirt-dev?)");
    target.join("debug/imagefactory-libvirt")
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}
