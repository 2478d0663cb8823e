//! The host that a plugin under test talks to.
//!
//! It answers as the real one does, remembers everything, and can be told beforehand to fail at the
//! n-th call, to cancel there, or to kill the process there ([`Script`]). Whatever breaks a rule
//! is recorded under the rule's number; each probe asks for its own numbers only. The functions of
//! the table are in `host_calls.rs`. A host is never freed: a plugin may call it too late, and that
//! must be seen instead of crashing.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use imagefactory_model::stage::{JournalEntry, Operation};
use imagefactory_plugin_sdk::abi::{IMGF_ABI_1_0, IMGF_E_INVALID_STATE, imgf_host};
use serde_json::{Map, Value};

use super::bench::{Bench, RunFolders};
use super::host_calls;
use super::stage_input::InputImage;

/// The functions of the host tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Log,
    Progress,
    IsCancelled,
    CancelFd,
    ReportError,
    SetResult,
    Journal,
    ConfigGet,
    PathGet,
    ImageGet,
    SecretGet,
    SecretRelease,
    AddCloudPluginContent,
    LastError,
    GetInterface,
    CheckpointPut,
    CheckpointGet,
    ArtifactAdd,
    Lock,
    Unlock,
    NextListenPort,
}

impl Call {
    /// Can this function tell that it failed?
    pub(super) fn can_fail(self) -> bool {
        !matches!(
            self,
            Call::Log | Call::IsCancelled | Call::CancelFd | Call::SecretRelease | Call::LastError
        )
    }

    /// Is it a point at which an operation may be disturbed? Polling is none: how often a plugin
    /// polls depends on the clock.
    fn is_point(self) -> bool {
        !matches!(self, Call::IsCancelled | Call::CancelFd | Call::LastError | Call::SecretRelease)
    }
}

/// What the host does besides answering well.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    /// The n-th call that can fail does, with this status. Counted per operation, from 1.
    pub(super) fail: Option<(u32, i32)>,
    /// Every call of this function fails with this status.
    pub(super) fail_always: Option<(Call, i32)>,
    /// What happens at the n-th call, counted per operation, from 1.
    pub(super) disturb: Option<(u32, Disturb)>,
    /// What `secret_get` answers.
    pub(super) secret: Secret,
    /// `get_interface` knows nothing.
    pub(super) no_interfaces: bool,
    /// `fail` counts the calls of `create` instead of those of operations.
    pub(super) fail_in_create: bool,
    /// What an earlier attempt put.
    pub(super) checkpoints: BTreeMap<String, String>,
}

/// Something that comes from outside in the middle of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disturb {
    /// Cancel by flag and descriptor, and through `abort` if that is wished.
    Cancel { abort: bool },
    /// The caller of `abort` alone hears of it, this often.
    AbortOnly { times: u32 },
    /// This signal to the whole process group.
    Signal(i32),
}

/// What `secret_get` answers.
#[derive(Debug, Clone, Default)]
pub(super) enum Secret {
    /// The scenario's credentials.
    #[default]
    Given,
    /// IMGF_E_NOT_FOUND.
    Missing,
    /// This text.
    Text(String),
}

/// When the plugin may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Inside create, an operation or destroy.
    Inside,
    /// Between two calls of the plugin.
    Idle,
    /// After destroy.
    Dead,
}

/// What the host was told since `begin`.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorded {
    /// Every call but polling.
    pub(super) calls: Vec<Call>,
    pub(super) errors: Vec<ErrorSeen>,
    pub(super) results: BTreeMap<String, Value>,
    pub(super) journal: Vec<JournalEntry>,
    pub(super) contents: Vec<Value>,
    pub(super) artifacts: usize,
    /// Highest `done` per phase.
    pub(super) phases: BTreeMap<String, u64>,
    pub(super) progress: Vec<Instant>,
    /// Every text with where it came from, for the search for secrets.
    pub(super) texts: Vec<(&'static str, String)>,
    /// Broken rules by number.
    pub(super) violations: Vec<(u16, String)>,
    /// The call that the script let fail.
    pub(super) failed: Option<Call>,
    /// Tokens whose WILL_CREATE could not be recorded.
    pub(super) unrecorded: Vec<String>,
    /// When the cancel came.
    pub(super) cancelled: Option<Instant>,
    /// Calls (without polling) after the plugin was told of the cancel.
    pub(super) calls_after_told: Option<u32>,
    /// Names asked from `secret_get`.
    pub(super) secrets: Vec<String>,
}

impl Recorded {
    /// What was recorded against one rule.
    pub(super) fn against(&self, rule: u16) -> impl Iterator<Item = &str> {
        self.violations.iter().filter(move |(of, _)| *of == rule).map(|(_, text)| text.as_str())
    }
}

/// `imgf_error`, copied.
#[derive(Debug, Clone)]
pub(super) struct ErrorSeen {
    pub(super) code: i32,
    pub(super) flags: u32,
    pub(super) message: String,
}

