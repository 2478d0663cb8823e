//! The log of one stage: every line that anybody in it writes comes through here, bounded.
//!
//! Lines come from `host->log` and from the two pipes, which are read to their end whatever
//! happens: a plugin that prints a gigabyte never blocks, costs no memory and loses only lines, and
//! the log says how many. Secrets are removed, control characters made visible, invalid UTF-8
//! replaced.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imagefactory_model::stage::{LogLevel, LogLine, LogSource};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::events::{EventSink, StageEvent};
use super::scrubber::Scrubber;
use super::supervisor::LogLimits;

/// A pipe holds 64 KiB by default, so that one read can empty it.
const PIPE_READ_BYTES: usize = 64 << 10;

/// Largest `fields` of a line, as JSON text; larger ones are lost, the line stays.
const FIELDS_BYTES_MAX: usize = 16 << 10;

/// Shared by the conversation and the readers of the two pipes.
#[derive(Debug, Clone)]
pub(super) struct StageLog {
    limits: LogLimits,
    scrubber: Scrubber,
    events: EventSink,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Lines that may pass now; refilled with time.
    tokens: f64,
    refilled: Instant,
    bytes_left: u64,
    lost: Lost,
    tail: VecDeque<String>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Lost {
    lines: u64,
    bytes: u64,
}

impl StageLog {
    pub(super) fn new(limits: LogLimits, scrubber: Scrubber, events: EventSink) -> Self {
        let state = State {
            tokens: f64::from(limits.burst_lines),
            refilled: Instant::now(),
            bytes_left: limits.stage_bytes_max,
            lost: Lost::default(),
            tail: VecDeque::with_capacity(limits.tail_lines),
        };
        StageLog { limits, scrubber, events, state: Arc::new(Mutex::new(state)) }
    }

    /// A line of the plugin. Several lines in one are one line with visible line ends.
    pub(super) fn plugin(&self, level: LogLevel, message: String, fields: Option<Value>) {
        let fields = fields.filter(|fields| fields.to_string().len() <= FIELDS_BYTES_MAX);
        let fields = fields.map(|fields| self.scrubber.json(fields));
        let message = self.clean(cut(&message, self.bytes_looked_at()));
        if self.admit(message.len()) {
            let line = LogLine { level, source: LogSource::Plugin, message, fields };
            self.pass(&mut self.state(), line);
        } else {
            // Kept for the failure report all the same: the last words matter most.
            self.remember(&mut self.state(), message);
        }
    }

    /// A line of ours; never lost for lack of budget, because we are few.
    pub(super) fn host(&self, level: LogLevel, message: String) {
        let message = visible(&self.scrubber.text(message));
        let line = LogLine { level, source: LogSource::Host, message, fields: None };
        self.pass(&mut self.state(), line);
    }

    /// The last lines, oldest first.
    pub(super) fn tail(&self) -> Vec<String> {
        self.state().tail.iter().cloned().collect()
    }

    /// Says what was lost since the last time, if anything.
    pub(super) fn tell_losses(&self) {
        let lost = std::mem::take(&mut self.state().lost);
        if lost.lines > 0 || lost.bytes > 0 {
            self.host(
                LogLevel::Warn,
                format!(
                    "{} log lines ({} bytes) lost here: a stage may log {} lines a second and {} \
                     bytes in all",
                    lost.lines,
                    lost.bytes,
                    self.limits.lines_per_second,
                    self.limits.stage_bytes_max
                ),
            );
        }
    }

