//! Manifests: put by digest and by tag, attached to others, removed.
//!
//! Registries that know no referrers have a list of them under the tag `sha256-…`, which the
//! client keeps (OCI distribution 1.1, "Referrers Tag Schema").

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use imagefactory_toolkit_http::{Method, Request, Response};

use super::Registry;
use crate::compression::digest_of;
use crate::documents::{Descriptor, INDEX, Index, MANIFEST, to_text};
use crate::reference::is_digest;

/// How a removal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// It was there.
    Now,
    /// It was not.
    Before,
}

impl Registry {
    /// Is a manifest there, by tag or digest? Answers its digest.
    pub(crate) fn manifest_digest(&self, reference: &str) -> Result<Option<String>> {
        let answer = self.ask(Method::HEAD, reference)?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let answer = answer.expect_success("the registry cannot be asked for a manifest")?;
        match answer.header("docker-content-digest").filter(|digest| is_digest(digest)) {
            Some(digest) => Ok(Some(digest.to_owned())),
            None if is_digest(reference) => Ok(Some(reference.to_owned())),
            // Old ones do not say it with HEAD.
            None => {
                let answer = self.ask(Method::GET, reference)?;
                let answer =
                    answer.expect_success("the registry cannot be asked for a manifest")?;
                Ok(Some(digest_of(answer.body())))
            }
        }
    }

    /// Puts a manifest under a digest or a tag. Answers whether the registry has understood that it
    /// is attached to another one.
    pub(crate) fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        text: &[u8],
    ) -> Result<bool> {
        let url = self.url(&format!("manifests/{reference}"))?;
        let request =
            Request::to(Method::PUT, url).header("content-type", media_type).body(text.to_vec());
        let answer = self.send(request)?.expect_success("the registry does not take the image")?;
        let digest = digest_of(text);
        match answer.header("docker-content-digest") {
            Some(other) if other != digest => {
                let message = format!("the registry took {digest} for {other}");
                Err(PluginError::new(ErrorCode::Io, message)
                    .hint("something between here and the registry changes what is sent"))
            }
            _ => Ok(answer.header("oci-subject").is_some()),
        }
    }

    /// Adds a referrer to the list that clients keep.
    pub(crate) fn list_referrer(&self, subject: &str, referrer: &Descriptor) -> Result<()> {
        let tag = referrers_tag(subject);
        let mut index = self.listed(&tag)?.unwrap_or_else(|| Index::of(Vec::new()));
        if index.manifests.iter().any(|known| known.digest == referrer.digest) {
            return Ok(());
        }
        index.manifests.push(referrer.clone());
        self.put_manifest(&tag, INDEX, &to_text(&index)?).map(|_| ())
    }

    /// What is attached to a manifest, as the registry or the list tells.
    pub(crate) fn referrers(&self, subject: &str) -> Result<Vec<Descriptor>> {
        let url = self.url(&format!("referrers/{subject}"))?;
        let answer = self.send(Request::to(Method::GET, url).header("accept", INDEX))?;
        if answer.is_success()
            && let Ok(index) = serde_json::from_slice::<Index>(answer.body())
        {
            return Ok(index.manifests);
        }
        let listed = self.listed(&referrers_tag(subject))?;
        Ok(listed.map(|index| index.manifests).unwrap_or_default())
    }

    fn listed(&self, tag: &str) -> Result<Option<Index>> {
        let answer = self.ask(Method::GET, tag)?;
        match answer.status() {
            404 => Ok(None),
            _ => answer.expect_success("the list of referrers cannot be read")?.json().map(Some),
        }
    }

    /// Removes a manifest by its digest. One that is gone is removed.
    pub(crate) fn remove_manifest(&self, digest: &str) -> Result<Removed> {
        let url = self.url(&format!("manifests/{digest}"))?;
        let answer = self.send(Request::to(Method::DELETE, url))?;
        match answer.status() {
            404 => Ok(Removed::Before),
            405 => {
                let message = format!("{} does not allow deleting (405)", self.provider.registry);
                Err(PluginError::new(ErrorCode::Unsupported, message).vendor_code("405").hint(
                    "its operator switches it on (storage.delete.enabled in docker's registry); \
                     or remove the image there by hand and delete it here with forget=true",
                ))
            }
            _ => {
                answer.expect_success("the image cannot be deleted in the registry")?;
                Ok(Removed::Now)
            }
        }
    }

    /// Removes a manifest with everything that is attached to it.
    pub(crate) fn remove_image(&self, digest: &str) -> Result<Removed> {
        for referrer in self.referrers(digest)? {
            if is_digest(&referrer.digest) {
                self.remove_manifest(&referrer.digest)?;
            }
        }
        if let Some(list) = self.manifest_digest(&referrers_tag(digest))? {
            self.remove_manifest(&list)?;
        }
        self.remove_manifest(digest)
    }

    fn ask(&self, method: Method, reference: &str) -> Result<Response> {
        let url = self.url(&format!("manifests/{reference}"))?;
        self.send(Request::to(method, url).header("accept", &format!("{MANIFEST}, {INDEX}")))
    }
}

/// The tag of the list that belongs to a manifest.
fn referrers_tag(subject: &str) -> String {
    subject.replace(':', "-")
}
