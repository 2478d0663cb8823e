//! The door of the engine: orders are taken here, recorded before the answer, and worked on.
//!
//! Used by the daemon and, in process, by the command line. A function here checks what can be
//! checked at once (is there such an image, does a plugin serve the target), records images and
//! orders together, and starts one task for each order. What the client was told is durable before
//! it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use imagefactory_model::image::{Destination, Image, ImageKind};
use imagefactory_model::order::{DeletionDetails, Order, OrderKind, Submission};
use imagefactory_model::status::Status;
use imagefactory_notifications::events::Changes;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use imagefactory_registry::{Registry, RegistryHandle};
use imagefactory_store::artifacts::ArtifactFiles;
use imagefactory_store::bodies::Bodies;
use imagefactory_store::half_written::HalfWritten;
use imagefactory_store::images::{ImageStep, Submitted};
use imagefactory_store::layout::StoreLayout;
use imagefactory_store::logs::LogFiles;
use imagefactory_store::owner::Owner;
use imagefactory_store::vault::Vault;
use imagefactory_store::{ImageStore, StoreError, original};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::cancels::OpenWork;
use crate::checks::{check_parameters, cloud_plugin};
use crate::configuration::FactoryConfiguration;
use crate::engine::Engine;
use crate::error::DispatchError;
use crate::places::Places;
use crate::progress::ProgressRecorder;
use crate::recovery::LOOK_FOR_DEAD;
use crate::requests::{
    Accepted, CredentialsGiven, Deletion, MadeFrom, NewBaseImage, NewProviderImage, NewTargetImage,
    OrderOptions,
};
use crate::stage_process::{StageIdentities, StageSupervisor};

/// The engine of one process. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    engine: Arc<Engine>,
    tasks: TaskTracker,
    /// The tokens that end the work on open orders of this process, by order.
    cancels: Arc<Mutex<HashMap<Uuid, OpenWork>>>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("open", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// Which process this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one daemon of a store: works on orders that others left.
    Daemon,
    /// A command line: works on its own orders only.
    CommandLine,
}

impl Dispatcher {
    /// Opens the store and everything around it. Nothing is worked on before [`Dispatcher::start`].
    pub async fn open(
        configuration: FactoryConfiguration,
        role: Role,
        store: Arc<dyn ImageStore>,
        layout: StoreLayout,
    ) -> Result<Dispatcher, DispatchError> {
        let owner = match role {
            Role::Daemon => Owner::daemon(&layout)?,
            Role::CommandLine => Owner::process(&layout)?,
        };
        if role == Role::Daemon {
            let taken = original::take_over(&*store, &layout).await?;
            if taken.images > 0 {
                tracing::info!("took over {} images of the original's store", taken.images);
            }
            for left in taken.left {
                tracing::warn!("not taken over: {left}");
            }
        }
        let left_by_the_dead = match role {
            Role::Daemon => Some(HalfWritten::list(&layout)?),
            Role::CommandLine => None,
        };
        let is_root = rustix::process::geteuid().is_root();
        let ids = configuration.stage_ids;
        let identities = is_root.then(|| StageIdentities::new(ids.uid_first, ids.slots, ids.gid));
        let changes = Changes::new();
        let engine = Engine {
            named_credentials: Arc::new(configuration.credentials.clone()),
            bodies: Bodies::new(layout.clone(), is_root.then_some(ids.gid)),
            artifacts: ArtifactFiles::new(layout.clone()),
            logs: LogFiles::new(layout.clone()),
            vault: Vault::open(&layout)?,
            owner,
            registry: Arc::new(RegistryHandle::default()),
            supervisor: StageSupervisor::new(configuration.supervisor.clone())
                .map_err(DispatchError::Supervisor)?,
            identities,
            places: Places::new(&configuration.places),
            progress: ProgressRecorder::new(Arc::clone(&store), layout.clone(), changes.clone()),
            changes,
            left_by_the_dead: Mutex::new(left_by_the_dead),
            order_closed: tokio::sync::Notify::new(),
            stopping: CancellationToken::new(),
            configuration,
            store,
            layout,
        };
        let (engine, tasks) = (Arc::new(engine), TaskTracker::new());
        let dispatcher = Dispatcher { engine, tasks, cancels: Arc::default() };
        let listener = dispatcher.clone();
        dispatcher.tasks.spawn(async move { listener.hear_cancels().await });
        Ok(dispatcher)
    }

