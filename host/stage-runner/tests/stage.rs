//! One stage from Hello to End: what the plugin is served, what it answers, how it fails.

#![allow(clippy::unwrap_used, clippy::panic)] // a panic is a test's report

mod harness;

use harness::*;
use imagefactory_model::frames::*;
use imagefactory_model::stage::*;
use serde_json::json;

fn built(deed: &str) -> Run {
    let bench = Bench::new();
    let library = bench.compile("builder", &[]);
    let mut order = bench.order(Operation::CreateBaseImage);
    order.template_xml = Some(deed.into());
    let run = run(bench.hello(&library, PluginKind::Os), order);
    if run.result("format").is_some() {
        assert_eq!(std::fs::read_to_string(bench.path("output/image")).unwrap(), "an image");
    }
    run
}

#[test]
fn a_base_image_is_built_and_the_end_carries_the_nonce() {
    let run = built("build");
    assert_eq!(run.ended_with(), 0);
    assert_eq!(run.result("format").unwrap(), "raw");
}

#[test]
fn describing_tells_what_the_library_is_and_creates_nothing() {
    let bench = Bench::new();
    let library = bench.compile("builder", &["-DCREATE(out)=(abort(),0)"]);
    let run = describe(bench.hello(&library, PluginKind::Os));
    assert_eq!(run.ended_with(), 0);
    let facts = &run.ready().facts;
    assert_eq!((facts.id.as_str(), facts.version.as_str()), ("TestPlugin", "1.2.3"));
    assert_eq!(facts.interfaces, ["imagefactory.os/1"]);
    assert_eq!(facts.operations, ["create_base_image"]);
    assert_eq!((facts.abi_compiled.as_str(), facts.abi_chosen.as_str()), ("1.0", "1.0"));
    assert_eq!(facts.sha256.len(), 64);
}

#[test]
fn what_a_plugin_prints_goes_to_the_log_pipes_even_unflushed() {
    let run = built("print");
    assert_eq!(run.ended_with(), 0);
    assert!(run.printed.contains("hello from stdout, not flushed"), "{}", run.printed);
    assert!(run.printed.contains("and stderr"), "{}", run.printed);
}

#[test]
fn standard_input_is_empty() {
    assert_eq!(built("read stdin").ended_with(), 0);
}

#[test]
fn an_error_arrives_as_the_plugin_reported_it() {
    let run = built("fail");
    assert_eq!(run.ended_with(), 12);
    assert_eq!(run.error().code, 12);
    assert_eq!(run.error().message, "no more instances");
    assert_eq!(run.error().os_errno, 122);
}

#[test]
fn a_silent_failure_gets_a_sentence_of_ours() {
    let run = built("fail silently");
    assert_eq!(run.ended_with(), 9);
    let message = "create_base_image of plugin TestPlugin returned 9 (IMGF_E_IO) without a reason";
    assert_eq!((run.error().code, run.error().message.as_str()), (9, message));
}

#[test]
fn an_undefined_code_counts_as_internal_and_a_vendors_code_stays() {
    let odd = built("fail oddly");
    assert_eq!((odd.ended_with(), odd.error().code), (1, 1));
    let vendor = built("fail as vendor");
    assert_eq!((vendor.ended_with(), vendor.error().code), (1234, 1234));
}

#[test]
fn of_two_error_records_the_first_one_stands() {
    let run = built("fail twice");
    let errors = run.frames.iter().filter(|frame| matches!(frame, RunnerFrame::Error(_)));
    assert_eq!(errors.count(), 1);
    assert_eq!(run.error().message, "first");
}

