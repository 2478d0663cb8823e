//! Hangs, cancels and deadlines: no runner keeps the supervisor waiting.

use std::path::Path;
use std::time::{Duration, Instant};

use imagefactory_dispatch::stage_process::{StageSupervisor, fence};
use imagefactory_model::stage::FailureCode::*;

use crate::stage::{Stage, check, check_failure};

const SHORT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_quiet_hang_is_found_by_its_silence() {
    let mut stage = Stage::new("mute");
    stage.config.heartbeat_timeout = SHORT;
    let begun = Instant::now();
    let ended = stage.run().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    check_failure("mute", ended.failure(), PluginTimeout, "no sign of life");
}

#[tokio::test]
async fn a_chatty_hang_is_found_by_its_deadline() {
    let mut stage = Stage::new("chatty");
    stage.spec.deadline = SHORT;
    let begun = Instant::now();
    let ended = stage.run().await;
    check_failure("chatty", ended.failure(), PluginTimeout, "within 400ms");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_slow_load_is_ended() {
    let mut stage = Stage::new("slow-load");
    stage.config.ready_timeout = SHORT;
    let ended = stage.run().await;
    check_failure("slow-load", ended.failure(), PluginTimeout, "was not loaded within");
}

#[tokio::test]
async fn a_cancel_reaches_the_plugin_and_a_stubborn_one_is_killed() {
    for (sin, words) in [("obedient", "was cancelled"), ("stubborn", "had to be killed")] {
        let mut stage = Stage::new(sin);
        stage.spec.sandbox.cancel_grace_ms = if sin == "obedient" { 30_000 } else { 200 };
        let cancel = stage.cancel.clone();
        let soon = tokio::spawn(async move {
            tokio::time::sleep(SHORT).await;
            cancel.cancel();
        });
        let begun = Instant::now();
        let ended = stage.run().await;
        check_failure(sin, ended.failure(), Cancelled, words);
        assert!(begun.elapsed() < Duration::from_secs(15), "{sin}: {:?}", begun.elapsed());
        soon.await.unwrap();
    }
}

#[tokio::test]
async fn a_stage_that_finishes_while_it_is_cancelled_has_finished() {
    let mut stage = Stage::new("finishes-anyway");
    stage.spec.sandbox.cancel_grace_ms = 30_000;
    let cancel = stage.cancel.clone();
    let soon = tokio::spawn(async move {
        tokio::time::sleep(SHORT).await;
        cancel.cancel();
    });
    assert!(stage.run().await.result.is_ok());
    soon.await.unwrap();
}

#[tokio::test]
async fn a_cancel_before_the_beginning_starts_nothing() {
    let stage = Stage::new("good");
    stage.cancel.cancel();
    let ended = stage.run().await;
    check_failure("good", ended.failure(), Cancelled, "before it began");
    assert!(stage.services.spawned.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_closes_its_connection_or_stays_after_end_is_ended() {
    // Both have 10 s to exit by themselves.
    let (closed, stayed) = tokio::join!(
        check("close-and-stay", PluginProtocol, "closed its connection"),
        check("end-then-stay", PluginProtocol, "did not exit"),
    );
    drop((closed, stayed));
}

#[tokio::test]
async fn children_of_a_finished_stage_do_not_outlive_it_nor_hold_it_up() {
    let stage = Stage::new("leave-children");
    let begun = Instant::now();
    let ended = stage.run().await;
    assert!(ended.result.is_ok(), "{:?}", ended.result);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let marker = format!("IMAGEFACTORY_STAGE={}-1", stage.spec.order.stage_id);
    assert_eq!(marked(&marker), Vec::<i32>::new(), "alive after the stage");
}

#[tokio::test]
async fn orphans_are_found_without_any_cgroup() {
    let mut stage = Stage::new("leave-children");
    stage.config.cgroups = false;
    let ended = stage.run().await;
    assert!(ended.result.is_ok(), "{:?}", ended.result);
    let marker = format!("IMAGEFACTORY_STAGE={}-1", stage.spec.order.stage_id);
    assert_eq!(marked(&marker), Vec::<i32>::new(), "alive after the stage");
}

#[tokio::test]
async fn a_dropped_stage_ends_with_its_children() {
    let stage = Stage::new("chatty");
    let supervisor = StageSupervisor::new(stage.config.clone()).unwrap();
    let dropped = tokio::time::timeout(Duration::from_secs(2), stage.run_with(&supervisor)).await;
    assert!(dropped.is_err(), "the chatty runner ended by itself");
    let attempt = stage.services.spawned.lock().unwrap().first().cloned().unwrap();
    let gone = || !Path::new(&format!("/proc/{}", attempt.pid)).exists();
    wait_until(gone, "the runner is there after its stage was dropped").await;
    let no_leaf = || attempt.cgroup.iter().all(|dir| !dir.exists());
    wait_until(no_leaf, "the cgroup is there after its stage was dropped").await;
}

#[tokio::test]
async fn recovery_fences_an_attempt_whose_daemon_is_gone() {
    let stage = Stage::new("chatty");
    let supervisor = StageSupervisor::new(stage.config.clone()).unwrap();
    let services = stage.services.clone();
    let fencing = async {
        while services.spawned.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let attempt = services.spawned.lock().unwrap().first().cloned().unwrap();
        fence(&attempt, Duration::from_secs(20)).await.unwrap();
    };
    let (ended, ()) = tokio::join!(stage.run_with(&supervisor), fencing);
    check_failure("chatty", ended.failure(), Interrupted, "ended from outside");
}

async fn wait_until(condition: impl Fn() -> bool, what: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Living processes with this variable in their environment.
fn marked(marker: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == marker.as_bytes())
    })
    .collect()
}
