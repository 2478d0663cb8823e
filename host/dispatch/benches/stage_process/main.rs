//! What one process for each stage costs: `cargo bench -p imagefactory-dispatch --bench
//! stage_process`.
//!
//! An empty stage (spawn, sandbox, load, negotiate, create, call, destroy, reap, clear away) beside
//! the least process that there is, beside loading and negotiating alone within a process, and the
//! ABI call beside a direct one. Prints a table for docs/benchmarks/stage-process.md; asserts
//! nothing, so a busy machine fails no build. Needs cc with a static libc; builds the release
//! runner itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a measuring program: what is missing on the machine ends it"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imagefactory_dispatch::stage_process::{
    Grants, ServiceError, ServiceFuture, SpawnedAttempt, StageFolders, StageServices, StageSpec,
    StageSupervisor, SupervisorConfig,
};
use imagefactory_model::frames::{
    PluginKind, PluginLibrary, ResourceLimits, SandboxOrder, SandboxProfile, StageIdentity,
};
use imagefactory_model::stage::{JournalEntry, Operation, StageOrder, StagePaths};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Enough for a p99 that means something, and below a minute in all.
const ROUNDS: usize = 400;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    // Stages under ids of their own pass through it.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .unwrap();
    let bare = compile(dir.path(), "bare", &["-O2", "-static"]);
    let in_process = compile(dir.path(), "in_process", &["-O2", "-ldl"]);
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let plugin = compile(&plugins, "empty_plugin", &["-O2", "-shared", "-fPIC"]);
    let runner = release_runner();

    println!("| what | p50 ms | p99 ms |\n|---|---|---|");
    row("posix_spawn + wait of a static program", measure(|| spawn_and_wait(&bare)));
    row("dlopen + negotiate in one process", (0..ROUNDS).map(|_| load(&in_process, &plugin)));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (name, profile, cgroups) in [
        ("empty stage, profile none, no cgroup", SandboxProfile::None, false),
        ("empty stage, profile none", SandboxProfile::None, true),
        ("empty stage, profile cloud", SandboxProfile::Cloud, true),
        ("empty stage, profile os-userns", SandboxProfile::OsUserns, true),
    ] {
        let bench = Bench::new(dir.path(), &runner, &plugin, (profile, cgroups));
        row(name, runtime.block_on(bench.run()));
    }
    let (direct, table) = call_cost(&in_process, &plugin);
    println!("\nABI call {table:.2} ns, direct call {direct:.2} ns");
}

