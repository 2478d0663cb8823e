//! Images as they were answered last, so that a client that polls costs one system call and a copy.
//!
//! An entry is good for as long as nothing at all was committed to the store, by this process or
//! another ([`Revision`]): one comparison, no guessing which image a change touches. While
//! something is being built entries live shortly, and a miss costs two queries by key. Bounded in
//! memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use imagefactory_store::images::Revision;
use uuid::Uuid;

/// All answers together. An image's is about 2 kB, so some thousand polled images fit.
const BYTES_MAX: usize = 4 << 20;

/// A larger answer is made anew each time: templates of megabytes would push out everything else.
const ENTRY_BYTES_MAX: usize = 256 << 10;

/// Rendered answers by image and address (the address stands in the answer).
#[derive(Debug, Default)]
pub(crate) struct RenderedImages {
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    revision: Option<Revision>,
    by_image: HashMap<Uuid, Vec<(String, Bytes)>>,
    bytes: usize,
}

impl RenderedImages {
    /// The answer for this image at this address, if nothing was committed since.
    pub(crate) fn get(&self, revision: Revision, image: Uuid, href: &str) -> Option<Bytes> {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.revision != Some(revision) {
            return None;
        }
        let answers = shelf.by_image.get(&image)?;
        answers.iter().find(|(known, _)| known == href).map(|(_, answer)| answer.clone())
    }

    /// Keeps an answer that was made from what was read after `revision` was taken.
    pub(crate) fn put(&self, revision: Revision, image: Uuid, href: &str, answer: &Bytes) {
        let bytes = answer.len() + href.len();
        if bytes > ENTRY_BYTES_MAX {
            return;
        }
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.revision != Some(revision) || shelf.bytes + bytes > BYTES_MAX {
            *shelf = Shelf { revision: Some(revision), ..Shelf::default() };
        }
        shelf.bytes += bytes;
        shelf.by_image.entry(image).or_default().push((href.to_owned(), answer.clone()));
    }
}
