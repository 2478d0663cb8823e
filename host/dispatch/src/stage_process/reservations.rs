//! Factory-wide locks and listen ports for stages, in this process.
//!
//! A [`StageReservations`] belongs to one running stage; dropping it gives everything back, however
//! the stage ended: that is the point of keeping locks here and not in a table. Waiting for a lock
//! is fair (first asked, first served) and bounded by the caller's timeout. Two engines on one
//! machine (daemon and command line) do not share locks; ports they cannot both bind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as FairMutex, OwnedMutexGuard};

use super::services::ServiceError;

/// IMGF_E_INVALID_ARGUMENT, IMGF_E_INVALID_STATE, IMGF_E_TIMEOUT, IMGF_E_QUOTA of status.h.
const INVALID_ARGUMENT: i32 = 3;
const INVALID_STATE: i32 = 4;
const TIMEOUT: i32 = 10;
const QUOTA: i32 = 12;

/// Locks one stage may hold at once. The original's plugins hold one (a queue for Oz); a plugin
/// that wants hundreds has a defect, and each costs the daemon memory.
const LOCKS_PER_STAGE_MAX: usize = 64;

/// Ports one stage may hold at once, for the same reason.
const PORTS_PER_STAGE_MAX: usize = 16;

/// Longest name of a lock, as for tokens of the journal (limits of reserve.h).
const LOCK_NAME_BYTES_MAX: usize = 256;

/// The factory's locks and ports. One for each engine.
#[derive(Debug)]
pub struct Reservations {
    ports: RangeInclusive<u16>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    locks: BTreeMap<String, Arc<FairMutex<()>>>,
    ports: BTreeSet<u16>,
    port_next: u16,
}

impl Reservations {
    /// Reservations that allot ports of this range (`listen_ports` of the configuration).
    pub fn new(ports: RangeInclusive<u16>) -> Arc<Self> {
        let port_next = *ports.start();
        let taken = Mutex::new(Taken { port_next, ..Taken::default() });
        Arc::new(Reservations { ports, taken })
    }

