//! Images as they were answered last, so that a client that polls costs one system call and a copy.
//!
//! An entry is good until its image changes, its parent, or one of its children. Whether anything
//! was committed at all, by this process or another, one system call tells ([`Revision`]); only
//! then the log of changes is read, and what it names is dropped. So reads of one image depend
//! neither on how many there are nor on what is built beside it. Bounded in memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use imagefactory_store::changes::Touched;
use imagefactory_store::images::Revision;
use imagefactory_store::{ImageStore, StoreError};
use uuid::Uuid;

/// All answers together. An image's is about 2 kB, so some thousand polled images fit.
const BYTES_MAX: usize = 4 << 20;

/// A larger answer is made anew each time: templates of megabytes would push out everything else.
const ENTRY_BYTES_MAX: usize = 256 << 10;

/// Changes that are read one by one; behind more than that everything is dropped.
const CHANGES_MAX: u32 = 1024;

/// Rendered answers by image and address (the address stands in the answer).
#[derive(Debug, Default)]
pub(crate) struct RenderedImages {
    shelf: Mutex<Shelf>,
    /// One reads the log; the others wait for what it says.
    reading: tokio::sync::Mutex<()>,
}

/// What a request finds here.
pub(crate) enum Found {
    /// The answer.
    Answer(Bytes),
    /// None; what is read from now on may be kept with [`RenderedImages::put`].
    Nothing(Option<Revision>),
}

/// An image's answers.
#[derive(Debug, Default)]
struct Kept {
    parent: Option<Uuid>,
    by_address: Vec<(String, Bytes)>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// The state of the store up to which everything here is true.
    revision: Option<Revision>,
    /// The last change that was read; `None` = the log was never read.
    seq: Option<i64>,
    by_image: HashMap<Uuid, Kept>,
    bytes: usize,
}

impl RenderedImages {
    /// The answer for this image at this address, if it is still true.
    pub(crate) async fn get(
        &self,
        store: &dyn ImageStore,
        image: Uuid,
        href: &str,
    ) -> Result<Found, StoreError> {
        let Some(revision) = self.catch_up(store).await? else { return Ok(Found::Nothing(None)) };
        let shelf = self.shelf();
        let kept = shelf.by_image.get(&image).filter(|_| shelf.revision == Some(revision));
        let answer = kept.and_then(|kept| kept.at(href));
        Ok(answer.map_or(Found::Nothing(Some(revision)), Found::Answer))
    }

    /// Keeps an answer that was made from what was read after `revision` was found. One that
    /// something was committed beside is not kept: it may be old by now.
    pub(crate) fn put(
        &self,
        revision: Revision,
        (image, parent): (Uuid, Option<Uuid>),
        href: &str,
        answer: &Bytes,
    ) {
        let bytes = answer.len() + href.len();
        let mut shelf = self.shelf();
        if bytes > ENTRY_BYTES_MAX || shelf.revision != Some(revision) {
            return;
        }
        if shelf.bytes + bytes > BYTES_MAX {
            shelf.clear();
        }
        let kept = shelf.by_image.entry(image).or_default();
        if kept.at(href).is_some() {
            return; // another request was as fast
        }
        kept.parent = parent;
        kept.by_address.push((href.to_owned(), answer.clone()));
        shelf.bytes += bytes;
    }

