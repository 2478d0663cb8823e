//! Kills the real daemon at random moments while it works, and proves that nothing was lost.
//!
//! A run is a row of *lives*: the daemon starts, takes orders of all kinds over REST, and is
//! killed. Every [`LIVES_BETWEEN_CHECKS`] lives it is left alone until it has nothing to do; then
//! everything is compared: what clients were answered, the store, the provider's ledger, the
//! listener, files and processes. All chance comes from one seed, which every message names
//! (moments still differ between machines). Read on: [`random`], [`orders`], [`endings`],
//! [`records`], [`leftovers`].

mod endings;
mod leftovers;
mod orders;
mod random;
mod records;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::callback_listener::CallbackListener;
use crate::daemon::{Daemon, Setup};
use crate::ledger::Ledger;

use endings::Ending;
use orders::Orders;
use random::Random;
use records::Records;

/// Lives between two comparisons: some orders see many deaths, and a failure is found soon.
const LIVES_BETWEEN_CHECKS: u32 = 50;

/// Orders that may be open before no new ones are posted: four are worked on at once, so most wait.
const OPEN_MAX: i64 = 24;

/// How long the daemon may take to finish what is open; 24 orders take seconds, their retries and
/// those of callbacks half a minute.
const REST_PATIENCE: Duration = Duration::from_secs(180);

/// How long a run goes on.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// So much time passed.
    Elapsed(Duration),
    /// The daemon was killed so often.
    Kills(u32),
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Summary {
    /// Chance.
    pub seed: u64,
    /// Deaths by their kind.
    pub deaths: BTreeMap<&'static str, u32>,
    /// Requests by their kind and answer.
    pub requests: BTreeMap<String, u32>,
    /// Images in the store at the end, by kind and status.
    pub images: BTreeMap<String, u32>,
    /// Creations that the provider saw.
    pub creations: usize,
    /// Callbacks that came in.
    pub callbacks: usize,
    /// Comparisons of everything.
    pub checks: u32,
    /// How long it took.
    pub elapsed: Duration,
}

impl Summary {
    /// SIGKILLs of the daemon.
    pub fn kills(&self) -> u32 {
        let daemon = self.deaths.iter().filter(|(kind, _)| kind.starts_with("SIGKILL"));
        daemon.map(|(_, count)| count).sum()
    }
}

/// One run.
pub struct KillDriver {
    daemon: Daemon,
    listener: CallbackListener,
    random: Random,
    orders: Orders,
    summary: Summary,
    begun: Instant,
}

impl KillDriver {
    /// Starts a daemon to be killed.
    pub async fn start(seed: u64) -> KillDriver {
        leftovers::adopt_orphans();
        // The limits are the packaged ones but for the places, so that more can be interrupted at
        // once.
        let setup = Setup::default()
            .with("max_concurrent_local_sessions", json!(4))
            .with("max_concurrent_remote_sessions", json!(4));
        let daemon = setup.start();
        let listener = CallbackListener::start().await;
        let summary = Summary { seed, ..Summary::default() };
        let orders = Orders::new(daemon.ledger());
        let random = Random::new(seed);
        KillDriver { daemon, listener, random, orders, summary, begun: Instant::now() }
    }

    /// Lives and dies until then; panics with everything that is wrong as soon as something is.
    pub async fn run(mut self, until: Until) -> Summary {
        let mut lives = 0_u32;
        while !self.is_over(until) {
            self.live_and_die().await;
            lives += 1;
            if lives.is_multiple_of(LIVES_BETWEEN_CHECKS) {
                self.rest_and_check().await;
            }
        }
        self.rest_and_check().await;
        self.summary.elapsed = self.begun.elapsed();
        self.summary.callbacks = self.listener.count();
        self.summary.creations = Ledger::read(&self.daemon.ledger()).creations();
        self.summary
    }

    fn is_over(&self, until: Until) -> bool {
        match until {
            Until::Elapsed(time) => self.begun.elapsed() >= time,
            Until::Kills(kills) => self.summary.kills() >= kills,
        }
    }

    async fn live_and_die(&mut self) {
        let records = Records::read(&self.daemon.storage()).await;
        self.orders.learn(&records);
        let busy = records.open_orders >= OPEN_MAX;
        let ending = Ending::draw(&mut self.random);
        let requests = match busy {
            true => Vec::new(),
            false => self.orders.draw(&mut self.random, &self.listener, ending.in_flight()),
        };
        let answers = ending.come_about(&mut self.daemon, &mut self.random, requests).await;
        *self.summary.deaths.entry(ending.name()).or_default() += 1;
        self.note_log();
        if ending.ends_daemon() {
            self.daemon.start_again();
        }
        for answered in answers {
            *self.summary.requests.entry(answered.in_words()).or_default() += 1;
            self.orders.note(answered);
        }
        for again in self.orders.unanswered_with_key() {
            let answered = again.send(&self.daemon.client, self.daemon.url()).await;
            *self.summary.requests.entry(answered.in_words()).or_default() += 1;
            self.orders.note(answered);
        }
    }

    /// What the daemon said is kept beside its store, for whoever has to find out why.
    fn note_log(&self) {
        let path = self.daemon.folder.path().join("lives.log");
        let mut file =
            std::fs::File::options().create(true).append(true).open(path).expect("a log");
        let life: u32 = self.summary.deaths.values().sum();
        writeln!(file, "=== life {life}\n{}", self.daemon.log()).expect("a log can be written");
    }

    /// Lets the daemon finish everything, then compares everything.
    async fn rest_and_check(&mut self) {
        let deadline = Instant::now() + REST_PATIENCE;
        let records = loop {
            let records = Records::read(&self.daemon.storage()).await;
            if records.is_at_rest() || Instant::now() >= deadline {
                break records;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        self.orders.learn(&records);
        let mut wrong = records.violations(&self.daemon.storage());
        wrong.extend(self.orders.violations(&records));
        wrong.extend(self.orders.callback_violations(&records, &self.listener));
        wrong.extend(records.ledger_violations(&Ledger::read(&self.daemon.ledger())));
        wrong.extend(leftovers::wait_until_gone(&self.daemon, &records));
        self.summary.checks += 1;
        self.summary.images = records.census();
        if !wrong.is_empty() {
            self.note_log();
            self.daemon.folder.disable_cleanup(true);
            panic!(
                "seed {}, after {} kills in {:?} ({:?}); see {}:\n{}",
                self.summary.seed,
                self.summary.kills(),
                self.begun.elapsed(),
                self.summary.deaths,
                self.daemon.folder.path().display(),
                wrong.join("\n")
            );
        }
    }
}
