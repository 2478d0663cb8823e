//! What exists outside the process because of a stage, and the journal that keeps account of it.
//!
//! The order is fixed: [`Host::will_create`], create, [`Host::created`]; remove, [`Host::removed`].
//! Each is durable before it returns, so that after a crash nothing exists that the host does not
//! know of.

use super::error::{PluginError, Result};
use super::host::Host;
use super::json::Json;
use crate::abi::*;

/// One thing outside: a virtual machine, a mount, a snapshot, an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Chosen by the plugin before it creates, unique within the factory (the stage id, or the
    /// stage id and a name), and put on the resource itself, so that it can be found again.
    pub token: String,
    /// `libvirt-domain`, `ebs-snapshot`, …
    pub kind: String,
    /// A helper that goes before the stage runs again; otherwise part of the product.
    pub scratch: bool,
    /// As the outside names it; `None` while not known.
    pub resource_id: Option<String>,
    /// A JSON object with what cleanup needs (region, endpoint). No secrets.
    pub details_json: Option<String>,
    /// In `cleanup`: was it recorded as created? If not, it may or may not exist.
    pub confirmed: bool,
}

impl Resource {
    /// Part of the product: taken over by the next attempt, removed only if the order fails.
    pub fn product(token: impl Into<String>, kind: impl Into<String>) -> Resource {
        Resource {
            token: token.into(),
            kind: kind.into(),
            scratch: false,
            resource_id: None,
            details_json: None,
            confirmed: false,
        }
    }

    /// A helper: removed before the stage runs again.
    pub fn scratch(token: impl Into<String>, kind: impl Into<String>) -> Resource {
        Resource { scratch: true, ..Resource::product(token, kind) }
    }

    /// As the outside names it.
    #[must_use]
    pub fn with_id(self, resource_id: impl Into<String>) -> Resource {
        Resource { resource_id: Some(resource_id.into()), ..self }
    }

    /// A JSON object with what cleanup needs.
    #[must_use]
    pub fn with_details_json(self, details_json: impl Into<String>) -> Resource {
        Resource { details_json: Some(details_json.into()), ..self }
    }

    /// Reads the journal that the host hands to `cleanup`: one resource per token, in the order of
    /// their first entries, with the last id and details known.
    pub(super) fn from_journal(journal_json: &str) -> Result<Vec<Resource>> {
        let journal = Json::parse(journal_json).map_err(|error| {
            PluginError::new(super::ErrorCode::InvalidArgument, format!("the journal: {error}"))
        })?;
        let mut resources: Vec<Resource> = Vec::new();
        for entry in journal.elements() {
            let text = |name: &str| entry.member(name).and_then(|value| value.as_text());
            let token = text("token").unwrap_or_default();
            let at = match resources.iter().position(|known| known.token == token) {
                Some(at) => at,
                None => {
                    let kind = text("kind").unwrap_or_default();
                    resources.push(Resource::product(token, kind));
                    resources.len() - 1
                }
            };
            let resource = &mut resources[at];
            resource.scratch = entry.member("scratch").and_then(|is| is.as_bool()) == Some(true);
            resource.confirmed |= text("event").as_deref() == Some("created");
            resource.resource_id = text("resource_id").or(resource.resource_id.take());
            let details = entry.member("details").filter(|details| details.is_object());
            resource.details_json =
                details.map(|details| details.raw().to_owned()).or(resource.details_json.take());
        }
        Ok(resources)
    }
}

impl Host {
    /// The resource is about to be made. On an error nothing was recorded: make nothing.
    pub fn will_create(&self, resource: &Resource) -> Result<()> {
        self.journal(IMGF_JOURNAL_WILL_CREATE, resource)
    }

    /// The resource exists.
    pub fn created(&self, resource: &Resource) -> Result<()> {
        self.journal(IMGF_JOURNAL_CREATED, resource)
    }

    /// The resource is gone, or was never made.
    pub fn removed(&self, resource: &Resource) -> Result<()> {
        self.journal(IMGF_JOURNAL_REMOVED, resource)
    }

    fn journal(&self, event: u32, resource: &Resource) -> Result<()> {
        let entry = imgf_journal_entry {
            struct_size: imgf_journal_entry::SIZE,
            event,
            flags: if resource.scratch { IMGF_JOURNAL_SCRATCH } else { 0 },
            reserved0: 0,
            token: imgf_str::new(&resource.token),
            kind: imgf_str::new(&resource.kind),
            resource_id: imgf_str::optional(resource.resource_id.as_deref()),
            details_json: imgf_str::optional(resource.details_json.as_deref()),
        };
        // SAFETY: the slot's contract; the entry and its texts outlive the call.
        self.table.call("journal", |host| unsafe { (host.journal)(host.ctx, &entry) })
    }
}
