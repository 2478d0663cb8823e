//! The daemon under a service manager: sockets that are handed over, what it is told and when, and
//! a certificate that is exchanged under open connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imagefactory_tests::binaries;
use imagefactory_tests::daemon::{Daemon, Setup};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a manager heard, message after message.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").to_str().unwrap().to_owned()
    }

    fn hear(&self) -> String {
        let mut message = [0; 4096];
        let read = self.socket.recv(&mut message).expect("the daemon tells its manager");
        String::from_utf8_lossy(&message[..read]).trim().to_owned()
    }

    fn heard_nothing(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let heard = self.socket.recv(&mut [0; 16]);
        self.socket.set_nonblocking(false).unwrap();
        heard.is_err()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_hears_of_ready_reloading_and_stopping_in_time() {
    let manager = Manager::new();
    let mut daemon = Setup::default().environment("NOTIFY_SOCKET", &manager.path()).start();
    assert_eq!(manager.hear(), "READY=1");
    assert_eq!(daemon.get("/readyz").await.status().as_u16(), 200, "it was no lie");
    daemon.signal(libc::SIGHUP);
    let reloading = manager.hear();
    let mut lines = reloading.lines();
    assert_eq!(lines.next(), Some("RELOADING=1"));
    let since = lines.next().and_then(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.is_some_and(|since| since.parse::<u64>().is_ok()), "{reloading}");
    assert_eq!(manager.hear(), "READY=1");
    assert!(manager.heard_nothing());
    assert!(daemon.terminate().success());
    assert_eq!(manager.hear(), "STOPPING=1");
}

struct Activated(Child);

impl Drop for Activated {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A daemon with our listener as its descriptor 3, as systemd hands it over (sd_listen_fds(3)).
fn activate(daemon: &Daemon, listener: &TcpListener, pid_is_its_own: bool) -> Activated {
    let fd = listener.as_raw_fd();
    let mut command = Command::new("sh");
    let pid = if pid_is_its_own { "$$" } else { "1" };
    let script = format!("LISTEN_FDS=1 LISTEN_PID={pid} exec \"$@\"");
    command.args(["-c", &script, "sh"]).arg(binaries::daemon()).arg("--config");
    command.arg(daemon.folder.path().join("imagefactory.conf"));
    command.args(["--no_ssl", "--no_oauth", "--port", "0"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: dup2 and fcntl are async-signal-safe, and the descriptor is open in the child.
    unsafe {
        command.pre_exec(move || {
            // Where it is 3 already, dup2 would leave it to be closed by exec.
            match libc::dup2(fd, 3) == 3 && libc::fcntl(3, libc::F_SETFD, 0) == 0 {
                true => Ok(()),
                false => Err(std::io::Error::last_os_error()),
            }
        });
    }
    Activated(command.spawn().unwrap())
}

fn get(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = format!("Host: {address}");
    write!(stream, "GET /imagefactory HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_socket_that_is_handed_over_is_served_and_loses_no_connection_over_a_restart() {
    let mut daemon = Daemon::start();
    daemon.kill(); // only its folder is wanted
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..2 {
        // Nobody accepts yet: the kernel keeps the connection until the daemon lives.
        let asked = std::thread::spawn(move || get(address));
        let _activated = activate(&daemon, &listener, true);
        let answer = asked.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn a_socket_that_was_handed_to_another_process_is_not_taken() {
    let mut daemon = Daemon::start();
    daemon.kill();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let mut other = activate(&daemon, &listener, false);
    let _waiting = TcpStream::connect(address).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !daemon.storage().join("daemon.lock").exists() || other.0.try_wait().unwrap().is_some() {
        assert!(Instant::now() < deadline, "it starts with a port of its own");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Long enough for a daemon that accepts: the ones above do within milliseconds.
    std::thread::sleep(Duration::from_millis(500));
    assert!(listener.accept().is_ok(), "the connection still waits here");
}

/// Trusts everybody, and remembers whom.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

type Connection = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn connect(daemon: &Daemon) -> Connection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let tcp = TcpStream::connect(daemon.authority()).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    rustls::StreamOwned::new(tls, tcp)
}

/// One request on a connection that stays; answers the status line and the certificate.
fn ask(daemon: &Daemon, connection: &mut Connection) -> (String, Vec<u8>) {
    let host = daemon.authority();
    write!(connection, "GET /imagefactory HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The body is one line of JSON, and nothing follows it.
    while answer.last() != Some(&b'}') {
        let mut piece = [0; 4096];
        let read = connection.read(&mut piece).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..read]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let certificate = connection.conn.peer_certificates().unwrap()[0].to_vec();
    (text.lines().next().unwrap().to_owned(), certificate)
}

#[test]
fn a_new_certificate_is_for_new_connections_and_open_ones_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (pem, other) = (folder.path().join("one.pem"), folder.path().join("two.pem"));
    let start = |pem: &std::path::Path| {
        let flags = ["--no_oauth", "--ssl_pem", pem.to_str().unwrap()];
        Setup::default().flags(&flags).start()
    };
    drop(start(&other)); // made at its first start
    let daemon = start(&pem);
    let mut open = connect(&daemon);
    let (status, first) = ask(&daemon, &mut open);
    assert_eq!(status, "HTTP/1.1 200 OK");

    std::fs::rename(&other, &pem).unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("reloaded");
    let (status, same) = ask(&daemon, &mut open);
    assert_eq!((status.as_str(), same), ("HTTP/1.1 200 OK", first.clone()));
    let mut fresh = connect(&daemon);
    let (status, second) = ask(&daemon, &mut fresh);
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_ne!(second, first);

    // One that cannot be used changes nothing.
    std::fs::write(&pem, "no certificate").unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("the certificate stays as it was");
    assert_eq!(ask(&daemon, &mut connect(&daemon)).1, second);
    assert_eq!(ask(&daemon, &mut open).0, "HTTP/1.1 200 OK");
}
