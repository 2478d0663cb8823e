//! The examples of the REST document, sent as printed there by HTTPie (its own client) and by curl.
//!
//! `tests/clients/document` holds each printed body and answer. Two prints were broken and are
//! mended as little as possible: the provider example's parameters stand in the body, because a
//! shell would take its `&`, and so its PEM has raw `+` in a form; and the last plugin's answer had
//! a stray bracket. Every key that is printed must be answered at its place with the same value;
//! what differs by nature (ids, hosts, versions, other plugins) must be of the same kind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod clients_rig;

use std::path::Path;

use clients_rig::{PATIENCE, Ran, documents_daemon, run, text};
use imagefactory_tests::daemon::Daemon;
use serde_json::Value;

/// The two programs.
#[derive(Debug, Clone, Copy)]
enum Client {
    HttPie,
    Curl,
}

/// One example.
struct Example<'a> {
    method: &'a str,
    path: String,
    /// HTTPie's own words: `-f`, or a header.
    media_type: Option<&'a str>,
    body: String,
}

/// What came back.
struct Answered {
    status: String,
    content_type: String,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        assert_eq!(self.content_type, "application/json", "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }
}

fn get(path: String) -> Example<'static> {
    Example { method: "GET", path, media_type: None, body: String::new() }
}

fn send(client: Client, daemon: &Daemon, example: &Example<'_>) -> Answered {
    let url = format!("{}/imagefactory{}", daemon.url(), example.path);
    let ran = match client {
        Client::HttPie => httpie(&url, example),
        Client::Curl => curl(&url, example),
    };
    assert!(ran.success, "{client:?} {url}: {}{}", ran.stdout, ran.stderr);
    let stdout = ran.stdout.replace("\r\n", "\n");
    let (head, body) = stdout.split_once("\n\n").unwrap_or((&stdout, ""));
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or(String::new(), |(_, value)| value.to_owned())
    };
    let status = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    Answered { status, content_type: header("content-type"), body: body.to_owned() }
}

fn httpie(url: &str, example: &Example<'_>) -> Ran {
    let mut arguments = vec!["--print=hb", "--pretty=none"];
    let header = example.media_type.map(|media_type| format!("Content-Type:{media_type}"));
    let is_form = example.media_type == Some("application/x-www-form-urlencoded");
    arguments.extend(is_form.then_some("-f"));
    arguments.extend(example.body.is_empty().then_some("--ignore-stdin"));
    arguments.extend((example.method != "GET").then_some(example.method));
    arguments.push(url);
    arguments.extend(header.as_deref().filter(|_| !is_form));
    run(Path::new("http"), &arguments, &example.body, PATIENCE)
}

fn curl(url: &str, example: &Example<'_>) -> Ran {
    let mut arguments = vec!["--silent", "--show-error", "--include", "--request", example.method];
    let json = "application/json";
    let header = format!("Content-Type: {}", example.media_type.unwrap_or(json));
    if !example.body.is_empty() {
        arguments.extend(["--data-binary", "@-", "--header", &header]);
    }
    arguments.push(url);
    run(Path::new("curl"), &arguments, &example.body, PATIENCE)
}

/// Everything that is printed must be found at its place. `differing`: paths of values that are
/// only compared by kind.
fn check_covers(found: &Value, printed: &Value, differing: &[&str], at: &str) {
    if differing.contains(&at) {
        let same_kind = std::mem::discriminant(found) == std::mem::discriminant(printed);
        assert!(same_kind || found.is_null() || printed.is_null(), "{at}: {found}, not {printed}");
        return;
    }
    match (found, printed) {
        (Value::Object(found), Value::Object(printed)) => {
            for (name, value) in printed {
                let at = format!("{at}.{name}");
                let found = found.get(name).unwrap_or_else(|| panic!("{at} is missing"));
                check_covers(found, value, differing, &at);
            }
        }
        (Value::Array(found), Value::Array(printed)) => {
            assert_eq!(found.len(), printed.len(), "{at}");
            for (found, printed) in found.iter().zip(printed) {
                check_covers(found, printed, differing, &format!("{at}[]"));
            }
        }
        _ => assert_eq!(found, printed, "{at}"),
    }
}

/// The printed answer with the ids and the host of this run.
fn printed(name: &str, daemon: &Daemon, ids: &[(&str, &str)]) -> Value {
    let mut answer = text(&format!("document/{name}.answer.json"));
    answer = answer.replace("f17.vm.private:8075", daemon.authority());
    for (printed, ours) in ids {
        answer = answer.replace(printed, ours);
    }
    serde_json::from_str(&answer).unwrap()
}

fn new_image(answered: &Answered, kind: &str) -> (Value, String) {
    assert_eq!(answered.status, "202", "{}", answered.body);
    let document = answered.json();
    let id = document[kind]["id"].as_str().unwrap().to_owned();
    (document, id)
}

