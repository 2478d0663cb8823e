//! Hostile bodies: XML, multipart, JSON, forms, and bodies that are too much.
//!
//! Each is refused with a problem document (or taken as the text that it is) without effort, shows
//! nothing of the machine, leaves nothing behind, and the daemon serves on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod clients_rig;

use std::time::{Duration, Instant};

use clients_rig::wire::{Heard, check_alive, request, say};
use imagefactory_tests::daemon::Daemon;
use imagefactory_tests::factory::TDL_MOCK;
use serde_json::{Value, json};

/// Nothing here may cost more than reading four megabytes; the machine may be busy.
const EFFORT_MAX: Duration = Duration::from_secs(20);

const ORDER: &str = "POST /imagefactory/base_images";

/// Sends a body; every refusal must be a problem document without a word of the machine.
fn check_refused(daemon: &Daemon, case: &str, media_type: &str, body: &[u8], status: u16) -> Heard {
    let header = format!("Content-Type: {media_type}\r\n");
    let started = Instant::now();
    let heard = say(daemon, &request(ORDER, &header, body));
    let effort = started.elapsed();
    assert_eq!(heard.statuses(), [status], "{case}: {}", heard.text);
    assert!(heard.text.contains("application/problem+json"), "{case}: {}", heard.text);
    for secret in ["root:", "/storage", "/plugins.d", ".rs:"] {
        assert!(!heard.text.contains(secret), "{case}: {}", heard.text);
    }
    assert!(effort < EFFORT_MAX, "{case} took {effort:?}");
    check_alive(daemon, case);
    heard
}

