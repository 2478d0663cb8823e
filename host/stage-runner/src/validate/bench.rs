//! The place where a probe works: its order, its report, its folders, and what it does in which
//! process.
//!
//! A [`Run`] is one instance of the plugin with a mock host and folders of its own. Probes make as
//! many as they need. Nothing here judges; that is what the files named after the groups of rules
//! do.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use imagefactory_model::stage::{JournalEntry, Operation};
use imagefactory_model::validation::{ENDPOINT_PLACEHOLDER, LEDGER_PLACEHOLDER, ProbeOrder};
use imagefactory_plugin_sdk::abi;
use serde_json::Value;

use super::arena::Arena;
use super::mock_host::{MockHost, Recorded, Script};
use super::provider::Provider;
use super::report::Report;
use super::stage_input::StageTexts;
use super::subject::{Instance, Subject};

/// What one inner process is for. Most rules need one; those that kill need two for each point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// The whole probe.
    Whole,
    /// SIGTERM to the inner process group at the n-th of the seeded points.
    Terminated(u32),
    /// SIGKILL at the n-th point.
    Killed(u32),
    /// A fresh process that cleans up after the killed one.
    Cleanup(u32),
}

impl Act {
    /// The acts of the order's rule, in order.
    pub(super) fn of(order: &ProbeOrder) -> Vec<Act> {
        let points = 0..order.points.max(1);
        match order.rule {
            506 => points.map(Act::Terminated).collect(),
            507 => points.flat_map(|point| [Act::Killed(point), Act::Cleanup(point)]).collect(),
            _ => vec![Act::Whole],
        }
    }

    pub(super) fn is_last(self, order: &ProbeOrder) -> bool {
        Act::of(order).last() == Some(&self)
    }

    /// The signal by which this act is meant to end its process.
    pub(super) fn expected_signal(self) -> Option<i32> {
        match self {
            Act::Terminated(_) => Some(libc::SIGTERM),
            Act::Killed(_) => Some(libc::SIGKILL),
            Act::Whole | Act::Cleanup(_) => None,
        }
    }

    /// Are children that outlive the process the finding that this act looks for?
    pub(super) fn forbids_leaks(self) -> bool {
        matches!(self, Act::Terminated(_))
    }

    fn point(self) -> u32 {
        match self {
            Act::Whole => 0,
            Act::Terminated(point) | Act::Killed(point) | Act::Cleanup(point) => point,
        }
    }
}

/// Everything a probe is given.
pub(super) struct Bench {
    pub(super) order: ProbeOrder,
    pub(super) act: Act,
    /// What earlier acts journalled.
    pub(super) journal: Vec<JournalEntry>,
    pub(super) report: Report,
    runs: AtomicU32,
    provider: OnceLock<Option<Provider>>,
}

/// The folders and the ledger of one run.
#[derive(Debug, Clone)]
pub(super) struct RunFolders {
    pub(super) root: PathBuf,
    pub(super) work: PathBuf,
    pub(super) state: PathBuf,
    pub(super) cache: PathBuf,
    pub(super) output: PathBuf,
    pub(super) ledger: PathBuf,
    pub(super) input_image: PathBuf,
}

impl RunFolders {
    /// Outside resources: the files of the ledger folder, but of a file `ledger` its tokens whose
    /// last line is `create TOKEN …` and not `remove TOKEN …`.
    pub(super) fn ledger_count(&self) -> usize {
        let Ok(files) = std::fs::read_dir(&self.ledger) else { return 0 };
        let files = files.flatten().filter(|file| file.file_name() != "ledger").count();
        let text = std::fs::read_to_string(self.ledger.join("ledger")).unwrap_or_default();
        let mut tokens = std::collections::BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            if let (Some(verb), Some(token)) = (words.next(), words.next()) {
                tokens.insert(token, verb == "create");
            }
        }
        files + tokens.values().filter(|exists| **exists).count()
    }
}

impl Bench {
    pub(super) fn new(
        order: &ProbeOrder,
        act: Act,
        journal: Vec<JournalEntry>,
        report: Report,
    ) -> Bench {
        let (runs, provider) = (AtomicU32::new(0), OnceLock::new());
        Bench { order: order.clone(), act, journal, report, runs, provider }
    }

    /// Loads the plugin and settles on an ABI. `None` was reported as a skip: rules 101 to 111 say
    /// what is wrong, and the others are not tried before those are met.
    pub(super) fn subject(&self) -> Option<Subject> {
        self.report.phase("loading the library");
        match Subject::load(&self.order.plugin) {
            Ok(subject) => Some(subject),
            Err(reason) => {
                self.report.skip(reason);
                None
            }
        }
    }

