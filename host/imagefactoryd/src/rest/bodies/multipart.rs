//! Multipart bodies: flat fields, and for imports one file that may be larger than memory.
//!
//! The file goes to the store's staging folder while it arrives, and is gone when the [`Upload`] is
//! dropped, however the request ends; what a crash leaves there is swept at the next start.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use uuid::Uuid;

use super::{Fields, Payload, form, too_slow};
use crate::rest::problems::Problem;

/// The field with the file.
const UPLOAD_FIELD: &str = "image_body";

/// Longest silence of an uploading client.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where uploads may go, and how much text may stand beside them.
pub(crate) struct UploadFolder<'a> {
    /// The staging folder of the store.
    pub(crate) folder: &'a Path,
    /// Bytes of all other fields together.
    pub(crate) text_bytes_max: usize,
    /// Somebody wants to know whether the same file comes again.
    pub(crate) hashed: bool,
}

/// A file that was sent. Removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// How large it is.
    pub(crate) bytes: u64,
    /// Of its content, where it was asked for.
    sha256: Option<[u8; 32]>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Already gone, or swept at the next start.
        std::fs::remove_file(&self.path).ok();
    }
}

/// The fields of a multipart body. Without a folder for uploads a file is a field like any other.
pub(super) async fn parse(
    content_type: &str,
    payload: Payload,
    uploads: Option<&UploadFolder<'_>>,
) -> Result<Fields, Problem> {
    let boundary = multer::parse_boundary(content_type)
        .map_err(|error| Problem::bad_request(format!("the multipart body: {error}")))?;
    let mut parts = multer::Multipart::new(pieces(payload), boundary);
    let (mut fields, mut upload, mut text_bytes) = (Map::new(), None, 0);
    while let Some(part) = next_part(&mut parts).await? {
        let name = part.name().unwrap_or_default().trim().to_owned();
        match uploads.filter(|_| name == UPLOAD_FIELD) {
            Some(_) if upload.is_some() => {
                return Err(Problem::bad_request("the form has the field 'image_body' twice"));
            }
            Some(uploads) => upload = Some(store(part, uploads).await?),
            None => {
                let bytes_max = uploads.map_or(usize::MAX, |uploads| uploads.text_bytes_max);
                let value = text(part, bytes_max, &mut text_bytes).await?;
                form::insert(&mut fields, &name, value)?;
            }
        }
    }
    let sha256 = sha256_of(&fields, upload.as_ref());
    Ok(Fields::new(fields).with_upload(upload).with_form_sha256(sha256))
}

fn sha256_of(fields: &Map<String, Value>, upload: Option<&Upload>) -> String {
    let mut names: Vec<&String> = fields.keys().collect();
    names.sort();
    let mut digest = Sha256::new();
    for name in names {
        // As JSON, so that no name can run into its value.
        digest.update(json!([name, fields[name]]).to_string());
    }
    digest.update(upload.and_then(|upload| upload.sha256).unwrap_or_default());
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pieces(payload: Payload) -> impl Stream<Item = Result<Bytes, warp::Error>> + Send + 'static {
    let (start, rest) = match payload {
        Payload::Whole(body) => (body, None),
        Payload::More { start, rest } => (start, Some(rest)),
    };
    let rest = rest.map_or_else(|| stream::empty().boxed(), StreamExt::boxed);
    stream::iter([Ok(start)]).chain(rest)
}

async fn next_part(
    parts: &mut multer::Multipart<'static>,
) -> Result<Option<multer::Field<'static>>, Problem> {
    let part = tokio::time::timeout(PIECE_TIMEOUT, parts.next_field()).await;
    part.map_err(|_| too_slow())?.map_err(malformed)
}

async fn next_piece(part: &mut multer::Field<'static>) -> Result<Option<Bytes>, Problem> {
    let piece = tokio::time::timeout(PIECE_TIMEOUT, part.chunk()).await;
    piece.map_err(|_| too_slow())?.map_err(malformed)
}

fn malformed(error: multer::Error) -> Problem {
    Problem::bad_request(format!("the multipart body is not valid: {error}"))
}

async fn text(
    mut part: multer::Field<'static>,
    bytes_max: usize,
    text_bytes: &mut usize,
) -> Result<String, Problem> {
    let mut content = Vec::new();
    while let Some(piece) = next_piece(&mut part).await? {
        *text_bytes += piece.len();
        if *text_bytes > bytes_max {
            return Err(super::too_large(bytes_max));
        }
        content.extend_from_slice(&piece);
    }
    String::from_utf8(content).map_err(|_| {
        let name = part.name().unwrap_or_default();
        Problem::bad_request(format!("the field '{name}' of the multipart body is not UTF-8"))
    })
}

/// Zeros become holes: a disk image is mostly empty.
async fn store(
    mut part: multer::Field<'static>,
    uploads: &UploadFolder<'_>,
) -> Result<Upload, Problem> {
    let path = uploads.folder.join(format!("{}.upload", Uuid::new_v4()));
    let mut upload = Upload { path, bytes: 0, sha256: None };
    let mut digest = uploads.hashed.then(Sha256::new);
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&upload.path).await.map_err(unwritable)?;
    while let Some(piece) = next_piece(&mut part).await? {
        if let Some(digest) = &mut digest {
            digest.update(&piece);
        }
        let bytes = piece.len() as u64;
        if piece.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(bytes.cast_signed())).await.map_err(unwritable)?;
        } else {
            file.write_all(&piece).await.map_err(unwritable)?;
        }
        upload.bytes += bytes;
    }
    file.flush().await.map_err(unwritable)?;
    // It may end with a hole.
    file.set_len(upload.bytes).await.map_err(unwritable)?;
    upload.sha256 = digest.map(|digest| digest.finalize().into());
    Ok(upload)
}

fn unwritable(error: std::io::Error) -> Problem {
    if error.kind() == std::io::ErrorKind::StorageFull {
        let detail = "there is no room left in the factory's store";
        return Problem::new(hyper::http::StatusCode::INSUFFICIENT_STORAGE, detail);
    }
    Problem::internal(&error)
}
