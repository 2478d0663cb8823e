//! Hostile requests below the body: framing, targets, headers, paths, and clients that take for
//! ever.
//!
//! Everything goes over a bare socket. Whatever is sent, the connection ends in bounded time, no
//! second request is made out of a first one's body, and the daemon serves on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod clients_rig;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use clients_rig::wire::{check_alive, connect, hear, request, say};
use imagefactory_tests::daemon::{Daemon, Setup};
use serde_json::json;

/// Sends bytes and closes our side; the daemon must answer with the statuses and close its own.
fn check_said(daemon: &Daemon, case: &str, bytes: &[u8], statuses: &[&[u16]]) {
    let heard = say(daemon, bytes);
    assert!(statuses.contains(&&heard.statuses()[..]), "{case}: {}", heard.text);
    check_alive(daemon, case);
}

const GET: &str = "GET /imagefactory HTTP/1.1\r\nHost: 127.0.0.1\r\n";
const POST: &str = "POST /imagefactory/base_images HTTP/1.1\r\nHost: 127.0.0.1\r\n\
    Content-Type: application/json\r\n";
const CLOSE: &str = "Connection: close\r\n";
/// What an attacker wants to have taken for a request of its own.
const SMUGGLED: &str =
    "GET /imagefactory/jeos HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

#[test]
fn no_request_is_smuggled_in_anothers_body() {
    let daemon = Daemon::start();
    let length = SMUGGLED.len();
    for (case, framing) in [
        (
            "length and chunks",
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            "chunks and length",
            format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        ),
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {length}\r\n")),
        ("a list of lengths", format!("Content-Length: 0, {length}\r\n")),
        ("a signed length", "Content-Length: +5\r\n".to_owned()),
        ("a negative length", "Content-Length: -1\r\n".to_owned()),
        ("a hexadecimal length", "Content-Length: 0x10\r\n".to_owned()),
        ("a huge length", format!("Content-Length: {}\r\n", "9".repeat(30))),
        ("chunks that are not last", "Transfer-Encoding: chunked, identity\r\n".to_owned()),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n".to_owned()),
        ("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned()),
        ("a blank before the colon", "Content-Length : 5\r\n".to_owned()),
        ("a folded header", "X: a\r\n Content-Length: 5\r\n".to_owned()),
    ] {
        let bytes = format!("{POST}{framing}\r\n0\r\n\r\n{SMUGGLED}");
        let heard = say(&daemon, bytes.as_bytes());
        // One refusal and the end; never the answer to what was smuggled.
        assert_eq!(heard.statuses(), [400], "{case}: {}", heard.text);
        check_alive(&daemon, case);
    }
    for (case, chunks) in [
        ("a chunk size too large", "FFFFFFFFFFFFFFFFF\r\n"),
        ("a negative chunk size", "-1\r\n"),
        ("no chunk size", "\r\n"),
        ("a chunk longer than it says", "1\r\nab\r\n0\r\n\r\n"),
        ("a prefixed chunk size", "0x1\r\na\r\n0\r\n\r\n"),
    ] {
        let bytes = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunks}{SMUGGLED}");
        let heard = say(&daemon, bytes.as_bytes());
        assert!(heard.statuses().len() <= 1, "{case}: {}", heard.text);
        assert!(!heard.text.contains("\" 200"), "{case}: {}", heard.text);
        check_alive(&daemon, case);
    }
    // A lawful second request in one connection is answered: what is refused above is the trick.
    let both = format!("{GET}\r\n{GET}{CLOSE}\r\n");
    assert_eq!(say(&daemon, both.as_bytes()).statuses(), [200, 200]);
}

