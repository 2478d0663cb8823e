//! A reverse proxy on loopback in front of a real server, which spoils what a test wants spoiled.
//!
//! Without a fault it passes every request on, each over a connection of its own, and remembers
//! what came: so a test can also count bytes. It speaks HTTP/1.1 on one thread a connection, plain
//! or behind TLS, and ends with the test's process.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This answer instead of the server's, which hears nothing; the request is read to its end.
    Answer {
        /// 429, 503, …
        status: u16,
        /// Further header lines, each with its `\r\n`.
        headers: String,
        /// The body.
        body: String,
    },
    /// The connection ends after so many bytes of the request's body; the server gets those.
    CutAfter(u64),
    /// The server gets everything and answers, and the client is hung up on.
    CloseAfterLastByte,
    /// The byte at this place of the body arrives as another one.
    SpoilByte(u64),
    /// The body passes at so many bytes a second.
    Slow(u64),
    /// Nothing for so long, then all is well.
    Wait(Duration),
}

impl Fault {
    /// A short answer.
    pub fn answer(status: u16) -> Fault {
        Fault::Answer { status, headers: String::new(), body: String::new() }
    }
}

/// One request that came.
#[derive(Debug, Clone)]
pub struct Passed {
    /// `PUT`, …
    pub method: String,
    /// With its query.
    pub path: String,
    /// The request line and all headers.
    pub head: String,
    /// Bytes of the body that came from the client.
    pub body_bytes: u64,
    /// What was answered; 0 = nothing.
    pub status: u16,
}

struct Planned {
    method: String,
    path_part: String,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct State {
    plans: Mutex<Vec<Planned>>,
    passed: Mutex<Vec<Passed>>,
}

/// The proxy. Clones are the same one.
#[derive(Clone)]
pub struct FaultyProxy {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
}

impl FaultyProxy {
    /// In front of this server.
    pub fn start(upstream: SocketAddr) -> FaultyProxy {
        FaultyProxy::launch(upstream, None)
    }

    /// The same, with TLS towards the client.
    pub fn start_tls(upstream: SocketAddr, tls: rustls::ServerConfig) -> FaultyProxy {
        FaultyProxy::launch(upstream, Some(Arc::new(tls)))
    }

    fn launch(upstream: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> FaultyProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state: Arc<State> = Arc::default();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let proxy = FaultyProxy { address, scheme, state: state.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, tls) = (state.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(client, upstream, &state),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).expect("a session");
                        serve(rustls::StreamOwned::new(session, client), upstream, &state);
                    }
                });
            }
        });
        proxy
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The next `times` requests with this method, whose path contains this, fail so. Plans are
    /// used up in their order.
    pub fn plan(&self, method: &str, path_part: &str, times: usize, fault: Fault) {
        let (method, path_part) = (method.to_owned(), path_part.to_owned());
        lock(&self.state.plans).push(Planned { method, path_part, times, fault });
    }

    /// Nothing goes wrong any more.
    pub fn forget_plans(&self) {
        lock(&self.state.plans).clear();
    }

    /// What came so far; a body that is under way counts as far as it is.
    pub fn passed(&self) -> Vec<Passed> {
        lock(&self.state.passed).clone()
    }

    /// Bytes of all bodies of requests with this method, whose path contains this.
    pub fn body_bytes(&self, method: &str, path_part: &str) -> u64 {
        let passed = lock(&self.state.passed);
        let these = passed.iter().filter(|it| it.method == method && it.path.contains(path_part));
        these.map(|it| it.body_bytes).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

impl State {
    fn fault_of(&self, method: &str, path: &str) -> Option<Fault> {
        let mut plans = lock(&self.plans);
        let fits = |plan: &Planned| plan.method == method && path.contains(&plan.path_part);
        let at = plans.iter().position(|plan| plan.times > 0 && fits(plan))?;
        plans[at].times -= 1;
        Some(plans[at].fault.clone())
    }
}

/// Serves one connection until either side is done with it.
fn serve(client: impl Read + Write, upstream: SocketAddr, state: &State) {
    let mut client = BufReader::new(client);
    while let Some(head) = read_head(&mut client) {
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let fault = state.fault_of(method, path);
        let number = {
            let mut passed = lock(&state.passed);
            let (method, path) = (method.to_owned(), path.to_owned());
            passed.push(Passed { method, path, head: head.clone(), body_bytes: 0, status: 0 });
            passed.len() - 1
        };
        let count = |bytes: usize| lock(&state.passed)[number].body_bytes += bytes as u64;
        if let Some(Fault::Wait(pause)) = fault {
            std::thread::sleep(pause);
        }
        if expects_continue(&head) {
            client.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok();
        }
        let answered = match fault {
            Some(Fault::Answer { status, headers, body }) => {
                let length = Length::of(&head);
                if pass_body(&mut client, &mut std::io::sink(), &length, None, count).is_none() {
                    return;
                }
                let bytes = body.len();
                let head = format!("HTTP/1.1 {status} Planned\r\ncontent-length: {bytes}\r\n");
                let answer = format!("{head}{headers}\r\n{body}");
                lock(&state.passed)[number].status = status;
                client
                    .get_mut()
                    .write_all(answer.as_bytes())
                    .and_then(|()| client.get_mut().flush())
            }
            fault => {
                let Some((status, answer)) =
                    ask_upstream(&mut client, upstream, &head, fault.as_ref(), count)
                else {
                    return;
                };
                lock(&state.passed)[number].status = status;
                pass_answer(answer, client.get_mut(), method == "HEAD")
            }
        };
        if answered.is_err() {
            return;
        }
    }
}

/// Up to the empty line; `None` = the client has gone.
fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_until(b'\n', &mut head) {
            Ok(1..) => {}
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

fn header<'h>(head: &'h str, wanted: &str) -> Option<&'h str> {
    let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
}

