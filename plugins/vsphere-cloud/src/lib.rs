//! VSphereCloud: images become virtual machines or templates on a vCenter or an ESXi host.
//!
//! The target image is the disk as VMDK streamOptimized, the one form that vSphere takes over the
//! network. A push imports it with an OVF descriptor of ours through OvfManager and an HTTP NFC
//! lease. Until it is whole the machine is called after its image; by that name the next attempt
//! and cleanup find what was left. Snapshots on the provider are not offered, as in the original.

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

mod conversion;
mod element;
mod import;
mod inventory;
mod machine;
mod place;
mod provider;
mod soap;

use imagefactory_plugin_sdk::author::{
    BuilderDidCreateTargetImage, BuilderWillCreateTargetImage, Cleanup, CloudPlugin,
    DeleteFromProvider, ErrorCode, Host, Plugin, PluginError, PushImageToProvider, Resource,
    Result, Stage,
};
use imagefactory_plugin_sdk::payload::target_content::{TargetCommand, TargetContent};
use imagefactory_plugin_sdk::payload::template::ContentType;
use serde_json::json;

use element::Xml;
use machine::{Machine, working_name};
use place::Place;
use provider::{Account, Provider};
use soap::{Reference, Vim};

/// What the journal calls a machine.
const RESOURCE_KIND: &str = "vsphere-virtual-machine";

/// Debian's cloud kernel has no drivers for VMware's hardware; the ordinary one has.
const DEBIAN_KERNEL: &str = "linux-image-amd64";
const REMOVE_CLOUD_KERNEL: &str =
    "apt-get -y purge 'linux-image-*cloud*' || test -z \"$(ls /boot/vmlinuz-*cloud* 2>/dev/null)\"";

struct VSphereCloud {
    host: Host,
}

impl Plugin for VSphereCloud {
    const ID: &'static str = "VSphereCloud";
    const VERSION: &'static str = "2.0.0";

    fn create(host: Host) -> Result<VSphereCloud> {
        Ok(VSphereCloud { host })
    }
}

impl CloudPlugin for VSphereCloud {}

impl BuilderWillCreateTargetImage for VSphereCloud {
    fn builder_will_create_target_image(&self, stage: &Stage<'_>) -> Result<()> {
        if stage.template_json().is_none() || stage.template()?.os.name != "Debian" {
            return Ok(());
        }
        let package = serde_json::from_value(json!({ "name": DEBIAN_KERNEL }));
        let package = package.map_err(|error| {
            PluginError::new(ErrorCode::Internal, format!("the kernel's package: {error}"))
        })?;
        self.host.add_cloud_plugin_content(&TargetContent {
            packages: vec![package],
            commands: vec![TargetCommand {
                name: "vsphere-kernel".to_owned(),
                kind: ContentType::Raw,
                command: REMOVE_CLOUD_KERNEL.to_owned(),
            }],
            ..TargetContent::default()
        })
    }
}

impl BuilderDidCreateTargetImage for VSphereCloud {
    fn builder_did_create_target_image(&self, stage: &Stage<'_>) -> Result<()> {
        conversion::to_stream_optimized(&self.host, stage)
    }
}

impl PushImageToProvider for VSphereCloud {
    fn push_image_to_provider(&self, stage: &Stage<'_>) -> Result<()> {
        let host = &self.host;
        let machine = Machine::of(stage)?;
        let disk = conversion::disk(host)?;
        let (vim, provider, account) = self.connect(stage)?;
        let place = Place::find(&vim, &provider)?;
        let name = working_name(stage.image_id());
        let left = machines_called(&vim, &place.folder, &name)?;

        let resource = Resource::product(stage.stage_id(), RESOURCE_KIND)
            .with_details_json(json!({ "name": name }).to_string());
        host.will_create(&resource)?;
        for half in &left {
            host.info(&format!("{} of an earlier attempt is removed: it may be half", half.id));
            remove(host, &vim, half)?;
        }
        let announced =
            |entity: &Reference| host.created(&resource.clone().with_id(entity.id.clone()));
        let made = import::import(host, &vim, (&place, &machine, &name), (disk, &announced));
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                // The lease's end has removed it, unless the server cannot be asked.
                if matches!(machines_called(&vim, &place.folder, &name).as_deref(), Ok([])) {
                    host.removed(&resource)?;
                }
                return Err(error);
            }
        };
        self.finish(&vim, &made, (&machine, &name))?;
        host.set_result("identifier_on_provider", &machine.ovf_name)?;
        host.set_result("provider_account_identifier", &account.username)?;
        let properties = json!({ "vsphere_object": made.id, "vsphere_product": vim.product });
        host.set_result("properties", &properties)?;
        host.set_result("effective_parameters", &machine)
    }
}