#[test]
fn odd_targets_methods_and_versions_are_answered_or_refused() {
    let daemon = Setup::default().with("server_names", json!(["factory.example"])).start();
    let line = |line: &str| format!("{line}\r\nHost: 127.0.0.1\r\n{CLOSE}\r\n");
    let no_host = |line: &str| format!("{line}\r\n{CLOSE}\r\n");
    let cases: [(String, &[&[u16]]); 26] = [
        (line("CONNECT 127.0.0.1:22 HTTP/1.1"), &[&[405]]),
        (line("CONNECT /imagefactory HTTP/1.1"), &[&[400], &[405]]),
        (line("GET http://factory.example/imagefactory HTTP/1.1"), &[&[200]]),
        (line("GET http://evil.example/imagefactory HTTP/1.1"), &[&[421]]),
        (line("GET http://user:pw@127.0.0.1/imagefactory HTTP/1.1"), &[&[400]]),
        (line("GET ftp://127.0.0.1/imagefactory HTTP/1.1"), &[&[200], &[400]]),
        (line("GET http:///imagefactory HTTP/1.1"), &[&[400]]),
        (line("OPTIONS * HTTP/1.1"), &[&[404], &[405]]),
        (line("GET * HTTP/1.1"), &[&[400], &[404]]),
        (line("GET imagefactory HTTP/1.1"), &[&[400], &[404], &[421]]),
        (line("GET //imagefactory HTTP/1.1"), &[&[404]]),
        (line("GET /imagefactory#fragment HTTP/1.1"), &[&[200], &[400]]),
        (line("GET /imagefactory/\u{0} HTTP/1.1"), &[&[400]]),
        (line("GET /imagefactory/ü HTTP/1.1"), &[&[400], &[404]]),
        (line("GET /imagefactory x HTTP/1.1"), &[&[400]]),
        (line("TRACE /imagefactory HTTP/1.1"), &[&[405]]),
        (line("PROPFIND /imagefactory HTTP/1.1"), &[&[405]]),
        (line("get /imagefactory HTTP/1.1"), &[&[405]]),
        (line("GET /imagefactory HTTP/9.9"), &[&[400]]),
        (line("GET /imagefactory"), &[&[400]]),
        (no_host("GET /imagefactory HTTP/1.1"), &[&[400]]),
        (line("GET /imagefactory HTTP/1.1\r\nHost: 127.0.0.2"), &[&[400]]),
        (no_host("GET /imagefactory HTTP/1.1\r\nHost: a\"><script>"), &[&[400]]),
        (no_host("GET /imagefactory HTTP/1.1\r\nHost: 127.0.0.1/evil"), &[&[400]]),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}".to_owned(), &[&[], &[400]]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nno frames at all, but long enough".to_owned(), &[&[]]),
    ];
    for (bytes, statuses) in cases {
        check_said(&daemon, bytes.lines().next().unwrap_or_default(), bytes.as_bytes(), statuses);
    }
}

