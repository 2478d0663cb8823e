//! Bytes on a socket, for requests that no decent client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use imagefactory_tests::daemon::Daemon;

/// How long the daemon may take to answer or to close; its own limits are half a minute and a
/// minute.
const PATIENCE: Duration = Duration::from_secs(100);

/// Everything that came back until the daemon closed.
#[derive(Debug)]
pub(crate) struct Heard {
    /// As text, lossy.
    pub(crate) text: String,
}

impl Heard {
    /// The statuses of all answers, in order; 0 stands for an answer without one.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let answers = self.text.split("HTTP/1.").skip(1);
        answers
            .map(|answer| {
                let status = answer.split_whitespace().nth(1);
                status.and_then(|status| status.parse().ok()).unwrap_or_default()
            })
            .collect()
    }
}

/// A connection to the daemon that does not wait for ever.
pub(crate) fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.authority()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes and hears the answer; the daemon must close in time.
pub(crate) fn say(daemon: &Daemon, bytes: &[u8]) -> Heard {
    let mut stream = connect(daemon);
    let mut reading = stream.try_clone().unwrap();
    // The daemon may answer (and close) before everything was said.
    let hearing = std::thread::spawn(move || hear(&mut reading));
    stream.write_all(bytes).ok();
    hearing.join().unwrap()
}

/// Reads to the end. A connection that was reset has ended, too.
pub(crate) fn hear(stream: &mut TcpStream) -> Heard {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the daemon did not close within {PATIENCE:?}: {error}"),
        }
    }
    Heard { text: String::from_utf8_lossy(&bytes).into_owned() }
}

/// A whole request that closes its connection, with a length for its body.
pub(crate) fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}");
    if !body.is_empty() {
        bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    bytes.push_str("\r\n");
    [bytes.as_bytes(), body].concat()
}

/// The daemon lives, serves, and nothing in it panicked.
pub(crate) fn check_alive(daemon: &Daemon, after: &str) {
    let heard = say(daemon, &request("GET /imagefactory", "", b""));
    assert_eq!(heard.statuses(), [200], "after {after}: {}", daemon.log());
    assert!(heard.text.contains("\"api_version\":\"2.0\""), "after {after}: {}", heard.text);
    let log = daemon.log();
    assert!(!log.contains("panicked"), "after {after}: {log}");
}
