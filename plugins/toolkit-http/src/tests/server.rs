//! A server on loopback that answers as a test says, faults included; one thread a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What the server does about a request.
pub(crate) enum Act {
    /// Status, further header lines, body.
    Answer(u16, String, Vec<u8>),
    /// Reads so many bytes of the body and closes.
    CutAfter(usize),
    /// Reads the whole body and closes.
    CloseAfterLastByte,
    /// Promises 100 bytes and sends three.
    CutAnswer,
    /// Reads everything and says nothing, until the client goes.
    Silence,
}

pub(crate) fn answer(status: u16, body: &str) -> Act {
    Act::Answer(status, String::new(), body.into())
}

type Script = Arc<dyn Fn(usize, &Seen) -> Act + Send + Sync>;

/// Lives as long as the test's process; its port is free again then.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Most requests that were being answered at one time.
    pub(crate) at_once_max: Arc<AtomicUsize>,
}

impl Server {
    /// `script` gets the number of the request (0, 1, …) and its head.
    pub(crate) fn start(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Server {
        Server::launch(None, script)
    }

    /// The same behind TLS.
    pub(crate) fn start_tls(
        tls: rustls::ServerConfig,
        script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static,
    ) -> Server {
        Server::launch(Some(Arc::new(tls)), script)
    }

    fn launch(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let at_once_max: Arc<AtomicUsize> = Arc::default();
        let server = Server {
            address,
            scheme: if tls.is_some() { "https" } else { "http" },
            seen: seen.clone(),
            at_once_max: at_once_max.clone(),
        };
        let script: Script = Arc::new(script);
        let at_once: Arc<AtomicUsize> = Arc::default();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, seen, tls) = (script.clone(), seen.clone(), tls.clone());
                let (at_once, at_once_max) = (at_once.clone(), at_once_max.clone());
                std::thread::spawn(move || {
                    let serve = |stream: &mut dyn ReadWrite| {
                        serve(stream, &script, &seen, (&at_once, &at_once_max));
                    };
                    match tls {
                        None => serve(&mut { stream }),
                        Some(tls) => {
                            let session = rustls::ServerConnection::new(tls).unwrap();
                            serve(&mut rustls::StreamOwned::new(session, stream));
                        }
                    }
                });
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

trait ReadWrite: Read + Write {}
impl ReadWrite for TcpStream {}
impl ReadWrite for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {}

fn serve(
    stream: &mut dyn ReadWrite,
    script: &Script,
    seen: &Mutex<Vec<Seen>>,
    (at_once, at_once_max): (&AtomicUsize, &AtomicUsize),
) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        at_once_max.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.parse().unwrap());
        let mut this = Seen { method, path, head, body: Vec::new() };
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(this.clone());
            seen.len() - 1
        };
        let act = script(number, &this);
        if let Act::CutAfter(bytes) = act {
            this.body.resize(bytes, 0);
            reader.read_exact(&mut this.body).ok();
            at_once.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        this.body.resize(length, 0);
        if reader.read_exact(&mut this.body).is_err() {
            at_once.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        seen.lock().unwrap()[number].body = this.body;
        let stream = reader.get_mut();
        match act {
            Act::Answer(status, headers, body) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n");
                at_once.fetch_sub(1, Ordering::SeqCst);
                if stream.write_all(head.as_bytes()).is_err() || stream.write_all(&body).is_err() {
                    return;
                }
                stream.flush().ok();
            }
            Act::CutAnswer => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc").ok();
                stream.flush().ok();
                return;
            }
            Act::Silence => {
                reader.read_line(&mut String::new()).ok();
                return;
            }
            Act::CloseAfterLastByte | Act::CutAfter(_) => return,
        }
    }
}
