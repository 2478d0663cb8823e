//! A tiny factory for one plugin: its own plugin folder, store and scratch, the real supervisor and
//! the real runner. Runs single stages and keeps what the plugin wrote into the journal. It decides
//! nothing; pipelines are tested elsewhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imagefactory_dispatch::stage_process::{
    Grants, ServiceError, ServiceFuture, SpawnedAttempt, StageFolders, StageServices, StageSpec,
    StageSupervisor, SupervisorConfig,
};
use imagefactory_model::frames::{
    PluginFacts, PluginLibrary, ResourceLimits, SandboxOrder, SandboxProfile,
};
use imagefactory_model::stage::{
    JournalEntry, JournalEvent, Operation, StageFailure, StageOrder, StageOutcome, StagePaths,
};
use imagefactory_tests::{binaries, fixture_plugins};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Content of every stage's input image.
pub(crate) const INPUT: &str = "base image";

/// What a cloud plugin asked the OS plugin for.
pub(crate) const TARGET_CONTENT: &str = r#"{"packages":["one"]}"#;

/// A mock stage takes milliseconds; a minute is a machine that hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// One plugin, installed, with everything that its stages need.
pub(crate) struct Factory {
    folder: tempfile::TempDir,
    plugin: PluginLibrary,
    supervisor: StageSupervisor,
    runtime: tokio::runtime::Runtime,
}

/// What one stage came to.
pub(crate) struct Ran {
    /// Its id, which is the mocks' token too.
    pub(crate) stage_id: Uuid,
    /// The host's verdict.
    pub(crate) outcome: Result<StageOutcome, StageFailure>,
    journal: Vec<JournalEntry>,
}

impl Ran {
    /// The journal's events in order.
    pub(crate) fn journal_events(&self) -> Vec<JournalEvent> {
        self.journal.iter().map(|entry| entry.event).collect()
    }
}

impl Factory {
    /// Installs the plugin of this manifest, whose library lies beside it.
    pub(crate) fn new(manifest: &Path) -> Factory {
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(manifest).unwrap();
        let about: Value = serde_json::from_str(&text).unwrap();
        let library = manifest.with_file_name(about["library"]["path"].as_str().unwrap());
        let plugins = folder.path().join("plugins.d");
        let mut plugin = fixture_plugins::install_with_manifest(&plugins, manifest, &library);
        plugin.sha256 = about["library"]["sha256"].as_str().map(str::to_owned);
        for name in ["store", "tmp"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let mut config = SupervisorConfig::new(binaries::stage_runner());
        config.subreaper = false; // this process is a test, with children of its own
        let runtime = runtime.unwrap();
        let supervisor = runtime.block_on(async { StageSupervisor::new(config) }).unwrap();
        Factory { folder, plugin, supervisor, runtime }
    }

    /// The plugin's id.
    pub(crate) fn plugin_id(&self) -> &str {
        &self.plugin.id
    }

    /// The mock provider's ledger so far.
    pub(crate) fn ledger(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("ledger")).unwrap_or_default()
    }

    /// Loads the plugin in a runner and asks what it is.
    pub(crate) fn describe(&self) -> PluginFacts {
        let described = self.supervisor.describe(self.plugin.clone(), sandbox());
        let ready = self.runtime.block_on(described);
        ready.unwrap_or_else(|failure| panic!("{}: {failure:?}", self.plugin.id)).facts
    }

    /// Runs one operation.
    pub(crate) fn run(&self, operation: Operation, template: &str) -> Ran {
        self.run_with(operation, template, json!({}))
    }

