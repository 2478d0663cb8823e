//! The daemon of a rig: runs the ordered stages through the real supervisor and reports what it
//! saw.
//!
//! One [`RigOrder`] comes as JSON on standard input, one [`RigReport`] goes to standard output. It
//! is a program of its own so that a test can run it under another user id, can see whether a
//! plugin killed it, and can compare its descriptors. It holds secrets in its memory and
//! environment, as a daemon does, and judges nothing; that is the test's part (`stage_rig.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's program: a panic here is seen by the test, and its answer goes to stdout"
)]

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use imagefactory_dispatch::stage_process::{
    Grants, ServiceFuture, SpawnedAttempt, StageEvent, StageFolders, StageServices, StageSpec,
    StageSupervisor, SupervisorConfig,
};
use imagefactory_model::stage::{
    Artifact, JournalEntry, Operation, StageFailure, StageOrder, StageOutcome, StagePaths,
};
use imagefactory_tests::host_state;
use imagefactory_tests::rig_order::{Ended, Failure, Product, RigOrder, RigReport, StageOnRig};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// More lines than any test searches; a chatty plugin must not fill the driver's memory either.
const LINES_MAX: usize = 20_000;

fn main() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("the order can be read");
    let order: RigOrder = serde_json::from_str(&text).expect("the order is a RigOrder");
    let connections = count_connections(&order);
    let runtime = tokio::runtime::Runtime::new().expect("a tokio runtime");
    let report = runtime.block_on(carry_out(order, connections));
    println!("{}", serde_json::to_string(&report).expect("a report is JSON"));
}

/// Listens on a loopback port, whose number goes into the stage's parameters as `daemon_port`.
fn count_connections(order: &RigOrder) -> (u16, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    let port = listener.local_addr().expect("a listener has an address").port();
    let counter = count.clone();
    let greeting = order.daemon_secret.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            // Whoever gets so far shall be caught with the secret; it may have hung up already.
            std::io::Write::write_all(&mut stream, greeting.as_bytes()).unwrap_or_default();
        }
    });
    (port, count)
}

async fn carry_out(order: RigOrder, (port, connections): (u16, Arc<AtomicU32>)) -> RigReport {
    let mut config = SupervisorConfig::new(order.runner.clone());
    config.ready_timeout = Duration::from_millis(order.ready_timeout_ms);
    config.heartbeat_timeout = Duration::from_millis(order.heartbeat_timeout_ms);
    config.term_grace = Duration::from_millis(order.term_grace_ms);
    config.artifact_bytes_max = 1 << 20;
    let supervisor = StageSupervisor::new(config).expect("a supervisor can be had");
    let me = std::process::id();

    // The first stage makes tokio and the supervisor open what they keep for good.
    if let Some(beside) = &order.beside {
        let mut first = beside.clone();
        first.parameters.remove("until");
        run(&supervisor, &order, &first, None).await;
    }
    let contained = supervisor.containment(order.stage.sandbox.clone()).await;
    let gaps = contained.expect("a runner can be had").gaps();
    let descriptors_before = settled_descriptors(me).await;

    let mut stage = order.stage.clone();
    stage.parameters.insert("daemon_port".to_owned(), Value::from(port.to_string()));
    let over = CancellationToken::new();
    let watched = async {
        let ended = run(&supervisor, &order, &stage, None).await;
        over.cancel();
        ended
    };
    let neighbour = async {
        match &order.beside {
            Some(beside) => Some(run(&supervisor, &order, beside, Some(&over)).await),
            None => None,
        }
    };
    let (stage, beside) = tokio::join!(watched, neighbour);
    RigReport {
        stage,
        beside,
        descriptors_before,
        descriptors_after: settled_descriptors(me).await,
        children_after: children_left(me).await,
        peak_memory_bytes: host_state::peak_memory_bytes(me),
        gaps: gaps.iter().map(ToString::to_string).collect(),
        connections: connections.load(Ordering::SeqCst),
    }
}

/// The descriptors once they do not change any more: what a stage that is over leaves to the
/// background (its socket, its mounts) is closed a moment later. What stays has leaked.
async fn settled_descriptors(me: u32) -> BTreeMap<String, usize> {
    let mut last = host_state::descriptors_of(me);
    let mut same = 0;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = host_state::descriptors_of(me);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        if same == 5 {
            break;
        }
    }
    last
}

