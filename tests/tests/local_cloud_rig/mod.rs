//! A factory with LocalCloud and a folder that it may write, and the judges of what lies there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use imagefactory_dispatch::DispatchError;
use imagefactory_dispatch::dispatcher::{Dispatcher, Role};
use imagefactory_dispatch::requests::{
    CredentialsGiven, Deletion, MadeFrom, NewProviderImage, NewTargetImage, OrderOptions,
};
use imagefactory_model::image::Image;
use imagefactory_model::status::Status;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use imagefactory_store::embedded::EmbeddedStore;
use imagefactory_store::layout::StoreLayout;
use imagefactory_tests::factory::{Factory, TDL_MOCK, configuration, install_mocks, open_passage};
use imagefactory_tests::{binaries, fixture_plugins};
use serde_json::Value;
use uuid::Uuid;

/// How long a deletion may take; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A factory whose plugin LocalCloud may write to one folder.
pub(crate) struct LocalFactory {
    // First, so that it is unmounted before the factory's folder is removed.
    disk: Option<SmallDisk>,
    factory: Factory,
}

impl LocalFactory {
    /// With an empty folder for images.
    pub(crate) async fn start() -> LocalFactory {
        LocalFactory::start_in(new_folder(), None).await
    }

    /// The folder is a file system of this size; `None` = this user may not mount one.
    pub(crate) async fn start_on_small_disk(size: &str) -> Option<LocalFactory> {
        let folder = new_folder();
        let disk = SmallDisk::mount(&writable_folder(folder.path(), "images"), size)?;
        Some(LocalFactory::start_in(folder, Some(disk)).await)
    }

    async fn start_in(folder: tempfile::TempDir, disk: Option<SmallDisk>) -> LocalFactory {
        let plugins_d = folder.path().join("plugins.d");
        install_mocks(&plugins_d);
        let manifest = binaries::workspace().join("plugin-manifests/LocalCloud.json");
        let library = binaries::plugin_library("local_cloud");
        fixture_plugins::install_with_manifest(&plugins_d, &manifest, &library);
        let images = writable_folder(folder.path(), "images");
        let mut configuration = configuration(folder.path());
        configuration.plugin_folders.insert("LocalCloud".to_owned(), vec![images]);
        let layout = StoreLayout::create(&configuration.storage_path).expect("a store");
        let store = EmbeddedStore::open(layout.root()).await.expect("records");
        let dispatcher = Dispatcher::open(configuration, Role::Daemon, Arc::new(store), layout)
            .await
            .expect("a factory");
        dispatcher.start().await.expect("it starts");
        LocalFactory { factory: Factory { dispatcher, folder }, disk }
    }

    /// Everything of the factory lies below it.
    pub(crate) fn folder(&self) -> &Path {
        self.factory.folder.path()
    }

    /// The provider's folder.
    pub(crate) fn images(&self) -> PathBuf {
        self.folder().join("images")
    }

    /// Another folder that everybody may write, and that is not granted.
    pub(crate) fn open_folder(&self, name: &str) -> PathBuf {
        writable_folder(self.folder(), name)
    }

    /// Names in the provider's folder, hidden ones too, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.images()).expect("the folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }

    /// A JSON file in the provider's folder.
    pub(crate) fn read_json(&self, name: &str) -> Value {
        let text = std::fs::read(self.images().join(name)).expect("the file");
        serde_json::from_slice(&text).expect("it is JSON")
    }

    /// Builds all that is needed, pushes, waits for the end.
    pub(crate) async fn push(&self, provider: Value, parameters: Value) -> Image {
        let from = MadeFrom::Template(TDL_MOCK.to_owned());
        let id = self.order(from, provider, parameters).await;
        self.finished(id).await
    }

    /// Orders a push of that target image.
    pub(crate) async fn order_from(
        &self,
        target: Uuid,
        provider: Value,
        parameters: Value,
    ) -> Uuid {
        self.order(MadeFrom::Image(target), provider, parameters).await
    }

    async fn order(&self, from: MadeFrom, provider: Value, parameters: Value) -> Uuid {
        let new = new_provider_image(from, provider, parameters);
        let accepted = self.factory.dispatcher.build_provider_image(new).await;
        accepted.expect("it is taken").image.id
    }

    /// Demands that such an order is not taken, because of this part of it.
    pub(crate) async fn check_refused(&self, provider: Value, parameters: Value, part: &str) {
        let said = format!("{provider} {parameters}");
        let new = new_provider_image(MadeFrom::Template(TDL_MOCK.to_owned()), provider, parameters);
        match self.factory.dispatcher.build_provider_image(new).await {
            Err(DispatchError::Unfit { what, .. }) => assert_eq!(what, part, "{said}"),
            other => panic!("{said}: {other:?}"),
        }
    }

