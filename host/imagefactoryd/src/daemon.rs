//! The life of the daemon: start order, signals, shutdown.
//!
//! Store and lock first (a second daemon must not even listen), then the socket, then answers at
//! once; plugins and orders of a former life follow in the background, and whoever needs them waits
//! for them. SIGHUP reads plugins, clients, JEOS images and the certificate again. SIGTERM and
//! SIGINT let answers finish and stages end where they can be resumed.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use imagefactory_dispatch::dispatcher::{Dispatcher, Role};
use imagefactory_notifications::callbacks::{CallbackRules, deliver};
use imagefactory_registry::jeos::JeosImages;
use imagefactory_store::ImageStore;
use imagefactory_store::embedded::EmbeddedStore;
use imagefactory_store::layout::StoreLayout;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::error::DaemonError;
use crate::flags::Flags;
use crate::plan::Plan;
use crate::rest::oauth::{Verifier, system_clock};
use crate::rest::rendered::RenderedImages;
use crate::rest::{Rest, RestRules, counters, service};
use crate::tls::Certificate;
use crate::{listen, serve};

/// How long stages may take to end at shutdown; then their processes are killed with ours, and
/// recovery goes on from their checkpoints.
const STAGES_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs until a signal ends it.
pub(crate) fn run(plan: Plan, flags: Flags) -> Result<(), DaemonError> {
    // Secrets are in this memory: no core file, no ptrace by the same user.
    if let Err(error) =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!("this process can be dumped: {error}");
    }
    // An error means that it is installed already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(live(plan, flags));
    // Uploads and reads of files that nobody waits for any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn live(plan: Plan, flags: Flags) -> Result<(), DaemonError> {
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::new()?;
    let layout = StoreLayout::create(&plan.factory.storage_path)?;
    let store: Arc<dyn ImageStore> = Arc::new(EmbeddedStore::open(layout.root()).await?);
    let dispatcher =
        Dispatcher::open(plan.factory.clone(), Role::Daemon, Arc::clone(&store), layout.clone())
            .await?;
    dispatcher.check_containment().await?;
    let certificate = match plan.tls.clone() {
        Some(at) => Some(Certificate::open(at, &plan.server_names)?),
        None => None,
    };
    let listener = listen::listener(&plan.address, plan.port).await?;
    let address = listener.local_addr()?;
    let (started_sender, started) = watch::channel(false);
    let stopping = CancellationToken::new();
    let rest = Arc::new(rest(&plan, dispatcher.clone(), layout, started, stopping.clone()));
    let tls = certificate
        .as_ref()
        .map(|certificate| TlsAcceptor::from(Arc::new(certificate.server_config())));
    let scheme = if tls.is_some() { "https" } else { "http" };
    let service = service::service(Arc::clone(&rest));
    let serving = tokio::spawn(serve::serve(listener, tls, service, stopping.clone()));
    // Read by the tests and by people: keep the form.
    tracing::info!("listening on {scheme}://{address}");
    dispatcher.start().await?;
    started_sender.send_replace(true);
    let rules = CallbackRules { public_only: plan.callbacks_public_only };
    let callbacks = tokio::spawn(deliver(store, dispatcher.changes().clone(), rules));
    tell(&[NotifyState::Ready]);
    while signals.next().await == Signal::Reload {
        reload(&rest, certificate.as_deref(), &flags).await;
    }
    tracing::info!("shutting down");
    tell(&[NotifyState::Stopping]);
    stopping.cancel();
    if let Err(error) = serving.await {
        tracing::error!("the accept loop ended: {error}");
    }
    if tokio::time::timeout(STAGES_TIMEOUT, dispatcher.shut_down()).await.is_err() {
        tracing::warn!("some stages did not end within {STAGES_TIMEOUT:?}; they will be resumed");
    }
    callbacks.abort();
    Ok(())
}

fn rest(
    plan: &Plan,
    dispatcher: Dispatcher,
    layout: StoreLayout,
    started: watch::Receiver<bool>,
    stopping: CancellationToken,
) -> Rest {
    let verifier = plan.oauth_clients.as_ref().map(|clients| {
        Verifier::new(clients.0.clone(), Arc::clone(dispatcher.store()), system_clock)
    });
    Rest {
        dispatcher,
        layout,
        rules: RestRules {
            oauth_open_reads: plan.oauth_open_reads,
            body_bytes_max: plan.body_bytes_max,
            server_names: plan.server_names.clone(),
            trusted_proxies: plan.trusted_proxies.clone(),
        },
        verifier,
        jeos: RwLock::new(Arc::new(jeos_images(plan))),
        providers: plan.providers.clone(),
        rendered: RenderedImages::default(),
        counters: counters::Counters::new(),
        started,
        stopping,
    }
}

fn jeos_images(plan: &Plan) -> JeosImages {
    match JeosImages::read(&plan.jeos_config) {
        Ok(images) => {
            for odd in images.odd_lines() {
                tracing::warn!("{}:{} {}", odd.path.display(), odd.line, odd.message);
            }
            images
        }
        Err(error) => {
            tracing::warn!("no JEOS images: {}", crate::error::chain(&error));
            JeosImages::default()
        }
    }
}

/// SIGHUP. What cannot be read again stays as it was.
async fn reload(rest: &Rest, certificate: Option<&Certificate>, flags: &Flags) {
    tracing::info!("reading plugins, clients, JEOS images and the certificate again");
    let since = NotifyState::monotonic_usec_now();
    tell(&[Some(NotifyState::Reloading), since.ok()].into_iter().flatten().collect::<Vec<_>>());
    match Plan::load(flags) {
        Ok(plan) => {
            if let (Some(verifier), Some(clients)) = (&rest.verifier, &plan.oauth_clients) {
                verifier.replace_clients(clients.0.clone());
            }
            let images = Arc::new(jeos_images(&plan));
            *rest.jeos.write().unwrap_or_else(PoisonError::into_inner) = images;
        }
        Err(error) => {
            tracing::error!("the configuration stays as it was: {}", crate::error::chain(&error));
        }
    }
    if let Some(Err(error)) = certificate.map(Certificate::reload) {
        tracing::error!("the certificate stays as it was: {error}");
    }
    rest.dispatcher.load_plugins().await;
    tell(&[NotifyState::Ready]);
    tracing::info!("reloaded");
}

/// Tells systemd, where it started us.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd was not told: {error}");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Signal {
    Reload,
    Stop,
}

struct Signals {
    reload: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Signals, std::io::Error> {
        Ok(Signals {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.reload.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
        }
    }
}
