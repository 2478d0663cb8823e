//! A stage runner that lies, breaks and hangs on order: the counterpart of the supervisor's tests.
//!
//! Which sin it commits stands in the plugin's id of Hello. It loads nothing and confines nothing.
//! The tests in `tests/stage_hostile_runner` start it; nothing else does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test's counterpart: a panic is an exit without END, which its test sees"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

use imagefactory_model::frames::{
    CallReply, Hello, HostCall, HostFrame, LayoutCheck, PROTOCOL, PluginErrorReport, PluginFacts,
    Ready, RefusalKind, Refused, RunnerFrame, SandboxReport,
};
use imagefactory_model::stage::{
    Artifact, JournalEntry, JournalEvent, LogLevel, Progress, StageOrder,
};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};

fn main() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut wire = Wire { socket: UnixStream::from(socket), nonce: String::new(), calls: 0 };
    let HostFrame::Hello(hello) = wire.receive() else { panic!("no Hello") };
    wire.nonce = hello.nonce.clone();
    before_ready(&hello, &mut wire);
    wire.send(&ready(&hello));
    after_ready(&hello, &mut wire);
    let HostFrame::Start(order) = wire.receive() else { panic!("no Start") };
    misbehave(&hello.plugin.id, &order, &mut wire);
}

fn before_ready(hello: &Hello, wire: &mut Wire) {
    match hello.plugin.id.as_str() {
        "slow-load" => forever(),
        "crash-at-load" => die(Signal::SEGV),
        "exit-at-load" => exit(0),
        "refuse-abi" => {
            let refused = Refused {
                why: RefusalKind::Abi,
                message: "no common ABI".to_owned(),
                hint: "rebuild it".to_owned(),
            };
            wire.send(&RunnerFrame::Refused(refused));
            exit(78)
        }
        "end-before-ready" => wire.end(0),
        "result-before-ready" => wire.result("format", json!("raw")),
        _ => {}
    }
}

fn ready(hello: &Hello) -> RunnerFrame {
    let sin = hello.plugin.id.as_str();
    let facts = PluginFacts {
        id: if sin == "another-id" { "impostor".to_owned() } else { hello.plugin.id.clone() },
        version: hello.plugin.version.clone(),
        kind: hello.plugin.kind,
        abi_compiled: "1.0".to_owned(),
        abi_chosen: "1.0".to_owned(),
        interfaces: vec!["imagefactory.os/1".to_owned()],
        operations: Vec::new(),
        layout: LayoutCheck::Absent,
        sha256: "0".repeat(64),
        warnings: Vec::new(),
    };
    let missing = if sin == "missing-layer" { vec!["landlock: no".to_owned()] } else { Vec::new() };
    let sandbox = SandboxReport { profile: hello.sandbox.profile, active: Vec::new(), missing };
    let protocol = if sin == "another-protocol" { PROTOCOL + 1 } else { PROTOCOL };
    RunnerFrame::Ready(Box::new(Ready { protocol, facts, sandbox }))
}

fn after_ready(hello: &Hello, wire: &mut Wire) {
    match hello.plugin.id.as_str() {
        "ready-twice" => wire.send(&ready(hello)),
        "described" => {
            wire.end(0);
            exit(0)
        }
        _ => {}
    }
}

fn misbehave(sin: &str, order: &StageOrder, wire: &mut Wire) {
    match sin {
        "good" | "missing-layer" => {}
        "exit-zero" => exit(0),
        "exit-three" => exit(3),
        "segv" => die(Signal::SEGV),
        "abort" => die(Signal::ABORT),
        "forbidden-call" => die(Signal::SYS),
        "too-large" => die(Signal::XFSZ),
        "kill" => die(Signal::KILL),
        "end-then-segv" => {
            wire.end(0);
            die(Signal::SEGV)
        }
        "end-then-three" => {
            wire.end(0);
            exit(3)
        }
        "end-then-stay" => {
            wire.end(0);
            forever()
        }
        "end-twice" => {
            wire.end(0);
            wire.end(0);
            exit(0)
        }
        "result-after-end" => {
            wire.end(0);
            wire.result("properties", json!({}));
            exit(0)
        }
        "foreign-nonce" => {
            wire.nonce = "guess".to_owned();
            wire.end(0);
            exit(0)
        }
        "negative-end" => {
            wire.end(-1);
            exit(0)
        }
        "answer-unasked" => {
            let nonce = wire.nonce.clone();
            wire.send(&RunnerFrame::End { code: 0, should: Some(true), nonce });
            exit(0)
        }
        "error" | "user-error" | "retryable-error" | "panic" | "silent-error" | "no-space" => {
            report(sin, wire)
        }
        "foreign-key" => wire.result("identifier_on_provider", json!("x")),
        "wrong-type" => wire.result("properties", json!([])),
        "garbage" => wire.bytes(b"\x05\0\0\0hello"),
        "oversized" => wire.bytes(&u32::MAX.to_le_bytes()),
        "half-frame" => {
            wire.bytes(b"\x40\0\0\0{\"end\"");
            exit(0)
        }
        "close-and-stay" => {
            wire.socket.shutdown(std::net::Shutdown::Both).unwrap();
            rustix::stdio::dup2_stdin(fs::File::open("/dev/null").unwrap()).unwrap();
            wire.socket = UnixStream::pair().unwrap().0;
            forever()
        }
        "mute" => forever(),
        "chatty" => chatter(wire),
        "stubborn" => {
            ignore_terminate();
            chatter(wire)
        }
        "obedient" => loop {
            if wire.receive() == HostFrame::Cancel {
                wire.end(11);
                exit(0)
            }
        },
        "finishes-anyway" => while wire.receive() != HostFrame::Cancel {},
        "leave-children" => leave_children(),
        "print-a-lot" => print_a_lot(),
        "log-a-lot" => log_a_lot(wire),
        "oom" => eat_memory(),
        _ => behave(sin, order, wire),
    }
    good_end(order, wire)
}

