//! A whole factory in the test's process: real store, real supervisor and runner, real mock
//! plugins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use imagefactory_dispatch::configuration::{FactoryConfiguration, NamedCredentials, StageIds};
use imagefactory_dispatch::dispatcher::{Dispatcher, Role};
use imagefactory_dispatch::places::PlaceLimits;
use imagefactory_dispatch::requests::{NewBaseImage, OrderOptions};
use imagefactory_dispatch::stage_process::SupervisorConfig;
use imagefactory_model::image::Image;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use imagefactory_registry::SearchPath;
use imagefactory_registry::grant::SandboxPolicy;
use imagefactory_store::embedded::EmbeddedStore;
use imagefactory_store::layout::StoreLayout;
use serde_json::{Map, Value};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{binaries, fixture_plugins};

/// A template that MockOS serves.
pub const TDL_MOCK: &str = "<template><name>mock</name><os><name>MockOS_A</name>\
    <version>1</version><arch>x86_64</arch><install type='url'>\
    <url>http://debian.example/debian</url></install></os></template>";

/// How long a test waits for an image of the mock plugins; they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A factory in a folder of its own.
pub struct Factory {
    /// The engine.
    pub dispatcher: Dispatcher,
    /// Everything lies below it; removed with the factory.
    pub folder: TempDir,
}

impl Factory {
    /// With MockOS and MockCloud.
    pub async fn start() -> Factory {
        let folder = tempfile::Builder::new().prefix("factory-").tempdir().expect("a folder");
        open_passage(folder.path());
        install_mocks(&folder.path().join("plugins.d"));
        Factory::start_in(folder).await
    }

    /// With DebianOS as well, and a mirror from this machine's own apt sources behind
    /// `http://debian.example/debian`. Root trees are kept beside the build's results.
    pub async fn start_with_debian() -> Factory {
        Factory::start_with_debian_and(|_| {}).await
    }

    /// The same with changes to the configuration.
    pub async fn start_with_debian_and(change: impl FnOnce(&mut FactoryConfiguration)) -> Factory {
        let folder = tempfile::Builder::new().prefix("factory-").tempdir().expect("a folder");
        open_passage(folder.path());
        let plugins_d = folder.path().join("plugins.d");
        install_mocks(&plugins_d);
        install_plugin(&plugins_d, "DebianOS", "debian_os");
        let mut configuration = configuration(folder.path());
        configuration.cache_dir = binaries::build_folder().join("debian-cache");
        std::fs::create_dir_all(&configuration.cache_dir).expect("a folder");
        change(&mut configuration);
        Factory::start_configured(folder, configuration).await
    }

    /// Again over what an earlier factory left.
    pub async fn restart(self) -> Factory {
        let Factory { dispatcher, folder } = self;
        dispatcher.shut_down().await;
        drop(dispatcher);
        Factory::start_in(folder).await
    }

    async fn start_in(folder: TempDir) -> Factory {
        let configuration = configuration(folder.path());
        Factory::start_configured(folder, configuration).await
    }

    async fn start_configured(folder: TempDir, configuration: FactoryConfiguration) -> Factory {
        let layout = StoreLayout::create(&configuration.storage_path).expect("a store");
        let store = EmbeddedStore::open(layout.root()).await.expect("records");
        let dispatcher = Dispatcher::open(configuration, Role::Daemon, Arc::new(store), layout)
            .await
            .expect("a factory");
        dispatcher.start().await.expect("it starts");
        Factory { dispatcher, folder }
    }

    /// Where MockCloud keeps its ledger.
    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    /// Orders a base image of [`TDL_MOCK`].
    pub async fn post_base_image(&self, parameters: Value) -> Image {
        let options = OrderOptions {
            parameters: parameters.as_object().cloned(),
            ..OrderOptions::from(TemplateSource::Rest)
        };
        let new = NewBaseImage { template: TDL_MOCK.to_owned(), options };
        self.dispatcher.build_base_image(new).await.expect("it is taken").image
    }

    /// Waits until the image is final, and answers it.
    pub async fn finished(&self, id: Uuid) -> Image {
        self.wait(id, |image| image.status.is_final()).await
    }

    /// The same for work that takes longer than the mock plugins'.
    pub async fn finished_within(&self, id: Uuid, patience: Duration) -> Image {
        self.wait_within(id, patience, |image| image.status.is_final()).await
    }

