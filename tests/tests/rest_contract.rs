//! The rules that all addresses share, and the shape of every answer, held by goldens.
//!
//! `UPDATE_GOLDEN=1` renews `tests/goldens/rest/*.json`; ids, times and addresses are named there,
//! so that a golden shows which id stands where.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::collections::BTreeMap;

use imagefactory_tests::binaries;
use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

/// Replaces what differs from run to run by names, in the order of appearance.
struct Names {
    ids: BTreeMap<String, String>,
    authority: String,
    folder: String,
}

impl Names {
    fn of(daemon: &Daemon) -> Names {
        let folder = daemon.folder.path().to_string_lossy().into_owned();
        Names { ids: BTreeMap::new(), authority: daemon.authority().to_owned(), folder }
    }

    fn named(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(values) => values.iter().map(|value| self.named(value)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| match name.as_str() {
                    "created_at" | "finished_at" if value.is_string() => {
                        (name.clone(), "TIME".into())
                    }
                    _ => (name.clone(), self.named(value)),
                })
                .collect(),
            other => other.clone(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let mut named = text.replace(&self.authority, "HOST").replace(&self.folder, "FOLDER");
        let mut at = 0;
        while let Some(id) = named.get(at..at + 36).map(str::to_owned).or_else(|| {
            // Past the end, or in the middle of a character.
            (at + 36 <= named.len()).then(String::new)
        }) {
            if Uuid::try_parse(&id).is_ok() {
                let next = format!("ID-{}", self.ids.len() + 1);
                let name = self.ids.entry(id).or_insert(next).clone();
                named.replace_range(at..at + 36, &name);
            }
            at += 1;
        }
        named
    }
}

fn check_golden(name: &str, found: &Value, names: &mut Names) {
    let path = binaries::workspace().join(format!("tests/goldens/rest/{name}.json"));
    let mut found = serde_json::to_string_pretty(&names.named(found)).unwrap();
    found.push('\n');
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{name}.json differs; UPDATE_GOLDEN=1 renews it");
}

async fn problem(response: Response, status: u16) -> Value {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let document: Value = response.json().await.unwrap();
    assert_eq!(document["status"], status);
    assert!(document["title"].is_string() && document["detail"].is_string(), "{document}");
    document
}

async fn cascade(daemon: &Daemon) -> Value {
    let body = json!({"provider_image": {
        "target": "mock",
        "provider": {"ledger": daemon.ledger()},
        "credentials": "<secret>canary-77</secret>",
        "template": TDL_MOCK,
    }});
    daemon.order("/imagefactory/provider_images", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_its_name() {
    let daemon = Daemon::start();
    let mut names = Names::of(&daemon);
    check_golden("api", &daemon.get_json("/imagefactory").await, &mut names);
    check_golden("empty_list", &daemon.get_json("/imagefactory/base_images").await, &mut names);
    check_golden("jeos", &daemon.get_json("/imagefactory/jeos").await, &mut names);
    check_golden("jeos_images", &daemon.get_json("/imagefactory/jeos/images").await, &mut names);
    check_golden("targets", &daemon.get_json("/imagefactory/targets").await, &mut names);
    check_golden("target", &daemon.get_json("/imagefactory/targets/mock").await, &mut names);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cascade_is_answered_as_the_contract_prints_it() {
    let daemon = Daemon::start();
    let mut names = Names::of(&daemon);
    let new = cascade(&daemon).await;
    check_golden("provider_image_new", &new, &mut names);
    let provider = new["id"].as_str().unwrap();
    let shown = daemon.finished(provider).await;
    assert_eq!(shown["status"], "COMPLETE", "{shown}");
    check_golden("provider_image", &shown, &mut names);
    let target = shown["target_image_id"].as_str().unwrap();
    let target = daemon.get_json(&format!("/imagefactory/target_images/{target}")).await;
    check_golden("target_image", &target, &mut names);
    let base = target["target_image"]["base_image_id"].as_str().unwrap();
    let base = daemon.get_json(&format!("/imagefactory/base_images/{base}")).await;
    check_golden("base_image", &base, &mut names);
    for collection in ["base_images", "target_images", "provider_images"] {
        let list = daemon.get_json(&format!("/imagefactory/{collection}")).await;
        check_golden(collection, &list, &mut names);
    }
    for document in [&new, &shown, &target, &base] {
        assert!(!document.to_string().contains("canary"), "a secret came back");
    }
    assert!(!daemon.log().contains("canary"), "a secret is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_place_of_an_image_answers_and_wrong_parents_do_not() {
    let daemon = Daemon::start();
    let provider = cascade(&daemon).await;
    let provider = daemon.finished(provider["id"].as_str().unwrap()).await;
    let p = provider["id"].as_str().unwrap();
    let t = provider["target_image_id"].as_str().unwrap();
    let target = daemon.image(t).await.unwrap();
    let b = target["base_image_id"].as_str().unwrap();
    let other = Uuid::new_v4();
    for path in [
        format!("base_images/{b}"),
        format!("target_images/{t}"),
        format!("provider_images/{p}"),
        format!("base_images/{b}/target_images/{t}"),
        format!("target_images/{t}/provider_images/{p}"),
        format!("base_images/{b}/target_images/{t}/provider_images/{p}"),
        format!("base_images/{}", b.to_uppercase()),
    ] {
        let document = daemon.get_json(&format!("/imagefactory/{path}")).await;
        let image = document.as_object().unwrap().values().next().unwrap();
        let href = image["href"].as_str().unwrap();
        assert_eq!(href, format!("{}/imagefactory/{}", daemon.url(), path.to_lowercase()));
        // What an answer links to can be fetched.
        for link in links(&document) {
            let response = daemon.client.get(&link).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{link}");
        }
    }
    for path in [
        format!("base_images/{t}"),
        format!("target_images/{p}"),
        format!("provider_images/{b}"),
        format!("base_images/{other}/target_images/{t}"),
        format!("target_images/{other}/provider_images/{p}"),
        format!("base_images/{other}/target_images/{t}/provider_images/{p}"),
        format!("base_images/{b}/target_images/{other}/provider_images/{p}"),
        "base_images/nonsense".to_owned(),
        format!("base_images/{{{b}}}"),
        format!("base_images/%2e%2e%2fbase_images%2f{b}"),
    ] {
        problem(daemon.get(&format!("/imagefactory/{path}")).await, 404).await;
    }
    for (path, images) in [
        (format!("base_images/{b}/target_images"), 1),
        (format!("target_images/{t}/provider_images"), 1),
        (format!("base_images/{b}/target_images/{t}/provider_images"), 1),
        (format!("base_images/{other}/target_images"), 0),
        ("base_images/nonsense/target_images".to_owned(), 0),
        (format!("target_images/{other}/provider_images"), 0),
        (format!("base_images/{other}/target_images/{t}/provider_images"), 0),
    ] {
        let document = daemon.get_json(&format!("/imagefactory/{path}")).await;
        let list = document.as_object().unwrap().values().next().unwrap().as_array().unwrap();
        assert_eq!(list.len(), images, "{path}: {document}");
    }
}

fn links(document: &Value) -> Vec<String> {
    match document {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match (name.as_str(), value) {
                ("href", Value::String(href)) => vec![href.clone()],
                _ => links(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(links).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_oldest_first_and_can_be_paged() {
    let daemon = Daemon::start();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let image = daemon.post_base_image(json!({})).await;
        ids.push(image["id"].as_str().unwrap().to_owned());
    }
    for id in &ids {
        daemon.finished(id).await;
    }
    let list = |document: &Value| -> Vec<String> {
        let entries = document["base_images"].as_array().unwrap().iter();
        entries.map(|entry| entry["base_image"]["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = daemon.get_json("/imagefactory/base_images?unknown=x").await;
    assert_eq!(list(&all), ids);
    let href = all["base_images"][0]["base_image"]["href"].as_str().unwrap();
    assert!(!href.contains('?'), "{href}");
    let mut next =
        Some(format!("{}/imagefactory/base_images?limit=2&status=COMPLETE", daemon.url()));
    let mut paged = Vec::new();
    while let Some(url) = next {
        let response = daemon.client.get(&url).send().await.unwrap();
        next = response.headers().get("link").map(|link| {
            let link = link.to_str().unwrap();
            assert!(link.ends_with("; rel=\"next\""), "{link}");
            link[1..link.find('>').unwrap()].to_owned()
        });
        let page: Value = response.json().await.unwrap();
        assert!(list(&page).len() <= 2);
        paged.extend(list(&page));
    }
    assert_eq!(paged, ids);
    let failed = daemon.get_json("/imagefactory/base_images?status=FAILED").await;
    assert_eq!(list(&failed), Vec::<String>::new());
    for query in ["limit=0", "limit=x", "status=DONE", "after=x"] {
        problem(daemon.get(&format!("/imagefactory/base_images?{query}")).await, 400).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_slashes_head_and_accept_follow_the_common_rules() {
    let daemon = Daemon::start();
    let refused = daemon.request(Method::PUT, "/imagefactory/base_images").send().await.unwrap();
    assert_eq!(refused.headers()["allow"], "GET, HEAD, POST");
    problem(refused, 405).await;
    let refused = daemon.request(Method::OPTIONS, "/imagefactory/plugins").send().await.unwrap();
    assert_eq!(refused.headers()["allow"], "GET, HEAD");
    problem(refused, 405).await;
    problem(daemon.get("/imagefactory/nothing").await, 404).await;
    problem(daemon.get("/imagefactory/base_images/../../etc/passwd").await, 404).await;
    assert_eq!(daemon.get("/imagefactory/plugins///").await.status(), StatusCode::OK);
    // The listing changes until every plugin is described.
    let described = async {
        while daemon.get_json("/imagefactory/plugins").await.to_string().contains("\"active\":null")
        {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, described).await.expect("the plugins are described in time");
    for path in ["/imagefactory", "/imagefactory/plugins", "/metrics", "/healthz", "/"] {
        let got = daemon.get(path).await;
        let head = daemon.request(Method::HEAD, path).send().await.unwrap();
        assert_eq!(head.status(), got.status(), "HEAD {path}");
        assert_eq!(head.headers()["content-type"], got.headers()["content-type"]);
        if path != "/metrics" {
            let length = |response: &Response| response.headers()["content-length"].clone();
            assert_eq!(length(&head), length(&got), "HEAD {path}");
        }
        assert!(head.bytes().await.unwrap().is_empty());
    }
    for (accept, status) in [
        ("application/json", 200),
        ("application/xml", 200),
        ("xml", 200),
        ("text/html, */*;q=0.1", 200),
        ("text/html", 406),
        ("image/png", 406),
    ] {
        let asked = daemon.request(Method::GET, "/imagefactory").header("accept", accept);
        assert_eq!(asked.send().await.unwrap().status().as_u16(), status, "{accept}");
    }
    let page = daemon.request(Method::GET, "/").header("accept", "text/html").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_hosts_and_foreign_pages_are_kept_out_without_oauth() {
    let daemon = Setup::default().with("server_names", json!(["factory.example"])).start();
    for (host, status) in [
        ("127.0.0.1", 200),
        ("[::1]:8075", 200),
        ("localhost:1", 200),
        ("factory.example", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
    ] {
        let asked = daemon.request(Method::GET, "/imagefactory").header("host", host);
        assert_eq!(asked.send().await.unwrap().status().as_u16(), status, "{host}");
    }
    let own = daemon.url().to_owned();
    for (header, value, status) in [
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-origin", 400),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", own.as_str(), 400),
    ] {
        // An empty order: 400 where it is let in.
        let asked = daemon.request(Method::POST, "/imagefactory/base_images").header(header, value);
        assert_eq!(asked.send().await.unwrap().status().as_u16(), status, "{header}: {value}");
        let read = daemon.request(Method::GET, "/imagefactory/plugins").header(header, value);
        assert_eq!(read.send().await.unwrap().status().as_u16(), 200, "reading is harmless");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_carry_the_requests_id_and_forwarded_addresses_only_from_a_trusted_proxy() {
    let proxied = |daemon: &Daemon| {
        daemon
            .request(Method::GET, "/imagefactory/plugins/MockOS")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "localhost")
            .header("x-request-id", "a-1")
    };
    let daemon = Daemon::start();
    let response = proxied(&daemon).send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "a-1");
    let plugin: Value = response.json().await.unwrap();
    assert_eq!(plugin["href"], format!("{}/imagefactory/plugins/MockOS", daemon.url()));
    let daemon = Setup::default().with("trusted_proxies", json!(["127.0.0.1"])).start();
    let plugin: Value = proxied(&daemon).send().await.unwrap().json().await.unwrap();
    assert_eq!(plugin["href"], "https://localhost/imagefactory/plugins/MockOS");
    let own = daemon.get("/imagefactory").await;
    assert!(!own.headers()["x-request-id"].is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_listed_with_what_they_serve_and_why_they_do_not() {
    let setup = Setup::default();
    let daemon = setup.start();
    daemon.wait_for_log("active plugin=MockCloud");
    daemon.wait_for_log("active plugin=MockOS");
    let mut names = Names::of(&daemon);
    let list = daemon.get_json("/imagefactory/plugins").await;
    check_golden("plugins", &list, &mut names);
    let one = daemon.get_json("/imagefactory/plugins/MockOS").await;
    assert_eq!(one, list["plugins"][1]);
    assert_eq!(daemon.get_json("/imagefactory/plugins/MockOS/MockOS").await, one);
    problem(daemon.get("/imagefactory/plugins/MockOS/MockCloud").await, 404).await;
    problem(daemon.get("/imagefactory/plugins/NoSuch").await, 404).await;
    let broken = daemon.folder.path().join("plugins.d/Broken.json");
    std::fs::write(&broken, "{").unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("reloaded");
    let broken = daemon.get_json("/imagefactory/plugins/Broken").await;
    assert_eq!(broken["active"], false);
    assert!(broken["ERROR"].as_str().is_some_and(|why| !why.is_empty()), "{broken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_is_served() {
    let daemon = Daemon::start();
    let document = daemon.get_json("/imagefactory/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/imagefactory/base_images"]["post"].is_object());
}
