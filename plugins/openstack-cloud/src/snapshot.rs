//! A snapshot of a server that runs already, made by Nova and kept in Glance.
//!
//! Nova chooses the image's id, so the journal knows the stage's, which stands on the image as a
//! property and finds it again.

use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Resource, Result, Stage};
use imagefactory_toolkit_http::{Method, Response};
use serde_json::json;

use crate::glance::{Glance, GlanceImage, STAGE_PROPERTY, check_id};
use crate::session::{Service, Session};
use crate::wishes::Wishes;

/// What the journal calls it.
pub(crate) const RESOURCE_KIND: &str = "glance-snapshot";

/// Nova pauses the server, copies its disk and uploads it.
const SNAPSHOT_MAX: Duration = Duration::from_secs(6 * 3600);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes the snapshot, or takes over the one that an earlier attempt asked for.
pub(crate) fn snapshot(
    host: &Host,
    session: &Session,
    (stage, wishes): (&Stage<'_>, &Wishes),
) -> Result<GlanceImage> {
    let Some(server) = &wishes.openstack_server_id else {
        let message = "a snapshot on OpenStack is made of a server that runs: which one?";
        return Err(PluginError::user_fault(message)
            .hint("give its id as the parameter openstack_server_id"));
    };
    check_id(server)?;
    if !session.has(Service::Compute) {
        let message =
            "this cloud has no compute service in its catalogue, so it takes no snapshots";
        return Err(PluginError::new(ErrorCode::Unsupported, message)
            .by_user()
            .hint("push an image instead, or name compute_endpoint in the provider's definition"));
    }
    let glance = Glance { host, session };
    let resource = Resource::product(stage.stage_id(), RESOURCE_KIND);
    host.will_create(&resource)?;
    let id = match glance.of_stage(stage.stage_id())?.into_iter().next() {
        Some(image) => image.id,
        None => ask_for(session, (stage, wishes), server)?,
    };
    check_id(&id)?;
    host.created(&resource.with_id(&id))?;
    let until = Instant::now() + SNAPSHOT_MAX;
    while Instant::now() < until {
        let image = glance.image(&id)?.ok_or_else(|| {
            PluginError::new(ErrorCode::Io, "Nova gave the snapshot up and removed it")
                .hint(format!("look at the server {server}: its fault says why"))
        })?;
        match image.status.as_str() {
            "active" => return Ok(image),
            "killed" | "deleted" | "pending_delete" => {
                let message = format!("the snapshot {id} failed: it is {}", image.status);
                return Err(PluginError::new(ErrorCode::Io, message));
            }
            _ => host.progress("snapshot", "Nova takes the snapshot", 0, 0)?,
        }
        host.sleep_unless_cancelled(LOOK_EVERY)?;
    }
    let message = format!("the snapshot {id} is not finished after hours");
    Err(PluginError::new(ErrorCode::Timeout, message))
}

fn ask_for(
    session: &Session,
    (stage, wishes): (&Stage<'_>, &Wishes),
    server: &str,
) -> Result<String> {
    let body = json!({ "createImage": {
        "name": wishes.name(stage),
        "metadata": {
            STAGE_PROPERTY: stage.stage_id(),
            "imagefactory_image_id": stage.image_id(),
        },
    } });
    let path = format!("/servers/{server}/action");
    let response =
        session.ask(Service::Compute, Method::POST, &path, |request| request.json(&body))?;
    if response.status() == 404 {
        return Err(response.error("no snapshot").by_user().hint("is that the server's id?"));
    }
    let response = response.expect_success("Nova takes no snapshot")?;
    id_in(&response)
        .ok_or_else(|| PluginError::new(ErrorCode::Io, "Nova answered without the snapshot's id"))
}

/// In the body from microversion 2.45 on, before it as the end of an address.
fn id_in(response: &Response) -> Option<String> {
    let body: Option<serde_json::Value> = response.json().ok();
    let named = body.and_then(|body| Some(body.get("image_id")?.as_str()?.to_owned()));
    let last = || response.header("location")?.rsplit('/').next().map(str::to_owned);
    named.or_else(last)
}
