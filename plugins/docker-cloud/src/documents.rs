//! The OCI documents: configuration, manifests, index, and Docker's own table of contents.

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::compression::{Compression, Packed, digest_of};

/// A manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A list of manifests.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The configuration of what has none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A disk as an artefact.
const DISK: &str = "application/vnd.imagefactory.disk.v1.raw";
/// What an artefact with a disk is.
pub(crate) const DISK_ARTIFACT: &str = "application/vnd.imagefactory.disk.v1";
/// A list of packages.
pub(crate) const SBOM: &str = "application/vnd.cyclonedx+json";

/// The name that file-minded clients (`oras pull`) give a blob.
const TITLE: &str = "org.opencontainers.image.title";

/// The content of [`EMPTY`].
pub(crate) const EMPTY_JSON: &[u8] = b"{}";

/// What a blob or a manifest is, and how it is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// What it is.
    pub(crate) media_type: String,
    /// `sha256:…`.
    pub(crate) digest: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Of an artefact's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    /// Beside it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) annotations: Map<String, Value>,
}

impl Descriptor {
    fn new(media_type: &str, digest: &str, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size,
            artifact_type: None,
            annotations: Map::new(),
        }
    }

    fn titled(mut self, title: &str) -> Descriptor {
        self.annotations.insert(TITLE.to_owned(), title.into());
        self
    }
}

/// A document with its name.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// Its bytes.
    pub(crate) text: Vec<u8>,
    /// What it is.
    pub(crate) descriptor: Descriptor,
}

impl Document {
    pub(crate) fn new(media_type: &str, content: &Value) -> Result<Document> {
        let text = to_text(content)?;
        let descriptor = Descriptor::new(media_type, &digest_of(&text), text.len() as u64);
        Ok(Document { text, descriptor })
    }

    /// The configuration that has nothing in it.
    pub(crate) fn empty() -> Document {
        let digest = digest_of(EMPTY_JSON);
        let descriptor = Descriptor::new(EMPTY, &digest, EMPTY_JSON.len() as u64);
        Document { text: EMPTY_JSON.to_vec(), descriptor }
    }
}

/// JSON in one line.
pub(crate) fn to_text(content: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(content)
        .map_err(|error| PluginError::new(ErrorCode::Internal, format!("an OCI document: {error}")))
}

/// What the configuration says beside `config`.
pub(crate) struct Origin<'o> {
    /// TDL's name of the architecture.
    pub(crate) architecture: &'o str,
    /// `linux`.
    pub(crate) os: &'o str,
    /// For the history.
    pub(crate) comment: &'o str,
    /// Seconds since 1970.
    pub(crate) created_s: i64,
}

impl Origin<'_> {
    /// As a date, for documents.
    pub(crate) fn created(&self) -> Result<String> {
        OffsetDateTime::from_unix_timestamp(self.created_s)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok())
            .ok_or_else(|| {
                let message = format!("the root file system is of {} s after 1970", self.created_s);
                PluginError::new(ErrorCode::InvalidArgument, message)
            })
    }
}

/// The configuration of a container of one layer.
pub(crate) fn configuration(
    origin: &Origin<'_>,
    config: &Map<String, Value>,
    layer: &Packed,
) -> Result<Document> {
    let created = origin.created()?;
    let (architecture, variant) = go_architecture(origin.architecture);
    let mut content = json!({
        "created": created,
        "architecture": architecture,
        "os": origin.os,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [layer.plain_digest] },
        "history": [{
            "created": created,
            "created_by": "Image Factory, DockerCloud",
            "comment": origin.comment,
        }],
    });
    if let Some(variant) = variant {
        content["variant"] = variant.into();
    }
    Document::new(CONFIG, &content)
}

/// Go's name of an architecture, and its variant.
fn go_architecture(tdl: &str) -> (&str, Option<&str>) {
    match tdl {
        "x86_64" => ("amd64", None),
        "i386" | "i686" => ("386", None),
        "aarch64" => ("arm64", Some("v8")),
        "armv7l" | "armv7hl" => ("arm", Some("v7")),
        other => (other, None),
    }
}

/// The descriptor of a layer.
pub(crate) fn layer_descriptor(layer: &Packed, compression: Compression) -> Descriptor {
    let media_type = format!("{LAYER}{}", compression.media_suffix());
    Descriptor::new(&media_type, &layer.digest, layer.bytes)
}

/// The descriptor of a packed raw disk.
pub(crate) fn disk_descriptor(disk: &Packed, compression: Compression) -> Descriptor {
    let media_type = format!("{DISK}{}", compression.media_suffix());
    let title = format!("disk.raw{}", compression.file_suffix());
    let mut descriptor = Descriptor::new(&media_type, &disk.digest, disk.bytes).titled(&title);
    let virtual_bytes = disk.plain_bytes.to_string();
    descriptor.annotations.insert("imagefactory.disk.bytes".to_owned(), virtual_bytes.into());
    let digest = disk.plain_digest.clone();
    descriptor.annotations.insert("imagefactory.disk.digest".to_owned(), digest.into());
    descriptor
}

/// The descriptor of a list of packages.
pub(crate) fn sbom_descriptor(sbom: &Document) -> Descriptor {
    sbom.descriptor.clone().titled("sbom.cdx.json")
}

/// The manifest of a container.
pub(crate) fn container_manifest(config: &Document, layer: &Descriptor) -> Result<Document> {
    Document::new(
        MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor,
            "layers": [layer],
        }),
    )
}

/// The manifest of an artefact of one blob; `subject` is what it belongs to.
pub(crate) fn artifact_manifest(
    artifact_type: &str,
    blob: &Descriptor,
    subject: Option<&Descriptor>,
) -> Result<Document> {
    let mut content = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact_type,
        "config": Document::empty().descriptor,
        "layers": [blob],
    });
    if let Some(subject) = subject {
        let plain = Descriptor::new(&subject.media_type, &subject.digest, subject.size);
        content["subject"] = json!(plain);
    }
    let mut document = Document::new(MANIFEST, &content)?;
    document.descriptor.artifact_type = Some(artifact_type.to_owned());
    Ok(document)
}

/// A list of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    /// What it lists.
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    pub(crate) fn of(manifests: Vec<Descriptor>) -> Index {
        Index { schema_version: 2, media_type: INDEX.to_owned(), manifests }
    }
}

/// What of a manifest is read again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Manifest {
    /// Its configuration.
    pub(crate) config: Descriptor,
    /// Its blobs.
    pub(crate) layers: Vec<Descriptor>,
}

/// `manifest.json`, as `docker load` reads it.
pub(crate) fn docker_contents(name: &str, config: &Document, layer: &Descriptor) -> Value {
    json!([{
        "Config": blob_path(&config.descriptor.digest),
        "RepoTags": [name],
        "Layers": [blob_path(&layer.digest)],
    }])
}

/// Where a blob lies in an image layout.
pub(crate) fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}