/// Uses services; ends with 0 where the host answered as it should.
fn behave(sin: &str, order: &StageOrder, wire: &mut Wire) {
    match sin {
        "tell-secret" => tell_secret(wire),
        "ask-ungranted" => {
            for call in [
                HostCall::SecretGet { name: "other".to_owned() },
                HostCall::ImageGet { id: "00000000-0000-0000-0000-000000000000".to_owned() },
                HostCall::NextListenPort,
            ] {
                assert!(matches!(wire.call(call), CallReply::Failed { code: 7, .. }));
            }
        }
        "journal" => {
            let entry = JournalEntry {
                event: JournalEvent::WillCreate,
                scratch: true,
                token: "vm-1".to_owned(),
                kind: "libvirt-domain".to_owned(),
                resource_id: None,
                details: Some(json!({"uri": "qemu:///session"})),
            };
            assert_eq!(wire.call(HostCall::Journal(entry)), CallReply::Done);
            let put = HostCall::CheckpointPut { key: "part".to_owned(), value: "7".to_owned() };
            assert_eq!(wire.call(put), CallReply::Done);
        }
        "store-secret" => {
            let CallReply::Text(secret) = wire.call(secret_get()) else { panic!("no secret") };
            let value = Value::String(secret).to_string();
            let put = HostCall::CheckpointPut { key: "k".to_owned(), value };
            assert!(matches!(wire.call(put), CallReply::Failed { code: 3, .. }));
        }
        "lock-and-crash" => {
            let lock = HostCall::Lock { name: "oz".to_owned(), timeout_ms: 0 };
            assert_eq!(wire.call(lock), CallReply::Done);
            die(Signal::SEGV)
        }
        "artifacts-and-fail" => {
            let path = order.paths.work_dir.join("serial.log");
            fs::write(&path, "panic: no init").unwrap();
            for (name, path) in [("serial.log", path), ("passwd", "/etc/passwd".into())] {
                let media_type = "text/plain".to_owned();
                wire.call(HostCall::ArtifactAdd(Artifact {
                    name: name.to_owned(),
                    media_type,
                    path,
                }));
            }
            report("error", wire)
        }
        "call-without-reading" => loop {
            wire.calls += 1;
            let call = HostCall::SecretGet { name: "other".to_owned() };
            wire.send(&RunnerFrame::Call { id: wire.calls, call });
        },
        "environment" => {
            let names: Vec<String> =
                std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
            wire.result("properties", json!({"environment": names, "group": group_is_own()}));
        }
        other => panic!("unknown sin {other}"),
    }
}

/// What the operation needs, then END.
fn good_end(order: &StageOrder, wire: &mut Wire) -> ! {
    if let Some(image) = &order.paths.output_image {
        fs::write(image, "disk").unwrap();
        wire.result("format", json!("raw"));
    }
    wire.end(0);
    exit(0)
}

fn report(sin: &str, wire: &mut Wire) -> ! {
    let code = if sin == "panic" { 15 } else { 9 };
    if sin != "silent-error" {
        wire.send(&RunnerFrame::Error(Box::new(PluginErrorReport {
            code,
            retryable: sin == "retryable-error",
            user_fault: sin == "user-error",
            os_errno: if sin == "no-space" { 28 } else { 0 },
            retry_after_ms: 1500,
            message: "it went\nwrong\u{1b}[2J".to_owned(),
            hint: "do better".to_owned(),
            vendor_code: "Throttled".to_owned(),
            details: None,
        })));
    }
    wire.end(code);
    exit(0)
}

