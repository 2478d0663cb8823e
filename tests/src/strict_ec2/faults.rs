//! What goes wrong, and when.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::wire::{Answer, Asked};

/// An error in AWS's words.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The answer's status.
    pub status: u16,
    /// `SnapshotLimitExceeded`.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Fault {
    /// One with some message.
    pub fn new(status: u16, code: &'static str) -> Fault {
        Fault { status, code, message: format!("strict: {code}") }
    }

    /// In the form of the service.
    pub(crate) fn into_answer(self, service: &str) -> Answer {
        let Fault { status, code, message } = self;
        if service == "ebs" {
            let mut answer = Answer::json(status, &json!({"message": message}));
            answer.headers.push(("x-amzn-errortype", format!("{code}:http://strict/")));
            return answer;
        }
        let message = message.replace('&', "&amp;").replace('<', "&lt;");
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}\
             </Code><Message>{message}</Message></Error></Errors><RequestID>strict-1</RequestID>\
             </Response>"
        );
        Answer::xml(status, body)
    }
}

/// The server's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// Seconds that it is ahead of this machine's.
    pub ahead_s: i64,
    /// Says its time in no answer.
    pub silent: bool,
}

impl Clock {
    pub(crate) fn now_s(self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        now as i64 + self.ahead_s
    }

    pub(crate) fn date_header(self) -> Option<String> {
        let now = OffsetDateTime::from_unix_timestamp(self.now_s()).ok()?;
        let date = now.format(&Rfc2822).ok()?.replace("+0000", "GMT");
        Some(date).filter(|_| !self.silent)
    }
}

/// All of it; nothing by default.
#[derive(Debug, Default)]
pub struct Faults {
    /// Before each answer.
    pub latency: Duration,
    /// Refuse signatures without the payload's hash? For clients of other makers it may be off.
    pub unsigned_payloads: bool,
    /// A session token that has to be sent.
    pub session_token: Option<String>,
    /// Each block put before this many is fine; from then on this fault, for ever.
    pub from_block: Option<(u64, Fault)>,
    /// Cuts each nth block's connection within its body, at a place that differs each time.
    pub cut_each: Option<u64>,
    /// Takes each nth block and closes the connection instead of answering.
    pub swallow_each: Option<u64>,
    /// For the next calls of an action (`*` = any), in this order.
    planned: VecDeque<(String, Fault)>,
    clock: Clock,
    cuts_seen: u64,
    swallows_seen: u64,
    blocks_seen: u64,
}

impl Faults {
    /// The next `times` calls of this action fail so.
    pub fn plan(&mut self, action: &str, times: usize, fault: Fault) {
        self.planned.extend(std::iter::repeat_n((action.to_owned(), fault), times));
    }

    /// How many planned faults are still to come.
    pub fn left(&self) -> usize {
        self.planned.len()
    }

    /// Sets the server's clock.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn next_for(&mut self, action: &str) -> Option<Fault> {
        if action == "PutSnapshotBlock" {
            self.blocks_seen += 1;
            if let Some((after, fault)) = &self.from_block
                && self.blocks_seen > *after
            {
                return Some(fault.clone());
            }
        }
        let at = self.planned.iter().position(|(name, _)| name == action || name == "*")?;
        self.planned.remove(at).map(|(_, fault)| fault)
    }

    /// After so many bytes of the body the connection ends.
    pub(crate) fn cut_body(&mut self, asked: &Asked) -> Option<usize> {
        let each = self.cut_each.filter(|_| asked.method == "PUT")?;
        self.cuts_seen += 1;
        // 40 503 is a prime: the places wander over the whole body.
        self.cuts_seen
            .is_multiple_of(each)
            .then(|| (self.cuts_seen * 40_503) as usize % (512 << 10))
    }

    pub(crate) fn swallows_answer(&mut self, asked: &Asked) -> bool {
        let Some(each) = self.swallow_each.filter(|_| asked.method == "PUT") else { return false };
        self.swallows_seen += 1;
        self.swallows_seen.is_multiple_of(each)
    }
}