    /// A finished target image.
    pub(crate) async fn target_image(&self, parameters: Value) -> Uuid {
        let new = NewTargetImage {
            target: "local".to_owned(),
            from: MadeFrom::Template(TDL_MOCK.to_owned()),
            options: options(parameters),
        };
        let accepted = self.factory.dispatcher.build_target_image(new).await;
        let image = self.finished(accepted.expect("it is taken").image.id).await;
        assert_eq!(image.status, Status::Complete, "{:?}", image.status_detail);
        image.id
    }

    /// Gives an image's file another size behind the factory's back: a hole at its end, or less.
    pub(crate) fn resize(&self, id: Uuid, bytes: u64) {
        let path = self.body(id);
        let file = std::fs::File::options().write(true).open(path).expect("the body");
        file.set_len(bytes).expect("its size");
    }

    /// The file of an image.
    pub(crate) fn body(&self, id: Uuid) -> String {
        self.factory.dispatcher.bodies().path(id).to_str().expect("a path").to_owned()
    }

    /// The last lines of an image's log.
    pub(crate) fn log(&self, image: &Image) -> String {
        self.factory.dispatcher.logs().tail(image.id, 40).unwrap_or_default().join("\n")
    }

    pub(crate) async fn finished(&self, id: Uuid) -> Image {
        self.factory.finished(id).await
    }

    pub(crate) async fn wait(&self, id: Uuid, done: impl Fn(&Image) -> bool) -> Image {
        self.factory.wait(id, done).await
    }

    pub(crate) async fn cancel(&self, id: Uuid) {
        self.factory.dispatcher.cancel(id).await.expect("it can be cancelled");
    }

    /// Deletes an image and waits until it is gone.
    pub(crate) async fn delete(&self, id: Uuid) {
        let deletion = Deletion {
            id,
            target: None,
            provider: None,
            credentials: CredentialsGiven::Absent,
            callbacks: Vec::new(),
            forget: false,
        };
        self.factory.dispatcher.delete(deletion).await.expect("it is taken");
        let gone = async {
            let mut changes = self.factory.dispatcher.changes().listen();
            while let Some(image) =
                self.factory.dispatcher.store().image(id).await.expect("a store")
            {
                assert_ne!(image.status, Status::DeleteFailed, "{:?}", image.status_detail);
                // Lagging is as good as a change: the store is read again.
                tokio::time::timeout(Duration::from_millis(100), changes.recv()).await.ok();
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("it is deleted");
    }

    pub(crate) async fn shut_down(&self) {
        self.factory.dispatcher.shut_down().await;
    }

    /// Another daemon over what this one left, which was shut down.
    pub(crate) async fn start_again(self) -> LocalFactory {
        let LocalFactory { factory: Factory { dispatcher, folder }, disk } = self;
        drop(dispatcher);
        LocalFactory::start_in(folder, disk).await
    }
}

fn new_provider_image(from: MadeFrom, provider: Value, parameters: Value) -> NewProviderImage {
    NewProviderImage {
        target: "local".to_owned(),
        provider,
        credentials: CredentialsGiven::Absent,
        from,
        options: options(parameters),
    }
}

fn new_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("local-cloud-").tempdir().expect("a folder");
    open_passage(folder.path());
    folder
}

/// Every stage has a user of its own.
fn writable_folder(folder: &Path, name: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let made = folder.join(name);
    std::fs::create_dir_all(&made).expect("a folder");
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o777)).expect("a mode");
    made
}

fn options(parameters: Value) -> OrderOptions {
    OrderOptions {
        parameters: parameters.as_object().cloned(),
        ..OrderOptions::from(TemplateSource::Rest)
    }
}

/// What the user reads.
pub(crate) fn error_of(image: &Image) -> &str {
    image.status_detail.error.as_deref().unwrap_or_default()
}

/// A tmpfs, unmounted when dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        // SAFETY: geteuid has no preconditions and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return None;
        }
        let options = format!("size={size},mode=777");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .status()
            .expect("mount can be started");
        assert!(status.success(), "root may mount a tmpfs");
        Some(SmallDisk { at: at.to_owned() })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a stage that just ends may be there still. A mount that stays is seen by the
        // folder's own removal.
        Command::new("umount").arg("-l").arg(&self.at).status().ok();
    }
}

/// Runs qemu-img; it must succeed.
pub(crate) fn qemu_img(arguments: &[&str]) -> String {
    let output = Command::new("qemu-img").args(arguments).output();
    let output = output.expect("qemu-img of the package qemu-utils can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments:?}: {said}{complaints}");
    said
}

/// What qemu-img says of a file that it is told the format of.
pub(crate) fn qemu_info(format: &str, image: &Path) -> Value {
    let said = qemu_img(&["info", "--output=json", "-f", format, image.to_str().expect("a path")]);
    serde_json::from_str(&said).expect("it is JSON")
}

/// `sha256sum --check` in that folder.
pub(crate) fn sha256sum_check(folder: &Path, file: &str) {
    let status = Command::new("sha256sum")
        .args(["--check", "--strict", "--status", file])
        .current_dir(folder)
        .status()
        .expect("sha256sum can be started");
    assert!(status.success(), "{file} does not fit");
}
