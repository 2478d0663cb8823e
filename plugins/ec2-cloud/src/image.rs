//! The image itself: registered from a snapshot, opened to others, copied, and given an end.

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Resource, Result, Stage};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::aws::Aws;
use crate::ebs::Tag;
use crate::failure::CallError;
use crate::firmware::BootMode;
use crate::outside::{self, IMAGE};
use crate::query::{Parameters, done, query, query_once};
use crate::tags::{
    FoundImage, STAGE_TAG, image, images_named, images_with, put_tags, tag_specification,
};
use crate::waiting::until_available;
use crate::wishes::{Wishes, is_organisation, is_unit};
use crate::xml::text_of;

/// What an image is registered with.
pub(crate) struct NewImage<'n> {
    pub(crate) name: &'n str,
    pub(crate) description: &'n str,
    /// As EC2 calls it.
    pub(crate) architecture: &'n str,
    /// What can start it; `None` = EC2's default.
    pub(crate) boot_mode: Option<&'n str>,
    pub(crate) snapshot: &'n str,
    /// GiB.
    pub(crate) volume_size: u64,
    pub(crate) tags: &'n [Tag],
}

/// EC2's name for a template's architecture.
pub(crate) fn architecture_named(name: &str) -> Result<&'static str> {
    match name {
        "x86_64" | "amd64" => Ok("x86_64"),
        "aarch64" | "arm64" => Ok("arm64"),
        "i386" | "i586" | "i686" => Ok("i386"),
        other => Err(PluginError::user_fault(format!("EC2 has no {other} machines"))
            .hint("build for x86_64, arm64 or i386")),
    }
}

/// The boot mode to register with: as wished, or what the image can.
pub(crate) fn boot_mode_for<'w>(
    wishes: &'w Wishes,
    found: Option<BootMode>,
    architecture: &str,
) -> Result<Option<&'w str>> {
    let mode = wishes.boot_mode.as_deref().or(found.map(BootMode::name));
    if architecture != "arm64" {
        return Ok(mode);
    }
    // Arm instances start with UEFI only, and EC2 refuses uefi-preferred for them.
    match mode {
        Some("legacy-bios") => {
            let message = "an arm64 image that only BIOS can start, on machines that have UEFI";
            Err(PluginError::user_fault(message).hint("give the image an EFI system partition"))
        }
        _ => Ok(Some("uefi")),
    }
}

/// Registers the image, or takes over what an earlier attempt has registered.
pub(crate) fn register(
    (host, aws): (&Host, &Aws),
    stage_id: &str,
    new: &NewImage<'_>,
    wishes: &Wishes,
) -> Result<String> {
    let resource = outside::product(aws, stage_id, IMAGE)?;
    host.will_create(&resource)?;
    let id = match images_with(aws, (STAGE_TAG, stage_id))?.into_iter().next() {
        Some(found) => found.id,
        None => match register_new(aws, new, wishes) {
            Ok(id) => id,
            Err(error) if error.is("InvalidAMIName.Duplicate") => same_image(aws, new, error)?.id,
            Err(error) => return Err(error.into()),
        },
    };
    host.created(&resource.clone().with_id(&id))?;
    host.info(&format!("{id} is registered in {}", aws.region()));
    // Once more: not every endpoint takes tags where it registers.
    put_tags(aws, std::slice::from_ref(&id), new.tags)?;
    until_available(host, aws, &id)?;
    Ok(id)
}

fn register_new(
    aws: &Aws,
    new: &NewImage<'_>,
    wishes: &Wishes,
) -> std::result::Result<String, CallError> {
    let device = "BlockDeviceMapping.1";
    let ebs = format!("{device}.Ebs");
    let parameters = Parameters::new()
        .with("Name", new.name)
        .with("Description", new.description)
        .with("Architecture", new.architecture)
        .with("VirtualizationType", "hvm")
        .with("RootDeviceName", &wishes.root_device_name)
        .with("EnaSupport", wishes.ena_support)
        .with_some("SriovNetSupport", Some("simple").filter(|_| wishes.ena_support))
        .with_some("BootMode", new.boot_mode)
        .with_some("ImdsSupport", wishes.imds_support.as_ref())
        .with_some("TpmSupport", wishes.tpm_support.as_ref())
        .with(format!("{device}.DeviceName"), &wishes.root_device_name)
        .with(format!("{ebs}.SnapshotId"), new.snapshot)
        .with(format!("{ebs}.VolumeType"), &wishes.volume_type)
        .with(format!("{ebs}.VolumeSize"), new.volume_size)
        .with(format!("{ebs}.DeleteOnTermination"), true)
        .with_some(&format!("{ebs}.Iops"), wishes.iops)
        .with_some(&format!("{ebs}.Throughput"), wishes.throughput);
    let parameters = tag_specification(parameters, (1, "image"), new.tags);
    query_once(aws, "RegisterImage", parameters, |answer| {
        text_of(answer, "imageId").map(str::to_owned)
    })
}

