//! Work that many threads do and one takes over in order, so that the output is the same whatever
//! their number.
//!
//! Job `i` goes to thread `i % n` and its result is awaited there: no sorting, and never more than
//! [`DEPTH`] results a thread in memory. Called by the writers of compressed formats.

use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Jobs a thread that are under way or done and not taken: enough that it never waits for a short
/// write, and at 1 MiB a job still a bounded memory.
const DEPTH: usize = 4;

/// More threads would wait for the one that hashes and writes (some 500 MB/s of compressed data),
/// and a sandbox allows 64 in all.
const THREADS_MAX: usize = 16;

/// As many as the process may use.
pub(crate) fn threads_here() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_MAX)
}

/// Does each job on one of `threads` threads, each with a worker of its own, and gives the results
/// to `take` in the order of the jobs. The first error ends it, the threads included.
pub(crate) fn in_order<J, R, W, E>(
    jobs: impl IntoIterator<Item = J>,
    threads: usize,
    new_worker: impl Fn() -> W,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E>
where
    J: Send,
    R: Send,
    W: FnMut(J) -> io::Result<R> + Send,
    E: From<io::Error>,
{
    thread::scope(|scope| {
        let mut lanes = Vec::new();
        for _ in 0..threads.max(1) {
            let (lane, jobs, results) = Lane::new();
            let worker = new_worker();
            thread::Builder::new().spawn_scoped(scope, || work(jobs, results, worker))?;
            lanes.push(lane);
        }
        let (mut sent, mut taken) = (0, 0);
        let mut jobs = jobs.into_iter().fuse();
        loop {
            while sent < taken + lanes.len() * DEPTH {
                let Some(job) = jobs.next() else { break };
                lanes[sent % lanes.len()].jobs.send(job).map_err(|_| a_thread_ended())?;
                sent += 1;
            }
            if taken == sent {
                return Ok(());
            }
            let result = lanes[taken % lanes.len()].results.recv();
            take(result.map_err(|_| a_thread_ended())??)?;
            taken += 1;
        }
        // The lanes end here, and with them the threads.
    })
}

/// The ways to one thread and back.
struct Lane<J, R> {
    jobs: SyncSender<J>,
    results: Receiver<io::Result<R>>,
}

impl<J, R> Lane<J, R> {
    fn new() -> (Lane<J, R>, Receiver<J>, SyncSender<io::Result<R>>) {
        let (jobs, jobs_there) = sync_channel(DEPTH);
        let (results_there, results) = sync_channel(DEPTH);
        (Lane { jobs, results }, jobs_there, results_there)
    }
}

fn work<J, R>(
    jobs: Receiver<J>,
    results: SyncSender<io::Result<R>>,
    mut worker: impl FnMut(J) -> io::Result<R>,
) {
    for job in jobs {
        // After an error too: who takes over comes to it in its turn, and then hangs up.
        if results.send(worker(job)).is_err() {
            return;
        }
    }
}

/// Only after a panic, which the scope passes on.
fn a_thread_ended() -> io::Error {
    io::Error::other("a thread ended in the middle of its work")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_however_long_each_takes() {
        for threads in [1, 2, 7] {
            let mut taken = Vec::new();
            let slow = |job: u64| {
                thread::sleep(Duration::from_micros(job * 7919 % 301));
                Ok(job * 2)
            };
            let done: io::Result<()> = in_order(
                0..200,
                threads,
                || slow,
                |result| {
                    taken.push(result);
                    Ok(())
                },
            );
            done.unwrap();
            assert_eq!(taken, (0..200).map(|job| job * 2).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn no_more_than_its_depth_is_ahead_of_who_takes() {
        let started = AtomicUsize::new(0);
        let mut taken = 0;
        let count = |job: usize| {
            started.fetch_add(1, Ordering::SeqCst);
            Ok(job)
        };
        let done: io::Result<()> = in_order(
            0..1000,
            3,
            || count,
            |_| {
                taken += 1;
                thread::sleep(Duration::from_micros(50));
                let ahead = started.load(Ordering::SeqCst) - taken;
                assert!(ahead <= 3 * DEPTH, "{ahead}");
                Ok(())
            },
        );
        done.unwrap();
    }

    #[test]
    fn an_error_on_either_side_ends_it() {
        let fails = |job: u32| if job == 40 { Err(io::Error::other("forty")) } else { Ok(job) };
        // Often: which side is ahead is up to the machine.
        for _ in 0..100 {
            let mut last = 0;
            let take = |job| {
                last = job;
                Ok(())
            };
            let ended: io::Result<()> = in_order(0.., 2, || fails, take);
            assert_eq!((ended.unwrap_err().to_string().as_str(), last), ("forty", 39));
        }
        let ended: io::Result<()> = in_order(
            0..,
            2,
            || Ok::<u32, _>,
            |job| {
                if job == 9 { Err(io::Error::other("nine")) } else { Ok(()) }
            },
        );
        assert_eq!(ended.unwrap_err().to_string(), "nine");
    }

    #[test]
    fn nothing_to_do_is_done() {
        let done: io::Result<()> = in_order(0..0, 2, || Ok::<u32, _>, |_| unreachable!());
        done.unwrap();
    }
}
