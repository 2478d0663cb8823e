//! The client against real servers on loopback, with every fault they can have.

mod faults;
mod server;
mod tls;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{CloudPlugin, ErrorCode, Host, Plugin, Result};

use crate::fake_host::{FakeHost, PluginInstance};
use crate::*;
use server::{Act, Server, answer};

/// A plugin that hands its host out: the only way to a [`Host`].
struct Probe;

static HANDED_OUT: Mutex<Option<Host>> = Mutex::new(None);

impl Plugin for Probe {
    const ID: &'static str = "Probe";
    const VERSION: &'static str = "1.0.0";

    fn create(host: Host) -> Result<Probe> {
        *HANDED_OUT.lock().unwrap() = Some(host);
        Ok(Probe)
    }
}

impl CloudPlugin for Probe {}

/// A host, and the handle on it.
struct Factory {
    host: Host,
    // Drops before the fake host.
    _instance: PluginInstance<'static>,
    fake: &'static FakeHost,
}

impl Factory {
    fn new() -> Factory {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poison| poison.into_inner());
        let fake: &'static FakeHost = Box::leak(FakeHost::new());
        let plugin = imagefactory_plugin_sdk::cloud_plugin!(Probe);
        let _instance = PluginInstance::create(plugin, fake).unwrap();
        let host = HANDED_OUT.lock().unwrap().take().unwrap();
        Factory { host, _instance, fake }
    }

    /// A client whose pauses are short enough for a test.
    fn client(&self) -> HttpClient {
        self.client_with(|_| {})
    }

    fn client_with(&self, change: impl FnOnce(&mut HttpOptions)) -> HttpClient {
        let mut options = HttpOptions::default();
        options.retries.first_pause = Duration::from_millis(5);
        options.retries.longest_pause = Duration::from_millis(20);
        options.retries.attempts = 4;
        change(&mut options);
        HttpClient::new(&self.host, options).unwrap()
    }

    /// Everything that was said: nothing secret may be in it.
    fn said(&self) -> String {
        let record = self.fake.record();
        format!("{:?} {:?}", record.lines, record.errors)
    }
}

fn get(url: &str) -> Request {
    Request::new(Method::GET, url).unwrap()
}

fn put(url: &str, body: impl Into<Body>) -> Request {
    Request::new(Method::PUT, url).unwrap().body(body)
}

/// A file of so many bytes that repeat only after a long time.
fn file(bytes: usize) -> (std::fs::File, Vec<u8>) {
    let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &content, 0).unwrap();
    (file, content)
}

#[test]
fn a_range_of_a_file_arrives_whole_with_its_length_and_progress() {
    let server = Server::start(|_, _| answer(204, ""));
    let factory = Factory::new();
    let (file, content) = file(3_000_000);
    let progress = Progress::new("upload", "uploading", 2_500_000);
    let request =
        put(&server.url("/file"), Body::file_range(file, 100_000..2_600_000)).progress(&progress);
    let response = factory.client().send(&request).unwrap();
    assert_eq!((response.status(), response.is_success()), (204, true));
    let seen = &server.seen()[0];
    assert!(seen.head.contains("content-length: 2500000\r\n"), "{}", seen.head);
    assert!(seen.body == content[100_000..2_600_000], "other bytes than the file's");
    let told = factory.fake.record().progress.clone();
    assert_eq!(told.last(), Some(&("upload".to_owned(), 2_500_000, 2_500_000)));
    assert_eq!(progress.done(), 2_500_000);
}