    /// Drops what is not true any more; answers the state of the store that the rest is true for.
    async fn catch_up(&self, store: &dyn ImageStore) -> Result<Option<Revision>, StoreError> {
        let is_known = |revision| self.shelf().revision == Some(revision);
        let Some(revision) = store.revision() else { return Ok(None) };
        if is_known(revision) {
            return Ok(Some(revision));
        }
        let _turn = self.reading.lock().await;
        // Before the log is read: what is committed after it makes another revision.
        let Some(revision) = store.revision() else { return Ok(None) };
        if is_known(revision) {
            return Ok(Some(revision));
        }
        let seq = self.shelf().seq;
        let touched = match seq {
            Some(seq) => store.touched_after(seq, CHANGES_MAX).await?,
            None => Vec::new(),
        };
        let is_followed = seq.is_some_and(|seq| follows(seq, &touched));
        let last = match (is_followed, touched.last()) {
            (true, last) => last.map(|change| change.seq).or(seq),
            // The first time, or too far behind.
            (false, _) => Some(store.last_change().await?),
        };
        let mut shelf = self.shelf();
        match is_followed {
            true => touched.iter().for_each(|change| shelf.drop_touched(change)),
            false => shelf.clear(),
        }
        (shelf.seq, shelf.revision) = (last, Some(revision));
        Ok(Some(revision))
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Are these all changes since?
fn follows(seq: i64, touched: &[Touched]) -> bool {
    let is_next = touched.first().is_none_or(|first| first.seq == seq + 1);
    is_next && touched.len() < CHANGES_MAX as usize
}

impl Kept {
    fn at(&self, href: &str) -> Option<Bytes> {
        self.by_address.iter().find(|(known, _)| known == href).map(|(_, answer)| answer.clone())
    }
}

impl Shelf {
    fn clear(&mut self) {
        self.by_image.clear();
        self.bytes = 0;
    }

    /// The image itself, its parent (whose list of children may be another), and its children
    /// (whose path leads through it).
    fn drop_touched(&mut self, change: &Touched) {
        let bytes = &mut self.bytes;
        self.by_image.retain(|image, kept| {
            let is_touched = *image == change.image_id
                || Some(*image) == change.parent
                || kept.parent == Some(change.image_id);
            if is_touched {
                *bytes -= kept
                    .by_address
                    .iter()
                    .map(|(href, answer)| href.len() + answer.len())
                    .sum::<usize>();
            }
            !is_touched
        });
    }
}

#[cfg(test)]
mod tests {
    use imagefactory_model::image::Image;
    use imagefactory_model::order::{Order, OrderKind, Submission};
    use imagefactory_store::embedded::EmbeddedStore;
    use imagefactory_store::images::{ImageStep, Images};

    use super::*;

    /// Two processes on one store; answers are kept in the first.
    struct Rig {
        here: EmbeddedStore,
        there: EmbeddedStore,
        rendered: RenderedImages,
        _folder: tempfile::TempDir,
    }

    impl Rig {
        async fn new() -> Rig {
            let folder = tempfile::tempdir().unwrap();
            let here = EmbeddedStore::open(folder.path()).await.unwrap();
            let there = EmbeddedStore::open(folder.path()).await.unwrap();
            Rig { here, there, rendered: RenderedImages::default(), _folder: folder }
        }

        async fn add(&self, image: &Image) {
            let orders = vec![Order::new(image.id, OrderKind::Build)];
            let images = vec![image.clone()];
            let submission = Submission { images, orders, idempotency: None };
            self.there.submit(submission).await.unwrap();
        }

        async fn keep(&self, image: &Image) {
            let found = self.rendered.get(&self.here, image.id, "/x").await.unwrap();
            if let Found::Nothing(revision) = found {
                let who = (image.id, image.parent);
                self.rendered.put(revision.unwrap(), who, "/x", &Bytes::from_static(b"kept"));
            }
        }

        async fn has(&self, image: &Image) -> bool {
            let found = self.rendered.get(&self.here, image.id, "/x").await.unwrap();
            matches!(found, Found::Answer(_))
        }
    }

    fn family() -> [Image; 4] {
        let base = Image::new_base("<template/>".into(), None);
        let target = Image::new_target(Some(base.id), None, "mock".into(), None);
        let second = Image::new_target(Some(target.id), None, "mock".into(), None);
        let stranger = Image::new_base("<template/>".into(), None);
        [base, target, second, stranger]
    }

    #[tokio::test]
    async fn a_change_of_any_process_drops_its_image_and_its_nearest_and_no_other() {
        let rig = Rig::new().await;
        let [base, target, second, stranger] = family();
        for image in [&base, &target, &second, &stranger] {
            rig.add(image).await;
        }
        for image in [&base, &target, &second, &stranger] {
            rig.keep(image).await;
        }
        let step = ImageStep { percent_complete: Some(1), ..ImageStep::default() };
        rig.there.step(second.id, step).await.unwrap();
        assert!(rig.has(&base).await && rig.has(&stranger).await);
        assert!(!rig.has(&second).await && !rig.has(&target).await);

        for image in [&base, &target, &second] {
            rig.keep(image).await;
        }
        rig.there.forget(base.id).await.unwrap();
        assert!(!rig.has(&base).await && !rig.has(&target).await, "it has no parent any more");
        assert!(!rig.has(&second).await, "its path leads through the target");
        assert!(rig.has(&stranger).await);
    }

    #[tokio::test]
    async fn what_was_read_before_a_commit_is_not_kept_after_it() {
        let rig = Rig::new().await;
        let [base, .., stranger] = family();
        rig.add(&base).await;
        let Found::Nothing(Some(revision)) =
            rig.rendered.get(&rig.here, base.id, "/x").await.unwrap()
        else {
            panic!("nothing was kept yet")
        };
        rig.add(&stranger).await;
        rig.keep(&stranger).await;
        let who = (base.id, None);
        rig.rendered.put(revision, who, "/x", &Bytes::from_static(b"old"));
        assert!(!rig.has(&base).await);
    }

    #[tokio::test]
    async fn who_is_too_far_behind_drops_everything_and_goes_on() {
        let rig = Rig::new().await;
        let [base, .., stranger] = family();
        for image in [&base, &stranger] {
            rig.add(image).await;
            rig.keep(image).await;
        }
        for percent in 0..1100_u32 {
            let percent = u8::try_from(percent % 90).unwrap();
            let step = ImageStep { percent_complete: Some(percent), ..ImageStep::default() };
            rig.there.step(base.id, step).await.unwrap();
        }
        assert!(!rig.has(&stranger).await);
        rig.keep(&stranger).await;
        rig.there.step(base.id, ImageStep::default()).await.unwrap();
        assert!(rig.has(&stranger).await);
    }
}
