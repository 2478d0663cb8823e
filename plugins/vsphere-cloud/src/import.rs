//! One import: specification, lease, the disk over HTTP, and the machine stands.
//!
//! A lease ends when nobody tells its progress for five minutes, and with it what was uploaded: a
//! thread of its own keeps it alive. It cannot be taken up again by another process, so an attempt
//! that died is undone and the next one sends the disk anew.

use std::fs::File;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_http::{Body, Method, Progress, Request, Url};

use crate::element::Xml;
use crate::inventory::{localized, member};
use crate::machine::{Machine, OVF_NETWORK};
use crate::place::Place;
use crate::soap::{Reference, Vim, copied, incomplete};

/// How often a task or a lease is looked at: imports take minutes.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a lease hears that it is still used; it lasts 300 s without.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// What is imported.
pub(crate) struct Disk {
    /// VMDK streamOptimized.
    pub(crate) file: File,
    /// Of the file.
    pub(crate) file_bytes: u64,
    /// As the guest sees it.
    pub(crate) disk_bytes: u64,
}

/// How the server wants the disk.
struct FileItem {
    device: String,
    method: Method,
}

/// Hears which machine it is as soon as it exists.
type Announced<'a> = dyn Fn(&Reference) -> Result<()> + 'a;

/// Imports the disk as a machine called `name`; `announced` hears which it is as soon as it exists.
/// On an error nothing is left, unless the server is gone.
pub(crate) fn import(
    host: &Host,
    vim: &Vim,
    (place, machine, name): (&Place, &Machine, &str),
    (disk, announced): (Disk, &Announced<'_>),
) -> Result<Reference> {
    host.progress("prepare", "Asking for an import specification", 0, 0)?;
    let descriptor = machine.descriptor(disk.disk_bytes, disk.file_bytes);
    let descriptor = descriptor.document().map_err(|error| {
        PluginError::new(ErrorCode::Internal, format!("the OVF descriptor: {error}"))
    })?;
    let (specification, item) = specification(host, vim, (place, &descriptor, name))?;
    let mut arguments = vec![specification, place.folder.xml("folder")];
    arguments.extend(place.host.as_ref().map(|host| host.xml("host")));
    let lease = vim.write("ImportVApp", &place.pool, arguments)?.reference("returnval")?;
    let uploaded = ready(host, vim, &lease).and_then(|(entity, devices)| {
        announced(&entity)?;
        let url = device_url(vim, &devices, &item.device)?;
        upload(host, vim, &lease, (item.method, url, disk))?;
        vim.write("HttpNfcLeaseComplete", &lease, [])?;
        Ok(entity)
    });
    if uploaded.is_err() {
        // Aborting removes what was imported. Where even that fails, cleanup finds the machine.
        if let Err(error) = vim.write("HttpNfcLeaseAbort", &lease, []) {
            host.warn(&format!("the import's lease is not aborted: {error}"));
        }
    }
    uploaded
}

fn specification(
    host: &Host,
    vim: &Vim,
    (place, descriptor, name): (&Place, &str, &str),
) -> Result<(Xml, FileItem)> {
    let mapping = place.network.as_ref().map(|network| {
        Xml::new("networkMapping").leaf("name", OVF_NETWORK).child(network.xml("network"))
    });
    let mut parameters =
        Xml::new("cisp").leaf("locale", "").leaf("deploymentOption", "").leaf("entityName", name);
    if let Some(host) = &place.host {
        parameters = parameters.child(host.xml("hostSystem"));
    }
    let parameters = parameters.children(mapping).leaf("diskProvisioning", "thin");
    let arguments = [
        Xml::text("ovfDescriptor", descriptor),
        place.pool.xml("resourcePool"),
        place.datastore.xml("datastore"),
        parameters,
    ];
    let answer = vim.read("CreateImportSpec", &vim.service("ovfManager")?, arguments)?;
    let document = answer.parse()?;
    let result = document
        .descendants()
        .find(|node| node.tag_name().name() == "returnval")
        .ok_or_else(|| incomplete("import specification"))?;
    if let Some(error) = member(result, "error") {
        return Err(localized(error).while_doing("vSphere cannot import such a machine"));
    }
    for warning in result.children().filter(|node| node.tag_name().name() == "warning") {
        host.warn(&format!("vSphere warns: {}", localized(warning)));
    }
    let specification =
        member(result, "importSpec").ok_or_else(|| incomplete("import specification"))?;
    let item = member(result, "fileItem").ok_or_else(|| incomplete("fileItem"))?;
    let text = |name: &str| member(item, name).and_then(|node| node.text()).unwrap_or_default();
    // "create": the file is new there, which is PUT; otherwise it is filled, which is POST.
    let method = if text("create") == "true" { Method::PUT } else { Method::POST };
    let item = FileItem { device: text("deviceId").to_owned(), method };
    Ok((copied(specification, "spec")?, item))
}

type Devices = Vec<(String, String)>;

/// Waits for the lease; answers the machine, and where each device's content goes.
fn ready(host: &Host, vim: &Vim, lease: &Reference) -> Result<(Reference, Devices)> {
    loop {
        let (mut state, mut failed) = (String::new(), None);
        let (mut entity, mut devices) = (None, Devices::new());
        vim.properties(lease, &["state", "error", "info"], |name, value| {
            match name {
                "state" => value.text().unwrap_or_default().clone_into(&mut state),
                "error" => failed = Some(localized(value)),
                _ => {
                    entity = member(value, "entity").and_then(Reference::read);
                    for device in value.children() {
                        let text = |name: &str| Some(member(device, name)?.text()?.to_owned());
                        devices.extend(text("importKey").zip(text("url")));
                    }
                }
            }
            Ok(())
        })?;
        match state.as_str() {
            "ready" => return Ok((entity.ok_or_else(|| incomplete("entity"))?, devices)),
            "initializing" => host.sleep_unless_cancelled(LOOK_EVERY)?,
            _ => {
                let error = failed.unwrap_or_else(|| incomplete("reason"));
                return Err(error.while_doing("vSphere does not take the import"));
            }
        }
    }
}

/// Where a device's content goes. `*` as host stands for the server that is spoken to.
fn device_url(vim: &Vim, devices: &Devices, device: &str) -> Result<Url> {
    let url = devices.iter().find(|(key, _)| key == device).map(|(_, url)| url);
    let url = url.ok_or_else(|| incomplete("address for the disk"))?;
    let (name, port) = vim.authority();
    let whole = match url.split_once("://*") {
        Some((scheme, path)) => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{scheme}://{name}{port}{path}")
        }
        None => url.clone(),
    };
    let parsed = Url::parse(&whole).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
    parsed.ok_or_else(|| {
        PluginError::new(ErrorCode::Io, "vSphere's address for the disk's upload is no URL")
    })
}

fn upload(
    host: &Host,
    vim: &Vim,
    lease: &Reference,
    (method, url, disk): (Method, Url, Disk),
) -> Result<()> {
    let progress = Progress::new("upload", "Uploading the disk", disk.file_bytes);
    let request = Request::to(method, url)
        .header("content-type", "application/x-vnd.vmware-streamVmdk")
        .body(Body::file_range(disk.file, 0..disk.file_bytes))
        .progress(&progress);
    let file_bytes = disk.file_bytes;
    let (done, end) = channel::<()>();
    std::thread::scope(|scope| {
        let sent_so_far = progress.clone();
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(KEEP_ALIVE_EVERY) {
                let percent = (100 * sent_so_far.done() / file_bytes.max(1)).min(100);
                let arguments = [Xml::text("percent", percent)];
                if let Err(error) = vim.write("HttpNfcLeaseProgress", lease, arguments) {
                    host.warn(&format!("the lease was not kept alive: {error}"));
                }
            }
        });
        let sent = vim.http.send(&request);
        // Ends the other thread: the channel has no sender any more.
        drop(done);
        sent?.expect_success("vSphere does not take the disk").map(|_| ())
    })
}
