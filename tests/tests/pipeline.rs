//! Orders through the whole engine with the mock plugins: what becomes of them, and what is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use imagefactory_dispatch::DispatchError;
use imagefactory_dispatch::requests::{
    CredentialsGiven, Deletion, MadeFrom, NewBaseImage, NewProviderImage, NewTargetImage,
    OrderOptions,
};
use imagefactory_model::image::Image;
use imagefactory_model::status::Status;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use imagefactory_store::images::ImageQuery;
use imagefactory_tests::factory::{Factory, TDL_MOCK};
use serde_json::{Value, json};
use uuid::Uuid;

fn options(parameters: Value) -> OrderOptions {
    OrderOptions {
        parameters: parameters.as_object().cloned(),
        ..OrderOptions::from(TemplateSource::Rest)
    }
}

fn error_of(image: &Image) -> &str {
    image.status_detail.error.as_deref().unwrap_or_default()
}

async fn cascade(factory: &Factory, parameters: Value) -> Image {
    let new = NewProviderImage {
        target: "mock".into(),
        provider: json!({"ledger": factory.ledger()}),
        credentials: CredentialsGiven::Inline("<secret>canary-51</secret>".into()),
        from: MadeFrom::Template(TDL_MOCK.into()),
        options: options(parameters),
    };
    factory.dispatcher.build_provider_image(new).await.expect("it is taken").image
}

async fn delete(factory: &Factory, id: Uuid) -> Result<Image, DispatchError> {
    let deletion = Deletion {
        id,
        target: None,
        provider: None,
        credentials: CredentialsGiven::Inline("<secret>canary-51</secret>".into()),
        callbacks: Vec::new(),
        forget: false,
    };
    factory.dispatcher.delete(deletion).await
}

