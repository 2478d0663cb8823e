//! Debian images, really built and really booted, through the whole engine.
//!
//! The first build takes a minute of work; all others find its root tree in the plugin's cache.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod customised;
mod refused;
mod repository;
mod sources;

use imagefactory_dispatch::requests::{NewBaseImage, OrderOptions};
use imagefactory_model::image::Image;
use imagefactory_model::status::Status;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use imagefactory_tests::factory::Factory;
use serde_json::{Value, json};

const BOOKWORM: &str = "<template><name>bookworm</name><os><name>Debian</name>\
    <version>12</version><arch>x86_64</arch>\
    <install type='url'><url>http://debian.example/debian</url></install>\
    <rootpw>changeme</rootpw></os>\
    <packages><package name='less'/></packages>\
    <files><file name='/etc/motd'>made by a test</file></files>\
    <commands><command name='mark'>echo marked > /etc/marked</command></commands></template>";

/// Is this the long run? Says so where it is not.
fn is_long_run() -> bool {
    let long = std::env::var_os("IMAGEFACTORY_TEST_LONG").is_some();
    if !long {
        eprintln!("skipped: IMAGEFACTORY_TEST_LONG=1 runs it");
    }
    long
}

async fn build(factory: &Factory, template: &str, parameters: Value) -> Image {
    let options = OrderOptions {
        parameters: parameters.as_object().cloned(),
        ..OrderOptions::from(TemplateSource::Rest)
    };
    let new = NewBaseImage { template: template.to_owned(), options };
    let image = factory.dispatcher.build_base_image(new).await.expect("it is taken").image;
    factory.finished_within(image.id, std::time::Duration::from_secs(1800)).await
}

fn check_complete(factory: &Factory, image: &Image) {
    let log = factory.dispatcher.logs().tail(image.id, 60).unwrap_or_default().join("\n");
    assert_eq!(image.status, Status::Complete, "{:?}\n{log}", image.status_detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debian_12_image_is_built_without_root_boots_and_is_the_same_each_time() {
    let factory = Factory::start_with_debian().await;
    factory.dispatcher.describe_all().await;
    let booted = build(&factory, BOOKWORM, json!({"boot_test": true})).await;
    check_complete(&factory, &booted);
    let verified = &booted.properties["verified"];
    assert_eq!(verified["ok"], true, "{verified}");
    assert!(booted.icicle.as_deref().is_some_and(|icicle| icicle.contains("less-")));
    let artifacts = factory.dispatcher.store().artifacts(booted.id).await.unwrap();
    let names: Vec<_> = artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    let expected = ["sbom.cdx.json", "sbom.spdx.json", "screenshot-bios.png", "serial-bios.log"];
    assert_eq!(names, expected);

    let again = build(
        &factory,
        BOOKWORM,
        json!({"fresh": true, "boot_test": true, "boot_firmware": "uefi"}),
    )
    .await;
    check_complete(&factory, &again);
    let digest = |image: &Image| image.body.as_ref().map(|body| body.sha256.clone());
    assert_eq!(digest(&booted), digest(&again), "two builds of one template");

    let shared = build(&factory, BOOKWORM, json!({})).await;
    check_complete(&factory, &shared);
    assert_eq!(digest(&booted), digest(&shared));
    assert!(shared.properties.contains_key("shared_with"), "{:?}", shared.properties);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_does_not_exist_fails_the_image_with_its_name() {
    let factory = Factory::start_with_debian().await;
    let template = BOOKWORM.replace("'less'", "'no-such-package-anywhere'");
    let image = build(&factory, &template, json!({})).await;
    assert_eq!(image.status, Status::Failed);
    let error = image.status_detail.error.unwrap_or_default();
    assert!(error.contains("no-such-package-anywhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_and_a_small_disk_are_the_templates_fault() {
    let factory = Factory::start_with_debian().await;
    for (template, says) in [
        (BOOKWORM.replace("<version>12", "<version>99"), "11, 12, 13"),
        (BOOKWORM.replace("</os>", "</os><disk><size>5 MiB</size></disk>"), "too small"),
    ] {
        let image = build(&factory, &template, json!({})).await;
        assert_eq!(image.status, Status::Failed);
        let error = image.status_detail.error.unwrap_or_default();
        assert!(error.contains(says), "{error}");
    }
}
