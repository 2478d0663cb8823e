//! One stage with the hostile runner: its folders, its services, its end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imagefactory_dispatch::stage_process::{
    Grants, ServiceError, ServiceFuture, SpawnedAttempt, StageEvent, StageFolders, StageServices,
    StageSpec, StageSupervisor, SupervisorConfig,
};
use imagefactory_model::frames::{
    PluginKind, PluginLibrary, ResourceLimits, SandboxOrder, SandboxProfile,
};
use imagefactory_model::stage::{
    FailureCode, JournalEntry, Operation, StageFailure, StageOrder, StageOutcome, StagePaths,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The credentials that `secret_get("cloud")` answers.
pub(crate) const SECRET: &str = r#"{"username":"builder","password":"hunter22hunter22"}"#;

/// A stage to be run, with everything of its own.
pub(crate) struct Stage {
    pub(crate) config: SupervisorConfig,
    pub(crate) spec: StageSpec,
    pub(crate) services: Arc<Services>,
    pub(crate) cancel: CancellationToken,
    pub(crate) folders: StageFolders,
    _dir: TempDir,
}

/// What came of it.
pub(crate) struct Ended {
    pub(crate) result: Result<StageOutcome, StageFailure>,
    pub(crate) events: Vec<StageEvent>,
}

impl Stage {
    /// A stage whose runner commits this sin in `create_base_image`.
    pub(crate) fn new(sin: &str) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let (store, tmp) = (dir.path().join("store"), dir.path().join("tmp"));
        std::fs::create_dir_all(&store).unwrap();
        std::fs::create_dir_all(&tmp).unwrap();
        let stage_id = Uuid::new_v4();
        let folders = StageFolders::create(&store, &tmp, stage_id, 1, None).unwrap();
        let spec = StageSpec {
            order: order(&folders, stage_id),
            plugin: plugin(sin),
            sandbox: sandbox(),
            deadline: Duration::from_secs(60),
            grants: Grants { secrets: ["cloud".to_owned()].into(), ..Grants::default() },
            artifacts_dir: folders.artifacts_dir.clone(),
            lock_file: folders.lock_file.clone(),
        };
        let config = SupervisorConfig {
            term_grace: Duration::from_millis(300),
            ..SupervisorConfig::new(env!("CARGO_BIN_EXE_hostile-runner"))
        };
        let services = Arc::new(Services::default());
        Stage { config, spec, services, cancel: CancellationToken::new(), folders, _dir: dir }
    }

    /// Runs it with a supervisor of its own.
    pub(crate) async fn run(&self) -> Ended {
        let supervisor = StageSupervisor::new(self.config.clone()).unwrap();
        self.run_with(&supervisor).await
    }

    /// Runs it; a stage that takes more than a minute has hung the supervisor.
    pub(crate) async fn run_with(&self, supervisor: &StageSupervisor) -> Ended {
        let (sender, mut receiver) = mpsc::channel(10_000);
        let services = self.services.clone();
        let run = supervisor.run(self.spec.clone(), services, sender, self.cancel.clone());
        let limit = Duration::from_secs(90);
        let result = tokio::time::timeout(limit, run).await.expect("the supervisor hangs");
        let mut events = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            events.push(event);
        }
        Ended { result, events }
    }
}

impl Ended {
    pub(crate) fn failure(&self) -> &StageFailure {
        self.result.as_ref().expect_err("the stage succeeded")
    }
}

/// Runs a sin and checks in which row of the table it ends.
pub(crate) async fn check(sin: &str, code: FailureCode, words: &str) -> Ended {
    let ended = Stage::new(sin).run().await;
    check_failure(sin, ended.failure(), code, words);
    ended
}

/// Checks one failure.
pub(crate) fn check_failure(sin: &str, failure: &StageFailure, code: FailureCode, words: &str) {
    assert_eq!(failure.code, code, "{sin}: {failure:?}");
    assert!(failure.message.contains(words), "{sin}: {:?} lacks {words:?}", failure.message);
    assert!(failure.message.contains(sin), "{sin}: {:?} names no plugin", failure.message);
}

fn plugin(sin: &str) -> PluginLibrary {
    PluginLibrary {
        id: sin.to_owned(),
        version: "1.2.3".to_owned(),
        kind: PluginKind::Os,
        path: PathBuf::from("/nowhere.so"),
        sha256: None,
        trusted_uid: None,
    }
}

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
            file_bytes_max: 0,
            open_files_max: 256,
            memory_bytes_max: 256 << 20,
            processes_max: 64,
        },
        cancel_grace_ms: 300,
    }
}

fn order(folders: &StageFolders, stage_id: Uuid) -> StageOrder {
    StageOrder {
        operation: Operation::CreateBaseImage,
        stage_id,
        image_id: Uuid::new_v4(),
        attempt: 1,
        deadline_unix_ms: 0,
        target: None,
        provider: None,
        template_xml: None,
        template_json: None,
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
            output_image: Some(folders.output_image()),
            plugin_data: None,
            state_dir: folders.state_dir.clone(),
            cache_dir: None,
        },
    }
}

/// Keeps what it is told.
#[derive(Default)]
pub(crate) struct Services {
    pub(crate) spawned: Mutex<Vec<SpawnedAttempt>>,
    pub(crate) journal: Mutex<Vec<JournalEntry>>,
    pub(crate) checkpoints: Mutex<Vec<(String, String)>>,
    pub(crate) refuses_to_record: bool,
}

fn done<T: Send + 'static>(value: Result<T, ServiceError>) -> ServiceFuture<'static, T> {
    Box::pin(std::future::ready(value))
}

impl StageServices for Services {
    fn spawned(&self, attempt: &SpawnedAttempt) -> ServiceFuture<'_, ()> {
        if self.refuses_to_record {
            return done(Err(ServiceError { code: 9, message: "disk full".to_owned() }));
        }
        self.spawned.lock().unwrap().push(attempt.clone());
        done(Ok(()))
    }

    fn journal(&self, entry: JournalEntry) -> ServiceFuture<'_, ()> {
        self.journal.lock().unwrap().push(entry);
        done(Ok(()))
    }

    fn checkpoint_put(&self, key: String, value: String) -> ServiceFuture<'_, ()> {
        self.checkpoints.lock().unwrap().push((key, value));
        done(Ok(()))
    }

    fn secret_get(&self, _name: String) -> ServiceFuture<'_, String> {
        done(Ok(SECRET.to_owned()))
    }

    fn image_get(&self, id: String) -> ServiceFuture<'_, String> {
        done(Ok(format!("{{\"id\":\"{id}\"}}")))
    }
}