/// A name that is taken is ours if the image stands on our snapshot: its answer was lost then.
fn same_image(aws: &Aws, new: &NewImage<'_>, error: CallError) -> Result<FoundImage> {
    let snapshot = new.snapshot.to_owned();
    let ours = |image: &FoundImage| image.snapshots.contains(&snapshot);
    images_named(aws, new.name)?.into_iter().find(ours).ok_or_else(|| {
        PluginError::from(error).hint("another image has that name; choose another ec2_name")
    })
}

/// What is set on an image once it is there.
pub(crate) fn finish(aws: &Aws, id: &str, wishes: &Wishes) -> Result<()> {
    if !wishes.launch_permissions.is_empty() {
        let parameters = Parameters::new().with("ImageId", id);
        let grants = wishes.launch_permissions.iter().enumerate();
        let parameters = grants.fold(parameters, |all, (index, who)| {
            let kind = match who.as_str() {
                "all" => "Group",
                who if is_organisation(who) => "OrganizationArn",
                who if is_unit(who) => "OrganizationalUnitArn",
                _ => "UserId",
            };
            all.with(format!("LaunchPermission.Add.{}.{kind}", index + 1), who)
        });
        query(aws, "ModifyImageAttribute", parameters, done)?;
    }
    if let Some(at) = wishes.deprecation(OffsetDateTime::now_utc())? {
        // EC2 rounds to minutes and takes no fractions of seconds.
        let at = at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).map_err(|error| {
            PluginError::new(ErrorCode::Internal, format!("the deprecation's time: {error}"))
        })?;
        let parameters = Parameters::new().with("ImageId", id).with("DeprecateAt", at);
        query(aws, "EnableImageDeprecation", parameters, done)?;
    }
    Ok(())
}

/// A copy in another region that has been asked for.
pub(crate) struct Copy {
    pub(crate) aws: Aws,
    pub(crate) id: String,
}

/// Asks for a copy in another region, or takes over the one of an earlier attempt.
pub(crate) fn begin_copy(
    (host, aws): (&Host, &Aws),
    (stage_id, source): (&str, &str),
    region: &str,
    (new, wishes): (&NewImage<'_>, &Wishes),
) -> Result<Copy> {
    let there = aws.in_region(region);
    let resource: Resource = outside::product(&there, stage_id, IMAGE)?;
    host.will_create(&resource)?;
    let id = match images_with(&there, (STAGE_TAG, stage_id))?.into_iter().next() {
        Some(found) => found.id,
        None => {
            let parameters = Parameters::new()
                .with("Name", new.name)
                .with("Description", new.description)
                .with("SourceImageId", source)
                .with("SourceRegion", aws.region())
                // The same in every attempt: two copies with one token are one.
                .with("ClientToken", format!("{stage_id}-{region}"))
                // Keys belong to a region: there it is the account's default key.
                .with_some("Encrypted", wishes.encrypted);
            let parameters = tag_specification(parameters, (1, "image"), new.tags);
            let parameters = tag_specification(parameters, (2, "snapshot"), new.tags);
            query(&there, "CopyImage", parameters, |answer| {
                text_of(answer, "imageId").map(str::to_owned)
            })?
        }
    };
    host.created(&resource.with_id(&id))?;
    host.info(&format!("{source} is being copied to {region} as {id}"));
    Ok(Copy { aws: there, id })
}

/// Waits for a copy, and sets on it and its snapshots what the original has.
pub(crate) fn finish_copy(host: &Host, copy: &Copy, tags: &[Tag], wishes: &Wishes) -> Result<()> {
    until_available(host, &copy.aws, &copy.id)?;
    let snapshots = image(&copy.aws, &copy.id)?.map(|image| image.snapshots).unwrap_or_default();
    let all: Vec<String> = std::iter::once(copy.id.clone()).chain(snapshots).collect();
    put_tags(&copy.aws, &all, tags)?;
    finish(&copy.aws, &copy.id, wishes)
}

/// A name that EC2 takes, of the template's name and the image's id.
pub(crate) fn name_for(stage: &Stage<'_>, wishes: &Wishes) -> String {
    if let Some(name) = &wishes.name {
        return name.clone();
    }
    let template = match stage.template_json() {
        Some(_) => stage.template().map(|template| template.name).unwrap_or_default(),
        None => String::new(),
    };
    let good = |c: char| if c.is_ascii_alphanumeric() || "()./-_".contains(c) { c } else { '-' };
    // Of EC2's 128 characters the id takes 36.
    let start: String = template.chars().map(good).take(90).collect();
    let start = if start.is_empty() { "imagefactory".to_owned() } else { start };
    format!("{start}-{}", stage.image_id())
}
