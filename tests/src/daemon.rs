//! The real daemon in a folder of its own: started on port 0, killed, started again.
//!
//! [`Daemon::start`] serves plain HTTP without OAuth and with both mock plugins; [`Setup`] changes
//! that. The address is read from the daemon's own log line, so there is nothing to guess and
//! nothing to wait for blindly. Dropping it ends the process and removes the folder. All waiting
//! has an end.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{binaries, factory};

/// How long a test waits for an image of the mock plugins, or for the daemon; both take
/// milliseconds when the machine is quiet.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the daemon's log says when it listens.
const LISTENING: &str = "listening on ";

/// How a daemon is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Laid over the configuration file.
    pub configuration: Map<String, Value>,
    /// Instead of `--no_ssl --no_oauth`.
    pub flags: Vec<String>,
    /// With MockOS and MockCloud.
    pub mocks: bool,
    /// Ids and library names of further plugins of ours.
    pub plugins: Vec<(String, String)>,
    /// Variables of its environment besides the test's own.
    pub environment: Vec<(String, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        let flags = vec!["--no_ssl".to_owned(), "--no_oauth".to_owned()];
        Setup {
            configuration: Map::new(),
            flags,
            mocks: true,
            plugins: Vec::new(),
            environment: Vec::new(),
        }
    }
}

impl Setup {
    /// With this key in the configuration file.
    pub fn with(mut self, key: &str, value: Value) -> Setup {
        self.configuration.insert(key.to_owned(), value);
        self
    }

    /// With these flags instead of `--no_ssl --no_oauth`.
    pub fn flags(mut self, flags: &[&str]) -> Setup {
        self.flags = flags.iter().map(ToString::to_string).collect();
        self
    }

    /// With a plugin of ours beside the mocks: `("LocalCloud", "local_cloud")`.
    pub fn plugin(mut self, id: &str, library: &str) -> Setup {
        self.plugins.push((id.to_owned(), library.to_owned()));
        self
    }

    /// With this variable in its environment.
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts a daemon like this.
    pub fn start(self) -> Daemon {
        let folder = tempfile::Builder::new().prefix("daemon-").tempdir().expect("a folder");
        // Stages of other users pass through it.
        factory::open_passage(folder.path());
        if self.mocks {
            factory::install_mocks(&folder.path().join("plugins.d"));
        } else {
            std::fs::create_dir(folder.path().join("plugins.d")).expect("a folder");
        }
        for (id, library) in &self.plugins {
            factory::install_plugin(&folder.path().join("plugins.d"), id, library);
        }
        std::fs::create_dir(folder.path().join("jeos")).expect("a folder");
        factory::ledger_folder(folder.path());
        self.write_configuration(folder.path());
        let process = Process::start(folder.path(), &self);
        Daemon { process, client: client(), setup: self, folder }
    }

    /// Writes `imagefactory.conf`; also for a reload.
    fn write_configuration(&self, folder: &Path) {
        let mut configuration = json!({
            "image_manager_args": {"storage_path": folder.join("storage")},
            "tmpdir": folder.join("tmp"),
            "cache_dir": folder.join("cache"),
            "plugins": folder.join("plugins.d"),
            "jeos_config": folder.join("jeos"),
            "target_content": folder.join("target_content.xml"),
            "stage_runner": binaries::stage_runner(),
            "max_concurrent_local_sessions": 4,
            "credentials": {"mock": "a configured secret"},
            "plugin_folders": {"MockCloud": [folder.join("ledger")]},
        });
        let all = configuration.as_object_mut().expect("an object");
        all.extend(self.configuration.clone());
        let text = serde_json::to_string_pretty(&configuration).expect("JSON");
        std::fs::write(folder.join("imagefactory.conf"), text).expect("the folder is writable");
    }
}

/// A running daemon.
pub struct Daemon {
    process: Process,
    /// Knows no redirects, trusts every certificate.
    pub client: reqwest::Client,
    setup: Setup,
    /// Configuration, plugins, store, ledger: everything lies below it.
    pub folder: TempDir,
}

impl Daemon {
    /// Plain HTTP, no OAuth, MockOS and MockCloud.
    pub fn start() -> Daemon {
        Setup::default().start()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.process.url
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        self.process.url.split("://").nth(1).expect("the URL has a host")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The store's folder.
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// Where MockCloud keeps its ledger: `provider: {"ledger": …}`.
    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    /// Everything that the daemon logged since its last start.
    pub fn log(&self) -> String {
        self.process.log.text()
    }

    /// Waits until the log has this text; panics after a minute.
    pub fn wait_for_log(&self, text: &str) {
        self.process.log.wait_for(text);
    }

    /// A request to a path of the daemon.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url()))
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("an answer")
    }

