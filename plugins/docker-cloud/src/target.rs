//! Makes the target image: root file system to layer, documents around it, one archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_toolkit_disk::{DiskFormat, inspect};
use serde_json::{Value, json};

use crate::archive::{Archive, Contents, not_written};
use crate::compression::{Packed, Packer};
use crate::container::{ContainerWishes, DiskWish};
use crate::documents::{
    DISK_ARTIFACT, Descriptor, Document, Index, Origin, SBOM, artifact_manifest, configuration,
    container_manifest, disk_descriptor, docker_contents, layer_descriptor, sbom_descriptor,
    to_text,
};
use crate::layer::{LayerFacts, write_layer};
use crate::root_file_system::{RootFileSystem, unreadable};
use crate::sbom;

/// The annotation of an image layout that tells an image's tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// And the one in which containerd and podman look for the whole name.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// How much of the disk is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The whole of `builder_should_create_target_image`.
pub(crate) fn make(host: &Host, stage: &Stage<'_>) -> Result<()> {
    let template = stage.template()?;
    let wishes = ContainerWishes::of(stage, &template)?;
    let image = open_raw(host, &base_image(host, stage)?)?;
    let maker = Maker { host, wishes: &wishes, image: &image };
    let architecture = template.os.arch.name();
    let made = match (wishes.metadata, wishes.disk) {
        (_, DiskWish::Only) => maker.disk_alone()?,
        (true, _) => maker.container(architecture, &template.os.name.to_lowercase())?,
        (false, _) => maker.plain_tar()?,
    };
    host.set_result("format", "tar")?;
    host.set_result("properties", &made)?;
    host.set_result(
        "effective_parameters",
        &json!({
            "repository": wishes.repository,
            "tag": wishes.tag,
            "compress": wishes.compression.name(),
            "create_docker_metadata": wishes.metadata,
            "docker_leave_out":
                wishes.selection.groups.iter().map(|group| group.name()).collect::<Vec<_>>(),
        }),
    )
}

/// The image to start from: of a hook that makes everything itself, it is the stage's base image.
fn base_image(host: &Host, stage: &Stage<'_>) -> Result<PathBuf> {
    for role in ["base", "target"] {
        let path = stage.image(role)?.and_then(|image| image.member("path")?.as_text());
        if let Some(path) = path {
            return Ok(PathBuf::from(path));
        }
    }
    host.input_image().map_err(|_| {
        let message = "there is no base image that a container could be made of";
        PluginError::new(ErrorCode::Unsupported, message)
    })
}

fn open_raw(host: &Host, path: &Path) -> Result<File> {
    let image = File::open(path)
        .map_err(|error| PluginError::from(error).while_doing("the base image cannot be opened"))?;
    let facts = inspect(&image).map_err(|error| unreadable(&error.to_string()))?;
    if facts.format == DiskFormat::Raw {
        return Ok(image);
    }
    // qemu-img reads all the others; what it makes goes away with the work folder.
    let raw = host.work_dir()?.join("base.raw");
    host.progress("convert", &format!("unpacking the {} base image", facts.format), 0, 0)?;
    let output = std::process::Command::new("qemu-img")
        .args(["convert", "-f", facts.format.qemu_name(), "-O", "raw"])
        .args([path, &raw])
        .output()
        .map_err(|error| PluginError::from(error).while_doing("qemu-img cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        return Err(unreadable(&said));
    }
    Ok(File::open(raw)?)
}

struct Maker<'m> {
    host: &'m Host,
    wishes: &'m ContainerWishes,
    image: &'m File,
}

