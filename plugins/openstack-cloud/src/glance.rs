//! Glance's images: the few requests that this plugin makes, one function each.

use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_http::{Method, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::session::{Service, Session};

/// The property by which an image of ours is known, whatever else happened.
pub(crate) const STAGE_PROPERTY: &str = "imagefactory_stage_id";

/// Glance notices a connection that was cut within a minute.
const SETTLE: Duration = Duration::from_secs(90);
/// A second look costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// An image, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct GlanceImage {
    pub(crate) id: String,
    /// `queued`, `saving`, `active`, …
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) size: Option<u64>,
    #[serde(default)]
    pub(crate) owner: Option<String>,
    #[serde(default)]
    pub(crate) protected: bool,
    #[serde(default)]
    pub(crate) os_hash_algo: Option<String>,
    #[serde(default)]
    pub(crate) os_hash_value: Option<String>,
    #[serde(default)]
    pub(crate) imagefactory_stage_id: Option<String>,
    /// Stores whose import failed.
    #[serde(default)]
    pub(crate) os_glance_failed_import: Option<String>,
}

/// How an image was begun.
pub(crate) enum Created {
    /// It is there, and empty.
    Yes,
    /// The id is in use, or was: Glance never gives one out twice.
    IdTaken,
}

/// Glance, through a session.
pub(crate) struct Glance<'g> {
    pub(crate) host: &'g Host,
    pub(crate) session: &'g Session,
}

impl Glance<'_> {
    /// One image; `None` = there is none.
    pub(crate) fn image(&self, id: &str) -> Result<Option<GlanceImage>> {
        let path = format!("/v2/images/{id}");
        let response = self.ask(Method::GET, &path)?;
        if response.status() == 404 {
            return Ok(None);
        }
        response.expect_success("the image cannot be looked at")?.json().map(Some)
    }

    /// Makes an empty image with the id that stands in `facts`.
    pub(crate) fn create(&self, facts: &Map<String, Value>) -> Result<Created> {
        let response = self.session.ask(Service::Image, Method::POST, "/v2/images", |request| {
            // Its id makes it so: a second one is refused with 409.
            request.json(facts).repeatable()
        })?;
        match response.status() {
            409 => Ok(Created::IdTaken),
            403 if facts.get("visibility") == Some(&json!("public")) => {
                let error = response.error("the image cannot be created");
                Err(error.hint("public images are the administrator's; choose another visibility"))
            }
            _ => response.expect_success("the image cannot be created").map(|_| Created::Yes),
        }
    }

    /// Waits while Glance is busy with it. `None` = there is none.
    pub(crate) fn settled(&self, id: &str) -> Result<Option<GlanceImage>> {
        let until = Instant::now() + SETTLE;
        loop {
            let image = self.image(id)?;
            let busy = image.as_ref().is_some_and(|image| image.status == "saving");
            if !busy || Instant::now() >= until {
                return Ok(image);
            }
            self.host.sleep_unless_cancelled(LOOK_EVERY)?;
        }
    }

    /// Lets Glance fetch the content itself.
    pub(crate) fn import(&self, id: &str, uri: &str) -> Result<()> {
        let path = format!("/v2/images/{id}/import");
        let body = json!({ "method": { "name": "web-download", "uri": uri } });
        let response = self
            .session
            .ask(Service::Image, Method::POST, &path, |request| request.json(&body).secret(uri))?;
        response.expect_success("Glance does not import the image").map(|_| ())
    }

    /// Sets or removes the protection against deletion.
    pub(crate) fn protect(&self, id: &str, protected: bool) -> Result<()> {
        let path = format!("/v2/images/{id}");
        let change = json!([{ "op": "replace", "path": "/protected", "value": protected }]);
        let response = self.session.ask(Service::Image, Method::PATCH, &path, |request| {
            request
                .body(change.to_string())
                .header("content-type", "application/openstack-images-v2.1-json-patch")
                .repeatable()
        })?;
        response.expect_success("the image's protection cannot be changed").map(|_| ())
    }

    /// Removes an image; one that is gone is as good.
    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        let Some(image) = self.image(id)? else { return Ok(()) };
        if image.protected && image.imagefactory_stage_id.is_some() {
            self.protect(id, false)?;
        }
        let response = self.ask(Method::DELETE, &format!("/v2/images/{id}"))?;
        match response.status() {
            404 => Ok(()),
            409 => {
                let error = response.error("the image cannot be deleted");
                Err(error.hint("a server or volume uses it: delete that first"))
            }
            _ => response.expect_success("the image cannot be deleted").map(|_| ()),
        }
    }

    /// The images of one stage.
    pub(crate) fn of_stage(&self, stage_id: &str) -> Result<Vec<GlanceImage>> {
        #[derive(Deserialize)]
        struct Listing {
            images: Vec<GlanceImage>,
        }
        let path = format!("/v2/images?{STAGE_PROPERTY}={stage_id}");
        let response = self.ask(Method::GET, &path)?;
        let listing: Listing = response.expect_success("the images cannot be listed")?.json()?;
        Ok(listing.images)
    }

    fn ask(&self, method: Method, path: &str) -> Result<Response> {
        self.session.ask(Service::Image, method, path, |request| request)
    }
}

/// An id that becomes part of a path.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !id.is_empty() && id.len() <= 64 && id.bytes().all(plain) {
        return Ok(());
    }
    let message = format!("{id:?} is no id of an image in Glance");
    Err(PluginError::new(ErrorCode::NotFound, message).by_user())
}
