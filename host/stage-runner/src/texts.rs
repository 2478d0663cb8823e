//! Text that the host hands to a plugin: UTF-8, followed by one NUL, without a NUL inside.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use imagefactory_plugin_sdk::abi::imgf_str;

/// An owned text in the form the ABI asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostText {
    bytes_and_nul: Box<[u8]>,
}

/// A text that cannot be handed to C: it holds a NUL.
#[derive(Debug, thiserror::Error)]
#[error("holds a NUL character at byte {at}, which no text at the plugin boundary may")]
pub struct InnerNul {
    /// Where.
    pub at: usize,
}

impl HostText {
    /// Copies the text.
    pub fn new(text: &str) -> Result<Self, InnerNul> {
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            return Err(InnerNul { at });
        }
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        Ok(HostText { bytes_and_nul: bytes.into_boxed_slice() })
    }

    /// Copies the text; a NUL becomes U+FFFD. For texts that are for people.
    pub fn for_people(text: &str) -> Self {
        let shown = text.replace('\0', "\u{fffd}");
        let mut bytes = shown.into_bytes();
        bytes.push(0);
        HostText { bytes_and_nul: bytes.into_boxed_slice() }
    }

    /// Lends the text; valid as long as `self`, wherever `self` is moved.
    pub fn lend(&self) -> imgf_str {
        imgf_str { ptr: self.bytes_and_nul.as_ptr(), len: self.bytes_and_nul.len() - 1 }
    }
}

/// Texts that a plugin may read until `destroy`, by what was asked for.
///
/// Asking again for the same gives the same bytes; only a changed answer takes more memory, so the
/// store is bounded by what the host was willing to record.
#[derive(Debug, Default)]
pub struct KeptTexts {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    current: BTreeMap<(&'static str, String), HostText>,
    former: Vec<HostText>,
}

impl KeptTexts {
    /// Keeps `text` as the answer to `key` of `service` and lends it until this store is dropped.
    pub fn keep(&self, service: &'static str, key: &str, text: &str) -> Result<imgf_str, InnerNul> {
        let text = HostText::new(text)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (service, key.to_owned());
        if kept.current.get(&place) != Some(&text)
            && let Some(former) = kept.current.insert(place.clone(), text)
        {
            kept.former.push(former);
        }
        Ok(kept.current.get(&place).map_or(imgf_str::ABSENT, HostText::lend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lent_text_ends_with_one_nul_that_it_does_not_count() {
        let text = HostText::new("abc").unwrap();
        let lent = text.lend();
        assert_eq!(lent.len, 3);
        // SAFETY: four bytes were stored.
        assert_eq!(unsafe { *lent.ptr.add(3) }, 0);
    }

    #[test]
    fn a_text_with_a_nul_inside_is_refused() {
        assert_eq!(HostText::new("a\0b").unwrap_err().at, 1);
    }

    #[test]
    fn an_answer_that_changed_leaves_the_former_one_readable() {
        let texts = KeptTexts::default();
        let first = texts.keep("checkpoint", "part", "1").unwrap();
        let again = texts.keep("checkpoint", "part", "1").unwrap();
        let second = texts.keep("checkpoint", "part", "2").unwrap();
        assert_eq!(first.ptr, again.ptr);
        // SAFETY: the store still lives.
        unsafe {
            assert_eq!(first.text().unwrap(), Some("1"));
            assert_eq!(second.text().unwrap(), Some("2"));
        }
    }
}