impl Maker<'_> {
    fn container(&self, architecture: &str, distribution: &str) -> Result<Value> {
        let wishes = self.wishes;
        let root = RootFileSystem::find(self.image)?;
        let mut archive = Archive::create(&self.host.output_image()?)?;
        let (facts, layer) = archive.add_packed(wishes.compression, |sink| {
            write_layer(self.host, &root, &wishes.selection, sink)
        })?;
        self.host.info(&format!(
            "{} entries with {} bytes make a layer of {} bytes; {} were left out",
            facts.entries, facts.content_bytes, layer.bytes, facts.left_out
        ));
        let origin = Origin {
            architecture,
            os: &wishes.os,
            comment: &wishes.comment,
            created_s: facts.newest_s,
        };
        let config = configuration(&origin, &wishes.config, &layer)?;
        let descriptor = layer_descriptor(&layer, wishes.compression);
        let manifest = container_manifest(&config, &descriptor)?;
        for document in [&config, &manifest] {
            archive.add_blob(document)?;
        }
        let mut referrers = Vec::new();
        if wishes.sbom {
            let name = (wishes.repository.as_str(), wishes.tag.as_str());
            match sbom::of(&root, name, distribution)? {
                Some(sbom) => {
                    archive.add_blob(&sbom)?;
                    let blob = sbom_descriptor(&sbom);
                    referrers.push(self.attach(&mut archive, SBOM, &blob, &manifest)?);
                }
                None => self.host.info("no SBOM: the root file system has no dpkg database"),
            }
        }
        if wishes.disk == DiskWish::Referrer {
            let disk = self.add_disk(&mut archive)?;
            let blob = disk_descriptor(&disk, wishes.compression);
            referrers.push(self.attach(&mut archive, DISK_ARTIFACT, &blob, &manifest)?);
        }
        let name = format!("{}:{}", wishes.repository, wishes.tag);
        let main = &manifest.descriptor;
        self.add_contents(&mut archive, Contents { main, name: &name, referrers })?;
        let docker = docker_contents(&name, &config, &descriptor);
        archive.add_file("manifest.json", &to_text(&docker)?)?;
        // Last, because readers of the original's time wanted it there.
        let id = config.descriptor.digest.trim_start_matches("sha256:").to_owned();
        let id = wishes.image_id.clone().unwrap_or(id);
        let repositories = json!({ wishes.repository.as_str(): { wishes.tag.as_str(): id } });
        archive.add_file("repositories", &to_text(&repositories)?)?;
        archive.finish()?;
        Ok(properties(main, &layer, Some(facts)))
    }

    fn disk_alone(&self) -> Result<Value> {
        let mut archive = Archive::create(&self.host.output_image()?)?;
        let disk = self.add_disk(&mut archive)?;
        let blob = disk_descriptor(&disk, self.wishes.compression);
        let manifest = artifact_manifest(DISK_ARTIFACT, &blob, None)?;
        archive.add_blob(&Document::empty())?;
        archive.add_blob(&manifest)?;
        let name = format!("{}:{}", self.wishes.repository, self.wishes.tag);
        let main = &manifest.descriptor;
        self.add_contents(&mut archive, Contents { main, name: &name, referrers: Vec::new() })?;
        archive.finish()?;
        Ok(properties(main, &disk, None))
    }

    /// The file system's tar alone, packed as asked for.
    fn plain_tar(&self) -> Result<Value> {
        let root = RootFileSystem::find(self.image)?;
        let file = File::options().write(true).create_new(true).open(self.host.output_image()?)?;
        let sink = io::BufWriter::new(&file);
        let mut packer = Packer::new(self.wishes.compression, sink).map_err(not_written)?;
        let facts = write_layer(self.host, &root, &self.wishes.selection, &mut packer)?;
        let packed = packer.finish().map_err(not_written)?;
        file.sync_all()?;
        Ok(json!({
            "docker_layer_digest": packed.digest,
            "docker_layer_bytes": packed.bytes,
            "docker_entries": facts.entries,
        }))
    }

    fn attach(
        &self,
        archive: &mut Archive,
        artifact_type: &str,
        blob: &Descriptor,
        subject: &Document,
    ) -> Result<Descriptor> {
        let manifest = artifact_manifest(artifact_type, blob, Some(&subject.descriptor))?;
        archive.add_blob(&Document::empty())?;
        archive.add_blob(&manifest)?;
        Ok(manifest.descriptor)
    }

    fn add_contents(&self, archive: &mut Archive, contents: Contents<'_>) -> Result<()> {
        let mut main = contents.main.clone();
        main.annotations.insert(REF_NAME.to_owned(), self.wishes.tag.as_str().into());
        main.annotations.insert(IMAGE_NAME.to_owned(), contents.name.into());
        archive.add_file("index.json", &to_text(&Index::of(vec![main]))?)?;
        archive.add_file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        if !contents.referrers.is_empty() {
            archive.add_file("referrers.json", &to_text(&Index::of(contents.referrers))?)?;
        }
        Ok(())
    }

    fn add_disk(&self, archive: &mut Archive) -> Result<Packed> {
        let mut image = self.image;
        io::Seek::rewind(&mut image)?;
        let total = image.metadata()?.len();
        let added = archive.add_packed(self.wishes.compression, |sink| {
            let (mut chunk, mut done) = (vec![0; CHUNK_BYTES], 0);
            loop {
                self.host.progress("disk", "reading the disk", done, total)?;
                match image.read(&mut chunk)? {
                    0 => return Ok(()),
                    read => {
                        sink.write_all(&chunk[..read]).map_err(not_written)?;
                        done += read as u64;
                    }
                }
            }
        });
        added.map(|((), packed)| packed)
    }
}

fn properties(main: &Descriptor, blob: &Packed, facts: Option<LayerFacts>) -> Value {
    let mut properties = json!({
        "docker_manifest_digest": main.digest,
        "docker_layer_digest": blob.digest,
        "docker_layer_bytes": blob.bytes,
    });
    if let Some(facts) = facts {
        properties["docker_entries"] = facts.entries.into();
        properties["docker_content_bytes"] = facts.content_bytes.into();
    }
    properties
}
