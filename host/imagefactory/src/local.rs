//! A factory in this process: the daemon's own engine on the same store, also beside a running
//! daemon. Orders made here are this process's own: it works on them itself and the daemon leaves
//! them alone for as long as this process lives. Commands that only read open the records alone.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use imagefactory_configuration::settings::Settings;
use imagefactory_dispatch::DispatchError;
use imagefactory_dispatch::dispatcher::{Dispatcher, Role};
use imagefactory_dispatch::requests::{
    Deletion, NewBaseImage, NewImport, NewProviderImage, NewTargetImage, OrderOptions,
};
use imagefactory_model::change::Change;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use imagefactory_registry::listing::plugin_objects;
use imagefactory_store::embedded::EmbeddedStore;
use imagefactory_store::images::ImageQuery;
use imagefactory_store::layout::StoreLayout;
use imagefactory_store::logs::LogFiles;
use imagefactory_store::{ImageStore, StoreError, original};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, broadcast};
use uuid::Uuid;

use crate::callbacks::{self, CallbackDelivery};
use crate::error::CommandError;
use crate::factory::{BuildOrder, Factory, Import, LogPosition, Product, Removal, Taken};
use crate::fetch_spec::FetchSpec;
use crate::image_view::ImageView;

/// Other processes' changes are not told: the store is looked at so often instead.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// One piece of a log that is read at once.
const LOG_PIECE_BYTES_MAX: u64 = 1 << 20;

/// The records of a factory, and its engine where a command needs it.
pub(crate) struct LocalFactory {
    store: Arc<dyn ImageStore>,
    layout: StoreLayout,
    engine: Option<Engine>,
}

struct Engine {
    dispatcher: Dispatcher,
    changes: Mutex<broadcast::Receiver<Arc<Change>>>,
    callbacks: CallbackDelivery,
}

impl LocalFactory {
    /// The records alone: for commands that read, or leave a word for who works on an image.
    pub(crate) async fn open_records(settings: &Settings) -> Result<LocalFactory, CommandError> {
        let layout = StoreLayout::create(&settings.factory.storage_path)?;
        let store: Arc<dyn ImageStore> = Arc::new(EmbeddedStore::open(layout.root()).await?);
        // As the daemon would: what the original left is there before anything new is.
        for left in original::take_over(&*store, &layout).await?.left {
            tracing::warn!("not taken over: {left}");
        }
        Ok(LocalFactory { store, layout, engine: None })
    }

    /// With the engine and its plugins.
    pub(crate) async fn open(settings: Settings) -> Result<LocalFactory, CommandError> {
        let records = LocalFactory::open_records(&settings).await?;
        let (store, layout) = (Arc::clone(&records.store), records.layout.clone());
        let dispatcher =
            Dispatcher::open(settings.factory, Role::CommandLine, store, layout).await?;
        // Only told when somebody listens: it costs some milliseconds, and a stage with a strict
        // sandbox says the same.
        if tracing::enabled!(target: "imagefactory_dispatch::containment", tracing::Level::INFO) {
            dispatcher.check_containment().await?;
        }
        let changes = Mutex::new(dispatcher.changes().listen());
        dispatcher.load_plugins().await;
        let callbacks = CallbackDelivery::new(settings.serving.callbacks_public_only);
        let engine = Engine { dispatcher, changes, callbacks };
        Ok(LocalFactory { engine: Some(engine), ..records })
    }

    fn engine(&self) -> Result<&Engine, CommandError> {
        // Commands that order things open the engine: commands/mod.rs.
        self.engine.as_ref().ok_or(CommandError::Dispatch(DispatchError::ShuttingDown))
    }

    fn view(&self, image: &imagefactory_model::image::Image) -> ImageView {
        ImageView::of(image, &self.layout.body(image.id))
    }

    async fn options(
        &self,
        parameters: Option<Map<String, Value>>,
    ) -> Result<OrderOptions, CommandError> {
        let callbacks = callbacks::urls(parameters.as_ref())?;
        if !callbacks.is_empty() {
            let engine = self.engine()?;
            engine.callbacks.begin(&self.layout, &self.store, engine.dispatcher.changes()).await;
        }
        let source = TemplateSource::CommandLine;
        Ok(OrderOptions { parameters, callbacks, ..OrderOptions::from(source) })
    }
}

#[async_trait]
impl Factory for LocalFactory {
    async fn order(&self, order: BuildOrder) -> Result<Taken, CommandError> {
        let options = self.options(order.parameters).await?;
        let dispatcher = &self.engine()?.dispatcher;
        let accepted = match order.product {
            Product::Base { template } => {
                dispatcher.build_base_image(NewBaseImage { template, options }).await?
            }
            Product::Target { target, from } => {
                dispatcher.build_target_image(NewTargetImage { target, from, options }).await?
            }
            Product::Provider { target, provider, credentials, from } => {
                let new = NewProviderImage { target, provider, credentials, from, options };
                dispatcher.build_provider_image(new).await?
            }
        };
        Ok(Taken { image: self.view(&accepted.image), warnings: accepted.warnings })
    }

    async fn import(&self, import: Import) -> Result<Taken, CommandError> {
        let options = self.options(import.parameters).await?;
        // Before anything is copied: a file that cannot be read is told as what it is.
        std::fs::File::open(&import.file).map_err(|cause| CommandError::File {
            doing: "read",
            what: "the disk image",
            path: import.file.clone(),
            hint: "",
            cause,
        })?;
        let dispatcher = &self.engine()?.dispatcher;
        let file = dispatcher.stage_for_import(import.file).await?;
        let new = NewImport { file, format: import.format, template: import.template, options };
        let accepted = dispatcher.import_base_image(new).await?;
        Ok(Taken { image: self.view(&accepted.image), warnings: accepted.warnings })
    }

