//! The bare hyper server: one constant body, nothing else. Runs as a process of its own on the core
//! of the daemon, started by `Bare` and ended with it.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::Core;

/// A running bare server.
pub(crate) struct Bare {
    child: Child,
    /// Where it answers.
    pub(crate) url: String,
}

impl Bare {
    /// Starts it with a body of so many bytes.
    pub(crate) fn start(bytes: usize) -> Bare {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = crate::pinned(Core::Server);
        command.arg(program).args(["bare", &bytes.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says its port");
        Bare { child, url: format!("http://127.0.0.1:{}/", line.trim()) }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Serves until it is killed; says its port on standard output.
pub(crate) fn serve(bytes: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address").port());
        let body = Bytes::from(vec![b'x'; bytes]);
        loop {
            let Ok((tcp, _)) = listener.accept().await else { continue };
            tcp.set_nodelay(true).ok();
            let body = body.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let answer = Response::builder().header("content-type", "application/json");
                    let answer = answer.body(Full::new(body.clone())).expect("a response");
                    async move {
                        // An order has a body.
                        request.into_body().collect().await.ok();
                        Ok::<_, Infallible>(answer)
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                http.serve_connection(TokioIo::new(tcp), service).await.ok();
            });
        }
    });
}
