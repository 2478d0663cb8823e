//! HTTP/1.1 by hand, because a test wants to cut it at any byte.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::Shared;

/// Requests of these APIs have some hundred bytes of head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// More is asked of nobody: a block.
const BODY_BYTES_MAX: usize = 4 << 20;

/// TCP, or TLS over it.
pub(crate) trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A request.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Lower-case names, in their order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Lower-case hex of the body.
    pub(crate) sha256: [u8; 32],
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Answer {
        let headers = vec![("content-type", "application/json".to_owned())];
        Answer { status, headers, body: body.to_string() }
    }

    pub(crate) fn xml(status: u16, body: String) -> Answer {
        let headers = vec![("content-type", "text/xml;charset=UTF-8".to_owned())];
        Answer { status, headers, body }
    }
}

/// Reads up to the blank line; `None` = the connection has ended.
pub(crate) fn read_head(
    stream: &mut dyn Stream,
    left_over: &mut Vec<u8>,
) -> io::Result<Option<Asked>> {
    let mut buffer = [0; 16 << 10];
    let end = loop {
        if let Some(at) = left_over.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 || left_over.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        left_over.extend_from_slice(&buffer[..read]);
    };
    let head = String::from_utf8_lossy(&left_over[..end]).into_owned();
    left_over.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let target = first.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Some(Asked {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: lines.filter_map(header).collect(),
        body: Vec::new(),
        sha256: [0; 32],
    }))
}

/// Reads the body, all of it or up to the cut; `None` = it was cut.
pub(crate) fn read_body(
    stream: &mut dyn Stream,
    left_over: &mut Vec<u8>,
    asked: Asked,
    cut: Option<usize>,
    shared: &Shared,
) -> Option<Asked> {
    let length: usize = asked.header("content-length").unwrap_or("0").parse().ok()?;
    let is_block = asked.method == "PUT";
    let wanted = cut.map_or(length, |cut| cut.min(length));
    if length > BODY_BYTES_MAX {
        return None;
    }
    if asked.header("expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = vec![0; wanted];
    let at_hand = left_over.len().min(wanted);
    body[..at_hand].copy_from_slice(&left_over[..at_hand]);
    left_over.drain(..at_hand);
    let mut filled = at_hand;
    let mut ended = false;
    while filled < wanted && !ended {
        match stream.read(&mut body[filled..]) {
            Ok(0) | Err(_) => ended = true,
            Ok(read) => filled += read,
        }
    }
    if is_block {
        shared.world().block_bytes_received += filled as u64;
    }
    if ended || cut.is_some_and(|cut| cut < length) {
        return None;
    }
    let sha256 = Sha256::digest(&body).into();
    Some(Asked { body, sha256, ..asked })
}

/// Writes an answer.
pub(crate) fn write_answer(
    stream: &mut dyn Stream,
    answer: &Answer,
    date: Option<&str>,
) -> io::Result<()> {
    use std::fmt::Write as _;
    let mut head =
        format!("HTTP/1.1 {} -\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        // Writing to a String cannot fail.
        write!(head, "{name}: {value}\r\n").ok();
    }
    if let Some(date) = date {
        write!(head, "date: {date}\r\n").ok();
    }
    head.push_str("\r\n");
    head.push_str(&answer.body);
    stream.write_all(head.as_bytes())?;
    stream.flush()
}
