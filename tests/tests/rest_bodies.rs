//! Request bodies in every form that clients send, and everything that is thrown at a reader.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use reqwest::{Method, Response};
use serde_json::{Value, json};

const BASE: &str = "/imagefactory/base_images";
const TARGET: &str = "/imagefactory/target_images";
const PROVIDER: &str = "/imagefactory/provider_images";

async fn send(
    daemon: &Daemon,
    path: &str,
    content_type: &str,
    body: impl Into<String>,
) -> Response {
    let request = daemon.request(Method::POST, path).header("content-type", content_type);
    request.body(body.into()).send().await.unwrap()
}

async fn check_taken(response: Response) -> Value {
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status.as_u16(), 202, "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    document.as_object().unwrap().values().next().unwrap().clone()
}

async fn check_refused(response: Response, status: u16, says: &str) {
    let found = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let text = response.text().await.unwrap();
    assert_eq!(found.as_u16(), status, "{text}");
    assert!(text.contains(says), "{says:?} is not in {text}");
}

async fn stored(daemon: &Daemon) -> usize {
    let list = daemon.get_json(BASE).await;
    list["base_images"].as_array().unwrap().len()
}

fn form(fields: &[(&str, &str)]) -> String {
    let hex = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    let encoded = |text: &str| text.bytes().map(hex).collect::<String>();
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_can_be_written_in_four_ways() {
    let daemon = Daemon::start();
    let parameters = json!({"mock_steps": 3});
    let text = parameters.to_string();
    let escaped = TDL_MOCK.replace('<', "&lt;");
    let multipart = |fields: &[(&str, &str)]| -> String {
        let part = |(name, value): &(&str, &str)| {
            format!("--b1\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        fields.iter().map(part).collect::<String>() + "--b1--\r\n"
    };
    let json_body = json!({"base_image": {"template": TDL_MOCK, "parameters": parameters}});
    for (content_type, body) in [
        ("application/json", json_body.to_string()),
        ("APPLICATION/JSON; charset=UTF-8", json_body.to_string()),
        ("text/json", json_body.to_string()),
        (
            "application/x-www-form-urlencoded",
            form(&[("template", TDL_MOCK), ("parameters", &text)]),
        ),
        (
            "multipart/form-data; boundary=b1",
            multipart(&[("template", TDL_MOCK), ("parameters", &text)]),
        ),
        (
            "application/xml",
            format!("<base_image>{TDL_MOCK}<parameters>{text}</parameters></base_image>"),
        ),
        (
            "text/xml",
            format!(
                "<base_image><template>{escaped}</template><parameters>{text}</parameters></base_image>"
            ),
        ),
    ] {
        let image = check_taken(send(&daemon, BASE, content_type, body).await).await;
        assert_eq!(image["parameters"], parameters, "{content_type}");
        assert_eq!(image["template"], TDL_MOCK, "{content_type}");
    }
    let request = daemon.request(Method::POST, BASE).body(json_body.to_string());
    check_taken(request.send().await.unwrap()).await; // no Content-Type: JSON
    let xml = "<base_image>T<parameters><a>1</a><b>x y</b></parameters></base_image>";
    let body = xml.replace('T', TDL_MOCK);
    let image = check_taken(send(&daemon, BASE, "application/xml", body).await).await;
    assert_eq!(image["parameters"], json!({"a": "1", "b": "x y"}), "children become strings");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_xml_example_runs_as_printed() {
    let daemon = Daemon::start();
    let base = daemon.post_base_image(json!({})).await;
    let path = format!("{BASE}/{}/target_images", base["id"].as_str().unwrap());
    let body = "<target_image>\n    <target>mock</target>\n</target_image>\n";
    let image = check_taken(send(&daemon, &path, "application/xml", body).await).await;
    assert_eq!(image["base_image_id"], base["id"]);
    assert_eq!(image["parameters"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_in_the_pem_of_a_form_are_plus_signs() {
    let daemon = Daemon::start();
    let credentials =
        "<c><key>\n -----BEGIN PRIVATE KEY-----\n a+b+/=\n -----END PRIVATE KEY-----\n</key></c>";
    let provider = json!({"ledger": daemon.ledger()}).to_string();
    // As curl -d sends it: nothing is encoded, so each + arrives as a blank.
    let body =
        format!("target=mock&provider={provider}&credentials={credentials}&template={TDL_MOCK}");
    let response = send(&daemon, PROVIDER, "application/x-www-form-urlencoded", body).await;
    // MockCloud's schema wants an object, and a form has text only: it says so, and no secret.
    check_refused(response, 400, "provider").await;
    let body = form(&[
        ("target", "mock"),
        ("provider", "p"),
        ("credentials", credentials),
        ("template", TDL_MOCK),
    ]);
    let refused = send(&daemon, PROVIDER, "application/x-www-form-urlencoded", body).await;
    let text = refused.text().await.unwrap();
    assert!(!text.contains("PRIVATE KEY"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bodies_are_400_and_say_where() {
    let daemon = Daemon::start();
    let json = "application/json";
    let xml = "application/xml";
    let urlencoded = "application/x-www-form-urlencoded";
    for (content_type, body, says) in [
        (json, "{\"base_image\": {\n  \"template\": }}", "line 2 column 15"),
        (json, "[]", "must be an object"),
        (json, "{\"base_image\": []}", "must be an object"),
        (json, "{\"target_image\": {\"template\": \"<t/>\"}}", "target_image"),
        (json, "{\"base_image\": {\"template\": 5}}", "a number"),
        (json, "{\"base_image\": {}}", "'template' is missing"),
        (json, "{\"base_image\": {\"template\": null}}", "'template' is missing"),
        (json, "{\"base_image\": {\"template\": \"  \"}}", "'template' is missing"),
        (json, "", "'template' is missing"),
        (json, "{\"base_image\": {\"template\": \"<t/>\", \"parameters\": [1]}}", "a list"),
        (json, "{\"base_image\": {\"template\": \"<t/>\", \"parameters\": \"{\"}}", "not JSON"),
        (xml, "<base_image><template></base_image>", "line 1"),
        (xml, "<target_image/>", "<base_image>"),
        (xml, "<!DOCTYPE a [<!ENTITY x 'y'>]><base_image>&x;</base_image>", "the body"),
        (xml, "<base_image>&nbsp;</base_image>", "nbsp"),
        (urlencoded, "template=%zz", "byte 9"),
        (urlencoded, "template=%ff", "UTF-8"),
        (urlencoded, "template=a&template=b", "twice"),
        ("multipart/form-data", "x", "multipart"),
        ("multipart/form-data; boundary=b", "--b\r\nnonsense", "multipart"),
    ] {
        check_refused(send(&daemon, BASE, content_type, body).await, 400, says).await;
    }
    let response =
        daemon.request(Method::POST, BASE).header("content-type", json).body(b"\xff\xfe".to_vec());
    check_refused(response.send().await.unwrap(), 400, "JSON").await;
    check_refused(send(&daemon, BASE, "image/png", "x").await, 415, "image/png").await;
    assert_eq!(stored(&daemon).await, 0, "a refused order leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_exploding_documents_are_refused_and_the_daemon_lives() {
    let daemon = Daemon::start();
    let deep = 100_000;
    let nested = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
    let objects = format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep));
    let elements = format!("{}{}", "<a>".repeat(deep), "</a>".repeat(deep));
    let bomb = "<!DOCTYPE b [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">\
        <!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]><base_image><template>&c;</template></base_image>";
    let external = "<!DOCTYPE b [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>\
        <base_image><template>&a;</template></base_image>";
    let parts = "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n".repeat(5000);
    for (content_type, body) in [
        ("application/json", nested),
        ("application/json", objects),
        ("application/xml", format!("<base_image>{elements}</base_image>")),
        ("application/xml", elements),
        ("application/xml", bomb.to_owned()),
        ("application/xml", external.to_owned()),
        ("multipart/form-data; boundary=b", format!("{parts}--b--")),
        ("application/x-www-form-urlencoded", "a&".repeat(10_000)),
    ] {
        check_refused(send(&daemon, BASE, content_type, body).await, 400, "detail").await;
    }
    let parameters = json!({"template": TDL_MOCK, "parameters": "[".repeat(deep)}).to_string();
    check_refused(send(&daemon, BASE, "application/json", parameters).await, 400, "JSON").await;
    assert_eq!(stored(&daemon).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_at_the_limit_is_read_and_one_beyond_is_413() {
    let limit = 100_000;
    let daemon = Setup::default().with("body_bytes_max", json!(limit)).start();
    let empty = json!({"base_image": {"template": TDL_MOCK, "note": ""}}).to_string();
    let padded = |bytes: usize| {
        empty.replace("\"note\":\"\"", &format!("\"note\":\"{}\"", "x".repeat(bytes)))
    };
    let fitting = limit - empty.len();
    check_taken(send(&daemon, BASE, "application/json", padded(fitting)).await).await;
    let beyond = send(&daemon, BASE, "application/json", padded(fitting + 1)).await;
    check_refused(beyond, 413, "100000 bytes").await;
    let text = "<t>".repeat(limit);
    let body = form(&[("template", &text)]);
    check_refused(send(&daemon, BASE, "application/x-www-form-urlencoded", body).await, 413, "")
        .await;
    // Text fields of an upload count too.
    let part = format!(
        "--b\r\nContent-Disposition: form-data; name=\"template\"\r\n\r\n{text}\r\n--b--\r\n"
    );
    check_refused(send(&daemon, BASE, "multipart/form-data; boundary=b", part).await, 413, "")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_warned_of_and_refused_where_the_client_is_strict() {
    let daemon = Daemon::start();
    let body = json!({"base_image": {"template": TDL_MOCK, "parametres": {}, "x\r\ny": 1}});
    let response = daemon.post(BASE, &body).await;
    let warnings: Vec<String> = response
        .headers()
        .get_all("warning")
        .iter()
        .map(|value| value.to_str().unwrap().to_owned())
        .collect();
    check_taken(response).await;
    let near =
        "299 imagefactory \"unknown field 'parametres' ignored; did you mean 'parameters'?\"";
    assert!(warnings.iter().any(|warning| warning == near), "{warnings:?}");
    assert_eq!(warnings.len(), 2);
    let strict =
        daemon.request(Method::POST, BASE).header("prefer", "respond-async, handling=strict");
    check_refused(strict.json(&body).send().await.unwrap(), 400, "parametres").await;
    let undeclared = json!({"base_image": {"template": TDL_MOCK, "parameters": {"nobodys": 1}}});
    let response = daemon.post(BASE, &undeclared).await;
    let warning = response.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.contains("'nobodys'"), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_must_be_text_of_its_own() {
    let daemon = Daemon::start();
    for template in [
        "http://example.org/template.tdl",
        "file:///etc/passwd",
        "/etc/passwd",
        "../../etc/passwd",
        "7df54954-4b95-4061-85f2-8598f326107e",
    ] {
        let body = json!({"base_image": {"template": template}});
        check_refused(daemon.post(BASE, &body).await, 400, "XML text").await;
    }
    // What only does not parse is taken, and the image says what is wrong with it.
    let image = daemon.order(BASE, &json!({"base_image": {"template": "no template"}})).await;
    let image = daemon.finished(image["id"].as_str().unwrap()).await;
    assert_eq!(image["status"], "FAILED");
    assert_eq!(image["status_detail"]["error_code"], "user-template", "{image}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_disk_image_is_imported_as_it_arrives() {
    let daemon = Setup::default().with("body_bytes_max", json!(4096)).start();
    let disk = "disk ".repeat(100_000);
    let part = |name: &str, extra: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{extra}\r\n\r\n{value}\r\n")
    };
    let file =
        part("image_body", "; filename=\"d.img\"\r\nContent-Type: application/octet-stream", &disk);
    let body = format!(
        "{}{file}{}--b--\r\n",
        part("template", "", TDL_MOCK),
        part("parameters", "", "{}")
    );
    let image =
        check_taken(send(&daemon, BASE, "multipart/form-data; boundary=b", body).await).await;
    assert_eq!(image["status"], "NEW");
    let image = daemon.finished(image["id"].as_str().unwrap()).await;
    assert_eq!(image["status"], "COMPLETE");
    assert_eq!(image["percent_complete"], 100);
    let path = format!("{BASE}/{}/raw_image", image["id"].as_str().unwrap());
    assert_eq!(daemon.get(&path).await.text().await.unwrap(), disk);
    let cut = format!("--b\r\nContent-Disposition: form-data; name=\"image_body\"\r\n\r\n{disk}");
    check_refused(
        send(&daemon, BASE, "multipart/form-data; boundary=b", cut).await,
        400,
        "multipart",
    )
    .await;
    let staging: Vec<_> = std::fs::read_dir(daemon.storage().join("staging")).unwrap().collect();
    assert!(staging.is_empty(), "{staging:?}");
    let on_target = part("image_body", "", "x") + "--b--\r\n";
    check_refused(
        send(&daemon, TARGET, "multipart/form-data; boundary=b", on_target).await,
        400,
        "target",
    )
    .await;
}
