//! A listener for callbacks, in the test's process: it outlives every daemon that it hears.
//!
//! Each order of a test gets a URL of its own; what comes in is kept by URL and image in the order
//! of its arrival. Now and then it answers 503, since a listener that never fails proves no retry.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use imagefactory_model::status::Status;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Every so many requests one is refused: rare enough that retries (after 1 s, 2 s, …) do not
/// dominate a run.
const REFUSED_EVERY: u64 = 150;

/// A callback has some kilobytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// What was heard, by path of the URL and id of the image.
type Heard = BTreeMap<(String, String), Vec<Status>>;

/// The listener. It ends with the runtime.
pub struct CallbackListener {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

impl CallbackListener {
    /// Listens on a free port of the loopback interface.
    pub async fn start() -> CallbackListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let all = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut requests = 0_u64;
            while let Ok((stream, _)) = listener.accept().await {
                requests += 1;
                let refuse = requests.is_multiple_of(REFUSED_EVERY);
                let heard = Arc::clone(&all);
                // A daemon that is killed while it sends is no error of ours.
                tokio::spawn(async move { hear(stream, refuse, &heard).await.ok() });
            }
        });
        CallbackListener { address, heard }
    }

    /// The URL for an order.
    pub fn url(&self, order: &str) -> String {
        format!("http://{}/{order}", self.address)
    }

    /// Statuses that were heard of an image for an order, in their order; repetitions of one status
    /// count once (a callback is delivered at least once).
    pub fn statuses(&self, order: &str, image: &str) -> Vec<Status> {
        let heard = self.heard.lock().expect("no listener panics");
        let mut statuses =
            heard.get(&(order.to_owned(), image.to_owned())).cloned().unwrap_or_default();
        statuses.dedup();
        statuses
    }

    /// All pairs of order and image that were heard of.
    pub fn subjects(&self) -> Vec<(String, String)> {
        self.heard.lock().expect("no listener panics").keys().cloned().collect()
    }

    /// How many callbacks came in.
    pub fn count(&self) -> usize {
        self.heard.lock().expect("no listener panics").values().map(Vec::len).sum()
    }
}

async fn hear(mut stream: TcpStream, refuse: bool, heard: &Mutex<Heard>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let (head, length) = loop {
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]).into_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, length)| length.trim().parse::<usize>().ok());
            break (head, end + 4 + length.expect("callbacks have a length"));
        }
        assert!(request.len() < REQUEST_BYTES_MAX, "callbacks are small");
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    while request.len() < length {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    if !refuse {
        record(&head, &request[head.len() + 4..], heard);
    }
    let answer = if refuse { "503 Service Unavailable" } else { "200 OK" };
    let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

fn record(head: &str, body: &[u8], heard: &Mutex<Heard>) {
    let mut words = head.split(' ');
    assert_eq!(words.next(), Some("PUT"), "callbacks are PUT: {head}");
    let path = words.next().expect("a path").trim_start_matches('/').to_owned();
    let document: Value = serde_json::from_slice(body).expect("a callback is JSON");
    let image = document.as_object().and_then(|root| root.values().next()).expect("a root key");
    let id = image["id"].as_str().expect("an id").to_owned();
    let status = image["status"].as_str().expect("a status").parse().expect("a known status");
    let mut heard = heard.lock().expect("no listener panics");
    heard.entry((path, id)).or_default().push(status);
}