#[test]
fn headers_and_queries_are_bounded() {
    let daemon = Daemon::start();
    let long = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    let some: String = (0..10_000).map(|number| format!("X-{number}: y\r\n")).collect();
    let name = format!("{}: y\r\n", "x".repeat(100_000));
    let path = format!("GET /imagefactory/{}", "x".repeat(100_000));
    let refused: &[&[u16]] = &[&[400], &[414], &[431]];
    for (case, bytes) in [
        ("a header of a megabyte", request("GET /imagefactory", &long, b"")),
        ("10,000 headers", request("GET /imagefactory", &some, b"")),
        ("a header's name of 100,000", request("GET /imagefactory", &name, b"")),
        ("a path of 100,000", request(&path, "", b"")),
    ] {
        check_said(&daemon, case, &bytes, refused);
    }
    // Refused as too much, not cut: the last one counts as the first.
    let query: String = (0..10_000).map(|number| format!("&{number:04}=")).collect();
    let list = "GET /imagefactory/base_images?limit=1";
    let many = request(&format!("{list}{}", &query[..60_000]), "", b"");
    check_said(&daemon, "10,000 parameters", &many, &[&[200]]);
    let last = request(&format!("GET /imagefactory/base_images?{query}"), "", b"");
    check_said(&daemon, "more parameters than fit", &last, &[&[200], &[414], &[431]]);
    let bad =
        request(&format!("GET /imagefactory/base_images?{}&limit=0", &query[1..50_000]), "", b"");
    check_said(&daemon, "a bad one behind many", &bad, &[&[400]]);
    let odd = "GET /imagefactory/base_images?%ff=%zz&&&=&limit=1&limit=999999999999";
    check_said(&daemon, "odd parameters", &request(odd, "", b""), &[&[200], &[400]]);
    let accept = format!("Accept: {}\r\n", "a/b;q=0.1,".repeat(5000));
    check_said(&daemon, "a long Accept", &request("GET /imagefactory", &accept, b""), &[&[406]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_names_lead_nowhere_else() {
    let daemon = Daemon::start();
    let image = daemon.post_base_image(json!({})).await;
    let id = image["id"].as_str().unwrap();
    daemon.finished(id).await;
    std::fs::write(daemon.folder.path().join("secret"), "canary-of-the-daemon").unwrap();
    for up in [
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%5c",
        "..%252f",
        "%c0%ae%c0%ae%2f",
        "..%00/",
        "....//",
        ";/../",
    ] {
        let up = up.repeat(3);
        for path in [
            format!("{up}secret"),
            format!("base_images/{up}secret"),
            format!("base_images/{id}{up}secret"),
            format!("base_images/{id}/{up}secret"),
            format!("base_images/{id}/artifacts/{up}secret"),
            format!("base_images/{up}{id}/raw_image"),
            format!("base_images/{up}/log"),
            format!("plugins/{up}secret"),
            format!("targets/{up}secret"),
            format!("targets/mock/providers/{up}secret"),
        ] {
            let heard = say(&daemon, &request(&format!("GET /imagefactory/{path}"), "", b""));
            assert!([[404], [400]].contains(&[heard.statuses()[0]]), "{path}: {}", heard.text);
            assert!(!heard.text.contains("canary-of-the"), "{path}: {}", heard.text);
        }
    }
    let root = "GET /imagefactory/base_images//etc/passwd";
    check_said(&daemon, "an absolute path", &request(root, "", b""), &[&[404]]);
    let ranges: String = (0..2000).map(|number| format!("{number}-{},", number + 1)).collect();
    let range = format!("Range: bytes={ranges}5-6\r\n");
    let raw = format!("GET /imagefactory/base_images/{id}/raw_image");
    let heard = say(&daemon, &request(&raw, &range, b""));
    assert!([200, 416].contains(&heard.statuses()[0]), "{}", &heard.text[..200]);
    check_alive(&daemon, "2,000 ranges");
}

const HTTP2: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\u{0}\u{0}\u{0}\u{4}\u{0}\u{0}\u{0}\u{0}\u{0}";

/// A slow client: what it sends first, and what it repeats.
const SLOW: [(&str, &str, &str); 7] = [
    ("one that says nothing", "", ""),
    ("one that says a byte", "G", ""),
    ("one that begins with HTTP/2 and stops", "PRI * HTTP/2.0\r\n\r\nSM", ""),
    // A whole preface and an empty SETTINGS frame, but no answer to any ping.
    ("one that speaks HTTP/2 and is dead", HTTP2, ""),
    ("one that dribbles headers", GET, "X: y\r\n"),
    ("one that dribbles a body", "", "x"),
    ("one that stops in a chunk", "", ""),
];

/// The daemon's own limits are 30 s for headers and 60 s for a body; the machine may be busy.
const SLOW_MAX: Duration = Duration::from_secs(150);

/// Stays as long as it is let; answers how long that was.
fn dribble(mut stream: TcpStream, first: &str, again: &str) -> Duration {
    let started = Instant::now();
    stream.write_all(first.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut piece = [0; 4096];
    while started.elapsed() < SLOW_MAX {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        // An error shows itself at the next read.
        stream.write_all(again.as_bytes()).ok();
    }
    started.elapsed()
}

#[test]
fn slow_clients_are_sent_away_and_keep_nobody_out_meanwhile() {
    let daemon = Daemon::start();
    let body = format!("{POST}Content-Length: 1000000\r\n\r\n");
    let chunk = format!("{POST}Transfer-Encoding: chunked\r\n\r\nffff\r\nabc");
    let slow: Vec<_> = SLOW
        .iter()
        .map(|(case, first, again)| {
            let stream = connect(&daemon);
            let first = match *case {
                "one that dribbles a body" => body.clone(),
                "one that stops in a chunk" => chunk.clone(),
                _ => (*first).to_owned(),
            };
            let patient = std::thread::spawn(move || dribble(stream, &first, again));
            (case, patient)
        })
        .collect();
    check_alive(&daemon, "slow clients");
    for (case, patient) in slow {
        let stayed = patient.join().unwrap();
        assert!(stayed < SLOW_MAX, "{case} was never sent away");
    }
    check_alive(&daemon, "the last slow client");
}

#[test]
fn a_crowd_of_silent_connections_keeps_others_out_only_for_a_while() {
    let daemon = Daemon::start();
    // More than the daemon takes at once.
    let crowd: Vec<TcpStream> = (0..1100).map(|_| connect(&daemon)).collect();
    let started = Instant::now();
    check_alive(&daemon, "a crowd");
    assert!(started.elapsed() < SLOW_MAX, "kept out for {:?}", started.elapsed());
    drop(crowd);
    check_alive(&daemon, "a crowd that left");
}

#[test]
fn a_connection_that_is_idle_after_its_answer_is_closed() {
    let daemon = Daemon::start();
    let mut stream = connect(&daemon);
    stream.write_all(format!("{GET}\r\n").as_bytes()).unwrap();
    let started = Instant::now();
    assert_eq!(hear(&mut stream).statuses(), [200]);
    assert!(started.elapsed() < SLOW_MAX);
}