    /// Reads a pipe to its end. Lines in it have no level of their own.
    pub(super) async fn drain(self, mut pipe: pipe::Receiver, source: LogSource) {
        let level = if source == LogSource::Stderr { LogLevel::Warn } else { LogLevel::Info };
        let mut lines = LineSplitter::new(self.bytes_looked_at());
        let mut last_words = LastWords::default();
        let mut buffer = vec![0; PIPE_READ_BYTES];
        loop {
            match pipe.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    let bytes = buffer.get(..read).unwrap_or_default();
                    if self.is_spent() {
                        // Not even split: a flood costs one pass over its bytes.
                        lines.skip(bytes);
                        last_words.keep(bytes);
                        let ends = bytes.iter().filter(|&&byte| byte == b'\n').count();
                        self.lose(ends as u64, read as u64);
                    } else {
                        last_words.forget();
                        lines.split(bytes, |line| self.piped(level, source, line));
                    }
                }
            }
        }
        lines.finish(|line| self.piped(level, source, line));
        for line in last_words.lines() {
            let message = self.clean(&String::from_utf8_lossy(line));
            self.remember(&mut self.state(), message);
        }
    }

    fn piped(&self, level: LogLevel, source: LogSource, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        // Asked before it is made fit to be seen, which costs more than all the rest.
        if self.admit(line.len()) {
            let message = self.clean(&String::from_utf8_lossy(line));
            let line = LogLine { level, source, message, fields: None };
            self.pass(&mut self.state(), line);
        }
    }

    /// More than is kept, so that a secret across the cut is still seen as one.
    fn bytes_looked_at(&self) -> usize {
        self.limits.line_bytes_max.saturating_mul(2)
    }

    fn clean(&self, text: &str) -> String {
        let scrubbed = self.scrubber.text(text.to_owned());
        visible(cut(&scrubbed, self.limits.line_bytes_max))
    }

    /// Takes a line's share of the budget, or counts the line as lost.
    fn admit(&self, bytes: usize) -> bool {
        let bytes = bytes.min(self.limits.line_bytes_max) as u64;
        let mut state = self.state();
        state.refill(&self.limits);
        if state.tokens < 1.0 || state.bytes_left < bytes {
            state.lost.lines += 1;
            state.lost.bytes += bytes;
            return false;
        }
        state.tokens -= 1.0;
        state.bytes_left -= bytes;
        true
    }

    fn pass(&self, state: &mut State, line: LogLine) {
        self.remember(state, line.message.clone());
        if !self.events.send(StageEvent::Log(line)) {
            state.lost.lines += 1;
        }
    }

    fn remember(&self, state: &mut State, message: String) {
        if state.tail.len() >= self.limits.tail_lines {
            state.tail.pop_front();
        }
        if self.limits.tail_lines > 0 {
            state.tail.push_back(message);
        }
    }

    /// No token now and none soon enough to be worth splitting for.
    fn is_spent(&self) -> bool {
        let mut state = self.state();
        state.refill(&self.limits);
        state.bytes_left == 0 || state.tokens < 1.0
    }

    fn lose(&self, lines: u64, bytes: u64) {
        let mut state = self.state();
        state.lost.lines += lines;
        state.lost.bytes += bytes;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counters and lines: whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refill(&mut self, limits: &LogLimits) {
        let now = Instant::now();
        let gained = (now - self.refilled).as_secs_f64() * f64::from(limits.lines_per_second);
        self.refilled = now;
        self.tokens = (self.tokens + gained).min(f64::from(limits.burst_lines));
    }
}

/// The text with control characters escaped: nobody moves a terminal's cursor through our log.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.trim_end().chars() {
        match letter {
            '\t' => shown.push('\t'),
            letter if letter.is_control() => shown.extend(letter.escape_default()),
            letter => shown.push(letter),
        }
    }
    shown
}

/// At most `bytes_max` bytes of the text, ending between two characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The end of what was lost of a pipe: a plugin that floods its log and dies says why at the end.
#[derive(Default)]
struct LastWords(Vec<u8>);

impl LastWords {
    /// Some lines.
    const BYTES_MAX: usize = 2048;

