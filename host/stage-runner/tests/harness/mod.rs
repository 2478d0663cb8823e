//! The supervisor's part, as small as a test can have it: starts the real runner over a
//! socketpair, speaks frames, and collects everything until the process has ended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a panic is a test's report
#![allow(dead_code, unreachable_pub)] // a part for each test binary, none of them a library

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use imagefactory_model::frames::*;
use imagefactory_model::stage::*;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Nothing here takes longer than a second; a test that waits this long has hung.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A folder for one test with the folders of one attempt, readable by every user.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("imgf-runner-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let bench = Bench { folder };
        for name in ["plugins", "work", "state", "output", "data"] {
            std::fs::create_dir(bench.path(name)).unwrap();
        }
        std::fs::write(bench.path("data/fact"), "from plugin data").unwrap();
        // Its mode would allow writing: what forbids it is the sandbox.
        let open = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(bench.path("data/fact"), open).unwrap();
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Compiles `tests/plugins/NAME.c` with definitions like `-DID="\"x\""`.
    pub fn compile(&self, name: &str, flags: &[&str]) -> PathBuf {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let library = self.path("plugins").join(format!("{name}.so"));
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-D_GNU_SOURCE", "-pthread"])
            .arg("-fvisibility=hidden")
            .arg("-I")
            .arg(here.join("../../plugin-sdk/include"))
            .args(flags)
            .arg("-o")
            .arg(&library)
            .arg(here.join("tests/plugins").join(format!("{name}.c")))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    }

    pub fn hello(&self, library: &Path, kind: PluginKind) -> Hello {
        Hello {
            protocol: PROTOCOL,
            nonce: Uuid::new_v4().to_string(),
            task: RunnerTask::Stage,
            plugin: PluginLibrary {
                id: "TestPlugin".into(),
                version: "1.2.3".into(),
                kind,
                path: library.to_owned(),
                sha256: None,
                trusted_uid: Some(rustix_uid()),
            },
            sandbox: SandboxOrder {
                profile: SandboxProfile::None,
                strict: false,
                network: true,
                identity: None,
                read_only: vec![self.path("plugins"), self.path("data")],
                writable: vec![self.path("work"), self.path("state"), self.path("output")],
                capabilities: Vec::new(),
                limits: ResourceLimits {
                    file_bytes_max: 0,
                    open_files_max: 1024,
                    memory_bytes_max: 0,
                    processes_max: 64,
                },
                cancel_grace_ms: 200,
            },
            lock_file: Some(self.path("lock")),
        }
    }

    pub fn order(&self, operation: Operation) -> StageOrder {
        StageOrder {
            operation,
            stage_id: Uuid::new_v4(),
            image_id: Uuid::new_v4(),
            attempt: 1,
            deadline_unix_ms: 0,
            target: None,
            provider: None,
            template_xml: None,
            template_json: None,
            parameters: Map::new(),
            images: Map::new(),
            resources: Map::new(),
            credential_name: None,
            config: Map::new(),
            target_contents: Vec::new(),
            checkpoints: Default::default(),
            journal: Vec::new(),
            paths: StagePaths {
                work_dir: self.path("work"),
                input_image: None,
                output_image: Some(self.path("output/image")),
                plugin_data: Some(self.path("data")),
                state_dir: self.path("state"),
                cache_dir: None,
            },
        }
    }
}

pub fn rustix_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub fn is_root() -> bool {
    rustix_uid() == 0
}

/// A running runner.
pub struct Runner {
    pub child: Child,
    socket: Option<UnixStream>,
    pub stdout: Option<std::process::ChildStdout>,
    pub stderr: Option<std::process::ChildStderr>,
    pub nonce: String,
    _copy: Option<tempfile::TempDir>,
}

/// Everything that a runner said until it ended.
#[derive(Debug)]
pub struct Run {
    pub frames: Vec<RunnerFrame>,
    pub status: ExitStatus,
    pub printed: String,
    pub nonce: String,
}

impl Runner {
    pub fn spawn() -> Runner {
        Runner::spawn_as(None)
    }

    /// As another user, where the test runs as root.
    pub fn spawn_as(uid: Option<u32>) -> Runner {
        let (command, folder) = command_as(uid);
        Runner::spawn_by(command, folder)
    }

    /// Where no namespace can be made.
    pub fn spawn_without_namespaces(uid: Option<u32>) -> Runner {
        let (mut command, folder) = command_as(uid);
        // SAFETY: runs in the forked child, which has one thread; the harness holds no lock there.
        unsafe { command.pre_exec(forbid_namespaces) };
        Runner::spawn_by(command, folder)
    }