    /// Works on what dead processes left, now and whenever one dies, and describes plugins in the
    /// background. For a daemon; a command line only loads its plugins
    /// ([`Dispatcher::load_plugins`]).
    pub async fn start(&self) -> Result<(), StoreError> {
        self.load_plugins().await;
        let all = self.adopt_orphans().await?;
        let dispatcher = self.clone();
        self.tasks.spawn(async move {
            let stopping = dispatcher.engine.stopping.clone();
            stopping.run_until_cancelled(dispatcher.adopt_later(all)).await;
        });
        Ok(())
    }

    /// Were all adopted?
    async fn adopt_orphans(&self) -> Result<bool, StoreError> {
        let adopted = self.engine.adopt_orphans().await?;
        for order in adopted.orders {
            self.work_on(order);
        }
        Ok(adopted.all)
    }

    /// A command line that was killed leaves its orders to the daemon.
    async fn adopt_later(&self, mut all: bool) {
        loop {
            match all {
                true => self.engine.another_died().await,
                false => tokio::time::sleep(LOOK_FOR_DEAD).await,
            }
            all = match self.adopt_orphans().await {
                Ok(all) => all,
                Err(error) => {
                    tracing::error!("orders of a dead process wait: {error}");
                    false
                }
            };
        }
    }

    /// The records, to read from.
    pub fn store(&self) -> &Arc<dyn ImageStore> {
        &self.engine.store
    }

    /// The plugins.
    pub fn registry(&self) -> Arc<Registry> {
        self.engine.registry.load()
    }

    /// The changes of this process.
    pub fn changes(&self) -> &Changes {
        &self.engine.changes
    }

    /// The image files.
    pub fn bodies(&self) -> &Bodies {
        &self.engine.bodies
    }

    /// The artefact files.
    pub fn artifact_files(&self) -> &ArtifactFiles {
        &self.engine.artifacts
    }

    /// The build logs.
    pub fn logs(&self) -> &LogFiles {
        &self.engine.logs
    }