/// The host itself. `table` must stay where it is.
pub(super) struct MockHost {
    table: imgf_host,
    script: Script,
    pub(super) folders: RunFolders,
    pub(super) config: Map<String, Value>,
    pub(super) credentials: Option<String>,
    pub(super) images: String,
    report_journal: AtomicBool,
    state: Mutex<State>,
    cancelled: AtomicBool,
    cancel_event: Option<OwnedFd>,
    pub(super) late_calls: AtomicU32,
    aborts: Mutex<Option<Sender<Instant>>>,
    /// Answers that must stay readable.
    pub(super) answers: Mutex<Vec<Box<[u8]>>>,
    pub(super) bench_report: *const super::report::Report,
}

// SAFETY: everything that changes is behind a lock or atomic; the raw pointers (ctx in the table,
// the report) are only read, and what they point to outlives the process's use of them.
unsafe impl Sync for MockHost {}
// SAFETY: as above.
unsafe impl Send for MockHost {}

struct State {
    life: Life,
    operation: Option<Operation>,
    points: u32,
    fallible: u32,
    recorded: Recorded,
    checkpoints: BTreeMap<String, String>,
}

/// What `enter` tells a host function to do.
pub(super) enum Entered {
    /// Answer as usual.
    Go,
    /// Answer this status.
    Answer(i32),
}

impl MockHost {
    /// A host for one instance; never freed.
    pub(super) fn new(bench: &Bench, folders: &RunFolders, script: Script) -> &'static MockHost {
        let scenario = &bench.order.scenario;
        let config = Bench::filled_value(&Value::Object(scenario.config.clone()), folders);
        let config = match config {
            Value::Object(config) => config,
            _ => Map::new(),
        };
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok();
        let host = Box::leak(Box::new(MockHost {
            table: host_calls::table(IMGF_ABI_1_0),
            folders: folders.clone(),
            config,
            credentials: scenario.credentials.clone(),
            images: serde_json::json!({
                "id": super::stage_input::BASE_IMAGE_ID, "kind": "base", "format": "raw",
                "size": scenario.input_image_bytes, "path": folders.input_image,
                "parameters": {}, "properties": {},
            })
            .to_string(),
            report_journal: AtomicBool::new(false),
            state: Mutex::new(State {
                life: Life::Idle,
                operation: None,
                points: 0,
                fallible: 0,
                recorded: Recorded::default(),
                checkpoints: script.checkpoints.clone(),
            }),
            script,
            cancelled: AtomicBool::new(false),
            cancel_event: event,
            late_calls: AtomicU32::new(0),
            aborts: Mutex::new(None),
            answers: Mutex::new(Vec::new()),
            bench_report: &raw const bench.report,
        }));
        host.table.ctx = (&raw const *host).cast_mut().cast();
        host
    }

    /// A copy of the table with the slot at `index` (0 = log) left NULL.
    pub(super) fn table_without(&self, index: usize) -> Option<Box<imgf_host>> {
        let mut table = Box::new(self.table);
        host_calls::clear_slot(&mut table, index).then_some(table)
    }

    pub(super) fn table(&self) -> *const imgf_host {
        &raw const self.table
    }

    pub(super) fn script(&self) -> &Script {
        &self.script
    }

    pub(super) fn state(&self) -> StateGuard<'_> {
        StateGuard(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `create` begins.
    pub(super) fn begin_create(&self) {
        self.begin_inside(None);
    }

    /// An operation begins; what was recorded before is forgotten.
    pub(super) fn begin(&self, operation: Operation) {
        self.begin_inside(Some(operation));
    }

    pub(super) fn begin_destroy(&self) {
        self.begin_inside(None);
    }

    fn begin_inside(&self, operation: Option<Operation>) {
        let mut state = self.state();
        let late = std::mem::take(&mut state.0.recorded.violations);
        state.0.life = Life::Inside;
        state.0.operation = operation;
        state.0.points = 0;
        state.0.fallible = 0;
        state.0.recorded = Recorded::default();
        // Calls that came between two operations are told with the next one.
        state.0.recorded.violations = late.into_iter().filter(|(rule, _)| *rule == 606).collect();
    }

    /// The plugin's function has returned.
    pub(super) fn end(&self) -> Recorded {
        let mut state = self.state();
        state.0.life = Life::Idle;
        std::mem::take(&mut state.0.recorded)
    }

    /// What was recorded since the last `end`, without ending anything.
    pub(super) fn peek(&self) -> Recorded {
        self.state().0.recorded.clone()
    }

    /// After destroy: every call that still comes is counted.
    pub(super) fn die(&self) {
        self.state().0.life = Life::Dead;
    }

    /// Is it cancelled?
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// The descriptor that becomes readable; −1 where none could be had.
    pub(super) fn cancel_descriptor(&self) -> i32 {
        self.cancel_event.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Cancels by flag and descriptor.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        if let Some(event) = &self.cancel_event {
            rustix::io::write(event, &1u64.to_ne_bytes()).ok(); // one cancel always fits
        }
    }

    /// Where the wish for `abort` arrives; one listener for the life of the host.
    pub(super) fn abort_wishes(&self) -> Receiver<Instant> {
        let (to, from) = channel();
        *self.aborts.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        from
    }

    /// No more wishes will come; the listener ends.
    pub(super) fn end_abort_wishes(&self) {
        *self.aborts.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks the listener to call `abort`.
    fn wish_abort(&self) {
        let aborts = self.aborts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(to) = &*aborts {
            to.send(Instant::now()).ok(); // a listener that is gone calls no abort
        }
    }

    /// First thing of every host function: is it the time, is it to fail, does something happen?
    pub(super) fn enter(&self, call: Call) -> Entered {
        let (disturb, answer) = {
            let mut state = self.state();
            match state.0.life {
                Life::Inside => {}
                Life::Dead => {
                    self.late_calls.fetch_add(1, Ordering::Relaxed);
                    return Entered::Answer(IMGF_E_INVALID_STATE);
                }
                Life::Idle => {
                    let text = format!("{call:?} was called between two operations");
                    state.0.recorded.violations.push((606, text));
                    return Entered::Answer(IMGF_E_INVALID_STATE);
                }
            }
            (state.count(call, &self.script), state.failing(call, &self.script))
        };
        if let Some(disturb) = disturb {
            self.disturb(disturb);
        }
        answer.map_or(Entered::Go, Entered::Answer)
    }

    fn disturb(&self, disturb: Disturb) {
        match disturb {
            Disturb::Cancel { abort } => {
                self.state().0.recorded.cancelled = Some(Instant::now());
                self.cancel();
                if abort {
                    self.wish_abort();
                }
            }
            Disturb::AbortOnly { times } => {
                (0..times).for_each(|_| self.wish_abort());
            }
            // SAFETY: a signal to our own process group, which the outer process gave us.
            Disturb::Signal(signal) => unsafe {
                libc::kill(0, signal);
            },
        }
    }

    /// Where the operation's image lies, for those that start from one.
    pub(super) fn input_image(&self, operation: Option<Operation>) -> Option<PathBuf> {
        operation.filter(|of| of.input_image()).map(|_| self.folders.input_image.clone())
    }

    /// Where the operation may write its image.
    pub(super) fn output_image(&self, operation: Option<Operation>) -> Option<PathBuf> {
        let writes = operation.is_some_and(Operation::may_write_output);
        writes.then(|| self.folders.output.join("image"))
    }

    /// From now on entries go to the outer process: the probe is about to be killed.
    pub(super) fn report_journal(&self) {
        self.report_journal.store(true, Ordering::Relaxed);
    }

    /// Passes an entry on to the outer process, which keeps it over a kill.
    pub(super) fn pass_on(&self, entry: &JournalEntry) {
        if self.report_journal.load(Ordering::Relaxed) {
            // SAFETY: the report belongs to the bench, which lives until the process ends.
            unsafe { &*self.bench_report }.journal(entry);
        }
    }
}

/// The state while it is locked.
pub(super) struct StateGuard<'h>(MutexGuard<'h, State>);

