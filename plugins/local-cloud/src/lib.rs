//! LocalCloud: the cloud is a folder or a libvirt storage pool, for the target `local`.
//!
//! A push makes one image file in the format asked for, and beside it its checksum, a libvirt
//! domain that starts it, and a description. Each attempt takes over or clears away what an earlier
//! one of its stage left; files of others are never touched. Snapshots of running systems do not
//! exist here, so that operation is not offered.

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

mod compressed;
mod conversion;
mod description;
mod directory;
mod domain;
mod pool;
mod product;
mod push;
mod teller;
mod vmdk_extent;
mod wishes;

use std::path::Path;

use imagefactory_plugin_sdk::author::{
    Cleanup, CloudPlugin, DeleteFromProvider, ErrorCode, Host, Plugin, PluginError,
    PushImageToProvider, Resource, Result, Stage,
};
use serde_json::json;

use description::Description;
use directory::ImageDirectory;
use pool::PoolVolume;
use product::{Claim, Product};
use wishes::{Wishes, is_plain};

struct LocalCloud {
    host: Host,
}

impl Plugin for LocalCloud {
    const ID: &'static str = "LocalCloud";
    const VERSION: &'static str = "2.0.0";

    fn create(host: Host) -> Result<LocalCloud> {
        Ok(LocalCloud { host })
    }
}

impl CloudPlugin for LocalCloud {}

impl PushImageToProvider for LocalCloud {
    fn push_image_to_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        let wishes = Wishes::of(stage)?;
        if wishes.is_pool() {
            return pool::push(&self.host, stage, &wishes);
        }
        let product = Product {
            directory: wishes.directory.clone(),
            file: format!("{}.{}", wishes.name, wishes.format),
            token: stage.stage_id().to_owned(),
        };
        product.check()?;
        let directory = ImageDirectory::open(&wishes.directory)?;
        product.announce(&self.host)?;
        let pushed = self
            .push(stage, (&wishes, &product), &directory)
            // For a small image most calls to the host come after its last byte.
            .and_then(|made| self.host.check_cancelled().map(|()| made))
            .and_then(|made| self.set_results(&wishes, &product, &made));
        if pushed.is_err() {
            self.undo(&product, &directory);
        }
        pushed
    }
}

impl DeleteFromProvider for LocalCloud {
    fn delete_from_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.host.check_cancelled()?;
        let image = stage.image("self")?.and_then(|image| image.member("identifier_on_provider"));
        let identifier = image.and_then(|identifier| identifier.as_text()).ok_or_else(|| {
            PluginError::user_fault("the image has no identifier on the provider")
        })?;
        if let Some(place) = PoolVolume::parse(&identifier) {
            return pool::delete(&self.host, &place);
        }
        let Some(product) = product_at(&identifier) else {
            let message = format!("{identifier:?} is no image of LocalCloud's");
            return Err(PluginError::new(ErrorCode::NotFound, message));
        };
        let Some(directory) = ImageDirectory::open_if_there(&product.directory)? else {
            self.host.warn(&format!("{} is gone", product.directory.display()));
            return Ok(());
        };
        match Description::read(&directory, &product.description())? {
            Some(description) if description.image_id == stage.image_id() => {
                product.remove(&directory)
            }
            Some(description) => {
                let other = description.image_id;
                self.host.warn(&format!("{identifier} belongs to the image {other} by now"));
                Ok(())
            }
            None if directory.open_file(&product.file, false)?.is_some() => {
                let message = format!("{identifier} has no description that says whose it is");
                Err(PluginError::new(ErrorCode::InvalidState, message)
                    .hint("remove the file by hand, then delete again"))
            }
            None => Ok(()),
        }
    }
}

impl Cleanup for LocalCloud {
    fn cleanup(&self, _stage: &Stage<'_>, left: &[Resource]) -> Result<()> {
        let mut first_error = Ok(());
        for resource in left {
            let removed =
                self.remove_what_is_ours(resource).and_then(|()| self.host.removed(resource));
            first_error = first_error.and(removed);
        }
        first_error
    }
}

impl LocalCloud {
    fn push(
        &self,
        stage: &Stage<'_>,
        (wishes, product): (&Wishes, &Product),
        directory: &ImageDirectory,
    ) -> Result<Description> {
        let made = match product.claim(directory, stage.image_id())? {
            Claim::Finished(made) => {
                self.host.info(&format!("{} is there, from an earlier attempt", product.file));
                *made
            }
            Claim::New => push::make(&self.host, stage, (wishes, product), directory)?,
        };
        product.confirm(&self.host)?;
        Ok(made)
    }

    fn set_results(&self, wishes: &Wishes, product: &Product, made: &Description) -> Result<()> {
        let image = made.image.as_ref().ok_or_else(|| {
            PluginError::new(ErrorCode::Internal, "the description of a whole image is not whole")
        })?;
        let path = product.directory.join(&product.file);
        self.host.set_result("identifier_on_provider", &path)?;
        self.host.set_result("provider_account_identifier", &product.directory)?;
        let properties = json!({
            "local_format": image.format,
            "local_virtual_size": image.virtual_bytes,
            "local_file_size": image.file_bytes,
            "local_sha256": image.sha256,
            "local_start_command": image.start_command,
        });
        self.host.set_result("properties", &properties)?;
        self.host.set_result("effective_parameters", &wishes.effective())
    }

    fn remove_what_is_ours(&self, resource: &Resource) -> Result<()> {
        if resource.kind == pool::KIND {
            return pool::clean_up(&self.host, resource);
        }
        let product = Product::of_resource(resource)?;
        match ImageDirectory::open_if_there(&product.directory)? {
            Some(directory) => product.remove_ours(&directory),
            None => Ok(()),
        }
    }

    /// A failed push gives its room back at once. What that does not reach is cleanup's, so its own
    /// failure has nobody to go to but the log.
    fn undo(&self, product: &Product, directory: &ImageDirectory) {
        let undone = product.remove_ours(directory).and_then(|()| product.retract(&self.host));
        if let Err(error) = undone {
            self.host.warn(&format!("what was begun is not removed yet: {error}"));
        }
    }
}

/// The files that belong to an image, by its path; `None` = no push has made such a path.
fn product_at(identifier: &str) -> Option<Product> {
    let path = Path::new(identifier);
    let file = path.file_name()?.to_str().filter(|file| is_plain(file))?.to_owned();
    let directory = path.parent().filter(|folder| wishes::check_directory(folder).is_ok())?;
    Some(Product { directory: directory.to_owned(), file, token: String::new() })
}

imagefactory_plugin_sdk::export_cloud_plugin!(LocalCloud);

#[cfg(test)]
#[path = "../../../plugin-sdk/tests/fake_host/mod.rs"]
mod fake_host;
#[cfg(test)]
#[path = "../../libvirt/tests/libvirt_server/mod.rs"]
mod libvirt_server;
#[cfg(test)]
mod tests;
