//! The failure table (plugin-abi.md 3.3, item 5): each way to end, and the row that it falls into.

use imagefactory_model::stage::FailureCode::{self, *};

use crate::stage::{Stage, check, check_failure};

#[tokio::test]
async fn a_stage_that_keeps_its_word_succeeds() {
    let stage = Stage::new("good");
    let outcome = stage.run().await.result.unwrap();
    let output = outcome.output.unwrap();
    assert_eq!((output.bytes, output.format.as_str()), (4, "raw"));
    assert_eq!(output.path, stage.folders.output_image());
}

#[tokio::test]
async fn signals_are_crashes_aborts_and_interruptions() {
    check("segv", PluginCrash, "crashed in create_base_image: SIGSEGV").await;
    check("abort", PluginAbort, "SIGABRT").await;
    check("forbidden-call", Sandbox, "SIGSYS").await;
    check("too-large", NoSpace, "SIGXFSZ").await;
    check("crash-at-load", PluginCrash, "while it was loaded").await;
    let killed = check("kill", Interrupted, "ended from outside").await;
    assert!(killed.failure().retryable, "an interruption is repeated");
}

#[tokio::test]
async fn an_exit_without_end_is_a_breach_whatever_its_status() {
    check("exit-zero", PluginProtocol, "exit status 0").await;
    check("exit-three", PluginProtocol, "exit status 3").await;
    check("exit-at-load", PluginProtocol, "while it was loaded").await;
    check("half-frame", PluginProtocol, "exit status 0").await;
}

#[tokio::test]
async fn success_followed_by_anything_but_exit_0_is_no_success() {
    check("end-then-segv", PluginProtocol, "died after finishing (SIGSEGV").await;
    check("end-then-three", PluginProtocol, "died after finishing (exit status 3)").await;
    check("end-twice", PluginProtocol, "END twice").await;
    check("result-after-end", PluginProtocol, "Result after END").await;
}

#[tokio::test]
async fn errors_of_the_plugin_keep_its_words() {
    let ended = check("error", PluginError, "it went\\nwrong\\u{1b}[2J").await;
    let failure = ended.failure();
    assert_eq!((failure.hint.as_str(), failure.vendor_code.as_str()), ("do better", "Throttled"));
    assert!(!failure.retryable);
    let ended = check("retryable-error", PluginError, "failed in create_base_image").await;
    assert_eq!((ended.failure().retryable, ended.failure().retry_after_ms), (true, 1500));
    check("panic", PluginPanic, "panicked").await;
    check("user-error", UserTemplate, "failed").await;
    check("no-space", NoSpace, "failed").await;
    check("silent-error", PluginError, "returned 9 and gave no reason").await;
    check("negative-end", PluginProtocol, "reserved for the host").await;
}

#[tokio::test]
async fn a_refusal_keeps_its_kind_and_its_hint() {
    let ended = check("refuse-abi", PluginAbi, "no common ABI").await;
    assert_eq!(ended.failure().hint, "rebuild it");
}

#[tokio::test]
async fn memory_is_told_from_other_kills_where_the_host_can_count_it() {
    let stage = Stage::new("oom");
    let ended = stage.run().await;
    let counted = counts_memory(&ended);
    let code = if counted { PluginOom } else { Interrupted };
    if counted {
        check_failure("oom", ended.failure(), code, "its limit is 256 MiB");
    }
}

fn counts_memory(ended: &crate::stage::Ended) -> bool {
    use imagefactory_dispatch::stage_process::StageEvent;
    ended.events.iter().any(|event| match event {
        StageEvent::SandboxReport(report) => {
            report.active.iter().any(|layer| layer.contains("cgroup") && layer.ends_with("memory"))
        }
        _ => false,
    })
}

#[tokio::test]
async fn a_runner_that_cannot_be_started_is_the_hosts_failure() {
    let mut stage = Stage::new("good");
    stage.config.runner = "/nowhere/imagefactory-stage-runner".into();
    let ended = stage.run().await;
    let failure = ended.failure();
    assert_eq!(failure.code, FailureCode::Host, "{failure:?}");
    assert!(failure.message.contains("/nowhere/imagefactory-stage-runner"), "{failure:?}");
}

#[tokio::test]
async fn a_strict_sandbox_starts_nothing_while_a_layer_is_missing() {
    let mut stage = Stage::new("missing-layer");
    stage.spec.sandbox.strict = true;
    let ended = stage.run().await;
    check_failure("missing-layer", ended.failure(), Sandbox, "landlock: no");
    assert!(!stage.folders.output_image().exists());
    assert!(Stage::new("missing-layer").run().await.result.is_ok(), "without strict it goes on");
}

#[tokio::test]
async fn files_are_handed_over_however_the_stage_ends() {
    let stage = Stage::new("artifacts-and-fail");
    let ended = stage.run().await;
    let failure = ended.failure();
    assert_eq!(failure.code, PluginError);
    assert_eq!(failure.artifacts.len(), 1, "{:?}", failure.artifacts);
    let taken = &failure.artifacts[0];
    assert!(taken.path.starts_with(&stage.folders.artifacts_dir));
    assert_eq!(std::fs::read_to_string(&taken.path).unwrap(), "panic: no init");
}