#[test]
fn the_host_serves_every_function_and_refuses_nonsense() {
    let bench = Bench::new();
    let library = bench.compile("builder", &[]);
    let mut order = bench.order(Operation::CreateBaseImage);
    order.template_xml = Some("services".into());
    order.config.insert("mirror".into(), json!("here"));
    order.checkpoints.insert("old".into(), "\"kept\"".into());
    let mut runner = Runner::spawn();
    runner.send(HostFrame::Hello(Box::new(bench.hello(&library, PluginKind::Os))));
    runner.send(HostFrame::Start(Box::new(order)));
    let run = runner.finish(|call| match call {
        HostCall::NextListenPort => CallReply::Port(4711),
        HostCall::ImageGet { id } => CallReply::Text(format!("{{\"id\":\"{id}\"}}")),
        HostCall::SecretGet { .. } => panic!("nobody asked for a secret"),
        _ => CallReply::Done,
    });
    assert_eq!(run.end(), Some((0, None)), "{run:?}");
    let calls: Vec<&HostCall> = run
        .frames
        .iter()
        .filter_map(|frame| match frame {
            RunnerFrame::Call { call, .. } => Some(call),
            _ => None,
        })
        .collect();
    let journal = JournalEntry {
        event: JournalEvent::WillCreate,
        scratch: true,
        token: "t1".into(),
        kind: "libvirt-domain".into(),
        resource_id: None,
        details: Some(json!({"uri": 1})),
    };
    assert_eq!(calls[0], &HostCall::Journal(journal));
    assert_eq!(calls[1], &HostCall::CheckpointPut { key: "part".into(), value: "7".into() });
    assert_eq!(calls.len(), 7, "refused arguments reach nobody: {calls:?}");
    assert_eq!(run.logs(), ["\"\u{fffd}\""]);
}

#[test]
fn a_secret_is_served_only_when_granted() {
    let bench = Bench::new();
    let library = bench.compile("builder", &[]);
    let mut order = bench.order(Operation::CreateBaseImage);
    order.template_xml = Some("secrets".into());
    let mut runner = Runner::spawn();
    runner.send(HostFrame::Hello(Box::new(bench.hello(&library, PluginKind::Os))));
    runner.send(HostFrame::Start(Box::new(order)));
    let run = runner.finish(|call| match call {
        HostCall::SecretGet { name } if name == "ec2" => CallReply::Text("hunter2".into()),
        _ => CallReply::Failed { code: 7, message: "not granted".into() },
    });
    assert_eq!(run.ended_with(), 0, "{run:?}");
}

#[test]
fn a_cancel_reaches_flag_descriptor_progress_and_abort() {
    let bench = Bench::new();
    let library = bench.compile("builder", &[]);
    let mut order = bench.order(Operation::CreateBaseImage);
    order.template_xml = Some("cancel".into());
    let mut runner = Runner::spawn();
    runner.send(HostFrame::Hello(Box::new(bench.hello(&library, PluginKind::Os))));
    runner.send(HostFrame::Start(Box::new(order)));
    runner.receive_until(|frame| matches!(frame, RunnerFrame::Log { .. }));
    runner.send(HostFrame::Cancel);
    let run = runner.finish(|_| CallReply::Done);
    assert_eq!(run.ended_with(), 11);
    assert_eq!(run.error().message, "stopped as asked");
}

#[test]
fn a_cancel_before_the_start_calls_nothing() {
    let bench = Bench::new();
    let library = bench.compile("builder", &["-DCREATE(out)=(abort(),0)"]);
    let mut runner = Runner::spawn();
    runner.send(HostFrame::Hello(Box::new(bench.hello(&library, PluginKind::Os))));
    runner.receive_until(|frame| matches!(frame, RunnerFrame::Ready(_)));
    runner.send(HostFrame::Cancel);
    // The order of frames is kept, so the wish is there before the order.
    runner.send(HostFrame::Start(Box::new(bench.order(Operation::CreateBaseImage))));
    let run = runner.finish(|_| CallReply::Done);
    assert_eq!(run.ended_with(), 11, "{run:?}");
}