    /// How this factory works.
    pub fn configuration(&self) -> &FactoryConfiguration {
        &self.engine.configuration
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn cancels(&self) -> &Mutex<HashMap<Uuid, OpenWork>> {
        &self.cancels
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Orders a base image. The template is judged when it is built (tdl.md).
    pub async fn build_base_image(&self, new: NewBaseImage) -> Result<Accepted, DispatchError> {
        let warnings = self.undeclared(&new.options, None);
        let image = Image::new_base(new.template, new.options.parameters.clone());
        self.submit(vec![image], &new.options, CredentialsGiven::Absent, warnings).await
    }

    /// Orders a target image, and its base image where it is to be made from a template.
    pub async fn build_target_image(&self, new: NewTargetImage) -> Result<Accepted, DispatchError> {
        let registry = self.registry();
        let cloud = cloud_plugin(&registry, &new.target)?;
        check_parameters(cloud, new.options.parameters.as_ref())?;
        let warnings = self.undeclared(&new.options, Some(cloud));
        let parameters = new.options.parameters.clone();
        let images = match new.from {
            MadeFrom::Image(id) => {
                let base =
                    self.parent(id, |kind| kind != ImageKind::ProviderImage, "base image").await?;
                vec![Image::new_target(Some(id), base.template, new.target, parameters)]
            }
            MadeFrom::Template(template) => {
                let base = Image::new_base(template.clone(), parameters.clone());
                let target =
                    Image::new_target(Some(base.id), Some(template), new.target, parameters);
                vec![base, target]
            }
        };
        self.submit(images, &new.options, CredentialsGiven::Absent, warnings).await
    }

    /// Orders a provider image, and everything that it needs where it is made from a template.
    pub async fn build_provider_image(
        &self,
        new: NewProviderImage,
    ) -> Result<Accepted, DispatchError> {
        let registry = self.registry();
        let cloud = cloud_plugin(&registry, &new.target)?;
        let parameters = new.options.parameters.clone();
        check_parameters(cloud, parameters.as_ref())?;
        self.check_provider(cloud, &new)?;
        let warnings = self.undeclared(&new.options, Some(cloud));
        let credentials_name = match &new.credentials {
            CredentialsGiven::Named(name) => Some(name.clone()),
            CredentialsGiven::Absent | CredentialsGiven::Inline(_) => None,
        };
        let destination = |template: Option<String>, parent: Option<Uuid>| {
            let destination = Destination {
                target: new.target.clone(),
                provider: new.provider.clone(),
                credentials_name: credentials_name.clone(),
            };
            Image::new_provider(parent, template, destination, parameters.clone())
        };
        let images = match new.from {
            MadeFrom::Image(id) => {
                let target =
                    self.parent(id, |kind| kind == ImageKind::TargetImage, "target image").await?;
                if let Some(made_for) = target.target.filter(|made_for| *made_for != new.target) {
                    return Err(DispatchError::TargetMismatch { id, made_for, asked: new.target });
                }
                vec![destination(target.template, Some(id))]
            }
            MadeFrom::Template(template) => {
                let provider = destination(Some(template.clone()), None);
                if provider.wants_snapshot() {
                    vec![provider]
                } else {
                    let base = Image::new_base(template.clone(), parameters.clone());
                    let target = Image::new_target(
                        Some(base.id),
                        Some(template),
                        new.target.clone(),
                        parameters.clone(),
                    );
                    let provider = Image { parent: Some(target.id), ..provider };
                    vec![base, target, provider]
                }
            }
        };
        self.submit(images, &new.options, new.credentials, warnings).await
    }

    /// Orders a deletion. The image is DELETING when this returns.
    pub async fn delete(&self, deletion: Deletion) -> Result<Image, DispatchError> {
        let id = deletion.id;
        let image = self.image(id).await?;
        self.check_children(id).await?;
        let on_provider =
            image.kind == ImageKind::ProviderImage && image.identifier_on_provider.is_some();
        let credentials = match deletion.credentials.clone() {
            CredentialsGiven::Absent => CredentialsGiven::parse(image.credentials_name.as_deref()),
            given => given,
        };
        if on_provider && !deletion.forget {
            let target =
                deletion.target.clone().or_else(|| image.target.clone()).unwrap_or_default();
            self.check_deletable(id, &target, &credentials)?;
        }
        if image.status == Status::Deleting {
            return Ok(image); // asked for already
        }
        let mut order = Order {
            callbacks: deletion.callbacks,
            deletion: DeletionDetails {
                target: deletion.target,
                provider: deletion.provider,
                forget: deletion.forget,
            },
            owner: Some(self.engine.owner.id()),
            ..Order::new(id, OrderKind::Delete)
        };
        order.credentials = self.keep_credentials(order.id, credentials).await?;
        let submission =
            Submission { images: Vec::new(), orders: vec![order.clone()], idempotency: None };
        match self.engine.store.submit(submission).await {
            Ok(Submitted::Accepted) => {}
            // Somebody else asked in the same moment.
            Ok(Submitted::Replayed(_)) => {
                self.forget_sealed(std::slice::from_ref(&order)).await;
                return self.image(id).await;
            }
            Err(error) => {
                self.forget_sealed(std::slice::from_ref(&order)).await;
                return Err(error.into());
            }
        }
        let step =
            ImageStep { activity: Some("Deleting".to_owned()), ..ImageStep::to(Status::Deleting) };
        let image = self.engine.progress.step(id, step).await?;
        self.engine.store.request_cancel(id).await?;
        self.end_builds_of(id);
        self.work_on(order);
        Ok(image)
    }

    /// Ends all work and returns when every stage has ended. Orders stay open; they are resumed.
    pub async fn shut_down(&self) {
        self.engine.stopping.cancel();
        for work in self.open_work() {
            work.cancel.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Records what was asked for, durably, then begins to work on it.
    async fn submit(
        &self,
        images: Vec<Image>,
        options: &OrderOptions,
        credentials: CredentialsGiven,
        warnings: Vec<String>,
    ) -> Result<Accepted, DispatchError> {
        if self.engine.stopping.is_cancelled() {
            return Err(DispatchError::ShuttingDown);
        }
        let mut orders = Vec::with_capacity(images.len());
        for image in &images {
            let kind = match image.kind == ImageKind::ProviderImage && image.wants_snapshot() {
                true => OrderKind::Snapshot,
                false => OrderKind::Build,
            };
            let mut order = self.new_order(image, kind, options);
            if image.kind == ImageKind::ProviderImage {
                order.credentials = self.keep_credentials(order.id, credentials.clone()).await?;
            }
            orders.push(order);
        }
        self.submit_orders(images, orders, options, warnings).await
    }

    /// A new order of this process.
    pub(crate) fn new_order(
        &self,
        image: &Image,
        kind: OrderKind,
        options: &OrderOptions,
    ) -> Order {
        Order {
            callbacks: options.callbacks.clone(),
            local: options.source == TemplateSource::CommandLine,
            owner: Some(self.engine.owner.id()),
            ..Order::new(image.id, kind)
        }
    }

    /// The same for orders whose credentials are kept and whose files are in place.
    pub(crate) async fn submit_orders(
        &self,
        images: Vec<Image>,
        orders: Vec<Order>,
        options: &OrderOptions,
        warnings: Vec<String>,
    ) -> Result<Accepted, DispatchError> {
        let Some(asked_for) =
            images.last().cloned().filter(|_| !self.engine.stopping.is_cancelled())
        else {
            self.forget_sealed(&orders).await;
            return Err(DispatchError::ShuttingDown);
        };
        let submission = Submission {
            images: images.clone(),
            orders: orders.clone(),
            idempotency: options.idempotency.clone(),
        };
        let submitted = match self.engine.store.submit(submission).await {
            Ok(submitted) => submitted,
            Err(error) => {
                self.forget_sealed(&orders).await;
                return Err(error.into());
            }
        };
        if let Submitted::Replayed(earlier) = submitted {
            self.forget_sealed(&orders).await;
            return Ok(Accepted { image: self.image(earlier).await?, replayed: true, warnings });
        }
        for image in &images {
            self.engine.progress.announce(image);
        }
        for order in orders {
            self.work_on(order);
        }
        Ok(Accepted { image: asked_for, replayed: false, warnings })
    }

    /// One task for the order; its token ends it.
    fn work_on(&self, order: Order) {
        let cancel = CancellationToken::new();
        let id = order.id;
        let work = OpenWork {
            image: order.image_id,
            cancel: cancel.clone(),
            makes_image: order.kind.makes_image(),
        };
        if order.cancel_requested {
            cancel.cancel();
        }
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner).insert(id, work);
        if self.engine.stopping.is_cancelled() {
            cancel.cancel();
        }
        let (engine, cancels) = (Arc::clone(&self.engine), Arc::clone(&self.cancels));
        self.tasks.spawn(async move {
            engine.work_on(order, cancel).await;
            cancels.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
    }

    pub(crate) async fn image(&self, id: Uuid) -> Result<Image, DispatchError> {
        self.engine.store.image(id).await?.ok_or(DispatchError::NoSuchImage(id))
    }

    async fn parent(
        &self,
        id: Uuid,
        fits: impl Fn(ImageKind) -> bool,
        wanted: &'static str,
    ) -> Result<Image, DispatchError> {
        let image = self.image(id).await?;
        if !fits(image.kind) {
            let found = image.kind.title();
            return Err(DispatchError::WrongKind { id, found, wanted });
        }
        Ok(image)
    }
}
