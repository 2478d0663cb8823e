//! A finished image with what a cloud asks for: the tree is taken out, added to, and written back
//! with the same partitions, ids and boot loaders.
//!
//! Where nothing is asked for the image is copied, sharing blocks or keeping holes. Nothing runs
//! from the image but what is installed into it, and that in the stage's namespaces.

use std::fs::File;
use std::path::Path;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_plugin_sdk::payload::target_content::TargetContent;
use imagefactory_toolkit_disk::ext4::Ext4;
use imagefactory_toolkit_disk::{DiskFormat, Partition, inspect, partitions};
use serde_json::json;

use crate::disk::{self, RootFileSystem};
use crate::plan::Plan;
use crate::times::Moment;
use crate::tree::Tree;
use crate::{apt, customisation, extraction, finishing, inventory, probe, tree_cache};

/// Makes the stage's output image.
pub(crate) fn create(host: &Host, stage: &Stage<'_>, contents: &[TargetContent]) -> Result<()> {
    let (input, output) = (host.input_image()?, host.output_image()?);
    host.set_result_text("format", "raw")?;
    let image = File::open(&input)?;
    if contents.iter().all(TargetContent::is_empty) {
        host.progress("copy", "Copying the base image", 0, 1)?;
        imagefactory_toolkit_disk::copy(&image, &File::create_new(&output)?)?;
        return host.progress("copy", "Done", 1, 1);
    }
    probe::check_ids()?;
    let plan = Plan::of(host, stage)?;
    let root_partition = own_layout(&image)?;
    let ext4 = Ext4::open(&image, root_partition.offset_bytes).map_err(foreign)?;
    let root = host.work_dir()?.join("root");
    host.progress("extract", "Taking the system out of the image", 0, 100)?;
    extraction::extract(host, &ext4, &root)?;
    customise(host, &plan, &root, contents)?;
    let packages = inventory::installed(host, &root)?;
    inventory::hand_over(host, stage, &plan, &root, &packages)?;
    let file_system = RootFileSystem {
        offset_bytes: root_partition.offset_bytes,
        bytes: root_partition.bytes,
        uuid: ext4.facts().uuid.clone(),
        hash_seed: ext4.facts().hash_seed.clone(),
    };
    disk::rewrite_image(host, &image, &file_system, &root, &output)?;
    host.set_result("properties", &json!({ "packages": packages.len() }))
}

fn customise(host: &Host, plan: &Plan, root: &Path, contents: &[TargetContent]) -> Result<()> {
    let tree = Tree::new(host, root);
    if !tree.has(finishing::FIRST_BOOT_SCRIPT) {
        return Err(foreign("it was not made by this plugin"));
    }
    host.progress("customise", "Adding what the target asks for", 30, 100)?;
    apt::write_keys(&plan.keys, root)?;
    finishing::hold_initramfs(&tree)?;
    tree_cache::put_out_of_reach(host)?;
    let since = Moment::now(&host.work_dir()?)?;
    for content in contents {
        customisation::apply_content(&tree, plan, content)?;
    }
    finishing::release_initramfs(&tree, &since)?;
    finishing::forget_this_build(&tree)
}

/// The root partition, if the image is laid out as this plugin does.
fn own_layout(image: &File) -> Result<Partition> {
    let facts = inspect(image).map_err(foreign)?;
    if facts.format != DiskFormat::Raw {
        return Err(foreign(format!("it is {}, not raw", facts.format)));
    }
    let all = partitions(image).map_err(foreign)?;
    let types: Vec<&str> = all.iter().map(|one| one.type_id.as_str()).collect();
    let own = disk::PARTITION_TYPES.map(str::to_lowercase);
    match all.get(2) {
        Some(root) if types == own => Ok(root.clone()),
        _ => {
            let message = format!("it has {} partitions of other kinds", all.len());
            Err(foreign(message))
        }
    }
}

/// Images that were imported, or made by another plugin.
fn foreign(why: impl std::fmt::Display) -> PluginError {
    let message = format!(
        "this target asks for additions, and the image is none that DebianOS can add to: {why}"
    );
    PluginError::new(ErrorCode::Unsupported, message)
        .by_user()
        .hint("build the base image from a template, or use a target that adds nothing")
}