#[test]
fn a_failing_create_ends_the_stage_with_its_code() {
    let bench = Bench::new();
    let library = bench.compile("builder", &["-DCREATE(out)=fail(IMGF_E_AUTH,\"no key\")"]);
    let order = bench.order(Operation::CreateBaseImage);
    let run = run(bench.hello(&library, PluginKind::Os), order);
    assert_eq!((run.ended_with(), run.error().message.as_str()), (8, "no key"));
}

#[test]
fn a_create_without_an_instance_is_a_broken_contract() {
    let bench = Bench::new();
    let library = bench.compile("builder", &["-DCREATE(out)=0"]);
    let order = bench.order(Operation::CreateBaseImage);
    let run = run(bench.hello(&library, PluginKind::Os), order);
    assert_eq!(run.ended_with(), 1);
    assert!(run.error().message.contains("without an instance"), "{:?}", run.error());
}

fn clouded(operation: Operation, deed: &str) -> Run {
    let bench = Bench::new();
    let library = bench.compile("uploader", &[]);
    let mut order = bench.order(operation);
    order.provider = Some(deed.into());
    order.journal.push(JournalEntry {
        event: JournalEvent::Created,
        scratch: false,
        token: "t9".into(),
        kind: "snapshot".into(),
        resource_id: Some("snap-1".into()),
        details: None,
    });
    run(bench.hello(&library, PluginKind::Cloud), order)
}

#[test]
fn the_should_hook_answers_yes_and_no() {
    let yes = clouded(Operation::BuilderShouldCreateTargetImage, "go on");
    assert_eq!(yes.end(), Some((0, Some(true))));
    let no = clouded(Operation::BuilderShouldCreateTargetImage, "all done");
    assert_eq!(no.end(), Some((0, Some(false))));
}

#[test]
fn the_will_hooks_content_is_handed_on() {
    let run = clouded(Operation::BuilderWillCreateTargetImage, "");
    assert_eq!(run.ended_with(), 0);
    let content = RunnerFrame::TargetContent { content: json!({"packages": ["cloud-init"]}) };
    assert!(run.frames.contains(&content), "{run:?}");
}

#[test]
fn a_hook_that_is_not_there_has_nothing_to_do() {
    let run = clouded(Operation::BuilderDidCreateTargetImage, "");
    assert_eq!(run.end(), Some((0, None)));
}

#[test]
fn an_operation_that_is_not_there_is_refused() {
    let run = clouded(Operation::SnapshotImageOnProvider, "");
    assert_eq!(run.refused().why, RefusalKind::Unsupported);
    assert_eq!(run.status.code(), Some(78));
}

#[test]
fn a_cleanup_gets_the_journal() {
    let run = clouded(Operation::Cleanup, "");
    assert_eq!(run.ended_with(), 0);
    let journal = r#"[{"details":null,"event":"created","kind":"snapshot","resource_id":"snap-1","scratch":false,"token":"t9"}]"#;
    let seen: serde_json::Value = serde_json::from_str(run.logs()[0]).unwrap();
    assert_eq!(seen, serde_json::from_str::<serde_json::Value>(journal).unwrap());
}

#[test]
fn a_call_after_destroy_is_refused_and_the_push_still_counts() {
    let run = clouded(Operation::PushImageToProvider, "stray thread");
    assert_eq!(run.ended_with(), 0, "{run:?}");
    assert_eq!(run.result("identifier_on_provider").unwrap(), "ami-1");
}

#[test]
fn the_content_of_clouds_comes_before_the_target_image() {
    let bench = Bench::new();
    let library = bench.compile("customiser", &[]);
    let mut order = bench.order(Operation::CreateTargetImage);
    order.target_contents = vec![json!({"packages": ["a"]}), json!({"packages": ["b"]})];
    let run = run(bench.hello(&library, PluginKind::Os), order);
    assert_eq!(run.ended_with(), 0, "{run:?}");
    assert_eq!(run.logs(), [r#"{"packages":["a"]}"#, r#"{"packages":["b"]}"#, "target"]);
}
