//! Frames that are none, that come at the wrong time, or that are too many.

use std::time::Duration;

use imagefactory_dispatch::stage_process::{StageEvent, StageSupervisor};
use imagefactory_model::stage::FailureCode::*;

use crate::stage::{Stage, check};

#[tokio::test]
async fn what_is_no_frame_or_comes_at_the_wrong_time_is_a_breach() {
    check("garbage", PluginProtocol, "a frame that is not one").await;
    check("oversized", PluginProtocol, "more than 16777216 bytes").await;
    check("end-before-ready", PluginProtocol, "END before Ready").await;
    check("result-before-ready", PluginProtocol, "Result before Ready").await;
    check("ready-twice", PluginProtocol, "sent Ready").await;
    check("foreign-nonce", PluginProtocol, "foreign nonce").await;
    check("another-id", PluginProtocol, "impostor").await;
    check("another-protocol", PluginProtocol, "restart imagefactoryd").await;
    check("answer-unasked", PluginProtocol, "nobody asked").await;
}

#[tokio::test]
async fn results_are_closed_and_typed() {
    check("foreign-key", PluginProtocol, "\"identifier_on_provider\"").await;
    check("wrong-type", PluginProtocol, "\"properties\" is not an object").await;
}

#[tokio::test]
async fn calls_without_end_whose_answers_nobody_reads_end_the_stage() {
    check("call-without-reading", PluginProtocol, "broke the protocol").await;
}

#[tokio::test]
async fn a_flood_of_output_costs_lines_and_nothing_else() {
    let mut stage = Stage::new("print-a-lot");
    // It sends no heartbeats while it prints.
    stage.config.heartbeat_timeout = Duration::from_secs(80);
    let ended = stage.run().await;
    assert!(ended.result.is_ok(), "{:?}", ended.result);
    let lines = logged(&ended.events);
    assert!(lines.len() < 5000, "{} lines passed", lines.len());
    assert!(lines.iter().any(|line| line.contains("log lines (") && line.contains("lost")));
    assert!(lines.iter().all(|line| line.len() <= 8 << 10), "a line of a megabyte passed");
    assert!(logged(&ended.events).len() > 100, "the beginning is lost too");
}

#[tokio::test]
async fn log_frames_are_bounded_and_counted_too() {
    let ended = Stage::new("log-a-lot").run().await;
    assert!(ended.result.is_ok(), "{:?}", ended.result);
    let lines = logged(&ended.events);
    assert!(lines.len() < 10_000, "{} lines passed", lines.len());
    assert!(lines.iter().any(|line| line.contains("log lines (")), "no word of the lost ones");
}

fn logged(events: &[StageEvent]) -> Vec<&str> {
    let logs = events.iter().filter_map(|event| match event {
        StageEvent::Log(line) => Some(line.message.as_str()),
        _ => None,
    });
    logs.collect()
}

#[tokio::test]
async fn describing_ends_with_what_the_runner_found_or_why_not() {
    let describe = async |sin: &str| {
        let stage = Stage::new(sin);
        let supervisor = StageSupervisor::new(stage.config.clone()).unwrap();
        supervisor.describe(stage.spec.plugin.clone(), stage.spec.sandbox.clone()).await
    };
    assert_eq!(describe("described").await.unwrap().facts.id, "described");
    let crash = describe("crash-at-load").await.unwrap_err();
    assert_eq!(crash.code, PluginCrash);
    let refused = describe("refuse-abi").await.unwrap_err();
    assert_eq!(refused.code, PluginAbi);
    let lies = describe("result-before-ready").await.unwrap_err();
    assert_eq!(lies.code, PluginProtocol);
}
