//! A folder behind http on loopback: repositories, media and contents that templates name.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};

/// Serves until the process ends; each request in a thread of its own.
pub struct FileServer {
    address: SocketAddr,
}

impl FileServer {
    /// Everything below this folder, at the root.
    pub fn serve(folder: &Path) -> FileServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let folder = folder.to_owned();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let folder = folder.clone();
                // A client that goes away is its own business.
                std::thread::spawn(move || answer(&folder, connection).ok());
            }
        });
        FileServer { address }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn answer(folder: &Path, mut connection: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        // A place that leads on: /to/http://…
        if let Some(place) = path.strip_prefix("/to/") {
            let head =
                format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
            connection.write_all(head.as_bytes())?;
            continue;
        }
        match file_at(folder, path).and_then(|file| std::fs::File::open(file).ok()) {
            Some(mut file) => {
                let bytes = file.metadata()?.len();
                write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")?;
                std::io::copy(&mut file, &mut connection)?;
            }
            None => {
                connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            }
        }
    }
}

/// The file of a request's path, with `%2b` and the like decoded as apt writes them.
fn file_at(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = percent_decoded(path.split('?').next().unwrap_or_default());
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let file = folder.join(relative);
    (plain && file.is_file()).then_some(file)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let decoded = after
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
