//! A container registry that keeps to the letter of the OCI distribution specification, in the
//! test's process: what Docker's own cannot be made to do (an upload that broke off in the middle
//! of a piece and goes on, tokens that run out when a test wants it, referrers) is seen here.
//!
//! It refuses what the specification forbids, counts what it gets, and speaks HTTP/1.1 on a thread
//! a connection. It ends with the test's process.

mod manifests;
mod uploads;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use manifests::{manifest, referrers};
use uploads::upload;

/// A manifest, by digest and tags.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// Its bytes.
    pub text: Vec<u8>,
    /// As it was put.
    pub media_type: String,
}

/// What the registry holds, and what it saw.
#[derive(Debug, Default)]
pub struct Holdings {
    /// `repository@sha256:…`.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// `repository@sha256:…`.
    pub manifests: BTreeMap<String, StoredManifest>,
    /// `repository:tag`, and the digest behind it.
    pub tags: BTreeMap<String, String>,
    /// Open uploads, and what of them has come.
    pub uploads: BTreeMap<String, Vec<u8>>,
    /// Bytes of blobs that came over the wire.
    pub upload_bytes: u64,
    /// Method and path of each request.
    pub requests: Vec<String>,
    /// Tokens that were given out.
    pub tokens_given: u64,
    opened: u64,
    /// Of each upload: the request that may add to it. A later one ends an earlier one.
    turns: BTreeMap<String, u64>,
}

/// How it behaves.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// User and password for its token service; `None`: open to all.
    pub login: Option<(String, String)>,
    /// How many requests a token is good for; 0 = any number.
    pub token_requests: u64,
    /// Bytes a second that uploads arrive with; 0 = as they come.
    pub bytes_per_s: u64,
    /// Takes no PATCH.
    pub no_pieces: bool,
    /// Refuses DELETE with 405.
    pub no_deletes: bool,
    /// Knows the referrers API.
    pub referrers: bool,
}

struct State {
    address: SocketAddr,
    behaviour: Mutex<Behaviour>,
    holdings: Mutex<Holdings>,
    /// The token in use, and how often it may be used yet.
    token: Mutex<(String, u64)>,
}

/// The registry. Clones are the same one.
#[derive(Clone)]
pub struct StrictRegistry {
    state: Arc<State>,
}