    /// As `uid`, to whom this file delegates ids. The machine's own files are not touched.
    pub fn spawn_with_delegation(uid: u32, delegation: &Path) -> Runner {
        let (runner, folder) = runner_for_others();
        let script = format!(
            "mount --bind {file} /etc/subuid && mount --bind {file} /etc/subgid && \
             exec setpriv --reuid={uid} --regid={uid} --clear-groups {runner}",
            file = delegation.display(),
            runner = runner.display(),
        );
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script]);
        Runner::spawn_by(command, folder)
    }

    fn spawn_by(mut command: Command, copy: Option<tempfile::TempDir>) -> Runner {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear().current_dir("/").process_group(0);
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Runner { child, socket: Some(ours), stdout, stderr, nonce: String::new(), _copy: copy }
    }

    pub fn send(&mut self, frame: HostFrame) {
        if let HostFrame::Hello(hello) = &frame {
            self.nonce = hello.nonce.clone();
        }
        let body = serde_json::to_vec(&frame).unwrap();
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend(body);
        self.socket.as_mut().unwrap().write_all(&bytes).unwrap();
    }

    /// The next frame; `None` = the runner closed its end.
    pub fn receive(&mut self) -> Option<RunnerFrame> {
        let socket = self.socket.as_mut().unwrap();
        let mut length = [0; 4];
        match socket.read_exact(&mut length) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(e) => panic!("the runner fell silent: {e}"),
        }
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        socket.read_exact(&mut body).unwrap();
        Some(serde_json::from_slice(&body).unwrap())
    }

    /// The next frame that is no heartbeat and fits.
    pub fn receive_until(&mut self, fits: impl Fn(&RunnerFrame) -> bool) -> RunnerFrame {
        loop {
            let frame = self.receive().expect("the runner ended before the awaited frame");
            if fits(&frame) {
                return frame;
            }
            assert!(!matches!(frame, RunnerFrame::Refused(_)), "{frame:?}");
        }
    }

    /// As a daemon that dies.
    pub fn hang_up(&mut self) {
        self.socket = None;
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end; panics if it does not come.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                self.child.kill().unwrap();
                panic!("the runner did not end");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Collects the rest, answering calls by `answer`.
    pub fn finish(mut self, answer: impl Fn(HostCall) -> CallReply) -> Run {
        let mut frames = Vec::new();
        while let Some(frame) = self.receive() {
            if let RunnerFrame::Call { id, call } = &frame {
                let reply = answer(call.clone());
                self.send(HostFrame::Reply { id: *id, reply });
            }
            frames.push(frame);
        }
        let status = self.wait();
        let mut printed = String::new();
        self.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        self.stderr.take().unwrap().read_to_string(&mut printed).unwrap();
        Run { frames, status, printed, nonce: self.nonce.clone() }
    }
}

/// Hello, Start, and everything after.
pub fn run(hello: Hello, order: StageOrder) -> Run {
    run_as(None, hello, order)
}

pub fn run_as(uid: Option<u32>, hello: Hello, order: StageOrder) -> Run {
    let mut runner = Runner::spawn_as(uid);
    runner.send(HostFrame::Hello(Box::new(hello)));
    runner.send(HostFrame::Start(Box::new(order)));
    runner.finish(|_| CallReply::Done)
}

pub fn describe(mut hello: Hello) -> Run {
    hello.task = RunnerTask::Describe;
    hello.lock_file = None;
    let mut runner = Runner::spawn();
    runner.send(HostFrame::Hello(Box::new(hello)));
    runner.finish(|_| CallReply::Done)
}

impl Run {
    pub fn ready(&self) -> &Ready {
        let ready = self.frames.iter().find_map(|frame| match frame {
            RunnerFrame::Ready(ready) => Some(&**ready),
            _ => None,
        });
        ready.unwrap_or_else(|| panic!("no Ready: {self:?}"))
    }

    pub fn refused(&self) -> &Refused {
        match self.frames.last() {
            Some(RunnerFrame::Refused(refused)) => refused,
            _ => panic!("not refused: {self:?}"),
        }
    }

    pub fn end(&self) -> Option<(i32, Option<bool>)> {
        self.frames.iter().find_map(|frame| match frame {
            RunnerFrame::End { code, should, nonce } if *nonce == self.nonce => {
                Some((*code, *should))
            }
            _ => None,
        })
    }

    /// END{code} and exit status 0.
    pub fn ended_with(&self) -> i32 {
        assert!(self.status.success(), "{self:?}");
        self.end().unwrap_or_else(|| panic!("no End: {self:?}")).0
    }

    pub fn error(&self) -> &PluginErrorReport {
        let error = self.frames.iter().find_map(|frame| match frame {
            RunnerFrame::Error(error) => Some(&**error),
            _ => None,
        });
        error.unwrap_or_else(|| panic!("no Error: {self:?}"))
    }

    pub fn result(&self, name: &str) -> Option<&Value> {
        self.frames.iter().rev().find_map(|frame| match frame {
            RunnerFrame::Result { key, value } if key == name => Some(value),
            _ => None,
        })
    }

    pub fn logs(&self) -> Vec<&str> {
        let lines = self.frames.iter().filter_map(|frame| match frame {
            RunnerFrame::Log { message, .. } => Some(message.as_str()),
            _ => None,
        });
        lines.collect()
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

fn command_as(uid: Option<u32>) -> (Command, Option<tempfile::TempDir>) {
    let Some(uid) = uid else { return (Command::new(runner_path()), None) };
    let (runner, folder) = runner_for_others();
    let mut command = Command::new(runner);
    command.uid(uid).gid(uid);
    (command, folder)
}

/// As a container's filter does it: clone3 does not exist.
fn forbid_namespaces() -> std::io::Result<()> {
    let filter = seccompiler::SeccompFilter::new(
        [(libc::SYS_clone3, Vec::new())].into_iter().collect(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(libc::ENOSYS as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).map_err(std::io::Error::other)
}

fn runner_path() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_imagefactory-stage-runner"))
}

/// A runner that every user can start. The target folder may lie where others cannot go; then it
/// is a copy, which lives as long as the folder that is returned.
fn runner_for_others() -> (PathBuf, Option<tempfile::TempDir>) {
    let built = runner_path();
    let open_to_all =
        |path: &Path| std::fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o001 != 0);
    if built.ancestors().all(open_to_all) {
        return (built, None);
    }
    let folder = tempfile::Builder::new().prefix("imgf-runner-bin-").tempdir().unwrap();
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all.clone()).unwrap();
    let copy = folder.path().join("imagefactory-stage-runner");
    std::fs::copy(&built, &copy).unwrap();
    std::fs::set_permissions(&copy, all).unwrap();
    (copy, Some(folder))
}