/// Base image, target image and provider image, each from the one before, as the document tells it.
async fn the_documents_journey(client: Client) {
    let (daemon, _plugins) = documents_daemon();
    let found = send(client, &daemon, &get(String::new()));
    let api = printed("api_information", &daemon, &[]);
    check_covers(&found.json(), &api, &[".version"], "");

    let mut example = Example {
        method: "POST",
        path: "/base_images".to_owned(),
        media_type: None,
        body: text("document/base_image.request"),
    };
    let (found, base) = new_image(&send(client, &daemon, &example), "base_image");
    let base_id = "7df54954-4b95-4061-85f2-8598f326107e";
    let wanted = printed("base_image", &daemon, &[(base_id, &base)]);
    // "Initializing image prior to Cloud/OS customization" included.
    check_covers(&found, &wanted, &[], "");
    let base_image = daemon.finished(&base).await;
    assert_eq!(base_image["status"], "COMPLETE", "{base_image}");

    example.path = format!("/base_images/{base}/target_images");
    example.media_type = Some("application/xml");
    example.body = text("document/target_image.request");
    let (found, target) = new_image(&send(client, &daemon, &example), "target_image");
    let target_id = "333122dc-43c4-4f3f-b689-6dcd96bdfebe";
    let wanted = printed("target_image", &daemon, &[(base_id, &base), (target_id, &target)]);
    check_covers(&found, &wanted, &[], "");
    let target_image = daemon.finished(&target).await;
    assert_eq!(target_image["status"], "COMPLETE", "{target_image}");

    example.path = format!("/base_images/{base}/target_images/{target}/provider_images");
    example.media_type = Some("application/x-www-form-urlencoded");
    example.body = text("document/provider_image.request");
    let (found, provider) = new_image(&send(client, &daemon, &example), "provider_image");
    let ids = [
        ("c55674e1-c5b6-4cc9-b471-5fdc2ff095fc", base.as_str()),
        ("208a3c18-8609-4441-9230-4a278660240e", target.as_str()),
        ("03957dc3-a51b-41af-af3d-8544f4fa2b47", provider.as_str()),
    ];
    let wanted = printed("provider_image", &daemon, &ids);
    // Another template in the print than in the base image that it names.
    check_covers(&found, &wanted, &[".provider_image.template"], "");
    let provider_image = daemon.finished(&provider).await;
    assert_eq!(provider_image["status"], "COMPLETE", "{provider_image}");
    assert!(!provider_image.to_string().contains("asdHGK46783HGAlasdfc12FjerIe7g"));

    check_inspection(client, &daemon, &base);
    check_list_of_two(client, &daemon, &target).await;
    check_deletion(client, &daemon, &provider).await;
}

fn check_inspection(client: Client, daemon: &Daemon, base: &str) {
    let found = send(client, daemon, &get(format!("/base_images/{base}"))).json();
    let wanted = printed("inspection", daemon, &[("c55674e1-c5b6-4cc9-b471-5fdc2ff095fc", base)]);
    // Printed of another build: its template, its libvirt XML, which the original put among the
    // parameters, its activity, no ICICLE, its children, and the percentage that the original left
    // at 0.
    let differing = [
        ".base_image.template",
        ".base_image.parameters",
        ".base_image.icicle",
        ".base_image.percent_complete",
        ".base_image.status_detail.activity",
        ".base_image.target_images.target_images",
    ];
    check_covers(&found, &wanted, &differing, "");
    assert_eq!(found["base_image"]["percent_complete"], 100);
}

async fn check_list_of_two(client: Client, daemon: &Daemon, first: &str) {
    let base = daemon.image(first).await.unwrap()["base_image_id"].clone();
    let order = serde_json::json!({"target_image": {"target": "ec2", "base_image_id": base}});
    let second = daemon.order("/imagefactory/target_images", &order).await;
    let second = second["id"].as_str().unwrap();
    daemon.finished(second).await;
    let found = send(client, daemon, &get("/target_images".to_owned()));
    assert_eq!(found.status, "200");
    let ids = [
        ("208a3c18-8609-4441-9230-4a278660240e", first),
        ("95ce7283-b3ad-4e15-acc0-e1adcb063cc1", second),
    ];
    // Not a word more, not a word less.
    assert_eq!(found.json(), printed("list", daemon, &ids));
}

async fn check_deletion(client: Client, daemon: &Daemon, provider: &str) {
    let path = format!("/provider_images/{provider}");
    let example = Example { method: "DELETE", path, media_type: None, body: String::new() };
    let answered = send(client, daemon, &example);
    assert_eq!((answered.status.as_str(), answered.body.trim()), ("204", ""));
    daemon.gone(provider).await;
}

fn check_plugins(client: Client) {
    let (daemon, _plugins) = documents_daemon();
    daemon.wait_for_log("active plugin=MockCloud");
    daemon.wait_for_log("active plugin=MockOS");
    let found = send(client, &daemon, &get("/plugins".to_owned())).json();
    let mut wanted =
        printed("plugins", &daemon, &[("FedoraOS", "MockOS"), ("EC2Cloud", "MockCloud")]);
    // Printed in no order; ours is by id, as an order must be something.
    wanted["plugins"].as_array_mut().unwrap().reverse();
    let differing = [
        ".plugins[].description",
        ".plugins[].license",
        ".plugins[].maintainer.email",
        ".plugins[].maintainer.name",
        ".plugins[].maintainer.url",
        ".plugins[].targets",
        ".plugins[].version",
    ];
    check_covers(&found, &wanted, &differing, "");
    for plugin in found["plugins"].as_array().unwrap() {
        assert!(plugin["targets"].as_array().unwrap().iter().all(Value::is_array), "{plugin}");
    }
    // The document prints an address that it doubled itself; both are answered.
    for path in ["/plugins/MockCloud", "/plugins/MockCloud/MockCloud"] {
        let found = send(client, &daemon, &get(path.to_owned())).json();
        let ids = [("OpenStackCloud/OpenStackCloud", "MockCloud"), ("OpenStackCloud", "MockCloud")];
        let differing = [".description", ".license", ".maintainer", ".targets", ".version"];
        check_covers(&found, &printed("plugin", &daemon, &ids), &differing, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_examples_run_with_httpie_as_they_are_printed() {
    the_documents_journey(Client::HttPie).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_examples_run_with_curl() {
    the_documents_journey(Client::Curl).await;
}

#[test]
fn plugins_are_answered_to_httpie_and_curl_as_the_document_prints_them() {
    check_plugins(Client::HttPie);
    check_plugins(Client::Curl);
}
