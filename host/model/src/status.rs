//! The life of an image, and the one table of what may follow what.
//!
//! ```text
//!          ┌───────────── resumed after a crash ────────────┐
//!          ▼                                                │
//!  NEW ─▶ PENDING ─▶ BUILDING ─▶ COMPLETE ─┐                │
//!   │        │          │  └────────────────┼──▶ (PENDING) ─┘
//!   │        ├──────────┴─▶ FAILED ────────┤
//!   │        │                             ▼
//!   └────────┴──────────────────────▶ DELETING ─▶ DELETED
//!                                          └────▶ DELETEFAILED ─▶ DELETING
//! ```
//!
//! An order starts NEW, is PENDING while it waits (for a place, a parent, a retry), BUILDING while
//! plugins work on it, and ends COMPLETE or FAILED. Whatever it is, it can be deleted. A finished
//! image is never built again. Source: the REST document's statuses and rest-contract.md "Status".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The status of an image, spelled as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Ordered; journalled; nothing was done yet.
    New,
    /// Waits for a place, its parent, or the next try.
    Pending,
    /// Plugins are at work.
    Building,
    /// Finished; its body, or its image on the provider, is there.
    Complete,
    /// Ended without a result; `status_detail.error` says why.
    Failed,
    /// Is being removed.
    Deleting,
    /// Gone; seen in callbacks and events only.
    Deleted,
    /// The provider would not remove it; deletion can be repeated.
    DeleteFailed,
}

impl Status {
    /// Every status, in the order of a life.
    pub const ALL: [Status; 8] = [
        Status::New,
        Status::Pending,
        Status::Building,
        Status::Complete,
        Status::Failed,
        Status::Deleting,
        Status::Deleted,
        Status::DeleteFailed,
    ];

    /// As on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Status::New => "NEW",
            Status::Pending => "PENDING",
            Status::Building => "BUILDING",
            Status::Complete => "COMPLETE",
            Status::Failed => "FAILED",
            Status::Deleting => "DELETING",
            Status::Deleted => "DELETED",
            Status::DeleteFailed => "DELETEFAILED",
        }
    }

    /// The statuses that may follow this one.
    pub fn may_become(self) -> &'static [Status] {
        use Status::{Building, Complete, DeleteFailed, Deleted, Deleting, Failed, New, Pending};
        match self {
            New => &[Pending, Failed, Deleting],
            Pending => &[Building, Failed, Deleting],
            Building => &[Pending, Complete, Failed, Deleting],
            Complete | Failed | DeleteFailed => &[Deleting],
            Deleting => &[Deleted, DeleteFailed],
            Deleted => &[],
        }
    }

    /// May `next` follow? Staying the same is no transition and not asked here.
    pub fn can_become(self, next: Status) -> bool {
        self.may_become().contains(&next)
    }

    /// Nothing will change any more unless somebody asks.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Complete | Status::Failed | Status::Deleted | Status::DeleteFailed)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no status; there are NEW PENDING BUILDING COMPLETE FAILED DELETING DELETED DELETEFAILED"
)]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Status::ALL
            .into_iter()
            .find(|status| status.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{
        self, Building, Complete, DeleteFailed, Deleted, Deleting, Failed, New, Pending,
    };

    fn check_transition(from: Status, to: Status, allowed: bool, why: &str) {
        assert_eq!(from.can_become(to), allowed, "{from} → {to}: {why}");
    }

    #[test]
    fn a_life_goes_forward_only() {
        check_transition(New, Pending, true, "an accepted order waits first");
        check_transition(Pending, Building, true, "then it is built");
        check_transition(Building, Complete, true, "then it is finished");
        check_transition(Building, Pending, true, "a crash sends it back to wait");
        check_transition(Complete, Building, false, "a finished image is never rebuilt");
        check_transition(Failed, Pending, false, "a failed image stays failed");
        check_transition(New, Complete, false, "nothing completes without being built");
        check_transition(Deleted, Deleting, false, "what is gone is gone");
        check_transition(DeleteFailed, Deleting, true, "deletion can be repeated");
        check_transition(Deleting, Complete, false, "deletion is not undone");
    }

    #[test]
    fn whatever_still_exists_can_be_deleted() {
        for status in [New, Pending, Building, Complete, Failed, DeleteFailed] {
            check_transition(status, Deleting, true, "any image can be deleted");
        }
    }

    #[test]
    fn nothing_stays_unfinished_for_ever() {
        // From every status a final one can be reached, so no image can hang by the table alone.
        for start in Status::ALL {
            let mut reached = vec![start];
            let mut next = 0;
            while let Some(status) = reached.get(next).copied() {
                next += 1;
                for follower in status.may_become() {
                    if !reached.contains(follower) {
                        reached.push(*follower);
                    }
                }
            }
            assert!(reached.iter().any(|status| status.is_final()), "{start} leads nowhere");
        }
    }

    #[test]
    fn names_are_read_back() {
        for status in Status::ALL {
            assert_eq!(status.name().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).ok(), Some(status.name().into()));
        }
        assert!("COMPLETED".parse::<Status>().is_err(), "the original's own slip");
    }
}