    /// Waits until the image is as it should be; panics after a minute.
    pub async fn wait(&self, id: Uuid, done: impl Fn(&Image) -> bool) -> Image {
        self.wait_within(id, PATIENCE, done).await
    }

    /// Waits for it so long.
    pub async fn wait_within(
        &self,
        id: Uuid,
        patience: Duration,
        done: impl Fn(&Image) -> bool,
    ) -> Image {
        let mut changes = self.dispatcher.changes().listen();
        let waiting = async {
            loop {
                let image = self.dispatcher.store().image(id).await.expect("a store");
                if let Some(image) = image.filter(|image| done(image)) {
                    return image;
                }
                // Lagging is as good as a change: the store is read again.
                tokio::time::timeout(Duration::from_millis(500), changes.recv()).await.ok();
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(image) => image,
            Err(_) => {
                let image = self.dispatcher.store().image(id).await;
                panic!("not there after {patience:?}: {image:?}");
            }
        }
    }

    /// The lines of MockCloud's ledger.
    pub fn ledger_lines(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.ledger()) else { return Vec::new() };
        let mut lines = Vec::new();
        for entry in entries.flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            lines.extend(text.lines().map(str::to_owned));
        }
        lines
    }
}

/// `mirrors`: the example URL of templates stands for the mirror that this machine's apt uses.
fn mirrors() -> Map<String, Value> {
    let mut settings = Map::new();
    if let Some(mirror) = debian_mirror() {
        let mirrors = serde_json::json!({ "http://debian.example/debian": mirror });
        settings.insert("mirrors".to_owned(), mirrors);
    }
    settings
}

/// The Debian mirror of this machine's apt sources; `None` where it is no Debian.
pub fn debian_mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(more.map(|entry| entry.path()));
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines
        .iter()
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(|line| line.split_whitespace())
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"))
        .map(|word| word.trim_end_matches('/').to_owned())
}

/// A folder that stages of other users may pass through.
pub fn open_passage(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder, mode).expect("its mode can be set");
}

/// MockOS and MockCloud with their own manifests.
pub fn install_mocks(plugins_d: &Path) {
    install_plugin(plugins_d, "MockOS", "mock_os");
    install_plugin(plugins_d, "MockCloud", "mock_cloud");
}

/// One plugin of ours with its own manifest.
pub fn install_plugin(plugins_d: &Path, id: &str, library: &str) {
    let manifest = binaries::workspace().join(format!("plugin-manifests/{id}.json"));
    let library = binaries::plugin_library(library);
    fixture_plugins::install_with_manifest(plugins_d, &manifest, &library);
}

/// The folder of MockCloud's ledger below `folder`, writable for every stage.
pub fn ledger_folder(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let ledger = folder.join("ledger");
    std::fs::create_dir_all(&ledger).expect("a folder");
    std::fs::set_permissions(&ledger, std::fs::Permissions::from_mode(0o777)).expect("a mode");
    // Stages run under changing ids, and a provider is open to all of them.
    let file = ledger.join("ledger");
    if !file.exists() {
        std::fs::write(&file, "").expect("a file");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("a mode");
    }
    ledger
}

/// A configuration that keeps everything below `folder`.
pub fn configuration(folder: &Path) -> FactoryConfiguration {
    let ledger = ledger_folder(folder);
    // SAFETY: geteuid has no preconditions and cannot fail.
    let uid = unsafe { libc::geteuid() };
    let credentials = BTreeMap::from([("mock".to_owned(), "a configured secret".to_owned())]);
    FactoryConfiguration {
        storage_path: folder.join("storage"),
        tmp_dir: folder.join("tmp"),
        cache_dir: folder.join("cache"),
        places: PlaceLimits { local: 4, ..PlaceLimits::default() },
        tdl_require_root_pw: false,
        credentials: NamedCredentials::new(credentials),
        plugin_settings: BTreeMap::new(),
        public_settings: mirrors(),
        plugin_folders: BTreeMap::from([("MockCloud".to_owned(), vec![ledger])]),
        target_content: folder.join("target_content.xml"),
        plugins: SearchPath::new().with_folder(folder.join("plugins.d")).trusting(uid),
        sandbox: SandboxPolicy::default(),
        stage_ids: StageIds::default(),
        supervisor: SupervisorConfig::new(binaries::stage_runner()),
    }
}
