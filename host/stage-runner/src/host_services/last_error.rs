//! The reason of the last failed host call, one for each thread.

use std::cell::RefCell;

use imagefactory_plugin_sdk::abi::imgf_str;

use crate::texts::HostText;

thread_local! {
    static LAST: RefCell<Option<HostText>> = const { RefCell::new(None) };
}

/// This thread's last call failed for this reason.
pub(super) fn set(message: &str) {
    let text = HostText::for_people(message);
    // A thread that is being torn down has nobody who could ask.
    LAST.try_with(|last| *last.borrow_mut() = Some(text)).ok();
}

/// This thread's last call succeeded.
pub(super) fn clear() {
    LAST.try_with(|last| *last.borrow_mut() = None).ok();
}

/// Lends the reason until this thread's next call; `None` = nothing failed.
pub(super) fn get() -> Option<imgf_str> {
    LAST.try_with(|last| last.borrow().as_ref().map(HostText::lend)).ok().flatten()
}
