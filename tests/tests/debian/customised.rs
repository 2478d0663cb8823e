//! Target images: what a cloud asks for is added, offline, and everything else stays as it was.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use imagefactory_dispatch::requests::{MadeFrom, NewImport, NewTargetImage, OrderOptions};
use imagefactory_model::image::Image;
use imagefactory_model::status::Status;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use imagefactory_tests::factory::Factory;
use imagefactory_toolkit_disk::ext4::{Entry, Ext4, Ext4Error};
use imagefactory_toolkit_disk::{Partition, partitions};
use serde_json::json;

use super::{BOOKWORM, build, check_complete, is_long_run};

const ADDED: &str = "<template_includes><include target='mock'>\
    <packages><package name='iputils-ping'/></packages></include></template_includes>";

async fn target(factory: &Factory, base: &Image) -> Image {
    let new = NewTargetImage {
        target: "mock".to_owned(),
        from: MadeFrom::Image(base.id),
        options: OrderOptions::from(TemplateSource::Rest),
    };
    let image = factory.dispatcher.build_target_image(new).await.expect("it is taken").image;
    factory.finished_within(image.id, std::time::Duration::from_secs(1800)).await
}

/// What lies in an image.
pub(crate) struct Disk {
    path: PathBuf,
    partitions: Vec<Partition>,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Disk {
    pub(crate) fn of(factory: &Factory, image: &Image) -> Disk {
        let path = factory.dispatcher.bodies().path(image.id);
        let file = File::open(&path).unwrap();
        let partitions = partitions(&file).unwrap();
        let ext4 = Ext4::open(&file, partitions[2].offset_bytes).unwrap();
        let mut entries = BTreeMap::new();
        ext4.walk::<Ext4Error>(|entry| {
            entries.insert(entry.path.clone(), entry.clone());
            Ok(())
        })
        .unwrap();
        Disk { path, partitions, entries }
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.entries.contains_key(Path::new(path))
    }

    fn entry(&self, path: &str) -> &Entry {
        self.entries.get(Path::new(path)).unwrap_or_else(|| panic!("no {path}"))
    }

    pub(crate) fn text(&self, path: &str) -> String {
        let file = File::open(&self.path).unwrap();
        let ext4 = Ext4::open(&file, self.partitions[2].offset_bytes).unwrap();
        let mut text = String::new();
        ext4.content(self.entry(path)).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// e2fsck finds nothing to mend.
    fn check_sound(&self) {
        let at = format!("{}?offset={}", self.path.display(), self.partitions[2].offset_bytes);
        let output = Command::new("e2fsck").args(["-f", "-n", &at]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cloud_asks_for_is_added_and_everything_else_is_as_it_was() {
    if !is_long_run() {
        return;
    }
    let factory = Factory::start_with_debian().await;
    std::fs::write(factory.folder.path().join("target_content.xml"), ADDED).unwrap();
    let base = build(&factory, BOOKWORM, json!({})).await;
    check_complete(&factory, &base);
    let target = target(&factory, &base).await;
    check_complete(&factory, &target);

    let (before, after) = (Disk::of(&factory, &base), Disk::of(&factory, &target));
    after.check_sound();
    assert_eq!(before.partitions, after.partitions);
    // What the operator and MockCloud asked for, as the distribution means it.
    assert_eq!(after.text("etc/mock-cloud"), "mock");
    let ping = after.entry("usr/bin/ping");
    assert_eq!(ping.attributes[0].0, "security.capability", "{ping:?}");
    assert!(!before.has("usr/bin/ping") && !before.has("etc/mock-cloud"));
    assert!(target.icicle.as_deref().is_some_and(|icicle| icicle.contains("iputils-ping-")));
    // What was there has kept owner, mode and attributes, and the rest is no more than was added.
    for (path, old) in &before.entries {
        let Some(new) = after.entries.get(path) else { panic!("{} is gone", path.display()) };
        let of = |entry: &Entry| {
            (entry.kind.clone(), entry.mode, entry.uid, entry.gid, entry.attributes.clone())
        };
        assert_eq!(of(old), of(new), "{}", path.display());
    }
    for leftover in [
        "usr/sbin/update-initramfs.imagefactory",
        "usr/sbin/policy-rc.d",
        "tmp/imagefactory-apt",
        "var/lib/imagefactory-initramfs",
    ] {
        assert!(!after.has(leftover), "{leftover}");
    }
    let lists = |path: &PathBuf| path.starts_with("var/lib/apt/lists") && path.is_file();
    assert!(!after.entries.keys().any(lists));
    assert_eq!(after.text("etc/machine-id"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_image_that_is_laid_out_otherwise_is_refused() {
    if !is_long_run() {
        return;
    }
    let factory = Factory::start_with_debian().await;
    let path = factory.folder.path().join("foreign.raw");
    File::create(&path).unwrap().set_len(8 << 20).unwrap();
    let template = Some(BOOKWORM.to_owned());
    let file = factory.dispatcher.stage_for_import(path).await.unwrap();
    let options = OrderOptions::from(TemplateSource::Rest);
    let new = NewImport { file, format: Some("raw".to_owned()), template, options };
    let base = factory.dispatcher.import_base_image(new).await.unwrap().image;
    let base = factory.finished(base.id).await;
    let target = target(&factory, &base).await;
    assert_eq!(target.status, Status::Failed);
    let error = target.status_detail.error.unwrap_or_default();
    assert!(error.contains("none that DebianOS can add to"), "{error}");
    assert!(error.contains("build the base image from a template"), "{error}");
}
