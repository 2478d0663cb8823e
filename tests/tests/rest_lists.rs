//! Lists that are longer than a page of the store: sent in pieces, whole, in order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::sync::LazyLock;

use imagefactory_model::image::Image;
use imagefactory_model::order::{Order, OrderKind, Submission};
use imagefactory_store::embedded::EmbeddedStore;
use imagefactory_store::images::Images;
use imagefactory_store::orders::Orders;
use imagefactory_tests::daemon::Daemon;
use reqwest::Method;
use serde_json::Value;

/// Two pages and a half.
const IMAGES: usize = 2500;

static BASE: LazyLock<String> = LazyLock::new(|| "/imagefactory/base_images".to_owned());

/// Images of another process, all at once; answers their ids.
async fn fill(daemon: &Daemon, count: usize) -> Vec<String> {
    let store = EmbeddedStore::open(&daemon.storage()).await.unwrap();
    let images: Vec<Image> =
        (0..count).map(|_| Image::new_base("<template/>".into(), None)).collect();
    let ids = images.iter().map(|image| image.id.to_string()).collect();
    // About an image that is not there: whoever adopts it has nothing to do.
    let order = Order::new(uuid::Uuid::new_v4(), OrderKind::Build);
    let closes = order.id;
    let submission = Submission { images, orders: vec![order], idempotency: None };
    store.submit(submission).await.unwrap();
    Orders::close(&store, closes).await.unwrap();
    store.close().await;
    ids
}

fn ids(list: &Value) -> Vec<String> {
    let entries = list["base_images"].as_array().unwrap();
    let id = |entry: &Value| entry["base_image"]["id"].as_str().unwrap().to_owned();
    entries.iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_sent_in_pieces_and_is_whole() {
    let daemon = Daemon::start();
    let stored = fill(&daemon, IMAGES).await;
    let response = daemon.get(&BASE).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(!response.headers().contains_key("content-length"), "it is not known yet");
    assert!(!response.headers().contains_key("link"));
    let list: Value = response.json().await.unwrap();
    assert_eq!(ids(&list), stored);
    let href = list["base_images"][7]["base_image"]["href"].as_str().unwrap();
    assert_eq!(href, format!("{}{}/{}", daemon.url(), *BASE, stored[7]));

    let head = daemon.request(Method::HEAD, &BASE).send().await.unwrap();
    assert_eq!(head.status().as_u16(), 200);
    assert_eq!(head.headers()["content-type"], "application/json");
    assert_eq!(head.bytes().await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_pages_follow_one_another_to_the_end() {
    let daemon = Daemon::start();
    let stored = fill(&daemon, IMAGES).await;
    let mut seen = Vec::new();
    let mut sizes = Vec::new();
    let mut next = Some(format!("{}?limit=1200", *BASE));
    while let Some(path) = next {
        let response = daemon.get(&path).await;
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| {
            let url = link.split(['<', '>']).nth(1).unwrap();
            url.strip_prefix(daemon.url()).unwrap().to_owned()
        });
        let page = ids(&response.json().await.unwrap());
        sizes.push(page.len());
        seen.extend(page);
    }
    assert_eq!(sizes, [1200, 1200, 100]);
    assert_eq!(seen, stored);
    // A page that fits exactly has nothing behind it.
    let exact = daemon.get(&format!("{}?limit={IMAGES}", *BASE)).await;
    assert!(!exact.headers().contains_key("link"));
    assert_eq!(ids(&exact.json().await.unwrap()), stored);
    let short = daemon.get(&format!("{}?limit=1000", *BASE)).await;
    assert!(short.headers().contains_key("link") && short.headers().contains_key("content-length"));
    assert_eq!(ids(&short.json().await.unwrap()), stored[..1000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_another_process_changes_is_answered_as_it_is_now() {
    let daemon = Daemon::start();
    let stored = fill(&daemon, 2).await;
    let path = format!("{}/{}", *BASE, stored[0]);
    let store = EmbeddedStore::open(&daemon.storage()).await.unwrap();
    for percent in 1..30_u8 {
        assert_eq!(daemon.get(&path).await.status().as_u16(), 200, "kept from now on");
        let step = imagefactory_store::images::ImageStep {
            percent_complete: Some(percent),
            ..Default::default()
        };
        store.step(stored[0].parse().unwrap(), step).await.unwrap();
        let image = daemon.image(&stored[0]).await.unwrap();
        assert_eq!(image["percent_complete"], percent);
    }
    store.forget(stored[0].parse().unwrap()).await.unwrap();
    assert_eq!(daemon.get(&path).await.status().as_u16(), 404);
}
