//! Brings a target image into a registry: blobs, manifests by digest, what is attached, the tag.
//!
//! The tag comes last, so whoever pulls it finds everything. Whatever is there already is not sent
//! again, be it from an earlier attempt or from another image.

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_toolkit_http::Progress;
use serde_json::json;

use crate::credentials::Login;
use crate::documents::{Descriptor, MANIFEST};
use crate::product::Account;
use crate::provider::Provider;
use crate::reference::{check_repository, check_tag, is_digest};
use crate::registry::{Blob, Registry, Removed};
use crate::target_image::TargetImage;

/// Under it a stage keeps the digests of manifests that were there before it.
const CHECKPOINT: &str = "found";

/// The whole of `push_image_to_provider`.
pub(crate) fn push(host: &Host, stage: &Stage<'_>) -> Result<()> {
    let provider = Provider::of(stage)?;
    let image = TargetImage::open(&host.input_image()?)?;
    let (repository, tag) = name_of(stage, &provider, &image)?;
    let login = Login::of(host, stage, &provider.registry)?;
    let user = login.user().map(str::to_owned);
    let registry = Registry::new(host, &provider, &repository, login)?;
    registry.check()?;
    let account = Account::open(host, stage, &repository)?;
    let push = Push { host, registry: &registry, account: &account, image: &image };
    push.blobs()?;
    push.manifests(&tag)?;
    let name = registry.name();
    host.set_result("identifier_on_provider", &format!("{name}@{}", image.main.digest))?;
    host.set_result(
        "provider_account_identifier",
        &match user {
            Some(user) => format!("{user}@{}", provider.registry),
            None => provider.registry.clone(),
        },
    )?;
    let properties = json!({
        "docker_reference": format!("{name}:{tag}"),
        "docker_manifest_digest": image.main.digest,
        "docker_referrers":
            image.referrers.iter().map(|one| one.digest.as_str()).collect::<Vec<_>>(),
    });
    host.set_result("properties", &properties)?;
    host.set_result("effective_parameters", &json!({ "repository": repository, "tag": tag }))
}

/// Parameters before the provider's definition before the target image.
fn name_of(
    stage: &Stage<'_>,
    provider: &Provider,
    image: &TargetImage,
) -> Result<(String, String)> {
    let own = image.main.annotations.get("io.containerd.image.name");
    let own = own.and_then(|name| name.as_str()).and_then(|name| name.rsplit_once(':'));
    let given = stage.text_parameter("repository")?.map(|name| name.to_lowercase());
    let repository = given
        .or(provider.repository.clone())
        .or(own.map(|(name, _)| name.to_owned()))
        .ok_or_else(|| {
            PluginError::user_fault("neither request, provider nor target image name a repository")
        })?;
    let tag = stage.text_parameter("tag")?.or(provider.tag.clone());
    let tag = tag.or(own.map(|(_, tag)| tag.to_owned())).unwrap_or_else(|| "latest".to_owned());
    check_tag(&tag)?;
    Ok((check_repository(&repository)?, tag))
}

struct Push<'p> {
    host: &'p Host,
    registry: &'p Registry,
    account: &'p Account<'p>,
    image: &'p TargetImage,
}

impl Push<'_> {
    fn blobs(&self) -> Result<()> {
        let mut blobs: Vec<Descriptor> = Vec::new();
        for manifest in [&self.image.main].into_iter().chain(&self.image.referrers) {
            for blob in self.image.blobs_of(manifest)? {
                if !blobs.iter().any(|known| known.digest == blob.digest) {
                    blobs.push(blob);
                }
            }
        }
        let total = blobs.iter().map(|blob| blob.size).sum();
        let progress = Progress::new("upload", "uploading to the registry", total);
        for descriptor in blobs {
            let (offset, bytes) = self.image.place_of(&descriptor)?;
            let file = self.image.file.clone();
            let blob = Blob { digest: descriptor.digest, bytes, file, offset };
            self.registry.push_blob(&blob, self.account, &progress)?;
            progress.tell(self.host)?;
        }
        Ok(())
    }

    fn manifests(&self, tag: &str) -> Result<()> {
        let main = &self.image.main;
        let text = self.put(main)?.0;
        for referrer in &self.image.referrers {
            let (_, understood) = self.put(referrer)?;
            if !understood {
                self.registry.list_referrer(&main.digest, referrer)?;
            }
        }
        self.registry.put_manifest(tag, MANIFEST, &text).map(|_| ())
    }

    /// Puts one manifest by its digest. One that others have put stays theirs: it is not in our
    /// journal, so that a failure of ours does not remove it.
    fn put(&self, manifest: &Descriptor) -> Result<(Vec<u8>, bool)> {
        let (digest, name) = (&manifest.digest, self.registry.name());
        let text = self.image.manifest_text(manifest)?;
        let mut found: Vec<String> = self.host.checkpoint(CHECKPOINT)?.unwrap_or_default();
        let key = |whose: &str| format!("{whose} {digest}");
        if !found.contains(&key("ours")) && !found.contains(&key("theirs")) {
            let there = self.registry.manifest_digest(digest)?.is_some();
            found.push(key(if there { "theirs" } else { "ours" }));
            self.host.put_checkpoint(CHECKPOINT, &found)?;
        }
        let ours = found.contains(&key("ours"));
        if ours {
            self.account.will_put(digest, &name)?;
        }
        let understood = self.registry.put_manifest(digest, MANIFEST, &text)?;
        if ours {
            self.account.has_put(digest, &name)?;
        }
        Ok((text, understood))
    }
}

/// The whole of `delete_from_provider`.
pub(crate) fn delete(host: &Host, stage: &Stage<'_>) -> Result<()> {
    let image = stage.image("self")?.and_then(|image| image.member("identifier_on_provider"));
    let identifier = image
        .and_then(|identifier| identifier.as_text())
        .ok_or_else(|| PluginError::user_fault("the image has no identifier on the provider"))?;
    let parts = identifier.split_once('@').filter(|(_, digest)| is_digest(digest));
    let parts = parts.and_then(|(name, digest)| Some((name.split_once('/')?, digest)));
    let Some(((registry, repository), digest)) = parts else {
        let message = format!("{identifier:?} is no image of DockerCloud's");
        return Err(PluginError::new(ErrorCode::NotFound, message));
    };
    let provider = Provider::of(stage)?;
    if provider.registry != registry {
        // The same registry has several names; the digest says what is meant.
        let now = &provider.registry;
        host.warn(&format!("the image was pushed to {registry}; it is deleted in {now}"));
    }
    let repository = check_repository(repository)?;
    let removed = crate::product::open(host, stage, &repository)?.remove_image(digest)?;
    if removed == Removed::Before {
        host.info(&format!("{identifier} was gone already"));
    }
    Ok(())
}
