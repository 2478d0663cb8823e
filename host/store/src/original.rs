//! Takes over a file store of the original: `<uuid>.meta` beside `<uuid>.body`.
//!
//! Done once, when the records are empty: an operator points `storage_path` at what the original
//! left and finds all images there. Images that were in the making then are FAILED: nobody works on
//! them. Files that cannot be read are named in a warning and left alone.

use std::path::Path;

use imagefactory_model::image::{Body, Image, ImageKind};
use imagefactory_model::order::{Order, OrderKind, Submission};
use imagefactory_model::status::Status;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::layout::StoreLayout;
use crate::{ImageStore, StoreError, opening, sparse};

/// Largest `.meta` file that is read: a template and an ICICLE of some thousand packages.
const META_BYTES_MAX: u64 = 16 << 20;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Images that are recorded now.
    pub images: usize,
    /// Files that were left alone, each with the reason.
    pub left: Vec<String>,
}

/// Records every image of an original's store. Nothing happens when there are records already.
pub async fn take_over(
    store: &dyn ImageStore,
    layout: &StoreLayout,
) -> Result<TakenOver, StoreError> {
    if !store.census().await?.is_empty() {
        return Ok(TakenOver::default());
    }
    let _turn = opening::lock(layout.root()).await?;
    if !store.census().await?.is_empty() {
        return Ok(TakenOver::default()); // another process was faster
    }
    let root = layout.root().to_owned();
    let (mut found, left) = tokio::task::spawn_blocking(move || read_all(&root))
        .await
        .map_err(|_| StoreError::Closed)??;
    // Parents before children.
    found.sort_by_key(|image| image.kind);
    let mut taken = TakenOver { images: 0, left };
    for image in found {
        // An order that is closed at once: records come in through one door.
        let order = Order::new(image.id, OrderKind::Build);
        let order_id = order.id;
        let submission = Submission { images: vec![image], orders: vec![order], idempotency: None };
        store.submit(submission).await?;
        store.close(order_id).await?;
        taken.images += 1;
    }
    Ok(taken)
}

fn read_all(root: &Path) -> Result<(Vec<Image>, Vec<String>), StoreError> {
    let failed = |cause| StoreError::file("list", root, cause);
    let mut images = Vec::new();
    let mut left = Vec::new();
    for entry in std::fs::read_dir(root).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "meta") {
            continue;
        }
        match read_image(&path) {
            Ok(image) => images.push(image),
            Err(reason) => left.push(format!("{}: {reason}", path.display())),
        }
    }
    left.sort();
    Ok((images, left))
}

fn read_image(path: &Path) -> Result<Image, String> {
    let metadata = path.symlink_metadata().map_err(|cause| cause.to_string())?;
    if !metadata.is_file() || metadata.len() > META_BYTES_MAX {
        return Err("it is no file, or too large for one".to_owned());
    }
    let text = std::fs::read(path).map_err(|cause| cause.to_string())?;
    let meta: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|cause| format!("it is no JSON object: {cause}"))?;
    let id = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .and_then(|stem| Uuid::parse_str(stem).ok())
        .ok_or("its name is no UUID")?;
    let kind = text_of(&meta, "type")
        .or_else(|| text_of(&meta, "_type"))
        .and_then(|name| ImageKind::parse(&name))
        .ok_or("it has no 'type' of BaseImage, TargetImage or ProviderImage")?;
    let status = text_of(&meta, "status").ok_or("it has no 'status'")?;
    let status: Status = status.parse().map_err(|unknown| format!("{unknown}"))?;
    let mut image = Image::new_base(String::new(), None);
    image.id = id;
    image.kind = kind;
    image.template = text_of(&meta, "template");
    image.icicle = text_of(&meta, "icicle");
    image.target = text_of(&meta, "target");
    image.provider = meta.get("provider").filter(|value| !value.is_null()).cloned();
    image.identifier_on_provider = text_of(&meta, "identifier_on_provider");
    image.provider_account_identifier = text_of(&meta, "provider_account_identifier");
    image.parent = parent_of(&meta, kind);
    image.parameters = meta.get("parameters").and_then(Value::as_object).cloned();
    image.properties =
        meta.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    set_status(&mut image, &meta, status);
    image.created_at = metadata.modified().map_or(image.created_at, Into::into);
    image.finished_at = Some(image.created_at);
    image.body = body_beside(path)?;
    Ok(image)
}

fn set_status(image: &mut Image, meta: &Map<String, Value>, status: Status) {
    let detail = meta.get("status_detail").and_then(Value::as_object);
    if let Some(detail) = detail {
        image.status_detail.activity = text_of(detail, "activity").unwrap_or_default();
        image.status_detail.error = text_of(detail, "error");
    }
    if status.is_final() {
        image.status = status;
    } else {
        image.status = Status::Failed;
        image.status_detail.error =
            Some(format!("it was {status} when this store was taken over; nobody works on it"));
        image.status_detail.error_code = Some("interrupted".to_owned());
    }
    image.percent_complete = if image.status == Status::Complete { 100 } else { 0 };
}

fn parent_of(meta: &Map<String, Value>, kind: ImageKind) -> Option<Uuid> {
    let key = match kind {
        ImageKind::BaseImage => return None,
        ImageKind::TargetImage => "base_image_id",
        ImageKind::ProviderImage => "target_image_id",
    };
    text_of(meta, key).and_then(|id| Uuid::parse_str(&id).ok())
}

fn body_beside(meta: &Path) -> Result<Option<Body>, String> {
    let path = meta.with_extension("body");
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(format!("its body cannot be read: {cause}")),
    };
    let bytes = file.metadata().map_err(|cause| cause.to_string())?.len();
    let sha256 = sparse::sha256(&file).map_err(|cause| cause.to_string())?;
    Ok(Some(Body { bytes, sha256, format: format_of(&file).to_owned() }))
}

/// By its magic number; what has none is raw.
fn format_of(file: &std::fs::File) -> &'static str {
    use std::os::unix::fs::FileExt;
    let mut head = [0; 8];
    if file.read_exact_at(&mut head, 0).is_err() {
        return "raw";
    }
    match &head {
        [b'Q', b'F', b'I', 0xfb, ..] => "qcow2",
        [b'K', b'D', b'M', b'V', ..] => "vmdk",
        b"conectix" => "vhd",
        b"vhdxfile" => "vhdx",
        _ => "raw",
    }
}

fn text_of(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}
