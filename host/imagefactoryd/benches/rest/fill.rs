//! Fills a store with finished images, through the store itself: what the daemon then finds is what
//! it would have written.

use std::path::Path;

use imagefactory_model::image::Image;
use imagefactory_model::order::{Order, OrderKind, Submission};
use imagefactory_model::status::Status;
use imagefactory_store::embedded::EmbeddedStore;
use imagefactory_store::images::{ImageQuery, ImageStep, Images};
use imagefactory_store::layout::StoreLayout;
use imagefactory_store::orders::Orders;
use uuid::Uuid;

/// Images of one transaction.
const TOGETHER: usize = 1000;

/// Stores so many base images; answers the one in the middle.
pub(crate) fn fill(storage: &Path, count: usize, template: &str) -> Uuid {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let layout = StoreLayout::create(storage).expect("a store");
        let store = EmbeddedStore::open(layout.root()).await.expect("records");
        let mut ids = Vec::new();
        while ids.len() < count {
            let images: Vec<Image> = (0..TOGETHER.min(count - ids.len()))
                .map(|_| {
                    let ordered = Image::new_base(template.to_owned(), None);
                    Image {
                        status: Status::Complete,
                        percent_complete: 100,
                        finished_at: Some(ordered.created_at),
                        ..ordered
                    }
                })
                .collect();
            ids.extend(images.iter().map(|image| image.id));
            // One order for all of them, closed at once: records come in through one door.
            let order = Order::new(images[0].id, OrderKind::Build);
            let order_id = order.id;
            let submission = Submission { images, orders: vec![order], idempotency: None };
            store.submit(submission).await.expect("it is taken");
            Orders::close(&store, order_id).await.expect("it is closed");
        }
        store.close().await;
        ids[count / 2]
    })
}

/// Another process's writes, as far as the daemon can tell: progress of one image, 100 a second.
/// Ends when this is dropped.
pub(crate) struct Writer(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Writer {
    /// Begins to write into the store of a running daemon.
    pub(crate) fn start(storage: &Path) -> Writer {
        use std::sync::atomic::Ordering;
        let (storage, ended) = (storage.to_owned(), std::sync::Arc::default());
        let writer = Writer(std::sync::Arc::clone(&ended));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let store = EmbeddedStore::open(&storage).await.expect("records");
                let query = ImageQuery { limit: Some(1), ..ImageQuery::default() };
                let id = store.list(query).await.expect("a list")[0].id;
                let mut percent = 0_u8;
                while !ended.load(Ordering::Relaxed) {
                    percent = (percent + 1) % 100;
                    let step =
                        ImageStep { percent_complete: Some(percent), ..ImageStep::default() };
                    store.step(id, step).await.expect("it is taken");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            });
        });
        writer
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