fn expects_continue(head: &str) -> bool {
    header(head, "expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
}

enum Length {
    Known(u64),
    Chunked,
}

impl Length {
    fn of(head: &str) -> Length {
        if header(head, "transfer-encoding").is_some() {
            return Length::Chunked;
        }
        Length::Known(header(head, "content-length").and_then(|it| it.parse().ok()).unwrap_or(0))
    }
}

/// Passes the request on; `None` = hung up on the client, on purpose or because the server did.
fn ask_upstream(
    client: &mut impl BufRead,
    upstream: SocketAddr,
    head: &str,
    fault: Option<&Fault>,
    count: impl Fn(usize),
) -> Option<(u16, BufReader<TcpStream>)> {
    let mut server = TcpStream::connect(upstream).ok()?;
    let dropped = ["connection:", "expect:"];
    let kept = head.trim_end().lines().filter(|line| {
        let line = line.to_ascii_lowercase();
        !dropped.iter().any(|name| line.starts_with(name))
    });
    let head_on = kept.collect::<Vec<_>>().join("\r\n") + "\r\nconnection: close\r\n\r\n";
    server.write_all(head_on.as_bytes()).ok()?;
    let passed = pass_body(client, &mut server, &Length::of(head), fault, count);
    // A server that has answered already reads no further; its answer counts.
    if passed.is_none() && matches!(fault, Some(Fault::CutAfter(_))) {
        return None;
    }
    let mut server = BufReader::new(server);
    let first = server.fill_buf().ok()?;
    let status = std::str::from_utf8(first.get(9..12)?).ok()?.parse().ok()?;
    if matches!(fault, Some(Fault::CloseAfterLastByte)) {
        // Let the server finish first.
        std::io::copy(&mut server, &mut std::io::sink()).ok();
        return None;
    }
    Some((status, server))
}

/// Passes a body on as it is; `None` = one side has gone, or it was cut.
fn pass_body(
    from: &mut impl BufRead,
    to: &mut impl Write,
    length: &Length,
    fault: Option<&Fault>,
    count: impl Fn(usize),
) -> Option<()> {
    match length {
        Length::Known(bytes) => pass_bytes(from, to, *bytes, fault, &count),
        Length::Chunked => loop {
            let mut line = String::new();
            from.read_line(&mut line).ok().filter(|read| *read > 0)?;
            to.write_all(line.as_bytes()).ok()?;
            let bytes = u64::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
            // With the end of line that follows each chunk.
            pass_bytes(from, to, bytes, fault, &count)?;
            pass_bytes(from, to, 2, None, &|_| ())?;
            if bytes == 0 {
                return Some(());
            }
        },
    }
}

fn pass_bytes(
    from: &mut impl BufRead,
    to: &mut impl Write,
    bytes: u64,
    fault: Option<&Fault>,
    count: &impl Fn(usize),
) -> Option<()> {
    let end = match fault {
        Some(Fault::CutAfter(cut)) => bytes.min(*cut),
        _ => bytes,
    };
    let mut piece = vec![0; 64 << 10];
    let mut at = 0;
    while at < end {
        let wanted = piece.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let read = match from.read(&mut piece[..wanted]) {
            Ok(0) => return None,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return None,
        };
        match fault {
            Some(Fault::SpoilByte(place)) if (at..at + read as u64).contains(place) => {
                piece[(place - at) as usize] ^= 0xff;
            }
            Some(Fault::Slow(bytes_per_s)) => {
                let pause = read as f64 / *bytes_per_s as f64;
                std::thread::sleep(Duration::from_secs_f64(pause));
            }
            _ => {}
        }
        count(read);
        at += read as u64;
        to.write_all(&piece[..read]).ok()?;
    }
    (end == bytes && !matches!(fault, Some(Fault::CutAfter(_)))).then_some(())
}

/// Passes the answer on until the server closes. The client's connection stays usable where the
/// answer says its own length.
fn pass_answer(
    mut from: BufReader<TcpStream>,
    to: &mut impl Write,
    without_body: bool,
) -> std::io::Result<()> {
    let head = read_head(&mut from).ok_or(ErrorKind::UnexpectedEof)?;
    let known = header(&head, "content-length").is_some() || without_body;
    let kept: Vec<&str> = head
        .trim_end()
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
        .collect();
    let connection = if known { "" } else { "\r\nconnection: close" };
    to.write_all(format!("{}{connection}\r\n\r\n", kept.join("\r\n")).as_bytes())?;
    std::io::copy(&mut from, to)?;
    to.flush()?;
    if known { Ok(()) } else { Err(ErrorKind::ConnectionAborted.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers with the body that it got.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = BufReader::new(stream);
                let Some(head) = read_head(&mut stream) else { continue };
                let mut body = Vec::new();
                if pass_body(&mut stream, &mut body, &Length::of(&head), None, |_| ()).is_some() {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let stream = stream.get_mut();
                    stream.write_all(&[head.as_bytes(), &body].concat()).ok();
                }
            }
        });
        address
    }

    async fn put(proxy: &FaultyProxy, body: Vec<u8>) -> reqwest::Result<(u16, Vec<u8>)> {
        let client = reqwest::Client::new();
        let answer = client.put(format!("{}/a/b", proxy.url())).body(body).send().await?;
        Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_passes_on_counts_and_spoils_what_is_planned() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let proxy = FaultyProxy::start(echo());
        let body = vec![3; 300_000];
        assert_eq!(put(&proxy, body.clone()).await.unwrap(), (200, body.clone()));
        proxy.plan("PUT", "/b", 1, Fault::answer(503));
        proxy.plan("PUT", "/b", 1, Fault::CutAfter(100_000));
        proxy.plan("PUT", "/b", 1, Fault::CloseAfterLastByte);
        proxy.plan("PUT", "/b", 1, Fault::SpoilByte(200_000));
        assert_eq!(put(&proxy, body.clone()).await.unwrap().0, 503);
        assert!(put(&proxy, body.clone()).await.is_err());
        assert!(put(&proxy, body.clone()).await.is_err());
        let spoilt = put(&proxy, body.clone()).await.unwrap().1;
        let differing: Vec<usize> = (0..body.len()).filter(|at| spoilt[*at] != 3).collect();
        assert_eq!(differing, [200_000]);
        assert_eq!(put(&proxy, body.clone()).await.unwrap(), (200, body));
        let statuses: Vec<u16> = proxy.passed().iter().map(|passed| passed.status).collect();
        assert_eq!(statuses, [200, 503, 0, 0, 200, 200]);
        assert_eq!(proxy.body_bytes("PUT", "/a"), 5 * 300_000 + 100_000);
    }
}
