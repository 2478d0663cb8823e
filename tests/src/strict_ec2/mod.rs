//! A strict EC2 and EBS: refuses what AWS refuses, counts what it gets, fails as it is told to.
//!
//! It checks every signature with its own reading of Signature Version 4, every block's checksum,
//! index and length, the checksum over all, and that an image stands on a completed snapshot of its
//! own region. Blocks lie in a sparse file a snapshot, so a test compares the disk bit by bit. What
//! moto is lenient about (see tests/clouds/README.md) is what this one is for.

mod ebs;
mod faults;
mod form;
mod query;
mod signature;
mod wire;
mod world;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use faults::{Clock, Fault, Faults};
pub use world::{Image, Snapshot, World};

use wire::{Answer, Asked, Stream};

/// The account's number.
pub const ACCOUNT: &str = "123456789012";
/// Id of the key that is valid.
pub const ACCESS_KEY: &str = "AKIDSTRICTEXAMPLE001";
/// Its secret.
pub const SECRET_KEY: &str = "sTrIcT/5ecret+Key7ThatMustNeverShowAnywhere01";
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 512 << 10;

/// A running server; ends when it is dropped.
pub struct StrictEc2 {
    address: SocketAddr,
    shared: Arc<Shared>,
    https: bool,
}

/// What all connections share.
pub(crate) struct Shared {
    world: Mutex<World>,
    faults: Mutex<Faults>,
    ending: AtomicBool,
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StrictEc2 {
    /// Plain HTTP on a free port of loopback.
    pub fn start() -> StrictEc2 {
        StrictEc2::serve(None)
    }

    /// HTTPS with this configuration.
    pub fn start_tls(tls: rustls::ServerConfig) -> StrictEc2 {
        StrictEc2::serve(Some(Arc::new(tls)))
    }

    fn serve(tls: Option<Arc<rustls::ServerConfig>>) -> StrictEc2 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new()),
            faults: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let https = tls.is_some();
        let of_listener = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if of_listener.ending.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, tls) = (Arc::clone(&of_listener), tls.clone());
                std::thread::spawn(move || serve_connection(stream, tls, &shared));
            }
        });
        StrictEc2 { address, shared, https }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// What is there; nobody else sees it meanwhile.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// What goes wrong from now on.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults()
    }

    /// Waits until the world is so; panics after a minute.
    pub fn wait_until(&self, what: &str, done: impl Fn(&World) -> bool) {
        let started = Instant::now();
        while !done(&self.world()) {
            assert!(started.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Demands that neither snapshot nor image is left.
    pub fn assert_empty(&self) {
        let world = self.world();
        let left = world.everything();
        assert!(left.is_empty(), "left at the provider: {left:?}");
    }
}

impl Drop for StrictEc2 {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        // Wakes the listener.
        TcpStream::connect(self.address).ok();
    }
}

fn serve_connection(tcp: TcpStream, tls: Option<Arc<rustls::ServerConfig>>, shared: &Shared) {
    tcp.set_nodelay(true).ok();
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(configuration) => match rustls::ServerConnection::new(configuration) {
            Ok(connection) => Box::new(rustls::StreamOwned::new(connection, tcp)),
            Err(_) => return,
        },
    };
    let mut left_over = Vec::new();
    // A connection that breaks off, whoever broke it, is over.
    while let Ok(Some(asked)) = wire::read_head(&mut *stream, &mut left_over) {
        let cut = shared.faults().cut_body(&asked);
        let Some(asked) = wire::read_body(&mut *stream, &mut left_over, asked, cut, shared) else {
            return;
        };
        let answer = answer(&asked, shared);
        if shared.faults().swallows_answer(&asked) {
            return;
        }
        let date = shared.faults().clock().date_header();
        if wire::write_answer(&mut *stream, &answer, date.as_deref()).is_err() {
            return;
        }
    }
}

fn answer(asked: &Asked, shared: &Shared) -> Answer {
    let latency = shared.faults().latency;
    if !latency.is_zero() {
        std::thread::sleep(latency);
    }
    let signed = match signature::check(asked, shared) {
        Ok(signed) => signed,
        Err(refusal) => return refusal.into_answer(asked),
    };
    let action = match signed.service.as_str() {
        "ebs" => ebs::action_of(asked),
        _ => form::action_of(asked),
    };
    shared.world().count(&action);
    if let Some(fault) = shared.faults().next_for(&action) {
        return fault.into_answer(&signed.service);
    }
    match signed.service.as_str() {
        "ebs" => ebs::answer(asked, &signed, shared),
        _ => query::answer(asked, &signed, shared),
    }
}
