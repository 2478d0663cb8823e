//! What fails, as what, in which words; and what is repeated.

use super::*;

fn check_error(server: &Server, client: &HttpClient, code: ErrorCode, sentence: &str) {
    let request = put(&server.url("/file?signature=s3cr3t"), vec![1; 2_000_000])
        .secret_header("x-auth-token", "hunter22");
    let outcome = client.send(&request).and_then(|response| response.expect_success("no upload"));
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), code, "{error:?}");
    let said = format!("{error:?}");
    assert!(said.contains(sentence), "{said}");
    assert!(said.contains(&server.address.to_string()), "host and port: {said}");
    assert!(!said.contains("s3cr3t") && !said.contains("hunter22"), "{said}");
}

fn check_status(status: u16, code: ErrorCode, sentence: &str) {
    let server =
        Server::start(move |_, _| answer(status, r#"{"error":{"message":"hunter22 is bad"}}"#));
    let factory = Factory::new();
    check_error(&server, &factory.client(), code, sentence);
    check_error(&server, &factory.client(), code, "[REDACTED] is bad");
    assert!(!factory.said().contains("s3cr3t") && !factory.said().contains("hunter22"));
}

#[test]
fn each_status_has_its_class_and_a_way_out() {
    check_status(400, ErrorCode::InvalidArgument, "answered 400");
    check_status(401, ErrorCode::Auth, "check the credentials");
    check_status(403, ErrorCode::Permission, "ask the provider's administrator");
    check_status(404, ErrorCode::NotFound, "no upload: ");
    check_status(409, ErrorCode::AlreadyExists, "answered 409");
    check_status(413, ErrorCode::Quota, "ask the provider for a higher limit");
    check_status(429, ErrorCode::Unavailable, "limits requests");
    check_status(500, ErrorCode::Unavailable, "the service's log");
    check_status(503, ErrorCode::Unavailable, "try again later");
    check_status(507, ErrorCode::Quota, "delete others");
}

#[test]
fn a_server_that_breaks_off_is_asked_again_and_then_named() {
    let acts: [fn() -> Act; 3] =
        [|| Act::CutAfter(100_000), || Act::CloseAfterLastByte, || Act::CutAnswer];
    for act in acts {
        let server = Server::start(move |_, _| act());
        let factory = Factory::new();
        check_error(&server, &factory.client(), ErrorCode::Io, "was cut");
        assert_eq!(server.seen().len(), 4, "four attempts");
        assert!(factory.said().contains("attempt 3"), "{}", factory.said());
    }
}

#[test]
fn what_may_have_been_done_is_not_asked_twice() {
    let server = Server::start(|_, _| Act::CloseAfterLastByte);
    let factory = Factory::new();
    let client = factory.client();
    let post = Request::new(Method::POST, &server.url("/")).unwrap().body("x".to_owned());
    assert_eq!(client.send(&post).unwrap_err().code(), ErrorCode::Io);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(client.send(&post.clone().repeatable()).unwrap_err().code(), ErrorCode::Io);
    assert_eq!(server.seen().len(), 1 + 4);
    client.send(&post.retries(RetryPolicy::never()).repeatable()).unwrap_err();
    assert_eq!(server.seen().len(), 1 + 4 + 1);
}

#[test]
fn a_storm_of_429_and_503_is_waited_out() {
    let server = Server::start(|number, _| match number {
        0 | 2 => Act::Answer(429, "retry-after: 1\r\n".to_owned(), Vec::new()),
        1 => answer(503, "<html><b>overloaded</b></html>"),
        _ => answer(200, "at last"),
    });
    let started = Instant::now();
    let response = Factory::new().client().send(&get(&server.url("/"))).unwrap();
    assert_eq!((response.text().as_str(), server.seen().len()), ("at last", 4));
    assert!(started.elapsed() >= Duration::from_secs(2), "Retry-After: {:?}", started.elapsed());
}

#[test]
fn a_wait_that_the_server_asks_for_is_not_longer_than_ours_may_be() {
    let server =
        Server::start(|_, _| Act::Answer(503, "retry-after: 3600\r\n".to_owned(), Vec::new()));
    let response = Factory::new().client().send(&get(&server.url("/"))).unwrap();
    assert_eq!((response.status(), server.seen().len()), (503, 1));
    assert!(format!("{:?}", response.error("no")).contains("3600s"));
}

#[test]
fn silence_ends_with_a_timeout() {
    let server = Server::start(|_, _| Act::Silence);
    let factory = Factory::new();
    let client = factory.client_with(|options| {
        options.timeouts.idle = Duration::from_millis(300);
        options.retries.attempts = 2;
    });
    check_error(&server, &client, ErrorCode::Timeout, "was silent");
    assert_eq!(server.seen().len(), 2);
    let whole = get(&server.url("/")).whole_timeout(Duration::from_millis(200));
    let client = factory.client_with(|options| options.retries.attempts = 1);
    assert_eq!(client.send(&whole).unwrap_err().code(), ErrorCode::Timeout);
}

#[test]
fn nobody_there_and_no_such_name_are_told_apart() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let factory = Factory::new();
    let client = factory.client();
    let post = Request::new(Method::POST, &format!("http://{free}/")).unwrap();
    let error = client.send(&post).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains(&format!("nothing listens at {free}")), "{error}");
    let error = client.send(&get("https://no.such.host.invalid:5000/v3")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(format!("{error:?}").contains("does this machine resolve it"), "{error:?}");
    assert!(error.message().contains("no.such.host.invalid:5000"), "{error}");
    assert!(Request::new(Method::GET, "ftp://me:hunter22@x/").is_err());
}

#[test]
fn a_cancel_ends_a_wait_within_a_second() {
    let server = Server::start(|_, seen| match &*seen.path {
        "/silent" => Act::Silence,
        _ => Act::Answer(503, "retry-after: 100\r\n".to_owned(), Vec::new()),
    });
    for path in ["/silent", "/later"] {
        let factory = Factory::new();
        let client = factory.client();
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| client.send(&get(&server.url(path))));
            std::thread::sleep(Duration::from_millis(300));
            let at = Instant::now();
            factory.fake.cancel();
            assert_eq!(sent.join().unwrap().unwrap_err().code(), ErrorCode::Cancelled);
            assert!(at.elapsed() < Duration::from_secs(5), "{:?}", at.elapsed());
        });
    }
}

#[test]
fn a_file_that_became_shorter_is_our_fault_and_said() {
    let server = Server::start(|_, _| answer(200, ""));
    let (file, _) = file(1000);
    let error =
        Factory::new().client().send(&put(&server.url("/"), Body::file_range(file, 0..2000)));
    let error = error.unwrap_err();
    assert!(error.message().contains("what is to be sent cannot be read"), "{error}");
}

#[test]
fn a_refusal_before_the_last_byte_is_read_as_an_answer() {
    // Answers at once and closes without reading the body: quotas are enforced like that.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            use std::io::{Read, Write};
            stream.read_exact(&mut [0; 1000]).ok();
            stream
                .write_all(b"HTTP/1.1 413 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .ok();
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    let factory = Factory::new();
    let client = factory.client();
    let response = client.send(&put(&url, vec![0; 50_000_000])).unwrap();
    assert_eq!(response.error("no upload").code(), ErrorCode::Quota);
}
