//! A provider that misbehaves on demand: plain HTTP on loopback, one answer a connection.
//!
//! A fixture says `${ENDPOINT}` in its provider definition to be given its address. It reads the
//! request's head and as much body as is announced, then answers what the probe has chosen.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// The whole body is announced, half of it comes.
pub(super) const SHORT_READ: u16 = 1;
/// The connection is closed without an answer.
pub(super) const NO_ANSWER: u16 = 2;

/// A request of a probe is small; what is larger is not read to its end.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// The server; it lives on a thread until the process ends.
pub(super) struct Provider {
    port: u16,
    answer: Arc<AtomicU16>,
}

impl Provider {
    /// Listens on a free port of loopback and answers 200.
    pub(super) fn start() -> std::io::Result<Provider> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let answer = Arc::new(AtomicU16::new(200));
        let chosen = Arc::clone(&answer);
        std::thread::Builder::new().name("provider".into()).spawn(move || {
            for connection in listener.incoming().flatten() {
                // A client that goes away in the middle is its own business.
                serve(connection, chosen.load(Ordering::Acquire)).ok();
            }
        })?;
        Ok(Provider { port, answer })
    }

    /// `http://127.0.0.1:PORT`
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on every request gets this status, or [`SHORT_READ`] or [`NO_ANSWER`].
    pub(super) fn answer(&self, status: u16) {
        self.answer.store(status, Ordering::Release);
    }
}

fn serve(mut connection: TcpStream, answer: u16) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?; // ours is the only client
    read_request(&mut connection)?;
    let body = r#"{"id":"imagefactory-validate"}"#;
    match answer {
        NO_ANSWER => Ok(()),
        SHORT_READ => {
            let length = body.len() * 2;
            write!(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        }
        status => {
            let length = body.len();
            write!(
                connection,
                "HTTP/1.1 {status} Validator\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        }
    }
}

/// Reads head and announced body.
fn read_request(connection: &mut TcpStream) -> std::io::Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0u8; 4096];
    while seen.len() < REQUEST_BYTES_MAX {
        let count = connection.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        seen.extend_from_slice(&buffer[..count]);
        let Some(head) = seen.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&seen[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        if seen.len() >= head + 4 + length {
            return Ok(());
        }
    }
    Ok(())
}
