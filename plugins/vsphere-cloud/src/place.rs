//! Where on the server a machine goes: the names of the provider's definition as objects.

use imagefactory_plugin_sdk::author::{PluginError, Result};

use crate::provider::Provider;
use crate::soap::{Reference, Vim};

const COMPUTE: [&str; 2] = ["ComputeResource", "ClusterComputeResource"];
const NETWORKS: [&str; 3] = ["Network", "DistributedVirtualPortgroup", "OpaqueNetwork"];

/// All objects of one import.
pub(crate) struct Place {
    /// Its disks.
    pub(crate) datastore: Reference,
    /// Its resources.
    pub(crate) pool: Reference,
    /// Among which machines it stands.
    pub(crate) folder: Reference,
    /// Only where the definition names one.
    pub(crate) host: Option<Reference>,
    /// The same.
    pub(crate) network: Option<Reference>,
}

impl Place {
    /// Looks all of them up.
    pub(crate) fn find(vim: &Vim, provider: &Provider) -> Result<Place> {
        let datacenter = datacenter(vim, provider)?;
        let find =
            |what: &str, kinds: &[&str], name: &str| vim.find(what, kinds, (&datacenter, name));
        let optional = |what: &str, kinds: &[&str], name: &Option<String>| {
            name.as_deref().map(|name| find(what, kinds, name)).transpose()
        };
        let pool = match (&provider.resource_pool, &provider.compute_resource) {
            (Some(pool), _) => find("resource pool", &["ResourcePool"], pool)?,
            (None, compute) => {
                let name = compute.as_deref().unwrap_or_default();
                let compute = find("compute resource", &COMPUTE, name)?;
                vim.reference_of(&compute, "resourcePool")?
            }
        };
        Ok(Place {
            datastore: find("datastore", &["Datastore"], &provider.datastore)?,
            pool,
            folder: folder(vim, provider, &datacenter)?,
            host: optional("host", &["HostSystem"], &provider.host)?,
            network: optional("network", &NETWORKS, &provider.network_name)?,
        })
    }
}

/// The datacenter that is named, or the only one.
fn datacenter(vim: &Vim, provider: &Provider) -> Result<Reference> {
    let root = vim.service("rootFolder")?;
    if let Some(name) = &provider.datacenter {
        return vim.find("datacenter", &["Datacenter"], (&root, name));
    }
    let mut all = vim.list(&["Datacenter"], &root)?;
    match (all.pop(), all.as_slice()) {
        (Some(only), []) => Ok(only.reference),
        (None, _) => {
            let message = "the account sees no datacenter";
            Err(PluginError::user_fault(message).hint("give it the right to read the inventory"))
        }
        (Some(last), others) => {
            let mut names: Vec<&str> = others.iter().map(|known| known.name.as_str()).collect();
            names.push(&last.name);
            let message = format!("there are several datacenters: {}", names.join(", "));
            Err(PluginError::user_fault(message)
                .hint("name one in the provider's definition as datacenter"))
        }
    }
}

/// Where machines of this provider stand.
pub(crate) fn folder(vim: &Vim, provider: &Provider, datacenter: &Reference) -> Result<Reference> {
    let machines = vim.reference_of(datacenter, "vmFolder")?;
    match &provider.folder {
        Some(name) => vim.find("folder", &["Folder"], (&machines, name)),
        None => Ok(machines),
    }
}

/// The container in which machines are looked for when nothing else need be found.
pub(crate) fn machines(vim: &Vim, provider: &Provider) -> Result<Reference> {
    let datacenter = datacenter(vim, provider)?;
    vim.reference_of(&datacenter, "vmFolder")
}