    /// Runs one operation with parameters.
    pub(crate) fn run_with(&self, operation: Operation, template: &str, parameters: Value) -> Ran {
        let stage_id = Uuid::new_v4();
        let (store, tmp) = (self.folder.path().join("store"), self.folder.path().join("tmp"));
        let folders = StageFolders::create(&store, &tmp, stage_id, 1, None).unwrap();
        let services = Arc::new(Memory::default());
        let spec = StageSpec {
            order: self.order(operation, stage_id, template, parameters, &folders),
            plugin: self.plugin.clone(),
            sandbox: sandbox(),
            deadline: DEADLINE,
            grants: Grants::default(),
            artifacts_dir: folders.artifacts_dir.clone(),
            lock_file: folders.lock_file.clone(),
        };
        let (events, _seen) = tokio::sync::mpsc::channel(1);
        let cancel = CancellationToken::new();
        let run = self.supervisor.run(spec, services.clone(), events, cancel);
        let outcome = self.runtime.block_on(run);
        let journal = services.journal.lock().unwrap().clone();
        Ran { stage_id, outcome, journal }
    }

    fn order(
        &self,
        operation: Operation,
        stage_id: Uuid,
        template: &str,
        parameters: Value,
        folders: &StageFolders,
    ) -> StageOrder {
        let input = self.folder.path().join("input.raw");
        std::fs::write(&input, INPUT).unwrap();
        let ledger = self.folder.path().join("ledger");
        let last_line = self.ledger().lines().last().unwrap_or("create none none").to_owned();
        let word = |n| last_line.split(' ').nth(n).unwrap_or_default().to_owned();
        let left = JournalEntry {
            event: JournalEvent::Created,
            scratch: false,
            token: word(1),
            kind: "mock-image".into(),
            resource_id: Some(word(2)),
            details: None,
        };
        StageOrder {
            operation,
            stage_id,
            image_id: Uuid::new_v4(),
            attempt: 1,
            deadline_unix_ms: 0,
            target: Some("cmock".into()),
            provider: Some(json!({ "ledger": ledger }).to_string()),
            template_xml: Some(template.into()),
            template_json: None,
            parameters: object(parameters),
            images: object(json!({"self": {"identifier_on_provider": word(2)}})),
            resources: Map::new(),
            credential_name: None,
            config: Map::new(),
            target_contents: match operation {
                Operation::CreateTargetImage => vec![serde_json::from_str(TARGET_CONTENT).unwrap()],
                _ => Vec::new(),
            },
            checkpoints: BTreeMap::new(),
            journal: if operation == Operation::Cleanup { vec![left] } else { Vec::new() },
            paths: StagePaths {
                work_dir: folders.work_dir.clone(),
                input_image: Some(input),
                output_image: operation.may_write_output().then(|| folders.output_image()),
                plugin_data: None,
                state_dir: folders.state_dir.clone(),
                cache_dir: None,
            },
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// No confinement: whether an old binary still understands us is the question here.
fn sandbox() -> SandboxOrder {
    SandboxOrder {
        profile: SandboxProfile::None,
        strict: false,
        network: false,
        identity: None,
        read_only: Vec::new(),
        writable: Vec::new(),
        capabilities: Vec::new(),
        limits: ResourceLimits {
            file_bytes_max: 1 << 30,
            open_files_max: 1024,
            memory_bytes_max: 0,
            processes_max: 64,
        },
        cancel_grace_ms: 1000,
    }
}

/// Services that keep everything in memory.
#[derive(Default)]
struct Memory {
    journal: Mutex<Vec<JournalEntry>>,
}

impl StageServices for Memory {
    fn spawned(&self, _attempt: &SpawnedAttempt) -> ServiceFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn journal(&self, entry: JournalEntry) -> ServiceFuture<'_, ()> {
        self.journal.lock().unwrap().push(entry);
        Box::pin(async { Ok(()) })
    }

    fn checkpoint_put(&self, _key: String, _value: String) -> ServiceFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn secret_get(&self, name: String) -> ServiceFuture<'_, String> {
        let refused = ServiceError { code: 5, message: format!("there is no secret {name}") };
        Box::pin(async { Err(refused) })
    }

    fn image_get(&self, id: String) -> ServiceFuture<'_, String> {
        let refused = ServiceError { code: 5, message: format!("there is no image {id}") };
        Box::pin(async { Err(refused) })
    }
}