fn row(name: &str, times: impl IntoIterator<Item = Duration>) {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort();
    let at = |share: f64| {
        let place = ((times.len() - 1) as f64 * share) as usize;
        times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    println!("| {name} | {:.2} | {:.2} |", at(0.5), at(0.99));
}

fn measure(mut once: impl FnMut()) -> Vec<Duration> {
    let mut one = || {
        let begun = Instant::now();
        once();
        begun.elapsed()
    };
    (0..ROUNDS).map(|_| one()).collect()
}

fn spawn_and_wait(program: &Path) {
    let status = Command::new(program).env_clear().stdin(Stdio::null()).status().unwrap();
    assert!(status.success());
}

fn load(in_process: &Path, plugin: &Path) -> Duration {
    let output = Command::new(in_process).arg(plugin).arg("load").output().unwrap();
    Duration::from_nanos(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

/// Nanoseconds: direct, through the table.
fn call_cost(in_process: &Path, plugin: &Path) -> (f64, f64) {
    let output = Command::new(in_process).arg(plugin).arg("call").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|number| number.parse::<f64>().unwrap() / 1e3);
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn compile(into: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let result = into.join(name);
    let mut compiler = Command::new("cc");
    compiler.arg("-I").arg(here.join("../../plugin-sdk/include")).arg("-o").arg(&result);
    compiler.arg(here.join("benches/stage_process").join(format!("{name}.c"))).args(flags);
    assert!(compiler.status().unwrap().success(), "cc {name}.c (needs gcc and libc6-dev)");
    result
}

fn release_runner() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--release", "-p", "imagefactory-stage-runner"]);
    assert!(build.current_dir(&workspace).status().unwrap().success(), "the runner is not built");
    // target/PROFILE/deps/stage_process-…: the runner is a release build in any case.
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    target.join("release/imagefactory-stage-runner").canonicalize().unwrap()
}

struct Bench {
    supervisor: StageSupervisor,
    plugin: PluginLibrary,
    sandbox: SandboxOrder,
    dir: PathBuf,
}

impl Bench {
    fn new(
        dir: &Path,
        runner: &Path,
        plugin: &Path,
        (profile, cgroups): (SandboxProfile, bool),
    ) -> Self {
        let config = SupervisorConfig { cgroups, ..SupervisorConfig::new(runner) };
        let root = rustix::process::geteuid().is_root();
        let count = if profile == SandboxProfile::OsUserns { 65536 } else { 1 };
        let confined = root && profile != SandboxProfile::None;
        let sandbox = SandboxOrder {
            profile,
            strict: false,
            network: true,
            identity: confined.then_some(StageIdentity { uid: 3_000_000, gid: 3_000_000, count }),
            read_only: plugin.parent().map(Path::to_owned).into_iter().collect(),
            writable: Vec::new(),
            capabilities: Vec::new(),
            limits: ResourceLimits {
                file_bytes_max: 1 << 30,
                open_files_max: 1024,
                memory_bytes_max: 1 << 30,
                processes_max: 64,
            },
            cancel_grace_ms: 10_000,
        };
        let plugin = PluginLibrary {
            id: "Empty".to_owned(),
            version: "1.0.0".to_owned(),
            kind: PluginKind::Cloud,
            path: plugin.to_owned(),
            sha256: None,
            trusted_uid: None,
        };
        std::fs::create_dir_all(dir.join("store")).unwrap();
        let supervisor = StageSupervisor::new(config).unwrap();
        Bench { supervisor, plugin, sandbox, dir: dir.to_owned() }
    }

    async fn run(&self) -> Vec<Duration> {
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            times.push(self.once().await);
        }
        times
    }

    /// The folders are made before the clock starts: a stage of any kind has them.
    async fn once(&self) -> Duration {
        let stage_id = Uuid::new_v4();
        let (store, tmp) = (self.dir.join("store"), self.dir.join("tmp"));
        let identity = self.sandbox.identity;
        let folders = StageFolders::create(&store, &tmp, stage_id, 1, identity).unwrap();
        let mut sandbox = self.sandbox.clone();
        sandbox.writable = vec![folders.work_dir.clone(), folders.state_dir.clone()];
        let spec = StageSpec {
            order: order(&folders, stage_id),
            plugin: self.plugin.clone(),
            sandbox,
            deadline: Duration::from_secs(60),
            grants: Grants::default(),
            artifacts_dir: folders.artifacts_dir.clone(),
            lock_file: folders.lock_file.clone(),
        };
        let (events, _unread) = mpsc::channel(100);
        let begun = Instant::now();
        let ended =
            self.supervisor.run(spec, Arc::new(Forgetful), events, CancellationToken::new());
        let ended = ended.await;
        let time = begun.elapsed();
        ended.unwrap();
        folders.remove_stage().unwrap();
        time
    }
}

fn order(folders: &StageFolders, stage_id: Uuid) -> StageOrder {
    StageOrder {
        operation: Operation::BuilderWillCreateTargetImage,
        stage_id,
        image_id: Uuid::new_v4(),
        attempt: 1,
        deadline_unix_ms: 0,
        target: Some("empty".to_owned()),
        provider: None,
        template_xml: Some("<template/>".to_owned()),
        template_json: Some("{}".to_owned()),
        parameters: Default::default(),
        images: Default::default(),
        resources: Default::default(),
        credential_name: None,
        config: Default::default(),
        target_contents: Vec::new(),
        checkpoints: Default::default(),
        journal: Vec::new(),
        paths: StagePaths {
            work_dir: folders.work_dir.clone(),
            input_image: None,
            output_image: None,
            plugin_data: None,
            state_dir: folders.state_dir.clone(),
            cache_dir: None,
        },
    }
}

/// Records nothing: what a database costs is not the process' price.
struct Forgetful;

impl Forgetful {
    fn done<T: Default + Send + 'static>() -> ServiceFuture<'static, T> {
        Box::pin(std::future::ready(Ok::<T, ServiceError>(T::default())))
    }
}

impl StageServices for Forgetful {
    fn spawned(&self, _attempt: &SpawnedAttempt) -> ServiceFuture<'_, ()> {
        Forgetful::done()
    }
    fn journal(&self, _entry: JournalEntry) -> ServiceFuture<'_, ()> {
        Forgetful::done()
    }
    fn checkpoint_put(&self, _key: String, _value: String) -> ServiceFuture<'_, ()> {
        Forgetful::done()
    }
    fn secret_get(&self, _name: String) -> ServiceFuture<'_, String> {
        Forgetful::done()
    }
    fn image_get(&self, _id: String) -> ServiceFuture<'_, String> {
        Forgetful::done()
    }
}