    /// GET of something that is there.
    pub async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert_eq!(status, StatusCode::OK, "GET {path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.expect("an answer")
    }

    /// DELETE without a body.
    pub async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).send().await.expect("an answer")
    }

    /// POST that is taken; answers the image without its root key.
    pub async fn order(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body).await;
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert_eq!(status, StatusCode::ACCEPTED, "POST {path}: {text}");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        document.as_object().and_then(|root| root.values().next()).expect("a root key").clone()
    }

    /// Orders a base image of the mock template; answers the image.
    pub async fn post_base_image(&self, parameters: Value) -> Value {
        let body = json!({"base_image": {
            "template": factory::TDL_MOCK, "parameters": parameters,
        }});
        self.order("/imagefactory/base_images", &body).await
    }

    /// The image of an id, whatever its kind, without its root key; `None` when it is gone.
    pub async fn image(&self, id: &str) -> Option<Value> {
        for kind in ["base_image", "target_image", "provider_image"] {
            let response = self.get(&format!("/imagefactory/{kind}s/{id}")).await;
            if response.status() == StatusCode::OK {
                let document: Value = response.json().await.expect("JSON");
                return Some(document[kind].clone());
            }
        }
        None
    }

    /// Waits until the image is as it should be; panics after a minute.
    pub async fn wait(&self, id: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let image = self.image(id).await;
            if let Some(image) = image.as_ref().filter(|image| done(image)) {
                return image.clone();
            }
            assert!(Instant::now() < deadline, "not there after {PATIENCE:?}: {image:?}");
            // Polled as a client would; the daemon answers from memory.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the image is COMPLETE, FAILED or DELETEFAILED.
    pub async fn finished(&self, id: &str) -> Value {
        let is_final = |image: &Value| {
            matches!(image["status"].as_str(), Some("COMPLETE" | "FAILED" | "DELETEFAILED"))
        };
        self.wait(id, is_final).await
    }

    /// Waits until GET of the image is 404.
    pub async fn gone(&self, id: &str) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(image) = self.image(id).await {
            assert!(Instant::now() < deadline, "still there after {PATIENCE:?}: {image}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL; nothing of the process is left when this returns.
    pub fn kill(&mut self) {
        self.process.child.kill().expect("it can be killed");
        self.process.child.wait().expect("it ends");
    }

    /// Sends a signal (`libc::SIGHUP`).
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        // SAFETY: kill has no memory preconditions; the process is our child and not yet waited
        // for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the daemon lives");
    }

    /// SIGTERM, and how the daemon ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.process.ended()
    }

    /// Starts it again over what it left, after [`Daemon::kill`] or [`Daemon::terminate`].
    pub fn start_again(&mut self) {
        self.process = Process::start(self.folder.path(), &self.setup);
    }

    /// SIGKILL, then a new process over the same store.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Writes another configuration file and sends SIGHUP.
    pub fn reload_with(&mut self, key: &str, value: Value) {
        self.setup = self.setup.clone().with(key, value);
        self.setup.write_configuration(self.folder.path());
        self.signal(libc::SIGHUP);
        self.wait_for_log("reloaded");
    }
}

/// A client that trusts every certificate: the daemon's is self-signed.
pub fn client() -> reqwest::Client {
    // An error means that another test of this process installed it.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .no_proxy()
        .build()
        .expect("a client")
}

struct Process {
    child: Child,
    url: String,
    log: Arc<Log>,
}

impl Process {
    fn start(folder: &Path, setup: &Setup) -> Process {
        let mut child = Command::new(binaries::daemon())
            .arg("--config")
            .arg(folder.join("imagefactory.conf"))
            .args(["--port", "0", "--verbose"])
            .args(&setup.flags)
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("its log is piped");
        let reader = Arc::clone(&log);
        std::thread::spawn(move || reader.read(BufReader::new(stderr)));
        let line = log.wait_for(LISTENING);
        let url = line.split(LISTENING).nth(1).expect("an address").trim().to_owned();
        Process { child, url, log }
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it ended before.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a process writes, line by line.
#[derive(Default)]
struct Log {
    state: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

impl Log {
    fn read(&self, mut source: impl BufRead) {
        let mut bytes = Vec::new();
        while source.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            self.state.lock().expect("no reader panics").0.push(line);
            self.grown.notify_all();
            bytes.clear();
        }
        self.state.lock().expect("no reader panics").1 = true;
        self.grown.notify_all();
    }

    fn text(&self) -> String {
        self.state.lock().expect("no reader panics").0.join("\n")
    }

    fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().expect("no reader panics");
        loop {
            if let Some(line) = state.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let all = state.0.join("\n");
            assert!(!left.is_zero() && !state.1, "the log never has {text:?}:\n{all}");
            state = self.grown.wait_timeout(state, left).expect("no reader panics").0;
        }
    }
}