/// Children that are still there after the supervisor had 5 s to bury orphans that were adopted.
async fn children_left(me: u32) -> Vec<String> {
    let start = Instant::now();
    loop {
        let children = host_state::children_of(me);
        if children.is_empty() || start.elapsed() > Duration::from_secs(5) {
            return children;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One stage from its folders to their removal. `finish`: then the file `finish` appears for it.
async fn run(
    supervisor: &StageSupervisor,
    order: &RigOrder,
    stage: &StageOnRig,
    finish: Option<&CancellationToken>,
) -> Ended {
    let stage_id = Uuid::new_v4();
    let identity = stage.sandbox.identity;
    let folders = StageFolders::create(&order.storage, &order.tmp, stage_id, 1, identity)
        .expect("the stage's folders can be made");
    let mut sandbox = stage.sandbox.clone();
    sandbox.writable =
        [&folders.work_dir, &folders.output_dir, &folders.state_dir].map(Clone::clone).into();
    let spec = StageSpec {
        order: stage_order(stage, stage_id, &folders),
        plugin: stage.plugin.clone(),
        sandbox,
        deadline: Duration::from_millis(stage.deadline_ms),
        grants: Grants::default(),
        artifacts_dir: folders.artifacts_dir.clone(),
        lock_file: folders.lock_file.clone(),
    };
    let (events, seen) = mpsc::channel(4096);
    let cancel = CancellationToken::new();
    let reader = tokio::spawn(read_events(seen, stage.cancel_on_line.clone(), cancel.clone()));
    let finish_file = folders.work_dir.join("finish");
    let finisher = finish.cloned().map(|over| {
        tokio::spawn(async move {
            over.cancelled().await;
            std::fs::write(finish_file, "").expect("the work folder is writable");
        })
    });
    let services = Arc::new(Services { daemon_secret: order.daemon_secret.clone() });
    let start = Instant::now();
    let end = supervisor.run(spec, services, events, cancel).await;
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    if let Some(finisher) = finisher {
        finisher.abort();
    }
    let (lines, report) = reader.await.expect("the reader of events lives");
    let everything = format!("{end:?}");
    let artifacts = match &end {
        Ok(outcome) => contents(&outcome.artifacts),
        Err(failure) => contents(&failure.artifacts),
    };
    let end = match end {
        Ok(outcome) => Ok(product(&outcome)),
        Err(failure) => Err(failed(failure)),
    };
    remove(&folders).await;
    Ended { end, lines, artifacts, sandbox: report, milliseconds, everything }
}

fn stage_order(stage: &StageOnRig, stage_id: Uuid, folders: &StageFolders) -> StageOrder {
    StageOrder {
        operation: Operation::CreateBaseImage,
        stage_id,
        image_id: Uuid::new_v4(),
        attempt: 1,
        deadline_unix_ms: 0,
        target: None,
        provider: None,
        template_xml: Some("<template><name>rig</name></template>".to_owned()),
        template_json: Some("{\"name\":\"rig\"}".to_owned()),
        parameters: stage.parameters.clone(),
        images: Map::new(),
        resources: Map::new(),
        credential_name: None,
        config: Map::new(),
        target_contents: Vec::new(),
        checkpoints: BTreeMap::new(),
        journal: Vec::new(),
        paths: StagePaths {
            work_dir: folders.work_dir.clone(),
            input_image: None,
            output_image: Some(folders.output_image()),
            plugin_data: None,
            state_dir: folders.state_dir.clone(),
            cache_dir: None,
        },
    }
}

/// Keeps the lines of a stage, and asks it to end when `cancel_on_line` comes by.
async fn read_events(
    mut seen: mpsc::Receiver<StageEvent>,
    cancel_on_line: Option<String>,
    cancel: CancellationToken,
) -> (Vec<String>, Option<imagefactory_model::frames::SandboxReport>) {
    let mut lines = Vec::new();
    let mut report = None;
    while let Some(event) = seen.recv().await {
        let line = match event {
            StageEvent::Log(line) => line.message,
            StageEvent::Progress(progress) => progress.message,
            StageEvent::SandboxReport(sandbox) => {
                report = Some(sandbox);
                continue;
            }
            StageEvent::Journal(entry) => format!("{entry:?}"),
            StageEvent::TargetContent(content) => content.to_string(),
            StageEvent::Spawned(_) => continue,
        };
        if cancel_on_line.as_ref().is_some_and(|text| line.contains(text)) {
            cancel.cancel();
        }
        if lines.len() < LINES_MAX {
            lines.push(line);
        }
    }
    (lines, report)
}

fn product(outcome: &StageOutcome) -> Product {
    let content =
        outcome.output.as_ref().map(|file| std::fs::read(&file.path).expect("the output"));
    let is_pure = |bytes: &Vec<u8>| bytes.iter().all(|byte| Some(byte) == bytes.first());
    Product {
        results: outcome.results.clone(),
        format: outcome.output.as_ref().map(|file| file.format.clone()),
        output_bytes: content.as_ref().map(|bytes| bytes.len() as u64),
        output_is_pure: content.as_ref().map(is_pure),
    }
}

fn contents(artifacts: &[Artifact]) -> BTreeMap<String, String> {
    let read = |artifact: &Artifact| std::fs::read(&artifact.path).expect("an artefact was taken");
    let text = |artifact| String::from_utf8_lossy(&read(artifact)).into_owned();
    artifacts.iter().map(|artifact| (artifact.name.clone(), text(artifact))).collect()
}

fn failed(failure: StageFailure) -> Failure {
    Failure {
        code: failure.code,
        message: failure.message,
        hint: failure.hint,
        log_tail: failure.log_tail,
        retryable: failure.retryable,
    }
}

async fn remove(folders: &StageFolders) {
    folders.remove_attempt().expect("the attempt's folders can be removed");
    folders.remove_stage().expect("the stage's folder can be removed");
}

/// A daemon that grants nothing: whatever a plugin is told, it got against the rules.
struct Services {
    daemon_secret: String,
}

/// Journal and checkpoints are kept nowhere: no test of a rig recovers.
impl StageServices for Services {
    fn spawned(&self, _attempt: &SpawnedAttempt) -> ServiceFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn journal(&self, _entry: JournalEntry) -> ServiceFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn checkpoint_put(&self, _key: String, _value: String) -> ServiceFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn secret_get(&self, _name: String) -> ServiceFuture<'_, String> {
        Box::pin(async { Ok(self.daemon_secret.clone()) })
    }

    fn image_get(&self, _id: String) -> ServiceFuture<'_, String> {
        Box::pin(async { Ok(self.daemon_secret.clone()) })
    }
}
