//! The files of one pushed image, and who may touch them.
//!
//! ```text
//! NAME.EXT            the image             .TOKEN.partial   while it is written
//! NAME.EXT.sha256     as sha256sum reads    .TOKEN.aside     while a file beside it is written
//! NAME.EXT.xml        a libvirt domain
//! NAME.EXT.json       the description: made first, completed and removed last
//! ```
//!
//! Each of the four is announced in the journal. A description is made only where none of the names
//! is in use; from then on all four belong to the stage whose token stands in it. Hidden files
//! carry the token in their names.

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Resource, Result};
use serde::{Deserialize, Serialize};

use crate::description::Description;
use crate::directory::ImageDirectory;
use crate::wishes::{check_directory, is_plain};

/// What the journal calls the files, by what is added to the image's name.
const PARTS: [(&str, &str); 4] = [
    ("", "local-image"),
    (".sha256", "local-image-checksum"),
    (".xml", "local-image-domain"),
    (".json", "local-image-description"),
];

/// The names. Also what the journal keeps for cleanup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Product {
    /// The folder.
    pub(crate) directory: std::path::PathBuf,
    /// The image's file, with its extension.
    pub(crate) file: String,
    /// The stage that makes it.
    pub(crate) token: String,
}

/// How a claim ended.
pub(crate) enum Claim {
    /// The name is ours, and nothing lies there.
    New,
    /// An earlier attempt has made it all.
    Finished(Box<Description>),
}

impl Product {
    /// What cleanup is told by the journal; checked, as everything that becomes a path.
    pub(crate) fn of_resource(resource: &Resource) -> Result<Product> {
        let details = resource.details_json.as_deref().unwrap_or("{}");
        let product: Product = serde_json::from_str(details).map_err(|error| {
            let message = format!("the journal's entry {}: {error}", resource.token);
            PluginError::new(ErrorCode::InvalidArgument, message)
        })?;
        product.check()?;
        Ok(product)
    }

    /// Refuses what would lead elsewhere.
    pub(crate) fn check(&self) -> Result<()> {
        check_directory(&self.directory)?;
        for name in [&self.file, &self.token] {
            if !is_plain(name) {
                let message = format!("{name:?} cannot be part of a file's name");
                return Err(PluginError::new(ErrorCode::InvalidArgument, message));
            }
        }
        Ok(())
    }

    /// Tells the journal that the files are about to be.
    pub(crate) fn announce(&self, host: &Host) -> Result<()> {
        self.resources()?.iter().try_for_each(|resource| host.will_create(resource))
    }

    /// Tells the journal that they are there.
    pub(crate) fn confirm(&self, host: &Host) -> Result<()> {
        self.resources()?.iter().try_for_each(|resource| host.created(resource))
    }

    /// Tells the journal that they are gone.
    pub(crate) fn retract(&self, host: &Host) -> Result<()> {
        self.resources()?.iter().try_for_each(|resource| host.removed(resource))
    }

    fn resources(&self) -> Result<Vec<Resource>> {
        let details = serde_json::to_string(self).map_err(|error| {
            PluginError::new(ErrorCode::Internal, format!("the journal's details: {error}"))
        })?;
        let resource = |(suffix, kind): (&str, &str)| {
            Resource::product(format!("{}{suffix}", self.token), kind)
                .with_id(self.directory.join(self.part(suffix)).to_string_lossy())
                .with_details_json(&details)
        };
        Ok(PARTS.into_iter().map(resource).collect())
    }

    /// Name of the checksum's file.
    pub(crate) fn checksum(&self) -> String {
        self.part(".sha256")
    }

    /// Name of the domain's file.
    pub(crate) fn domain(&self) -> String {
        self.part(".xml")
    }

    /// Name of the description's file.
    pub(crate) fn description(&self) -> String {
        self.part(".json")
    }

    /// Name of the image while it is written.
    pub(crate) fn partial(&self) -> String {
        format!(".{}.partial", self.token)
    }

    /// Name of another file while it is written.
    pub(crate) fn aside(&self) -> String {
        format!(".{}.aside", self.token)
    }

    fn part(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.file)
    }

    /// Takes the name for this stage. [`ErrorCode::AlreadyExists`]: it is somebody else's.
    /// Nothing of ours is left behind then.
    pub(crate) fn claim(&self, directory: &ImageDirectory, image_id: &str) -> Result<Claim> {
        if let Some(description) = Description::read(directory, &self.description())? {
            if description.token != self.token {
                return Err(self.taken(directory));
            }
            if self.is_whole(directory, &description)? {
                return Ok(Claim::Finished(Box::new(description)));
            }
            self.remove(directory)?;
        }
        self.remove_hidden(directory)?;
        for (suffix, _) in PARTS {
            if directory.has(&self.part(suffix))? {
                return Err(self.taken(directory));
            }
        }
        let claim = Description {
            token: self.token.clone(),
            image_id: image_id.to_owned(),
            file: self.file.clone(),
            image: None,
        };
        directory.write(&self.aside(), claim.to_text()?.as_bytes())?;
        directory.publish(&self.aside(), &self.description())?;
        directory.sync()?;
        Ok(Claim::New)
    }

    /// Is everything there that the description tells of?
    fn is_whole(&self, directory: &ImageDirectory, description: &Description) -> Result<bool> {
        let Some(image) = &description.image else { return Ok(false) };
        for (suffix, _) in PARTS {
            let Some(file) = directory.open_file(&self.part(suffix), false)? else {
                return Ok(false);
            };
            if suffix.is_empty() && file.metadata()?.len() != image.file_bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Completes the description, last of all.
    pub(crate) fn complete(&self, directory: &ImageDirectory, whole: &Description) -> Result<()> {
        directory.write(&self.aside(), whole.to_text()?.as_bytes())?;
        directory.replace(&self.aside(), &self.description())?;
        directory.sync()
    }

    /// Removes what this stage has made, finished or not, and nothing of anybody else.
    pub(crate) fn remove_ours(&self, directory: &ImageDirectory) -> Result<()> {
        self.remove_hidden(directory)?;
        match Description::read(directory, &self.description()) {
            Ok(Some(description)) if description.token == self.token => self.remove(directory),
            // Without our description the name was never ours, or is no longer.
            Ok(_) => Ok(()),
            Err(error) if error.code() == ErrorCode::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the four files; whose they are was asked before.
    pub(crate) fn remove(&self, directory: &ImageDirectory) -> Result<()> {
        // The description last: as long as anything is there, it says whose that is.
        for (suffix, _) in PARTS {
            directory.remove(&self.part(suffix))?;
        }
        directory.sync()
    }

    fn remove_hidden(&self, directory: &ImageDirectory) -> Result<()> {
        directory.remove(&self.partial())?;
        directory.remove(&self.aside())
    }

    fn taken(&self, directory: &ImageDirectory) -> PluginError {
        let path = directory.path_of(&self.file);
        let message = format!("{} belongs to another image", path.display());
        PluginError::new(ErrorCode::AlreadyExists, message)
            .by_user()
            .hint("give the image another name, or delete the other one")
    }
}