impl StateGuard<'_> {
    /// Counts a call; answers what happens at it.
    fn count(&mut self, call: Call, script: &Script) -> Option<Disturb> {
        if !call.is_point() {
            return None;
        }
        self.0.recorded.calls.push(call);
        if let Some(after) = &mut self.0.recorded.calls_after_told {
            *after += 1;
        }
        self.0.points += 1;
        let (at, disturb) = script.disturb?;
        (self.0.operation.is_some() && at == self.0.points).then_some(disturb)
    }

    /// Is this the call that is to fail?
    fn failing(&mut self, call: Call, script: &Script) -> Option<i32> {
        if let Some((always, code)) = script.fail_always
            && always == call
        {
            self.0.recorded.failed = Some(call);
            return Some(code);
        }
        if !call.can_fail() {
            return None;
        }
        self.0.fallible += 1;
        let (at, code) = script.fail?;
        let counts = self.0.operation.is_none() == script.fail_in_create;
        (counts && at == self.0.fallible).then(|| {
            self.0.recorded.failed = Some(call);
            code
        })
    }

    pub(super) fn recorded(&mut self) -> &mut Recorded {
        &mut self.0.recorded
    }

    pub(super) fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    pub(super) fn checkpoints(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.0.checkpoints
    }

    /// The plugin has been told that the stage is to end.
    pub(super) fn told_cancelled(&mut self) {
        self.0.recorded.calls_after_told.get_or_insert(0);
    }

    /// Records a broken rule; many of one kind are told once.
    pub(super) fn violates(&mut self, rule: u16, text: String) {
        let violations = &mut self.0.recorded.violations;
        if violations.len() < 64 && !violations.iter().any(|(_, known)| *known == text) {
            violations.push((rule, text));
        }
    }
}
