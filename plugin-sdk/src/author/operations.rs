//! The operations that a plugin may offer, one trait each, named as in the C headers.
//!
//! Implementing a trait is all it takes to offer the operation. Each runs on the stage's thread,
//! may block for as long as its work takes, reports progress, and ends within the cancel grace
//! (10 s, unless the manifest asks for more) once [`super::Host::is_cancelled`].

use super::error::Result;
use super::plugin::{CloudPlugin, OsPlugin, Plugin};
use super::resource::Resource;
use super::stage::Stage;

/// OS plugin: base image and what cloud plugins asked for to target image.
pub trait CreateTargetImage: OsPlugin {
    /// Copies [`super::Host::input_image`] to [`super::Host::output_image`] and adds what
    /// [`AddCloudPluginContent`] received on this instance, in that order. Result `format`.
    fn create_target_image(&self, stage: &Stage<'_>) -> Result<()>;
}

/// OS plugin: receives what cloud plugins ask for.
pub trait AddCloudPluginContent: OsPlugin {
    /// Keeps one TargetContent document for the `create_target_image` that follows; does nothing
    /// else. It is only borrowed.
    fn add_cloud_plugin_content(&self, content_json: &str) -> Result<()>;
}

/// OS plugin: what the build depends on that the template does not say.
pub trait ResolveInputs: OsPlugin {
    /// Sets the result `input_digest`. Fast; creates nothing.
    fn resolve_inputs(&self, stage: &Stage<'_>) -> Result<()>;
}

/// OS plugin: proves that an image works.
pub trait VerifyImage: OsPlugin {
    /// Judges [`super::Host::input_image`] without changing it; sets the result `verified`. An
    /// image that does not work is `Ok` with `{"ok": false, "how": …}`.
    fn verify_image(&self, stage: &Stage<'_>) -> Result<()>;
}

/// The answer of [`BuilderShouldCreateTargetImage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShouldCreate {
    /// The usual way is gone: will-hook, OS plugin, did-hook.
    Yes,
    /// This call has written the complete target image; nothing more is to be done.
    AlreadyCreated,
}

/// Cloud plugin: may make the whole target image itself.
pub trait BuilderShouldCreateTargetImage: CloudPlugin {
    /// A full stage, which may take hours. Not implemented = always [`ShouldCreate::Yes`].
    fn builder_should_create_target_image(&self, stage: &Stage<'_>) -> Result<ShouldCreate>;
}

/// Cloud plugin: says what the OS plugin is to add for this cloud.
pub trait BuilderWillCreateTargetImage: CloudPlugin {
    /// Calls [`super::Host::add_cloud_plugin_content`]; writes no image.
    fn builder_will_create_target_image(&self, stage: &Stage<'_>) -> Result<()>;
}

/// Cloud plugin: transforms the target image that the OS plugin made.
pub trait BuilderDidCreateTargetImage: CloudPlugin {
    /// Reads [`super::Host::input_image`], writes [`super::Host::output_image`]. Nothing written =
    /// the image stays as it is.
    fn builder_did_create_target_image(&self, stage: &Stage<'_>) -> Result<()>;
}

/// Cloud plugin: target image to provider image.
pub trait PushImageToProvider: CloudPlugin {
    /// Announces in the journal what it creates ([`super::Host::will_create`]). Another attempt
    /// with the same [`Stage::stage_id`] takes over what is there. Result
    /// `identifier_on_provider` required.
    fn push_image_to_provider(&self, stage: &Stage<'_>) -> Result<()>;
}

/// Cloud plugin: provider image by a snapshot on the provider.
pub trait SnapshotImageOnProvider: CloudPlugin {
    /// Duties and results as for [`PushImageToProvider`]; there is no input image.
    fn snapshot_image_on_provider(&self, stage: &Stage<'_>) -> Result<()>;
}

/// Cloud plugin: removes a provider image.
pub trait DeleteFromProvider: CloudPlugin {
    /// Removes what `images.self.identifier_on_provider` names; one that is gone is success.
    fn delete_from_provider(&self, stage: &Stage<'_>) -> Result<()>;
}

/// Either kind: undoes what a crashed, killed or failed stage left outside.
pub trait Cleanup: Plugin {
    /// Removes each resource and records it with [`super::Host::removed`]; one that is gone
    /// already counts as removed. Goes on after one that cannot be removed and returns the first
    /// error at the end. Runs in a fresh process that knows nothing but its arguments.
    fn cleanup(&self, stage: &Stage<'_>, left: &[Resource]) -> Result<()>;
}
