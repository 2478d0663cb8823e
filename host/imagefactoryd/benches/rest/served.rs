//! The release daemon on the first core, in a folder of its own, and a client of a few lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Core;

/// A thousand builds on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running daemon.
pub(crate) struct Served {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// From the start of the process to the first 200.
    pub(crate) first_answer: Duration,
    /// Everything lies below it.
    pub(crate) folder: TempDir,
}

impl Served {
    /// With so many plugins: MockOS, MockCloud, and copies whose names do not fit, which cost the
    /// same to describe. `prepare` sees the storage folder before the start.
    pub(crate) fn start(plugins: usize, prepare: impl FnOnce(&Path)) -> Served {
        Served::with_sessions(4, plugins, prepare)
    }

    /// The same, with so many builds at once.
    pub(crate) fn with_sessions(
        sessions: u32,
        plugins: usize,
        prepare: impl FnOnce(&Path),
    ) -> Served {
        let folder = tempfile::Builder::new().prefix("rest-bench-").tempdir().expect("a folder");
        // Stages of other users pass through it.
        Command::new("chmod").arg("755").arg(folder.path()).status().expect("chmod runs");
        let plugins_d = folder.path().join("plugins.d");
        std::fs::create_dir(&plugins_d).expect("a folder");
        for number in 0..plugins {
            install(&plugins_d, number);
        }
        let storage = folder.path().join("storage");
        prepare(&storage);
        let configuration = json!({
            "image_manager_args": {"storage_path": storage},
            "tmpdir": folder.path().join("tmp"),
            "cache_dir": folder.path().join("cache"),
            "plugins": plugins_d,
            "jeos_config": folder.path().join("jeos"),
            "target_content": folder.path().join("target_content.xml"),
            "stage_runner": release().join("imagefactory-stage-runner"),
            "max_concurrent_local_sessions": sessions,
        });
        let file = folder.path().join("imagefactory.conf");
        std::fs::write(&file, configuration.to_string()).expect("the folder is writable");
        let started = Instant::now();
        let mut command = crate::pinned(Core::Server);
        command.args([env!("CARGO_BIN_EXE_imagefactoryd"), "--config"]).arg(&file);
        command.args(["--port", "0", "--no_ssl", "--no_oauth", "--verbose"]).env_remove("RUST_LOG");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the daemon starts");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let url = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).expect("a log") > 0, "the daemon ended");
            if let Some((_, url)) = line.split_once("listening on ") {
                break url.trim().to_owned();
            }
        };
        // Nobody reads it, but it must not stop the daemon.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let mut served = Served { child, url, first_answer: Duration::ZERO, folder };
        served.get("/imagefactory");
        served.first_answer = started.elapsed();
        served
    }

    /// Megabytes (10^6 bytes) that the process has in memory: all, and what is its own and not a
    /// file's (`Rss` and `Anonymous` of smaps_rollup, proc(5)).
    pub(crate) fn memory_mb(&self) -> (f64, f64) {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let rollup = std::fs::read_to_string(path).expect("the daemon lives");
        let megabytes = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
            kib * 1.024 / 1000.0
        };
        (megabytes("Rss:"), megabytes("Anonymous:"))
    }

    /// The body of a 200.
    pub(crate) fn get(&self, path: &str) -> String {
        self.send("GET", path, "", " 200 ")
    }

    /// An order that is taken.
    pub(crate) fn post(&self, path: &str, body: &str) -> String {
        self.send("POST", path, body, " 202 ")
    }

    /// Asks until the answer is as it should be.
    pub(crate) fn wait_until(&self, path: &str, done: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.get(path)) {
            assert!(Instant::now() < deadline, "{path}: {}", self.get(path));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn send(&self, method: &str, path: &str, body: &str, status: &str) -> String {
        let authority = self.url.strip_prefix("http://").expect("no TLS");
        let mut stream = TcpStream::connect(authority).expect("it listens");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.contains(status), "{method} {path}: {answer}");
        body.to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where the release build puts programs and plugins.
fn release() -> PathBuf {
    let daemon = Path::new(env!("CARGO_BIN_EXE_imagefactoryd"));
    daemon.parent().expect("a program lies in a folder").to_owned()
}

fn install(plugins_d: &Path, number: usize) {
    let (id, library) = match number % 2 {
        0 => ("MockOS", "libimagefactory_plugin_mock_os.so"),
        _ => ("MockCloud", "libimagefactory_plugin_mock_cloud.so"),
    };
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-manifests");
    let text = std::fs::read_to_string(manifests.join(format!("{id}.json"))).expect("a manifest");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    let id = if number < 2 { id.to_owned() } else { format!("{id}{number}") };
    manifest["id"] = json!(id);
    manifest["library"]["path"] = json!(format!("{id}.so"));
    std::fs::write(plugins_d.join(format!("{id}.json")), manifest.to_string()).expect("a folder");
    let library = release().join(library);
    std::fs::copy(&library, plugins_d.join(format!("{id}.so")))
        .unwrap_or_else(|error| panic!("{}: {error}; build it", library.display()));
}
