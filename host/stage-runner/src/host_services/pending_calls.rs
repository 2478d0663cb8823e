//! Questions to the daemon that wait for their answer.
//!
//! A plugin's thread registers, sends its Call and blocks; the control thread hands each Reply to
//! the thread that waits for it. A daemon that is gone, or a cancel while waiting for a lock, ends
//! the wait with a failure.

use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use imagefactory_model::frames::{CallReply, HostCall};
use imagefactory_plugin_sdk::abi::{IMGF_E_CANCELLED, IMGF_E_IO};

use super::HostFault;

/// The calls without a reply yet.
#[derive(Debug, Default)]
pub struct PendingCalls {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    waiting: HashMap<u64, Waiting>,
    /// Why no further call is answered.
    closed: bool,
    cancelled: bool,
}

#[derive(Debug)]
struct Waiting {
    reply: SyncSender<CallReply>,
    for_a_lock: bool,
}

impl PendingCalls {
    /// Sends a call and waits for its reply. How long is the daemon's to say.
    pub(super) fn call(
        &self,
        call: HostCall,
        send: impl FnOnce(u64, HostCall) -> Result<(), HostFault>,
    ) -> Result<CallReply, HostFault> {
        let (reply, answered) = sync_channel(1);
        let for_a_lock = matches!(call, HostCall::Lock { .. });
        let id = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Err(gone());
            }
            if state.cancelled && for_a_lock {
                return Err(cancelled());
            }
            state.next_id += 1;
            let id = state.next_id;
            state.waiting.insert(id, Waiting { reply, for_a_lock });
            id
        };
        if let Err(fault) = send(id, call) {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting.remove(&id);
            return Err(fault);
        }
        answered.recv().map_err(|_| gone())
    }

    /// The daemon answered. An answer that nobody waits for (any more) is dropped.
    pub fn answer(&self, id: u64, reply: CallReply) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = state.waiting.remove(&id) {
            // The waiting thread takes it or is gone; a channel of one never blocks here.
            waiting.reply.try_send(reply).ok();
        }
    }

    /// The stage is to end: nobody waits for a lock any longer.
    pub fn cancel(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.cancelled = true;
        state.waiting.retain(|_, waiting| {
            if waiting.for_a_lock {
                let fault = cancelled();
                let reply = CallReply::Failed { code: fault.code, message: fault.message };
                waiting.reply.try_send(reply).ok();
            }
            !waiting.for_a_lock
        });
    }

    /// The daemon is gone: all waiting threads go on with a failure.
    pub fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        state.waiting.clear();
    }
}

fn gone() -> HostFault {
    HostFault::new(IMGF_E_IO, "the daemon is gone")
}

fn cancelled() -> HostFault {
    HostFault::new(IMGF_E_CANCELLED, "the stage was asked to end while it waited for a lock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn waits_for(call: HostCall, end: impl FnOnce(&PendingCalls)) -> Result<CallReply, HostFault> {
        let calls = Arc::new(PendingCalls::default());
        let (sent, was_sent) = sync_channel(1);
        let waiting = {
            let calls = calls.clone();
            thread::spawn(move || {
                calls.call(call, |id, _| {
                    sent.send(id).unwrap();
                    Ok(())
                })
            })
        };
        assert_eq!(was_sent.recv().unwrap(), 1);
        end(&calls);
        waiting.join().unwrap()
    }

    #[test]
    fn a_call_returns_the_reply_of_its_id() {
        let reply = waits_for(HostCall::NextListenPort, |calls| {
            calls.answer(77, CallReply::Done);
            calls.answer(1, CallReply::Port(4000));
        });
        assert_eq!(reply, Ok(CallReply::Port(4000)));
    }

    #[test]
    fn a_cancel_ends_the_wait_for_a_lock() {
        let lock = HostCall::Lock { name: "oz".into(), timeout_ms: 1 << 40 };
        let reply = waits_for(lock, PendingCalls::cancel).unwrap();
        assert!(matches!(reply, CallReply::Failed { code: IMGF_E_CANCELLED, .. }));
    }

    #[test]
    fn a_daemon_that_goes_away_ends_every_wait() {
        let fault = waits_for(HostCall::NextListenPort, PendingCalls::close).unwrap_err();
        assert_eq!(fault.code, IMGF_E_IO);
    }
}