    async fn leftovers(&self) -> Result<Vec<Value>, CommandError> {
        let mut documents = Vec::new();
        for leftover in self.store.leftovers().await? {
            let resources = self.store.outstanding(leftover.stage_id).await?;
            documents.push(leftover.document(&resources));
        }
        Ok(documents)
    }

    async fn drop_leftover(&self, id: Uuid) -> Result<(), CommandError> {
        match self.store.drop_leftover(id).await? {
            true => Ok(()),
            false => Err(CommandError::NoSuchLeftover(id)),
        }
    }

    async fn image(&self, id: Uuid) -> Result<Option<ImageView>, CommandError> {
        Ok(self.store.image(id).await?.map(|image| self.view(&image)))
    }

    async fn images(&self, spec: &FetchSpec) -> Result<Vec<ImageView>, CommandError> {
        let ids: Vec<Uuid> = match spec.id() {
            Some(id) => vec![id],
            None => {
                let query = ImageQuery {
                    kind: spec.kind(),
                    status: spec.status(),
                    ..ImageQuery::default()
                };
                self.store.list(query).await?.into_iter().map(|entry| entry.id).collect()
            }
        };
        let mut views = Vec::new();
        for id in ids {
            // Between the list and here it may have been deleted.
            let view = self.image(id).await?;
            views.extend(view.filter(|view| spec.fits(&view.document)));
        }
        Ok(views)
    }

    async fn delete(&self, removal: Removal) -> Result<ImageView, CommandError> {
        let options = self.options(removal.parameters).await?;
        let deletion = Deletion {
            id: removal.id,
            target: removal.target,
            provider: removal.provider,
            credentials: removal.credentials,
            callbacks: options.callbacks,
            forget: removal.forget,
        };
        let image = self.engine()?.dispatcher.delete(deletion).await?;
        Ok(self.view(&image))
    }

    async fn cancel(&self, id: Uuid) -> Result<(), CommandError> {
        if let Some(engine) = &self.engine {
            engine.dispatcher.cancel(id).await?;
            return Ok(());
        }
        let image = self.store.image(id).await?.ok_or(CommandError::NoSuchImage(id))?;
        // Whoever works on it, this machine's daemon or another command line, looks for this.
        if image.status.is_final() || !self.store.request_cancel(id).await? {
            return Err(DispatchError::NothingToCancel { id, status: image.status }.into());
        }
        Ok(())
    }

    async fn plugins(&self) -> Result<Vec<Value>, CommandError> {
        let dispatcher = &self.engine()?.dispatcher;
        // Before their schemas are asked for, the manifests suffice; for a list they are described.
        dispatcher.describe_all().await;
        let objects = plugin_objects(&dispatcher.registry(), |_| String::new());
        Ok(objects
            .into_iter()
            .filter_map(|object| serde_json::to_value(object).ok())
            .map(|mut object| {
                // Nobody listens here, so there is no address.
                if let Some(fields) = object.as_object_mut() {
                    fields.remove("href");
                }
                object
            })
            .collect())
    }

    async fn log(&self, id: Uuid, position: &mut LogPosition) -> Result<Vec<u8>, CommandError> {
        let logs = LogFiles::new(self.layout.clone());
        let from = LogPosition { ..*position };
        let read = tokio::task::spawn_blocking(move || read_log(&logs, id, from));
        let (bytes, reached) = read.await.map_err(|_| StoreError::Closed)??;
        *position = reached;
        Ok(bytes)
    }

    async fn next_change(&self) -> Option<ImageView> {
        let Some(engine) = &self.engine else {
            tokio::time::sleep(LOOK_AGAIN).await;
            return None;
        };
        let mut changes = engine.changes.lock().await;
        match tokio::time::timeout(LOOK_AGAIN, changes.recv()).await {
            Ok(Ok(change)) => Some(self.view(&change.image)),
            // Too far behind, or nothing heard: the store is looked at.
            Ok(Err(_)) | Err(_) => None,
        }
    }

    async fn close(&self) {
        if let Some(engine) = &self.engine {
            engine.callbacks.end(&self.store).await;
            engine.dispatcher.shut_down().await;
        }
    }
}

/// The next piece of a log, from the oldest file that is there. A reader whose file was rotated
/// away goes on at the end of the rotated one.
fn read_log(
    logs: &LogFiles,
    id: Uuid,
    from: LogPosition,
) -> Result<(Vec<u8>, LogPosition), CommandError> {
    let paths = logs.paths(id);
    let inodes: Vec<Option<u64>> =
        paths.iter().map(|path| path.metadata().ok().map(|metadata| metadata.ino())).collect();
    // Unknown, or removed by a second rotation: from the oldest.
    let known = inodes.iter().position(|inode| inode.is_some() && *inode == from.inode);
    let mut offset = if known.is_some() { from.bytes_read } else { 0 };
    for (path, inode) in paths.iter().zip(inodes).skip(known.unwrap_or(0)) {
        let bytes = read_piece(path, offset)?;
        if !bytes.is_empty() {
            let bytes_read = offset + bytes.len() as u64;
            return Ok((bytes, LogPosition { bytes_read, inode, ..from }));
        }
        offset = 0;
    }
    Ok((Vec::new(), from))
}

fn read_piece(path: &Path, offset: u64) -> Result<Vec<u8>, CommandError> {
    let failed = |cause| CommandError::File {
        doing: "read",
        what: "the log",
        path: path.to_owned(),
        hint: "",
        cause,
    };
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        // Rotated or deleted this moment.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LOG_PIECE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