/// Nothing but bodies, records, logs and artefacts may stay when no order is open.
fn check_nothing_left_behind(factory: &Factory) {
    for folder in ["storage/stages", "storage/staging", "storage/vault", "tmp"] {
        let left: Vec<_> = std::fs::read_dir(factory.folder.path().join(folder))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "left behind in {folder}: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_image_is_built_by_the_plugin_that_serves_its_template() {
    let factory = Factory::start().await;
    let image = factory.post_base_image(json!({})).await;
    assert_eq!(image.status, Status::New);
    let image = factory.finished(image.id).await;
    assert_eq!(image.status, Status::Complete, "{:?}", image.status_detail);
    assert_eq!(image.percent_complete, 100);
    assert_eq!(image.status_detail.activity, "Base Image build complete");
    assert!(image.icicle.as_deref().is_some_and(|icicle| icicle.contains("<icicle")));
    let body = image.body.expect("it has a body");
    assert_eq!(body.format, "raw");
    let path = factory.dispatcher.bodies().path(image.id);
    assert_eq!(path.metadata().unwrap().len(), body.bytes);
    assert!(path.with_extension("meta").is_file(), "the .meta file stands beside it");
    factory.dispatcher.shut_down().await;
    check_nothing_left_behind(&factory);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_order_shares_the_body_and_a_fresh_one_does_not() {
    use std::os::unix::fs::MetadataExt;
    let factory = Factory::start().await;
    factory.dispatcher.describe_all().await;
    let inode = |id| factory.dispatcher.bodies().path(id).metadata().unwrap().ino();
    let mut inodes = Vec::new();
    for parameters in [json!({}), json!({}), json!({"fresh": true})] {
        let image = factory.post_base_image(parameters).await;
        let image = factory.finished(image.id).await;
        assert_eq!(image.status, Status::Complete, "{:?}", image.status_detail);
        inodes.push(inode(image.id));
    }
    assert_eq!(inodes[0], inodes[1], "the second is a link to the first");
    assert_ne!(inodes[0], inodes[2], "fresh is built anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_image_by_template_makes_base_and_target_image_too() {
    let factory = Factory::start().await;
    let provider = cascade(&factory, json!({})).await;
    let provider = factory.finished(provider.id).await;
    assert_eq!(provider.status, Status::Complete, "{:?}", provider.status_detail);
    assert!(provider.identifier_on_provider.is_some());
    let target = factory.finished(provider.parent.expect("a target image")).await;
    let base = factory.finished(target.parent.expect("a base image")).await;
    assert_eq!((target.status, base.status), (Status::Complete, Status::Complete));
    let created: Vec<_> =
        factory.ledger_lines().into_iter().filter(|line| line.starts_with("create ")).collect();
    assert_eq!(created.len(), 1, "{created:?}");
    factory.dispatcher.shut_down().await;
    check_nothing_left_behind(&factory);
    check_secret_is_nowhere(factory.folder.path());
}

/// Every file of the factory, however deep.
fn check_secret_is_nowhere(folder: &std::path::Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(content) = std::fs::read(&path) {
                let found = content.windows(9).any(|part| part == b"canary-51");
                assert!(!found, "the secret stands in {}", path.display());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_template_fails_its_image_with_the_parsers_sentence() {
    let factory = Factory::start().await;
    let new = NewBaseImage {
        template: "<template><nome/></template>".into(),
        options: options(json!({})),
    };
    let image = factory.dispatcher.build_base_image(new).await.unwrap().image;
    let image = factory.finished(image.id).await;
    assert_eq!(image.status, Status::Failed);
    assert_eq!(image.status_detail.error_code.as_deref(), Some("user-template"));
    assert!(error_of(&image).contains("nome"), "{}", error_of(&image));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_plugin_fails_its_image_and_those_made_of_it() {
    let factory = Factory::start().await;
    let provider = cascade(&factory, json!({"mock_fail": "the mock is broken"})).await;
    let provider = factory.finished(provider.id).await;
    assert_eq!(provider.status, Status::Failed);
    assert!(error_of(&provider).contains("target image"), "{}", error_of(&provider));
    let all = factory.dispatcher.store().list(ImageQuery::default()).await.unwrap();
    let base = factory.finished(all[0].id).await;
    assert!(error_of(&base).contains("the mock is broken"), "{}", error_of(&base));
    assert_eq!(base.status_detail.error_code.as_deref(), Some("plugin-error"));
    assert_eq!(base.body, None);
    assert!(!factory.dispatcher.bodies().exists(base.id));
    factory.dispatcher.shut_down().await;
    check_nothing_left_behind(&factory);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashing_plugin_fails_its_image_and_nothing_else() {
    let factory = Factory::start().await;
    let bad = factory.post_base_image(json!({"mock_crash": true})).await;
    let good = factory.post_base_image(json!({"fresh": true})).await;
    let bad = factory.finished(bad.id).await;
    let good = factory.finished(good.id).await;
    assert_eq!(bad.status_detail.error_code.as_deref(), Some("plugin-abort"), "{bad:?}");
    assert_eq!(good.status, Status::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retryable_error_is_tried_again_and_an_obstinate_one_given_up() {
    let factory = Factory::start().await;
    let heals = factory.post_base_image(json!({"mock_fail_retryable_times": 1})).await;
    let never = factory.post_base_image(json!({"mock_fail_retryable_times": 9})).await;
    assert_eq!(factory.finished(heals.id).await.status, Status::Complete);
    assert_eq!(factory.finished(never.id).await.status, Status::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_ends_as_failed_with_the_code_cancelled() {
    let factory = Factory::start().await;
    let image =
        factory.post_base_image(json!({"mock_duration_ms": 60_000, "mock_steps": 600})).await;
    factory.wait(image.id, |image| image.percent_complete > 2).await;
    factory.dispatcher.cancel(image.id).await.unwrap();
    let image = factory.finished(image.id).await;
    assert_eq!(image.status, Status::Failed);
    assert_eq!(image.status_detail.error_code.as_deref(), Some("cancelled"), "{image:?}");
    assert_eq!(error_of(&image), "cancelled");
    let again = factory.dispatcher.cancel(image.id).await;
    assert!(matches!(again, Err(DispatchError::NothingToCancel { .. })), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_building_image_ends_the_build_and_leaves_nothing() {
    let factory = Factory::start().await;
    let image =
        factory.post_base_image(json!({"mock_duration_ms": 60_000, "mock_steps": 600})).await;
    factory.wait(image.id, |image| image.percent_complete > 2).await;
    let deleting = delete(&factory, image.id).await.unwrap();
    assert_eq!(deleting.status, Status::Deleting);
    wait_until_gone(&factory, image.id).await;
    factory.dispatcher.shut_down().await;
    check_nothing_left_behind(&factory);
}

async fn wait_until_gone(factory: &Factory, id: Uuid) {
    let gone = async {
        while factory.dispatcher.store().image(id).await.unwrap().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.expect("it is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_provider_image_is_gone_from_its_provider() {
    let factory = Factory::start().await;
    let provider = cascade(&factory, json!({})).await;
    let provider = factory.finished(provider.id).await;
    let parent = provider.parent.unwrap();
    let deleting = delete(&factory, provider.id).await.unwrap();
    assert_eq!(deleting.status, Status::Deleting);
    wait_until_gone(&factory, provider.id).await;
    let lines = factory.ledger_lines();
    assert!(lines.iter().any(|line| line.starts_with("remove ")), "{lines:?}");
    let target = factory.dispatcher.store().image(parent).await.unwrap();
    assert!(target.is_some(), "its parents stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_is_not_deleted() {
    let factory = Factory::start().await;
    let provider = cascade(&factory, json!({"mock_duration_ms": 20_000})).await;
    let refused = delete(&factory, provider.parent.unwrap()).await;
    assert!(matches!(refused, Err(DispatchError::InUse { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_target_is_refused_with_the_targets_there_are() {
    let factory = Factory::start().await;
    let new = NewTargetImage {
        target: "moon".into(),
        from: MadeFrom::Template(TDL_MOCK.into()),
        options: options(json!({})),
    };
    let refused = factory.dispatcher.build_target_image(new).await.unwrap_err();
    assert!(refused.to_string().contains("mocksphere"), "{refused}");
    let all = factory.dispatcher.store().list(ImageQuery::default()).await.unwrap();
    assert!(all.is_empty(), "a refused order leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_leaves_orders_open_and_a_restart_finishes_them() {
    let factory = Factory::start().await;
    let provider = cascade(&factory, json!({"mock_duration_ms": 1500, "mock_steps": 30})).await;
    factory.wait(provider.parent.unwrap(), |_| true).await;
    let all = factory.dispatcher.store().list(ImageQuery::default()).await.unwrap();
    factory.wait(all[0].id, |image| image.percent_complete > 5).await;
    let factory = factory.restart().await;
    let provider = factory.finished(provider.id).await;
    assert_eq!(provider.status, Status::Complete, "{:?}", provider.status_detail);
    let base = factory.finished(all[0].id).await;
    assert!(base.attempt >= 2, "attempt {}", base.attempt);
    factory.dispatcher.shut_down().await;
    check_nothing_left_behind(&factory);
}