#[test]
fn json_headers_and_the_answers_body_go_through() {
    let server = Server::start(|_, seen| {
        assert_eq!(seen.method, "POST");
        Act::Answer(201, "x-token: abc\r\n".to_owned(), br#"{"id":7}"#.to_vec())
    });
    let request = Request::new(Method::POST, &server.url("/v3?x=1")).unwrap();
    let request = request.json(&serde_json::json!({"a": 1})).header("x-one", "1");
    let response = Factory::new().client().send(&request).unwrap();
    let response = response.expect_success("cannot").unwrap();
    assert_eq!(response.header("X-Token"), Some("abc"));
    assert_eq!(response.json::<serde_json::Value>().unwrap()["id"], 7);
    let seen = &server.seen()[0];
    assert!(seen.head.contains("content-type: application/json\r\n"), "{}", seen.head);
    assert_eq!((&*seen.body, &*seen.path), (&br#"{"a":1}"#[..], "/v3?x=1"));
}

#[test]
fn a_body_that_is_made_while_it_is_sent_is_made_anew_for_each_attempt() {
    let server = Server::start(|number, _| match number {
        0 => Act::CutAfter(700_000),
        1 => answer(503, ""),
        _ => answer(200, ""),
    });
    let body =
        Body::made(900_000, || Ok(Box::new(std::io::Read::take(std::io::repeat(7), 900_000))));
    let factory = Factory::new();
    let progress = Progress::new("upload", "uploading", 900_000);
    let request = put(&server.url("/file"), body).progress(&progress);
    assert!(factory.client().send(&request).unwrap().is_success());
    assert_eq!(server.seen().len(), 3);
    assert!(server.seen()[2].body == [7; 900_000]);
    assert_eq!(progress.done(), 900_000, "what was repeated counts once");
}

#[test]
fn an_answer_can_go_to_a_file_and_is_bounded_in_memory() {
    let server = Server::start(|_, _| Act::Answer(200, String::new(), vec![5; 1 << 20]));
    let factory = Factory::new();
    let client = factory.client_with(|options| options.answer_bytes_max = 1000);
    let mut taken = Vec::new();
    let response = client.send_to(&get(&server.url("/")), &mut taken).unwrap();
    assert!(response.body().is_empty() && taken == vec![5; 1 << 20]);
    let error = client.send(&get(&server.url("/"))).unwrap_err();
    assert!(error.message().contains("more than 1000 bytes"), "{error}");
}

#[test]
fn redirects_are_followed_and_secrets_stay_on_their_server() {
    let other = Server::start(|_, _| answer(200, "there"));
    let away = format!("location: {}\r\n", other.url("/b"));
    let server = Server::start(move |_, seen| match &*seen.path {
        "/here" => Act::Answer(302, "location: /there\r\n".to_owned(), Vec::new()),
        "/there" => answer(200, "same"),
        "/round" => Act::Answer(307, "location: /round\r\n".to_owned(), Vec::new()),
        _ => Act::Answer(307, away.clone(), Vec::new()),
    });
    let factory = Factory::new();
    let client = factory.client();
    let with_token = |path: &str| get(&server.url(path)).secret_header("x-auth-token", "hunter22");
    assert_eq!(client.send(&with_token("/here")).unwrap().text(), "same");
    assert!(server.seen()[1].head.contains("x-auth-token: hunter22"));
    assert_eq!(client.send(&with_token("/away").header("x-a", "1")).unwrap().text(), "there");
    let head = &other.seen()[0].head;
    assert!(head.contains("x-a: 1") && !head.contains("hunter22"), "{head}");
    // A body goes to no other server.
    let answer = client.send(&put(&server.url("/away"), "x".to_owned())).unwrap();
    assert_eq!((answer.status(), other.seen().len()), (307, 1));
    assert!(client.send(&with_token("/round")).unwrap_err().message().contains("circle"));
}

#[test]
fn several_requests_run_at_once_up_to_their_bound() {
    let server = Server::start(|_, _| {
        std::thread::sleep(Duration::from_millis(30));
        answer(200, "")
    });
    let factory = Factory::new();
    let urls: Vec<String> = (0..20).map(|at| server.url(&format!("/{at}"))).collect();
    parallel(&factory.client(), 4, urls, |client, url| client.send(&get(&url)).map(|_| ()))
        .unwrap();
    assert_eq!(server.seen().len(), 20);
    let at_once = server.at_once_max.load(std::sync::atomic::Ordering::SeqCst);
    assert!((2..=4).contains(&at_once), "{at_once} at once");
}

#[test]
fn the_first_error_of_several_ends_the_others_at_once() {
    let server = Server::start(|_, seen| match &*seen.path {
        "/3" => answer(403, ""),
        _ => Act::Silence,
    });
    let factory = Factory::new();
    let urls: Vec<String> = (0..20).map(|at| server.url(&format!("/{at}"))).collect();
    let started = Instant::now();
    let error = parallel(&factory.client(), 4, urls, |client, url| {
        client.send(&get(&url))?.expect_success("no").map(|_| ())
    });
    assert_eq!(error.unwrap_err().code(), ErrorCode::Permission);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(server.seen().len() <= 4);
    assert!(!factory.host.is_cancelled());
}

#[test]
fn uploads_keep_the_configured_pace_together() {
    let server = Server::start(|_, _| answer(200, ""));
    let factory = Factory::new();
    let client = factory.client_with(|options| options.upload_bytes_per_s = Some(1_000_000));
    let started = Instant::now();
    let bodies = (0..4).map(|_| Body::bytes(vec![1; 250_000]));
    parallel(&client, 4, bodies, |client, body| {
        client.send(&put(&server.url("/"), body)).map(|_| ())
    })
    .unwrap();
    // The first piece of a tenth of a second goes at once.
    assert!(started.elapsed() >= Duration::from_millis(850), "{:?}", started.elapsed());
}

#[test]
fn a_proxy_of_the_configuration_is_used_and_no_proxy_goes_around_it() {
    let proxy = Server::start(|_, _| answer(200, "by proxy"));
    let server = Server::start(|_, _| answer(200, "direct"));
    let factory = Factory::new();
    let settings = |no_proxy: &str| {
        let address = proxy.url("");
        format!(r#"{{"http_proxy":"{address}","no_proxy":"{no_proxy}","retry_for_s":1}}"#)
    };
    let ask = |no_proxy: &str, url: &str| {
        factory.fake.record().config.insert("http".to_owned(), settings(no_proxy));
        let client = HttpClient::new(&factory.host, HttpOptions::from_host(&factory.host)?)?;
        client.send(&get(url)).map(|response| response.text())
    };
    assert_eq!(ask("", "http://no.such.host.invalid/x").unwrap(), "by proxy");
    assert_eq!(proxy.seen()[0].path, "http://no.such.host.invalid/x");
    assert_eq!(ask("127.0.0.0/8", &server.url("/")).unwrap(), "direct");
    factory.fake.record().config.insert("http".to_owned(), r#"{"prox":"x"}"#.to_owned());
    let error = HttpOptions::from_host(&factory.host).unwrap_err();
    assert!(error.message().contains("unknown field `prox`"), "{error}");
}