fn tell_secret(wire: &mut Wire) {
    let CallReply::Text(secret) = wire.call(secret_get()) else { panic!("no secret") };
    println!("stdout has {secret}");
    wire.send(&RunnerFrame::Log {
        level: LogLevel::Info,
        message: format!("log has {secret}"),
        fields: Some(json!({ "field": secret })),
    });
    wire.send(&RunnerFrame::Progress(Progress {
        phase: "upload".to_owned(),
        message: format!("progress has {secret}"),
        done: 1,
        total: 2,
    }));
    wire.result("properties", json!({ "note": secret }));
    wire.send(&RunnerFrame::Error(Box::new(PluginErrorReport {
        code: 9,
        message: format!("error has {secret}"),
        hint: secret,
        ..PluginErrorReport::default()
    })));
    wire.end(9);
    exit(0)
}

fn secret_get() -> HostCall {
    HostCall::SecretGet { name: "cloud".to_owned() }
}

/// A child out of the group that holds every descriptor open, and one in the group.
#[expect(clippy::zombie_processes, reason = "leaving them is the sin")]
fn leave_children() {
    let mut fled = Command::new("setsid");
    fled.args(["sleep", "987654"]).spawn().unwrap();
    Command::new("sleep").arg("987654").spawn().unwrap();
}

fn print_a_lot() {
    // Long lines and many short ones; 64 MiB in all. More would only take longer.
    let mut out = std::io::stdout().lock();
    let long = vec![b'x'; 1 << 20];
    let short = b"spam\n".repeat(200_000);
    for _ in 0..32 {
        out.write_all(&long).unwrap();
        out.write_all(&short).unwrap();
    }
    out.write_all(b"last words\n").unwrap();
}

fn log_a_lot(wire: &mut Wire) {
    for number in 0..50_000 {
        wire.send(&RunnerFrame::Log {
            level: LogLevel::Info,
            message: format!("line {number}"),
            fields: None,
        });
    }
}

fn eat_memory() -> ! {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(vec![1; 1 << 20]);
    }
}

fn chatter(wire: &mut Wire) -> ! {
    loop {
        wire.send(&RunnerFrame::Heartbeat);
        wire.send(&RunnerFrame::Log {
            level: LogLevel::Info,
            message: "still here".to_owned(),
            fields: None,
        });
        sleep(Duration::from_millis(5));
    }
}

/// Runs the same program again under a shell that has SIGTERM ignored: that is inherited.
fn ignore_terminate() {
    if std::env::var_os("TERM_IGNORED").is_none() {
        // exec keeps descriptors 0 to 2 and the ignored signal; Hello was read already, so the rest
        // of the sin is done by the shell: it only waits.
        let error = Command::new("sh")
            .args(["-c", "trap '' TERM; while :; do sleep 1; done"])
            .env("TERM_IGNORED", "1")
            .exec();
        panic!("no shell: {error}");
    }
}

fn group_is_own() -> bool {
    rustix::process::getpgrp() == getpid()
}

fn die(signal: Signal) -> ! {
    // Rust's own handler of SIGSEGV gives way to the default at the first one.
    kill_process(getpid(), signal).unwrap();
    kill_process(getpid(), signal).unwrap();
    forever()
}

fn forever() -> ! {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(600) {
        sleep(Duration::from_secs(1));
    }
    exit(99)
}

struct Wire {
    socket: UnixStream,
    nonce: String,
    calls: u64,
}

impl Wire {
    fn receive(&mut self) -> HostFrame {
        let mut length = [0; 4];
        if self.socket.read_exact(&mut length).is_err() {
            exit(75);
        }
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.socket.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn send(&mut self, frame: &RunnerFrame) {
        let body = serde_json::to_vec(frame).unwrap();
        let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(body);
        self.bytes(&bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.socket.write_all(bytes).is_err() {
            exit(75);
        }
    }

    fn result(&mut self, key: &str, value: Value) {
        self.send(&RunnerFrame::Result { key: key.to_owned(), value });
    }

    fn call(&mut self, call: HostCall) -> CallReply {
        self.calls += 1;
        self.send(&RunnerFrame::Call { id: self.calls, call });
        match self.receive() {
            HostFrame::Reply { reply, .. } => reply,
            other => panic!("{other:?} instead of a reply"),
        }
    }

    fn end(&mut self, code: i32) {
        let nonce = self.nonce.clone();
        self.send(&RunnerFrame::End { code, should: None, nonce });
    }
}