impl StrictRegistry {
    /// Listens on a free port.
    pub fn start(behaviour: Behaviour) -> StrictRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let state = Arc::new(State {
            address: listener.local_addr().expect("an address"),
            behaviour: Mutex::new(behaviour),
            holdings: Mutex::default(),
            token: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(client, &state));
            }
        });
        StrictRegistry { state }
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        self.state.address.to_string()
    }

    /// What it holds; hold it shortly.
    pub fn holdings(&self) -> MutexGuard<'_, Holdings> {
        lock(&self.state.holdings)
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.state.behaviour));
    }

    /// Waits until so many bytes of blobs have come.
    pub fn wait_for_bytes(&self, bytes: u64, patience: Duration) {
        let deadline = std::time::Instant::now() + patience;
        while self.holdings().upload_bytes < bytes {
            assert!(std::time::Instant::now() < deadline, "no {bytes} bytes in {patience:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// `sha256:…`.
fn digest_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

struct Asked {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

impl Asked {
    fn read(client: &mut BufReader<TcpStream>) -> Option<Asked> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            client.read_line(&mut line).ok().filter(|read| *read > 0)?;
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let mut words = lines.first()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        let plain = |text: &str| text.replace("%3A", ":").replace("%2F", "/");
        let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
        Some(Asked {
            method,
            path: plain(path),
            query: query.map(|(name, value)| (name.to_owned(), plain(value))).collect(),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
                .collect(),
        })
    }

    fn bytes(&self) -> u64 {
        self.headers.get("content-length").and_then(|it| it.parse().ok()).unwrap_or(0)
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    fn error(status: u16, code: &str) -> Answer {
        let body = json!({"errors": [{"code": code, "message": code.to_lowercase()}]});
        Answer { body: body.to_string().into_bytes(), ..Answer::new(status) }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn body(self, body: Vec<u8>) -> Answer {
        Answer { body, ..self }
    }
}

fn serve(client: TcpStream, state: &State) {
    let mut client = BufReader::new(client);
    while let Some(asked) = Asked::read(&mut client) {
        lock(&state.holdings).requests.push(format!("{} {}", asked.method, asked.path));
        let (answer, cut) = match refused(&asked, state) {
            Some(answer) => (answer, drain(&mut client, asked.bytes()).is_none()),
            None => handle(&asked, &mut client, state),
        };
        if cut {
            return;
        }
        let mut head = format!("HTTP/1.1 {} Strict\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", answer.body.len());
        let stream = client.get_mut();
        let body: &[u8] = if asked.method == "HEAD" { &[] } else { &answer.body };
        let written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        let ends = asked.headers.get("connection").is_some_and(|it| it == "close");
        if written.is_err() || ends {
            return;
        }
    }
}

fn drain(client: &mut impl Read, bytes: u64) -> Option<()> {
    let read = std::io::copy(&mut client.take(bytes), &mut std::io::sink()).ok()?;
    (read == bytes).then_some(())
}

/// What somebody without a valid token gets.
fn refused(asked: &Asked, state: &State) -> Option<Answer> {
    let behaviour = lock(&state.behaviour).clone();
    behaviour.login.as_ref()?;
    if asked.path == "/token" {
        return None;
    }
    let mut token = lock(&state.token);
    let given = asked.headers.get("authorization").and_then(|it| it.strip_prefix("Bearer "));
    if given.is_some_and(|given| !token.0.is_empty() && given == token.0) && token.1 > 0 {
        token.1 -= 1;
        return None;
    }
    let realm = format!("http://{}/token", state.address);
    let challenge = format!("Bearer realm=\"{realm}\",service=\"strict\",scope=\"a,b\"");
    Some(Answer::error(401, "UNAUTHORIZED").with("www-authenticate", challenge))
}

fn give_token(asked: &Asked, state: &State) -> Answer {
    let behaviour = lock(&state.behaviour).clone();
    let Some((user, password)) = behaviour.login else { return Answer::new(404) };
    let expected = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("{user}:{password}"),
    );
    let given = asked.headers.get("authorization").and_then(|it| it.strip_prefix("Basic "));
    if given != Some(&expected) {
        return Answer::error(401, "UNAUTHORIZED");
    }
    let mut holdings = lock(&state.holdings);
    holdings.tokens_given += 1;
    let value = format!("strict-token-{:08}", holdings.tokens_given);
    let uses = if behaviour.token_requests == 0 { u64::MAX } else { behaviour.token_requests };
    *lock(&state.token) = (value.clone(), uses);
    Answer::new(200).body(json!({"token": value, "expires_in": 300}).to_string().into_bytes())
}

/// The answer, and whether the client has gone.
fn handle(asked: &Asked, client: &mut BufReader<TcpStream>, state: &State) -> (Answer, bool) {
    let path = asked.path.clone();
    if path == "/token" {
        return (give_token(asked, state), false);
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return (Answer::new(404), false) };
    if rest.is_empty() {
        return (Answer::new(200).body(b"{}".to_vec()), false);
    }
    for (part, is_upload) in [("/blobs/uploads/", true), ("/blobs/", false)] {
        if let Some((repository, name)) = rest.split_once(part) {
            if is_upload {
                return upload(asked, (repository, name), client, state);
            }
            let cut = drain(client, asked.bytes()).is_none();
            return (blob(asked, repository, name, state), cut);
        }
    }
    let mut body = vec![0; usize::try_from(asked.bytes()).unwrap_or(0)];
    if client.read_exact(&mut body).is_err() {
        return (Answer::new(400), true);
    }
    if let Some((repository, name)) = rest.split_once("/manifests/") {
        return (manifest(asked, (repository, name), body, state), false);
    }
    match rest.split_once("/referrers/") {
        Some((repository, subject)) => (referrers(repository, subject, state), false),
        None => (Answer::error(404, "NAME_UNKNOWN"), false),
    }
}

fn blob(asked: &Asked, repository: &str, digest: &str, state: &State) -> Answer {
    let holdings = lock(&state.holdings);
    match holdings.blobs.get(&format!("{repository}@{digest}")) {
        Some(blob) if matches!(asked.method.as_str(), "GET" | "HEAD") => {
            Answer::new(200).with("docker-content-digest", digest).body(blob.clone())
        }
        _ => Answer::error(404, "BLOB_UNKNOWN"),
    }
}
