//! Docker's own registry, as Debian packages it, in a folder of its own on a port of its own; with
//! passwords, with tokens of a small token service, with TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PASSWORD, USER, run, text};

/// How long it may take to listen; a fifth of a second when the machine is quiet.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// Everybody.
    None,
    /// Who has the password.
    Basic,
    /// Who has a token of the token service, which wants the password.
    Token,
}

/// A certificate of an authority of its own, for 127.0.0.1.
pub(crate) struct Tls {
    /// The authority's certificate, as PEM.
    pub(crate) ca: String,
}

/// The registry; ended when dropped.
pub(crate) struct RegistryServer {
    child: Child,
    /// Host and port.
    pub(crate) authority: String,
    folder: TempDir,
    /// Where there is TLS.
    pub(crate) tls: Option<Tls>,
}

impl RegistryServer {
    /// Open to all, without TLS.
    pub(crate) fn start() -> RegistryServer {
        RegistryServer::start_with(Authentication::None, false, json!({}))
    }

    /// `storage` is laid over the registry's storage section.
    pub(crate) fn start_with(
        authentication: Authentication,
        with_tls: bool,
        storage: Value,
    ) -> RegistryServer {
        let folder = tempfile::Builder::new().prefix("registry-").tempdir().expect("a folder");
        let path = folder.path();
        let port = free_port();
        let authority = format!("127.0.0.1:{port}");
        let mut http = json!({"addr": authority, "secret": "of the registry"});
        let tls = with_tls.then(|| {
            let ca = make_certificate(path);
            http["tls"] =
                json!({"certificate": path.join("cert.pem"), "key": path.join("key.pem")});
            Tls { ca }
        });
        let mut stored = json!({"filesystem": {"rootdirectory": path.join("storage")},
            "delete": {"enabled": true}});
        for (key, value) in storage.as_object().expect("an object") {
            stored[key.as_str()] = value.clone();
        }
        let mut configuration = json!({"version": 0.1, "log": {"level": "warn"},
            "storage": stored, "http": http});
        match authentication {
            Authentication::None => {}
            Authentication::Basic => {
                let file = path.join("htpasswd");
                run("htpasswd", &["-Bbc", text(&file), USER, PASSWORD]);
                configuration["auth"] = json!({"htpasswd": {"realm": "tests", "path": file}});
            }
            Authentication::Token => {
                make_signer(path);
                let realm = start_token_service(path);
                configuration["auth"] = json!({"token": {"realm": realm, "service": "registry",
                    "issuer": "tests", "rootcertbundle": path.join("signer.pem")}});
            }
        }
        // JSON is YAML.
        let file = path.join("registry.yml");
        std::fs::write(&file, configuration.to_string()).expect("a file");
        let log = std::fs::File::create(path.join("log")).expect("a file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the package docker-registry (tests/clouds/install-servers)");
        let server = RegistryServer { child, authority, folder, tls };
        server.wait_until_it_listens();
        server
    }

    fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address()).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.authority.parse().expect("an address")
    }

    /// A provider for it, with this repository.
    pub(crate) fn provider(&self, repository: &str) -> Value {
        let mut provider = json!({"registry": self.authority, "repository": repository});
        match &self.tls {
            Some(tls) => provider["ca"] = json!(tls.ca),
            None => provider["plain_http"] = json!(true),
        }
        provider
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where it keeps its images.
    pub(crate) fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// Manifests and tags, by the names of their links in the storage; empty: nothing was left.
    pub(crate) fn manifests(&self) -> Vec<String> {
        let repositories = self.storage().join("docker/registry/v2/repositories");
        if !repositories.exists() {
            return Vec::new();
        }
        let found = run("find", &[text(&repositories), "-path", "*_manifests*", "-name", "link"]);
        let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
        found.sort();
        found
    }

    /// The arguments with which skopeo reaches it.
    pub(crate) fn skopeo_flags(&self, side: &str) -> Vec<String> {
        vec![format!("--{side}tls-verify=false")]
    }

    /// Digest of an image's manifest by skopeo; `None`: there is none.
    pub(crate) fn digest(&self, reference: &str) -> Option<String> {
        let source = format!("docker://{}/{reference}", self.authority);
        let output = super::attempt(
            "skopeo",
            &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &source],
        );
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        // Gone already is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// An authority, and a certificate for 127.0.0.1 signed by it; answers the authority's.
fn make_certificate(folder: &Path) -> String {
    let script = "set -e; cd \"$1\"; \
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca \
            -addext basicConstraints=critical,CA:TRUE; \
        openssl req -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=127.0.0.1; \
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > ext; \
        openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
            -extfile ext -out cert.pem";
    run("sh", &["-c", script, "sh", text(folder)]);
    std::fs::read_to_string(folder.join("ca.pem")).expect("the certificate")
}

/// A key whose certificate the registry trusts for tokens.
fn make_signer(folder: &Path) {
    let (key, certificate) = (folder.join("signer.key"), folder.join("signer.pem"));
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            text(&key),
            "-out",
            text(&certificate),
            "-days",
            "2",
            "-subj",
            "/CN=tests",
        ],
    );
}

/// Answers its address. It gives a token for whatever is asked to whoever has the password.
fn start_token_service(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || give_token(client, &folder));
        }
    });
    format!("http://{address}/token")
}

fn give_token(client: TcpStream, folder: &Path) {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let expected = encoded_plain(format!("{USER}:{PASSWORD}").as_bytes());
    let (status, body) = match head.contains(&format!("Basic {expected}")) {
        true => (200, json!({"token": signed_token(&head, folder), "expires_in": 300})),
        false => (401, json!({"details": "incorrect username or password"})),
    };
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    client.get_mut().write_all(answer.as_bytes()).ok();
    // Until the client has read it.
    client.read_to_end(&mut Vec::new()).ok();
}

fn signed_token(head: &str, folder: &Path) -> String {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let access: Vec<Value> = scopes
        .filter_map(|scope| {
            let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let actions: Vec<&str> = actions.split(',').collect();
            Some(json!({"type": kind, "name": name, "actions": actions}))
        })
        .collect();
    let certificate = std::fs::read_to_string(folder.join("signer.pem")).expect("it is there");
    let der: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("a clock").as_secs();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
    let claims = json!({"iss": "tests", "sub": USER, "aud": "registry", "exp": now + 300,
        "nbf": now - 10, "iat": now, "jti": now.to_string(), "access": access});
    let part = |value: &Value| encoded(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &signed).expect("it is writable");
    let key = folder.join("signer.key");
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign", text(&key), text(file.path())])
        .output()
        .expect("openssl");
    format!("{signed}.{}", encoded(&output.stdout))
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn encoded_plain(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
