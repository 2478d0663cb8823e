//! The sentence for a lookup that finds nothing: what was asked, and what there is instead.
//!
//! A client that gets a "no" should see from it what to ask for. Bounded: near matches first, then
//! the rest in order, at most a dozen.

use std::fmt;

/// Alternatives told of; a sentence, not a listing.
const ALTERNATIVES_MAX: usize = 12;

/// No plugin serves the target. Displays as the whole sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoPlugin {
    asked: String,
    /// Each as "TinMan serves Fedora (any version, any arch)".
    alternatives: Vec<String>,
    left_out: usize,
    /// Plugins that would serve it if they were active: "TinMan is inactive: …".
    hindered: Vec<String>,
}

impl NoPlugin {
    /// `asked` completes "no … serves …"; `offers` are in order, the near ones told first.
    pub(crate) fn new(
        asked: String,
        offers: impl Iterator<Item = Offer>,
        hindered: Vec<String>,
    ) -> Self {
        let mut offers: Vec<Offer> = offers.collect();
        // Stable: offers that are equally near keep their order.
        offers.sort_by_key(|offer| !offer.is_near);
        let near_only = offers.iter().any(|offer| offer.is_near);
        offers.retain(|offer| offer.is_near || !near_only);
        let left_out = offers.len().saturating_sub(ALTERNATIVES_MAX);
        let alternatives =
            offers.into_iter().take(ALTERNATIVES_MAX).map(|offer| offer.sentence).collect();
        NoPlugin { asked, alternatives, left_out, hindered }
    }
}

/// Something that is served.
pub(crate) struct Offer {
    pub(crate) sentence: String,
    /// Close to what was asked.
    pub(crate) is_near: bool,
}

impl fmt::Display for NoPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {}", self.asked)?;
        for hindered in &self.hindered {
            write!(f, "; {hindered}")?;
        }
        if self.alternatives.is_empty() {
            return if self.hindered.is_empty() {
                f.write_str("; no plugin of this type is active")
            } else {
                Ok(())
            };
        }
        write!(f, "; {}", self.alternatives.join(", "))?;
        match self.left_out {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

impl std::error::Error for NoPlugin {}
