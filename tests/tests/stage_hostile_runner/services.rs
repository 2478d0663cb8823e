//! What a runner asks for: only what was granted, never lost, never told on.

use imagefactory_dispatch::stage_process::{Grants, StageEvent, StageSupervisor};
use imagefactory_model::stage::{FailureCode::*, JournalEvent};

use crate::stage::{Services, Stage, check, check_failure};

#[tokio::test]
async fn a_secret_appears_nowhere_in_what_the_stage_says() {
    let ended = check("tell-secret", PluginError, "error has").await;
    let said = format!("{:?} {:?}", ended.result, ended.events);
    assert!(!said.contains("hunter22"), "{said}");
    for place in ["stdout has", "log has", "progress has", "error has"] {
        let redacted = said.split(place).nth(1).is_some_and(|rest| rest.contains("[REDACTED]"));
        assert!(redacted, "nothing was removed from {place:?}: {said}");
    }
}

#[tokio::test]
async fn what_was_not_granted_is_refused_and_a_secret_never_becomes_durable() {
    assert!(Stage::new("ask-ungranted").run().await.result.is_ok());
    let stage = Stage::new("store-secret");
    assert!(stage.run().await.result.is_ok());
    assert!(stage.services.checkpoints.lock().unwrap().is_empty());
}

#[tokio::test]
async fn journal_and_checkpoints_reach_the_services_before_the_plugin_goes_on() {
    let stage = Stage::new("journal");
    let ended = stage.run().await;
    assert!(ended.result.is_ok(), "{:?}", ended.result);
    let journal = stage.services.journal.lock().unwrap();
    assert_eq!(journal.len(), 1);
    assert_eq!(journal[0].event, JournalEvent::WillCreate);
    let checkpoints = stage.services.checkpoints.lock().unwrap();
    assert_eq!(*checkpoints, [("part".to_owned(), "7".to_owned())]);
    assert!(ended.events.iter().any(|event| matches!(event, StageEvent::Journal(_))));
}

#[tokio::test]
async fn nothing_starts_unless_the_attempt_is_recorded() {
    let mut stage = Stage::new("good");
    stage.services = Services { refuses_to_record: true, ..Services::default() }.into();
    let ended = stage.run().await;
    assert_eq!(ended.failure().code, Host, "{:?}", ended.failure());
    assert!(ended.failure().message.contains("disk full"));
    assert!(!stage.folders.output_image().exists(), "it was started");
    let stage = Stage::new("good");
    stage.run().await.result.unwrap();
    let spawned = stage.services.spawned.lock().unwrap();
    assert_eq!(spawned.len(), 1);
    assert!(spawned[0].start_time > 0 && spawned[0].lock_file == stage.folders.lock_file);
}

#[tokio::test]
async fn the_locks_of_a_crashed_stage_are_free_at_once() {
    let grants = Grants { reserve: true, ..Grants::default() };
    let mut first = Stage::new("lock-and-crash");
    first.spec.grants = grants.clone();
    let supervisor = StageSupervisor::new(first.config.clone()).unwrap();
    for _ in 0..2 {
        // The second time the lock is asked for without waiting: it must be free.
        let ended = first.run_with(&supervisor).await;
        check_failure("lock-and-crash", ended.failure(), PluginCrash, "SIGSEGV");
    }
}

#[tokio::test]
async fn a_runner_gets_a_clean_environment_and_a_group_of_its_own() {
    let outcome = Stage::new("environment").run().await.result.unwrap();
    let seen = &outcome.results["properties"];
    assert_eq!(seen["group"], true);
    let allowed = ["PATH", "LANG", "TZ", "IMAGEFACTORY_STAGE"];
    for name in seen["environment"].as_array().unwrap() {
        assert!(allowed.contains(&name.as_str().unwrap()), "{name} was inherited");
    }
}