    fn keep(&mut self, bytes: &[u8]) {
        let new = bytes.get(bytes.len().saturating_sub(Self::BYTES_MAX)..).unwrap_or_default();
        let excess = (self.0.len() + new.len()).saturating_sub(Self::BYTES_MAX);
        self.0.drain(..excess.min(self.0.len()));
        self.0.extend_from_slice(new);
    }

    fn forget(&mut self) {
        self.0.clear();
    }

    /// Whole lines; the first may have lost its beginning.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.0.split(|&byte| byte == b'\n').skip(1);
        lines.filter(|line| !line.iter().all(u8::is_ascii_whitespace))
    }
}

/// Cuts a byte stream into lines of bounded length; what passes the bound is dropped.
struct LineSplitter {
    line: Vec<u8>,
    bytes_max: usize,
    /// The rest of an overlong or skipped line is still to come.
    skipping: bool,
}

impl LineSplitter {
    fn new(bytes_max: usize) -> Self {
        LineSplitter { line: Vec::new(), bytes_max, skipping: false }
    }

    fn split(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            if !self.skipping {
                let room = self.bytes_max - self.line.len();
                self.line.extend_from_slice(text.get(..room.min(text.len())).unwrap_or_default());
            }
            if ended {
                if !self.skipping {
                    each(&self.line);
                }
                self.line.clear();
                self.skipping = false;
            }
        }
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.line.clear();
        self.skipping = bytes.last() != Some(&b'\n');
    }

    fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            each(&self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn log(limits: LogLimits, room: usize) -> (StageLog, mpsc::Receiver<StageEvent>) {
        let (sender, receiver) = mpsc::channel(room);
        (StageLog::new(limits, Scrubber::default(), EventSink::new(sender)), receiver)
    }

    const TIGHT: LogLimits = LogLimits {
        line_bytes_max: 10,
        lines_per_second: 0,
        burst_lines: 3,
        stage_bytes_max: 1000,
        tail_lines: 2,
    };

    fn messages(events: &mut mpsc::Receiver<StageEvent>) -> Vec<String> {
        std::iter::from_fn(|| events.try_recv().ok())
            .filter_map(|event| match event {
                StageEvent::Log(line) => Some(line.message),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn lines_are_cut_and_joined_over_reads() {
        let mut splitter = LineSplitter::new(5);
        let mut lines = Vec::new();
        for bytes in [&b"ab"[..], b"c\nlong line here", b" and on\nx\n\xff", b"y"] {
            splitter.split(bytes, |line| lines.push(line.to_vec()));
        }
        splitter.finish(|line| lines.push(line.to_vec()));
        assert_eq!(lines, [&b"abc"[..], b"long ", b"x", b"\xffy"]);
    }

    #[tokio::test]
    async fn lines_over_the_budget_are_lost_counted_and_still_in_the_tail() {
        let (log, mut events) = log(TIGHT, 100);
        for number in 0..5 {
            log.plugin(LogLevel::Info, format!("line {number}"), None);
        }
        assert_eq!(log.tail(), ["line 3", "line 4"]);
        log.tell_losses();
        let seen = messages(&mut events);
        assert_eq!(seen.get(..3).unwrap(), ["line 0", "line 1", "line 2"]);
        assert!(seen.last().unwrap().starts_with("2 log lines (12 bytes) lost"), "{seen:?}");
    }

    #[tokio::test]
    async fn a_slow_reader_loses_lines_and_blocks_nobody() {
        let (log, mut events) = log(LogLimits { burst_lines: 50, ..TIGHT }, 1);
        for number in 0..5 {
            log.plugin(LogLevel::Info, format!("line {number}"), None);
        }
        assert_eq!(messages(&mut events), ["line 0"]);
        log.tell_losses();
        assert!(messages(&mut events).first().unwrap().starts_with("4 log lines"));
    }

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(visible("a\tb\u{1b}[2J\u{7}\r\n"), "a\tb\\u{1b}[2J\\u{7}");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("aäb", 2), "a");
        assert_eq!(cut("ab", 9), "ab");
    }
}
