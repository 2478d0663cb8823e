//! The real `imagefactory` in a folder of its own: configuration, plugins, store, ledger, and what
//! a run of it answered. Scripts' eyes only: exit status, standard output, standard error, files.

#![allow(dead_code, reason = "each test program needs some of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed; nothing of this is shipped"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imagefactory_tests::{binaries, factory};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a command may take; they take milliseconds when the machine is quiet.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with everything that the command line needs.
pub(crate) struct Home {
    /// Removed with this.
    pub(crate) folder: TempDir,
}

impl Home {
    /// With MockOS and MockCloud.
    pub(crate) fn new() -> Home {
        let folder = tempfile::Builder::new().prefix("cli-").tempdir().unwrap();
        factory::open_passage(folder.path());
        factory::install_mocks(&folder.path().join("plugins.d"));
        factory::ledger_folder(folder.path());
        let configuration = json!({
            "image_manager_args": {"storage_path": folder.path().join("storage")},
            "tmpdir": folder.path().join("tmp"),
            "cache_dir": folder.path().join("cache"),
            "plugins": folder.path().join("plugins.d"),
            "target_content": folder.path().join("target_content.xml"),
            "stage_runner": binaries::stage_runner(),
            "credentials": {"mock": "a configured secret"},
            "plugin_folders": {"MockCloud": [folder.path().join("ledger")]},
        });
        let home = Home { folder };
        home.write("imagefactory.conf", &configuration.to_string());
        home.write("mock.tdl", factory::TDL_MOCK);
        home
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file; answers its path as an argument.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The template of the mocks, as an argument.
    pub(crate) fn template(&self) -> String {
        self.path("mock.tdl").to_str().unwrap().to_owned()
    }

    /// The provider of the mocks, as an argument.
    pub(crate) fn provider(&self) -> String {
        format!("@{}", json!({"ledger": self.path("ledger")}))
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(&mut command(self.folder.path(), arguments))
    }

    /// Runs a command that must succeed with one JSON document.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.run(&[&["--output", "json"], arguments].concat());
        assert_eq!(answer.status, 0, "{answer:?}");
        answer.json()
    }

    /// Starts a command; its standard error is read by the caller.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        command(self.folder.path(), arguments).spawn().unwrap()
    }

    /// Builds a base image and answers its id.
    pub(crate) fn base_image(&self) -> String {
        let answer = self.run(&["base_image", &self.template()]);
        assert_eq!(answer.status, 0, "{answer:?}");
        answer.value("UUID")
    }

    /// `<storage>/<uuid>.meta`.
    pub(crate) fn meta(&self, id: &str) -> Value {
        let path = self.path("storage").join(format!("{id}.meta"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Nothing but images, records, logs and artefacts may stay when no order is open.
    pub(crate) fn check_nothing_left_behind(&self) {
        for folder in
            ["storage/stages", "storage/staging", "storage/vault", "storage/owners", "tmp"]
        {
            let left: Vec<_> = std::fs::read_dir(self.path(folder))
                .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
                .unwrap_or_default();
            assert!(left.is_empty(), "left behind in {folder}: {left:?}");
        }
    }

    /// No file but `spared` may have these bytes in it.
    pub(crate) fn check_nowhere(&self, secret: &str, spared: &Path) {
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path != spared {
                    let content = std::fs::read(&path).unwrap();
                    let found = content.windows(secret.len()).any(|part| part == secret.as_bytes());
                    assert!(!found, "the secret stands in {}", path.display());
                }
            }
        }
    }
}

/// `imagefactory` with the configuration in `folder`.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::imagefactory());
    command
        .arg("--config")
        .arg(folder.join("imagefactory.conf"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a run answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Exit status; -1 where a signal ended it.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Answer {
    /// Runs it to its end.
    pub(crate) fn of(command: &mut Command) -> Answer {
        Answer::of_child(command.spawn().unwrap())
    }

    /// Waits for its end; panics after a minute.
    pub(crate) fn of_child(mut child: Child) -> Answer {
        let (done, ended) = std::sync::mpsc::channel();
        let pid = child.id();
        // Both pipes are read while it runs, so that it never waits for us.
        let mut stdout = child.stdout.take().unwrap();
        let errors = child.stderr.take();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut errors) = errors {
                std::io::Read::read_to_string(&mut errors, &mut text).unwrap();
            }
            text
        });
        std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
            let status = child.wait().unwrap();
            done.send((text, status)).ok();
        });
        match ended.recv_timeout(PATIENCE) {
            Ok((stdout, status)) => {
                let stderr = reader.join().unwrap();
                Answer { status: status.code().unwrap_or(-1), stdout, stderr }
            }
            Err(_) => {
                kill(pid, libc::SIGKILL);
                panic!("it runs for more than {PATIENCE:?}: {:?}", reader.join());
            }
        }
    }

    /// The value of a final line, found as scripts find it.
    pub(crate) fn value(&self, name: &str) -> String {
        let start = format!("{name}: ");
        let found = self.stdout.lines().find_map(|line| line.strip_prefix(&start));
        found.unwrap_or_else(|| panic!("no line {name:?} in {self:?}")).to_owned()
    }

    /// Standard output as one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends a signal.
pub(crate) fn kill(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: kill has no memory preconditions; the process is a child that was not waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the process lives");
}

/// Waits until it is so; panics after a minute.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