impl DeleteFromProvider for VSphereCloud {
    fn delete_from_provider(&self, stage: &Stage<'_>) -> Result<()> {
        let image = stage.image("self")?;
        let member = |name: &str| image.as_ref().and_then(|image| image.member(name));
        let name = member("identifier_on_provider").and_then(|name| name.as_text());
        let name = name.ok_or_else(|| {
            PluginError::user_fault("the image has no identifier on the provider")
        })?;
        let object = member("properties")
            .and_then(|properties| properties.member("vsphere_object")?.as_text());
        let (vim, provider, _) = self.connect(stage)?;
        let found = machines_called(&vim, &place::machines(&vim, &provider)?, &name)?;
        let ours = match object {
            Some(object) => found.iter().find(|machine| machine.id == object),
            // Pushed by another factory or imported by hand: the name is all there is.
            None if found.len() > 1 => {
                let message = format!("there are {} machines called {name:?}", found.len());
                return Err(PluginError::new(ErrorCode::InvalidState, message)
                    .hint("remove the right one in the vSphere client, then delete again"));
            }
            None => found.first(),
        };
        match ours {
            Some(machine) => remove(&self.host, &vim, machine),
            None => {
                self.host.warn(&format!("{name} is gone already"));
                Ok(())
            }
        }
    }
}

impl Cleanup for VSphereCloud {
    fn cleanup(&self, stage: &Stage<'_>, left: &[Resource]) -> Result<()> {
        let (vim, provider, _) = self.connect(stage)?;
        let folder = place::machines(&vim, &provider)?;
        let all = vim.list(&["VirtualMachine"], &folder)?;
        let mut first_error = Ok(());
        for resource in left {
            let name = resource_name(resource)?;
            // By id where it is known (it may have its last name by now), else by its first name.
            let is_it = |machine: &&inventory::Named| match &resource.resource_id {
                Some(id) => machine.reference.id == *id,
                None => machine.name == name,
            };
            let removed = match all.iter().find(is_it) {
                Some(machine) => remove(&self.host, &vim, &machine.reference),
                None => Ok(()),
            };
            let removed = removed.and_then(|()| self.host.removed(resource));
            first_error = first_error.and(removed);
        }
        first_error
    }
}

impl VSphereCloud {
    fn connect(&self, stage: &Stage<'_>) -> Result<(Vim, Provider, Account)> {
        self.host.check_cancelled()?;
        let provider = Provider::of(stage)?;
        let secret = stage.credential_name().map(|name| self.host.secret(name)).transpose()?;
        let account = Account::of(&provider, secret.as_ref().map(|secret| secret.expose()))?;
        let vim = Vim::open(&self.host, &provider, &account)?;
        Ok((vim, provider, account))
    }

    /// The machine is whole: it becomes a template where that is asked for, and gets its last name.
    fn finish(&self, vim: &Vim, made: &Reference, (machine, name): (&Machine, &str)) -> Result<()> {
        if machine.ovf_name != name {
            let arguments = [Xml::text("newName", &machine.ovf_name)];
            let task = vim.write("Rename_Task", made, arguments)?.reference("returnval")?;
            vim.finish(&self.host, &task)?;
        }
        if machine.vsphere_template {
            vim.write("MarkAsTemplate", made, [])?;
        }
        Ok(())
    }
}

fn resource_name(resource: &Resource) -> Result<String> {
    let details = resource.details_json.as_deref().unwrap_or("{}");
    let details: serde_json::Value = serde_json::from_str(details).map_err(|error| {
        let message = format!("the journal's entry {}: {error}", resource.token);
        PluginError::new(ErrorCode::InvalidArgument, message)
    })?;
    Ok(details["name"].as_str().unwrap_or_default().to_owned())
}

fn machines_called(vim: &Vim, folder: &Reference, name: &str) -> Result<Vec<Reference>> {
    let all = vim.list(&["VirtualMachine"], folder)?;
    Ok(all.into_iter().filter(|known| known.name == name).map(|known| known.reference).collect())
}

/// Stops a machine and removes it with its disks. Gone already is as good.
fn remove(host: &Host, vim: &Vim, machine: &Reference) -> Result<()> {
    let mut power = String::new();
    vim.properties(machine, &["runtime.powerState"], |_, value| {
        value.text().unwrap_or_default().clone_into(&mut power);
        Ok(())
    })?;
    let task = |operation: &str| -> Result<()> {
        let task = vim.write(operation, machine, [])?.reference("returnval")?;
        vim.finish(host, &task).map(|_| ())
    };
    if power == "poweredOn" {
        task("PowerOffVM_Task")?;
    }
    match task("Destroy_Task") {
        Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
        done => done,
    }
}

imagefactory_plugin_sdk::export_cloud_plugin!(VSphereCloud);