/// A rejected POST leaves nothing behind.
async fn check_nothing_left(daemon: &Daemon) {
    let list = daemon.get_json("/imagefactory/base_images").await;
    assert_eq!(list, json!({"base_images": []}));
    let staging = daemon.storage().join("staging");
    let left: Vec<_> = std::fs::read_dir(staging).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn billion_laughs() -> String {
    let mut text = String::from("<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY l0 \"lol\">");
    for level in 1..10 {
        let inner = format!("&l{};", level - 1).repeat(10);
        text.push_str(&format!("<!ENTITY l{level} \"{inner}\">"));
    }
    text + "]><base_image><template>&l9;</template></base_image>"
}

#[tokio::test(flavor = "multi_thread")]
async fn xml_bodies_that_expand_or_reach_out_are_refused() {
    let daemon = Daemon::start();
    let entity = |definition: &str| {
        format!(
            "<!DOCTYPE base_image [{definition}]>\
             <base_image><template>&e;</template></base_image>"
        )
    };
    let deep = format!("{}{}", "<base_image>".repeat(100_000), "</base_image>".repeat(100_000));
    let wide = format!("<base_image>{}</base_image>", "<a/>".repeat(800_000));
    let attributes: String = (0..200_000).map(|number| format!(" a{number}=''")).collect();
    let quadratic = format!(
        "<!DOCTYPE r [<!ENTITY e \"{}\">]><base_image>{}</base_image>",
        "x".repeat(50_000),
        "&e;".repeat(50_000)
    );
    for (case, body) in [
        ("a billion laughs", billion_laughs()),
        ("a quadratic blow-up", quadratic),
        ("an external file", entity("<!ENTITY e SYSTEM \"file:///etc/passwd\">")),
        ("an external address", entity("<!ENTITY e SYSTEM \"http://127.0.0.1:1/x\">")),
        ("a public entity", entity("<!ENTITY e PUBLIC \"x\" \"file:///etc/passwd\">")),
        ("a parameter entity", entity("<!ENTITY % p SYSTEM \"file:///etc/passwd\"> %p;")),
        ("an external DTD", "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>".to_owned()),
        ("an undefined entity", "<base_image><template>&e;</template></base_image>".to_owned()),
        ("100,000 levels", deep),
        ("800,000 elements", wide),
        ("200,000 attributes", format!("<base_image{attributes}/>")),
        ("an unfinished document", "<base_image><template>".to_owned()),
        ("another root", "<target_image/>".to_owned()),
        ("nothing of XML", "\u{0}\u{1}".to_owned()),
    ] {
        check_refused(&daemon, case, "application/xml", body.as_bytes(), 400);
        check_refused(&daemon, case, "TEXT/XML; charset=utf-16", body.as_bytes(), 400);
    }
    let include = "<base_image xmlns:xi='http://www.w3.org/2001/XInclude'>\
        <xi:include href='file:///etc/passwd' parse='text'/></base_image>";
    check_refused(&daemon, "an XInclude", "application/xml", include.as_bytes(), 400);
    let utf16: Vec<u8> =
        "<base_image/>".encode_utf16().flat_map(|unit| unit.to_le_bytes()).collect();
    check_refused(&daemon, "UTF-16", "application/xml", &[&[0xff, 0xfe], &utf16[..]].concat(), 400);
    check_nothing_left(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_template_fails_its_image_and_shows_nothing_of_the_machine() {
    let daemon = Daemon::start();
    let external = "<!DOCTYPE template [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>\
        <template><name>&e;</name></template>";
    let deep = "<a>".repeat(100_000);
    for template in [billion_laughs().as_str(), external, &deep] {
        let order = json!({"base_image": {"template": template}});
        let image = daemon.order("/imagefactory/base_images", &order).await;
        let image = daemon.finished(image["id"].as_str().unwrap()).await;
        assert_eq!(image["status"], "FAILED");
        let error = image["status_detail"]["error"].as_str().unwrap();
        assert!(!error.is_empty() && !error.contains("root:"), "{error}");
        assert!(error.len() < 10_000, "{} characters", error.len());
    }
    check_alive(&daemon, "hostile templates");
}

/// One part of a multipart body with the boundary `b`.
fn part(disposition: &str, more: &str, content: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n{content}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_tricks_are_refused() {
    let daemon = Daemon::start();
    let form = "multipart/form-data; boundary=b";
    let template = part("name=template", "", TDL_MOCK);
    let many: String =
        (0..20_000).map(|number| part(&format!("name=f{number}"), "", "x")).collect();
    let long_header = part("name=a", &format!("X-Long: {}\r\n", "x".repeat(1 << 20)), "x");
    let headers: String = (0..50_000).map(|number| format!("X-{number}: y\r\n")).collect();
    for (case, media_type, body) in [
        ("no boundary", "multipart/form-data", template.clone()),
        ("an empty boundary", "multipart/form-data; boundary=", template.clone()),
        ("a boundary that never comes", "multipart/form-data; boundary=zzz", template.clone()),
        ("no end", form, template.clone()),
        ("a half header", form, "--b\r\nContent-Disp".to_owned()),
        ("the end first", form, "--b--\r\n".to_owned()),
        ("a field twice", form, format!("{template}{template}--b--\r\n")),
        ("20,000 parts", form, format!("{many}--b--\r\n")),
        ("a header of a megabyte", form, format!("{long_header}--b--\r\n")),
        ("50,000 headers", form, format!("{}--b--\r\n", part("name=a", &headers, "x"))),
        ("a part without a name", form, format!("{}--b--\r\n", part("x=y", "", TDL_MOCK))),
        ("only boundaries", form, "--b\r\n".repeat(100_000)),
        ("a name of a megabyte", form, {
            format!("{}--b--\r\n", part(&format!("name={}", "n".repeat(1 << 20)), "", "x"))
        }),
    ] {
        check_refused(&daemon, case, media_type, body.as_bytes(), 400);
    }
    let nested = part(
        "name=template",
        "Content-Type: multipart/mixed; boundary=c\r\n",
        "--c\r\nContent-Type: multipart/mixed; boundary=d\r\n\r\n--d--\r\n--c--",
    );
    // A part is text, whatever it says of itself; as a template this is none.
    let header = format!("Content-Type: {form}\r\n");
    let heard = say(&daemon, &request(ORDER, &header, format!("{nested}--b--\r\n").as_bytes()));
    assert_eq!(heard.statuses(), [202], "{}", heard.text);
    let document: Value =
        serde_json::from_str(heard.text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let image = daemon.finished(document["base_image"]["id"].as_str().unwrap()).await;
    assert_eq!(image["status"], "FAILED", "{image}");
    check_alive(&daemon, "a nested body");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploads_file_name_leads_nowhere_and_a_broken_upload_leaves_nothing() {
    let daemon = Daemon::start();
    let form = "Content-Type: multipart/form-data; boundary=b\r\n";
    let mark = format!("traversal-{}", daemon.pid());
    let up = "../".repeat(12);
    let file = format!("name=image_body; filename=\"{up}tmp/{mark}\"");
    // The end of the body never comes.
    let broken = part(&file, "", &"x".repeat(100_000));
    let heard = say(&daemon, &request(ORDER, form, broken.as_bytes()));
    assert_eq!(heard.statuses(), [400], "{}", heard.text);
    check_nothing_left(&daemon).await;
    let twice = format!("{}{}--b--\r\n", part(&file, "", "x"), part(&file, "", "y"));
    let heard = say(&daemon, &request(ORDER, form, twice.as_bytes()));
    assert_eq!(heard.statuses(), [400], "{}", heard.text);
    check_nothing_left(&daemon).await;
    let whole = format!("{}--b--\r\n", part(&file, "", &"x".repeat(100_000)));
    let heard = say(&daemon, &request(ORDER, form, whole.as_bytes()));
    assert!([202, 400].contains(&heard.statuses()[0]), "{}", heard.text);
    assert!(!std::path::Path::new("/tmp").join(&mark).exists(), "the file name was used");
    check_alive(&daemon, "uploads");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_deep_huge_or_broken_is_refused() {
    let daemon = Daemon::start();
    let order = |fields: &str| format!("{{\"base_image\": {{{fields}}}}}");
    let arrays = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let keys: String = (0..200_000).map(|number| format!("\"k{number}\":0,")).collect();
    for (case, body) in [
        ("100,000 arrays", arrays.clone()),
        ("100,000 objects", objects),
        ("100,000 arrays as parameters", order(&format!("\"parameters\": {arrays}"))),
        ("unfinished depth", "[".repeat(100_000)),
        ("200,000 unknown fields and no template", order(&format!("{keys}\"x\":0"))),
        ("half a surrogate", order("\"template\": \"\\ud800\"")),
        ("a number without end", order(&format!("\"template\": {}", "9".repeat(1_000_000)))),
        ("an exponent", order("\"template\": 1e999999")),
        ("no object", "[1]".to_owned()),
        ("no value", "{\"base_image\": null}".to_owned()),
        ("two documents", format!("{}{}", order(""), order(""))),
        ("a comment", "/* */ {}".to_owned()),
        ("NaN", order("\"template\": NaN")),
        ("a server path", order("\"template\": \"/etc/passwd\"")),
        ("an address", order("\"template\": \"file:///etc/passwd\"")),
    ] {
        check_refused(&daemon, case, "application/json", body.as_bytes(), 400);
    }
    check_refused(&daemon, "not UTF-8", "application/json", b"{\"base_image\": \"\xff\"}", 400);
    check_nothing_left(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_and_types_that_are_none_are_refused() {
    let daemon = Daemon::start();
    let form = "application/x-www-form-urlencoded";
    let many: String = (0..100_000).map(|number| format!("f{number}=x&")).collect();
    for (case, body) in [
        ("100,000 fields", many.as_str()),
        ("half an escape", "template=%f"),
        ("no escape", "template=%zz"),
        ("not UTF-8", "template=%ff%fe"),
        ("a field twice", "template=a&template=b"),
        ("only separators", &"&".repeat(1_000_000)),
        ("parameters that are no object", "template=%3Ca/%3E&parameters=[1]"),
        ("parameters that are deep", &format!("parameters={}", "[".repeat(100_000))),
    ] {
        check_refused(&daemon, case, form, body.as_bytes(), 400);
    }
    check_refused(&daemon, "an unknown type", "application/zip", b"PK\x03\x04", 415);
    check_refused(&daemon, "a broken type", ";;;", b"x", 400);
    // Never unpacked, so never a bomb: it is not JSON.
    let packed = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1];
    let zipped = "application/json\r\nContent-Encoding: gzip";
    check_refused(&daemon, "gzip", zipped, &packed, 400);
    check_nothing_left(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_limit_are_413_however_they_are_sent() {
    let daemon = Daemon::start();
    let six = vec![b' '; 6 << 20];
    check_refused(&daemon, "six megabytes", "application/json", &six, 413);
    check_refused(&daemon, "six of XML", "application/xml", &six, 413);
    check_refused(&daemon, "six of a form", "application/x-www-form-urlencoded", &six, 413);
    let mut chunked = format!("{ORDER} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
    chunked.push_str("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    // 8 MiB and no end: the answer must not wait for it.
    chunked.push_str(&chunk.repeat(2048));
    let heard = say(&daemon, chunked.as_bytes());
    assert_eq!(heard.statuses(), [413], "{}", heard.text);
    check_alive(&daemon, "an endless body");
    let text_parts = format!("{}--b--\r\n", part("name=template", "", &"x".repeat(6 << 20)));
    let form = "multipart/form-data; boundary=b";
    check_refused(&daemon, "text of six megabytes", form, text_parts.as_bytes(), 413);
    check_nothing_left(&daemon).await;
}