    /// The operations to run that the plugin has.
    pub(super) fn operations(&self, subject: &Subject) -> Vec<Operation> {
        let wanted = self.order.scenario.operations.iter();
        wanted.copied().filter(|operation| subject.has(*operation)).collect()
    }

    /// The operation that faults and cancels are tried on: the longest work of its kind.
    pub(super) fn main_operation(&self, subject: &Subject) -> Option<Operation> {
        let mine = self.operations(subject);
        let order = [
            Operation::CreateBaseImage,
            Operation::PushImageToProvider,
            Operation::SnapshotImageOnProvider,
            Operation::BuilderShouldCreateTargetImage,
        ];
        let main = order.into_iter().find(|operation| mine.contains(operation));
        main.or_else(|| mine.first().copied())
    }

    /// Fresh folders: nothing of an earlier run lies in them.
    pub(super) fn folders(&self) -> Result<RunFolders, String> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        self.folders_named(&format!("run-{}-{number}", self.act.point()))
    }

    /// The folders of a name: the same again for a process that takes over from another.
    pub(super) fn folders_named(&self, name: &str) -> Result<RunFolders, String> {
        let root = self.order.folder.join(name);
        let folders = RunFolders {
            work: root.join("work"),
            state: root.join("state"),
            cache: root.join("cache"),
            output: root.join("output"),
            ledger: root.join("ledger"),
            input_image: root.join("input.img"),
            root,
        };
        let all = [&folders.work, &folders.state, &folders.cache, &folders.output, &folders.ledger];
        for folder in all {
            std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        if !folders.input_image.exists() {
            write_input_image(&folders.input_image, self.order.scenario.input_image_bytes)
                .map_err(|error| format!("{}: {error}", folders.input_image.display()))?;
        }
        Ok(folders)
    }

    /// A new instance with a host that follows `script`, in fresh folders. `None` was reported.
    pub(super) fn start<'b>(&'b self, subject: &'b Subject, script: Script) -> Option<Run<'b>> {
        match self.folders() {
            Ok(folders) => self.start_in(subject, script, folders),
            Err(reason) => {
                self.report.skip(reason);
                None
            }
        }
    }

    /// The same in folders that are there already.
    pub(super) fn start_in<'b>(
        &'b self,
        subject: &'b Subject,
        script: Script,
        folders: RunFolders,
    ) -> Option<Run<'b>> {
        let host = MockHost::new(self, &folders, script);
        self.report.phase("create");
        match subject.create(host) {
            Ok(instance) => {
                let strict = Cell::new(false);
                Some(Run { bench: self, subject, folders, host, instance, strict })
            }
            Err(code) => {
                self.report.failed(format!("create answered {code}"));
                None
            }
        }
    }

    /// The validator's own provider; started when first asked for. `None`: no loopback.
    pub(super) fn provider(&self) -> Option<&Provider> {
        self.provider.get_or_init(|| Provider::start().ok()).as_ref()
    }

    /// Replaces the placeholder of the provider's address, starting it if need be.
    pub(super) fn with_endpoint(&self, text: &str) -> String {
        if !text.contains(ENDPOINT_PLACEHOLDER) {
            return text.to_owned();
        }
        let endpoint = self.provider().map(Provider::url).unwrap_or_default();
        text.replace(ENDPOINT_PLACEHOLDER, &endpoint)
    }

    /// Replaces the placeholder of the ledger in a text of the scenario.
    pub(super) fn filled(text: &str, folders: &RunFolders) -> String {
        text.replace(LEDGER_PLACEHOLDER, &folders.ledger.to_string_lossy())
    }

    /// The same in every text of a JSON value.
    pub(super) fn filled_value(value: &Value, folders: &RunFolders) -> Value {
        match value {
            Value::String(text) => Value::String(Bench::filled(text, folders)),
            Value::Array(items) => {
                items.iter().map(|item| Bench::filled_value(item, folders)).collect()
            }
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| (key.clone(), Bench::filled_value(value, folders)))
                .collect(),
            other => other.clone(),
        }
    }

    /// Numbers from the seed, the same in every run of the same order (splitmix64).
    pub(super) fn random(&self, nth: u64) -> u64 {
        let mut x = self.order.seed.wrapping_add((nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// At most `order.points` different numbers of 1..=`count`, seeded, in rising order.
    pub(super) fn points(&self, count: u32) -> Vec<u32> {
        let wanted = self.order.points.max(1).min(count);
        let mut chosen = std::collections::BTreeSet::new();
        let mut nth = 0;
        while (chosen.len() as u32) < wanted && nth < 64 * u64::from(wanted) {
            chosen.insert(1 + (self.random(nth) % u64::from(count)) as u32);
            nth += 1;
        }
        chosen.into_iter().collect()
    }

    /// The point of an act among `count` calls, 1-based.
    pub(super) fn point_of_act(&self, count: u32) -> u32 {
        let points = self.points(count.max(1));
        points.get(self.act.point() as usize % points.len().max(1)).copied().unwrap_or(1)
    }

    pub(super) fn cancel_grace(&self) -> Duration {
        Duration::from_millis(self.order.cancel_grace_ms)
    }
}

/// One instance of the plugin with its host and its folders.
pub(super) struct Run<'b> {
    pub(super) bench: &'b Bench,
    pub(super) subject: &'b Subject,
    pub(super) folders: RunFolders,
    pub(super) host: &'static MockHost,
    pub(super) instance: Instance,
    /// Take the texts away when the operation has returned (rule 311).
    pub(super) strict: Cell<bool>,
}

/// How one call of an operation ended.
pub(super) struct Returned {
    pub(super) operation: Operation,
    pub(super) code: i32,
    /// `*out_yes`, 1 unless the plugin changed it.
    pub(super) yes: u32,
    pub(super) took: Duration,
    /// What the host was told meanwhile.
    pub(super) seen: Recorded,
}

impl Returned {
    /// The error record was given or is not needed, and this is the text for a message.
    pub(super) fn told(&self) -> String {
        match self.seen.errors.first() {
            Some(error) => format!("{} ({})", self.code, error.message),
            None => self.code.to_string(),
        }
    }
}

impl Run<'_> {
    /// Calls `operation` with what the scenario gives it.
    pub(super) fn operation(&self, operation: Operation) -> Returned {
        let texts = StageTexts::new(self.bench, &self.folders, operation);
        self.operation_with(operation, &texts)
    }

    /// Calls `operation` with other texts.
    pub(super) fn operation_with(&self, operation: Operation, texts: &StageTexts) -> Returned {
        if operation == Operation::CreateTargetImage {
            self.deliver_content();
        }
        self.bench.report.phase_of(operation.name());
        self.host.begin(operation);
        let input = texts.in_arena();
        let started = Instant::now();
        let mut yes = 1u32;
        let code =
            self.subject.call(operation, self.instance, (input.stage(), input.journal()), &mut yes);
        let took = started.elapsed();
        let seen = self.host.end();
        if self.strict.get() {
            input.take_away();
        } else {
            input.keep_until_the_process_ends();
        }
        Returned { operation, code, yes, took, seen }
    }

    /// What a cloud plugin would have asked for: one small file.
    fn deliver_content(&self) {
        const CONTENT: &str = concat!(
            r#"{"files":[{"name":"/etc/imagefactory-validate","#,
            r#""type":"raw","file":"validated\n"}]}"#
        );
        self.bench.report.phase("add_cloud_plugin_content");
        self.host.begin(Operation::CreateTargetImage);
        let arena = Arena::default();
        let text = arena.place(CONTENT.as_bytes(), 1);
        let text =
            text.map_or(abi::imgf_str::ABSENT, |ptr| abi::imgf_str { ptr, len: CONTENT.len() });
        self.subject.add_content(self.instance, text);
        if self.strict.get() {
            arena.take_away();
        }
        arena.leak();
        self.host.end();
    }

    /// Ends the instance; the host is dead afterwards and counts calls that still come.
    pub(super) fn destroy(self) -> &'static MockHost {
        self.bench.report.phase_of("destroy");
        self.host.begin_destroy();
        self.subject.destroy(self.instance);
        self.host.die();
        self.host
    }

    /// The output file, where the operation made one.
    pub(super) fn output_image(&self) -> PathBuf {
        self.folders.output.join("image")
    }
}

/// A small raw image whose bytes are all different enough that a change shows.
fn write_input_image(path: &Path, bytes: u64) -> std::io::Result<()> {
    let block: Vec<u8> = (0..4096u32).map(|at| (at.wrapping_mul(167) >> 3) as u8).collect();
    let mut content = Vec::new();
    while (content.len() as u64) < bytes {
        let left = (bytes - content.len() as u64).min(block.len() as u64) as usize;
        content.extend_from_slice(&block[..left]);
    }
    std::fs::write(path, content)
}