    /// What one stage will hold; give it to nobody else.
    pub fn for_stage(self: &Arc<Self>) -> StageReservations {
        StageReservations { all: self.clone(), held: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // The maps are whole after every statement, so a panic elsewhere does not spoil them.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The locks and ports of one running stage. Dropping it releases them. Threads of a plugin may
/// call at once; a lock belongs to the stage, not to the thread.
#[derive(Debug)]
pub struct StageReservations {
    all: Arc<Reservations>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    locks: BTreeMap<String, OwnedMutexGuard<()>>,
    ports: BTreeSet<u16>,
}

impl StageReservations {
    /// Takes the lock `name`, waiting at most `timeout`. A lock that this stage holds already is
    /// refused: it would wait for itself.
    pub async fn lock(&self, name: &str, timeout: Duration) -> Result<(), ServiceError> {
        if name.is_empty() || name.len() > LOCK_NAME_BYTES_MAX {
            return Err(refused(
                INVALID_ARGUMENT,
                format!(
                    "a lock's name has 1 to {LOCK_NAME_BYTES_MAX} bytes; this one has {}",
                    name.len()
                ),
            ));
        }
        self.may_lock(name)?;
        let lock = self.all.taken().locks.entry(name.to_owned()).or_default().clone();
        match tokio::time::timeout(timeout, lock.lock_owned()).await {
            Ok(guard) => {
                self.held().locks.insert(name.to_owned(), guard);
                Ok(())
            }
            Err(_) => {
                self.forget_if_idle(name);
                Err(refused(
                    TIMEOUT,
                    format!("lock {name:?} was not free within {} ms", timeout.as_millis()),
                ))
            }
        }
    }

    /// Gives a lock back.
    pub fn unlock(&self, name: &str) -> Result<(), ServiceError> {
        let guard = self.held().locks.remove(name);
        match guard {
            Some(guard) => {
                drop(guard);
                self.forget_if_idle(name);
                Ok(())
            }
            None => Err(refused(INVALID_STATE, format!("this stage does not hold lock {name:?}"))),
        }
    }

    /// A TCP port of the configured range that no stage holds and nobody listens on now.
    pub fn next_listen_port(&self) -> Result<u16, ServiceError> {
        if self.held().ports.len() >= PORTS_PER_STAGE_MAX {
            return Err(refused(
                QUOTA,
                format!("a stage holds at most {PORTS_PER_STAGE_MAX} listen ports"),
            ));
        }
        let range = self.all.ports.clone();
        let mut taken = self.all.taken();
        // Round robin: a port just given back may still linger in TIME_WAIT.
        for _ in range.clone() {
            let port = taken.port_next;
            taken.port_next = if port >= *range.end() { *range.start() } else { port + 1 };
            if !taken.ports.contains(&port)
                && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            {
                taken.ports.insert(port);
                self.held().ports.insert(port);
                return Ok(port);
            }
        }
        Err(refused(
            QUOTA,
            format!(
                "no free port in {}-{}; widen listen_ports in the configuration",
                range.start(),
                range.end()
            ),
        ))
    }

    fn may_lock(&self, name: &str) -> Result<(), ServiceError> {
        let held = self.held();
        if held.locks.contains_key(name) {
            return Err(refused(INVALID_STATE, format!("this stage holds lock {name:?} already")));
        }
        if held.locks.len() >= LOCKS_PER_STAGE_MAX {
            return Err(refused(
                QUOTA,
                format!("a stage holds at most {LOCKS_PER_STAGE_MAX} locks; unlock some"),
            ));
        }
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a lock that nobody holds or waits for, so that names do not pile up.
    fn forget_if_idle(&self, name: &str) {
        let mut taken = self.all.taken();
        // One reference is the map's own; waiters and holders have theirs.
        if taken.locks.get(name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            taken.locks.remove(name);
        }
    }
}

impl Drop for StageReservations {
    fn drop(&mut self) {
        let Held { locks, ports } = std::mem::take(&mut *self.held());
        for (name, guard) in locks {
            drop(guard);
            self.forget_if_idle(&name);
        }
        let mut taken = self.all.taken();
        for port in ports {
            taken.ports.remove(&port);
        }
    }
}

fn refused(code: i32, message: String) -> ServiceError {
    ServiceError { code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_lock_excludes_other_stages_until_its_stage_ends_however_it_ends() {
        let all = Reservations::new(20000..=20010);
        let first = all.for_stage();
        let second = all.for_stage();
        first.lock("oz", SHORT).await.unwrap();
        assert_eq!(second.lock("oz", SHORT).await.unwrap_err().code, TIMEOUT);
        let waiting = tokio::spawn(async move { second.lock("oz", LONG).await.map(|()| second) });
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        drop(second);
        assert!(all.taken().locks.is_empty(), "names of released locks pile up");
    }

    #[tokio::test]
    async fn a_stage_cannot_deadlock_on_itself_nor_release_what_it_does_not_hold() {
        let all = Reservations::new(20000..=20010);
        let stage = all.for_stage();
        stage.lock("oz", SHORT).await.unwrap();
        assert_eq!(stage.lock("oz", LONG).await.unwrap_err().code, INVALID_STATE);
        assert_eq!(stage.unlock("other").unwrap_err().code, INVALID_STATE);
        stage.unlock("oz").unwrap();
        stage.lock("oz", SHORT).await.unwrap();
    }

    #[tokio::test]
    async fn a_stage_that_was_dropped_while_it_waited_leaves_the_lock_to_others() {
        let all = Reservations::new(20000..=20010);
        let first = all.for_stage();
        first.lock("oz", SHORT).await.unwrap();
        let second = all.for_stage();
        assert!(tokio::time::timeout(SHORT, second.lock("oz", LONG)).await.is_err());
        drop((first, second));
        all.for_stage().lock("oz", SHORT).await.unwrap();
    }

    #[test]
    fn two_stages_never_get_the_same_port_and_ports_come_back() {
        let all = Reservations::new(20100..=20103);
        let first = all.for_stage();
        let second = all.for_stage();
        let mut got: Vec<u16> = Vec::new();
        while let Ok(port) = first.next_listen_port() {
            got.push(port);
            let Ok(port) = second.next_listen_port() else { break };
            got.push(port);
        }
        let distinct: BTreeSet<u16> = got.iter().copied().collect();
        assert_eq!(distinct.len(), got.len());
        assert!(!got.is_empty(), "no port of the range is free on this machine");
        assert_eq!(first.next_listen_port().unwrap_err().code, QUOTA);
        drop((first, second));
        assert!(all.for_stage().next_listen_port().is_ok());
    }
}
