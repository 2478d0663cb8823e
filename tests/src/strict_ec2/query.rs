//! The EC2 Query API: images and snapshots.

use std::collections::BTreeMap;

use super::faults::Fault;
use super::form::{self, Form, filters, form_of, list};
use super::signature::Signed;
use super::wire::{Answer, Asked};
use super::world::{Image, World};
use super::{ACCOUNT, Shared};

/// The answer's elements between root and request id.
type Elements = Result<String, Fault>;

pub(crate) fn answer(asked: &Asked, signed: &Signed, shared: &Shared) -> Answer {
    let form = form_of(asked);
    let action = form::action_of(asked);
    if form.get("Version").map(String::as_str) != Some("2016-11-15") {
        return Fault::new(400, "NoSuchVersion").into_answer("ec2");
    }
    let mut world = shared.world();
    let world = &mut *world;
    let region = signed.region.as_str();
    let answered = match action.as_str() {
        "DescribeSnapshots" => Ok(describe_snapshots(&form, region, world)),
        "DeleteSnapshot" => delete_snapshot(&form, region, world),
        "RegisterImage" => register(form, region, world),
        "DescribeImages" => describe_images(&form, region, world),
        "DeregisterImage" => deregister(&form, region, world),
        "CreateTags" => create_tags(&form, world),
        "ModifyImageAttribute" => permit(&form, world),
        "EnableImageDeprecation" => deprecate(&form, world),
        "CopyImage" => copy(form, region, world),
        _ => Err(Fault::new(400, "InvalidAction")),
    };
    match answered {
        Err(fault) => fault.into_answer("ec2"),
        Ok(elements) => Answer::xml(
            200,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response \
                 xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>strict-1\
                 </requestId>{elements}</{action}Response>"
            ),
        ),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn needed<'f>(form: &'f Form, name: &str) -> Result<&'f str, Fault> {
    form.get(name).map(String::as_str).ok_or_else(|| Fault {
        message: format!("The request must contain the parameter {name}"),
        ..Fault::new(400, "MissingParameter")
    })
}

fn invalid(what: &str) -> Fault {
    Fault { message: what.to_owned(), ..Fault::new(400, "InvalidParameterValue") }
}

fn fits(form: &Form, tags: &BTreeMap<String, String>, name: &str) -> bool {
    filters(form).iter().all(|(filter, values)| match filter.strip_prefix("tag:") {
        Some(key) => tags.get(key).is_some_and(|value| values.contains(value)),
        None => filter == "name" && values.iter().any(|value| value == name),
    })
}

fn describe_snapshots(form: &Form, region: &str, world: &mut World) -> String {
    let ids = list(form, "SnapshotId");
    let mut elements = String::from("<snapshotSet>");
    for (id, snapshot) in &mut world.snapshots {
        let asked_for = ids.is_empty() || ids.contains(id);
        if snapshot.region != region || !asked_for || !fits(form, &snapshot.tags, "") {
            continue;
        }
        if snapshot.completed && snapshot.status == "pending" {
            match snapshot.polls_left {
                0 => snapshot.status = "completed",
                _ => snapshot.polls_left -= 1,
            }
        }
        elements += &format!(
            "<item><snapshotId>{id}</snapshotId><status>{}</status><ownerId>{ACCOUNT}</ownerId>\
             <volumeSize>{}</volumeSize></item>",
            snapshot.status, snapshot.volume_size
        );
    }
    elements + "</snapshotSet>"
}

fn delete_snapshot(form: &Form, region: &str, world: &mut World) -> Elements {
    let id = needed(form, "SnapshotId")?;
    if world.images.values().any(|image| image.snapshots.iter().any(|used| used == id)) {
        return Err(Fault::new(400, "InvalidSnapshot.InUse"));
    }
    match world.snapshots.get(id).filter(|snapshot| snapshot.region == region) {
        None => Err(Fault::new(400, "InvalidSnapshot.NotFound")),
        Some(_) => {
            world.snapshots.remove(id);
            Ok("<return>true</return>".to_owned())
        }
    }
}

fn check_name(name: &str, region: &str, world: &World) -> Result<(), Fault> {
    let good = |c: char| c.is_ascii_alphanumeric() || "()[] ./-'@_".contains(c);
    if !(3..=128).contains(&name.len()) || !name.chars().all(good) {
        return Err(Fault::new(400, "InvalidAMIName.Malformed"));
    }
    let taken = |image: &Image| image.name == name && image.region == region;
    match world.images.values().any(taken) {
        true => Err(Fault::new(400, "InvalidAMIName.Duplicate")),
        false => Ok(()),
    }
}

fn register(form: Form, region: &str, world: &mut World) -> Elements {
    let name = needed(&form, "Name")?.to_owned();
    check_name(&name, region, world)?;
    let is = |name: &str, possible: &[&str]| match form.get(name) {
        Some(value) if !possible.contains(&value.as_str()) => Err(invalid(name)),
        _ => Ok(()),
    };
    needed(&form, "Architecture")?;
    is("Architecture", &["x86_64", "arm64", "i386"])?;
    is("VirtualizationType", &["hvm"])?;
    is("BootMode", &["legacy-bios", "uefi", "uefi-preferred"])?;
    is("EnaSupport", &["true", "false"])?;
    is("ImdsSupport", &["v2.0"])?;
    is("TpmSupport", &["v2.0"])?;
    if form.get("BootMode").map(String::as_str) == Some("uefi-preferred")
        && form["Architecture"] != "x86_64"
    {
        return Err(invalid("uefi-preferred is for x86_64"));
    }
    if form.contains_key("TpmSupport") && form.get("BootMode").is_none_or(|mode| mode != "uefi") {
        return Err(invalid("TpmSupport needs uefi"));
    }
    if needed(&form, "BlockDeviceMapping.1.DeviceName")? != needed(&form, "RootDeviceName")? {
        return Err(invalid("no mapping for the root device"));
    }
    let snapshot = needed(&form, "BlockDeviceMapping.1.Ebs.SnapshotId")?.to_owned();
    let found = world.snapshots.get(&snapshot).filter(|it| it.region == region);
    let found = found.ok_or_else(|| Fault::new(400, "InvalidSnapshot.NotFound"))?;
    if found.status != "completed" {
        return Err(Fault::new(400, "InvalidSnapshot.Pending"));
    }
    let size = form.get("BlockDeviceMapping.1.Ebs.VolumeSize").and_then(|size| size.parse().ok());
    if size.is_some_and(|size: u64| size < found.volume_size) {
        return Err(invalid("VolumeSize is smaller than the snapshot"));
    }
    is("BlockDeviceMapping.1.Ebs.VolumeType", &["gp3", "gp2", "io1", "io2", "standard"])?;
    let tags = form::tags_for(&form, "image");
    Ok(new_image(world, (region, name), (form, tags), vec![snapshot]))
}

fn new_image(
    world: &mut World,
    (region, name): (&str, String),
    (request, tags): (Form, BTreeMap<String, String>),
    snapshots: Vec<String>,
) -> String {
    let id = world.new_id("ami");
    let image = Image {
        region: region.to_owned(),
        name,
        request,
        tags,
        state: "pending",
        snapshots,
        launch_permissions: Vec::new(),
        deprecate_at: None,
        polls_left: world.polls_until_ready,
    };
    world.images.insert(id.clone(), image);
    world.registered.insert(id.clone());
    format!("<imageId>{id}</imageId>")
}

fn describe_images(form: &Form, region: &str, world: &mut World) -> Elements {
    let ids = list(form, "ImageId");
    let mut elements = String::from("<imagesSet>");
    let mut found = 0;
    for (id, image) in &mut world.images {
        let asked_for = ids.is_empty() || ids.contains(id);
        if image.region != region || !asked_for || !fits(form, &image.tags, &image.name) {
            continue;
        }
        found += 1;
        if image.state == "pending" {
            match image.polls_left {
                0 => image.state = "available",
                _ => image.polls_left -= 1,
            }
        }
        let devices: String = image
            .snapshots
            .iter()
            .map(|snapshot| format!("<item><ebs><snapshotId>{snapshot}</snapshotId></ebs></item>"))
            .collect();
        elements += &format!(
            "<item><imageId>{id}</imageId><imageState>{}</imageState><name>{}</name>\
             <imageOwnerId>{ACCOUNT}</imageOwnerId><blockDeviceMapping>{devices}\
             </blockDeviceMapping></item>",
            image.state,
            escaped(&image.name)
        );
    }
    if found < ids.len() {
        return Err(Fault::new(400, "InvalidAMIID.NotFound"));
    }
    Ok(elements + "</imagesSet>")
}

fn deregister(form: &Form, region: &str, world: &mut World) -> Elements {
    let id = needed(form, "ImageId")?;
    match world.images.get(id).filter(|image| image.region == region) {
        None => Err(Fault::new(400, "InvalidAMIID.NotFound")),
        Some(_) => {
            world.images.remove(id);
            Ok("<return>true</return>".to_owned())
        }
    }
}

fn create_tags(form: &Form, world: &mut World) -> Elements {
    let tags = form::pairs(form, "Tag");
    for id in list(form, "ResourceId") {
        let kept = match (world.images.get_mut(&id), world.snapshots.get_mut(&id)) {
            (Some(image), _) => &mut image.tags,
            (None, Some(snapshot)) => &mut snapshot.tags,
            (None, None) => return Err(Fault::new(400, "InvalidID.NotFound")),
        };
        kept.extend(tags.clone());
    }
    Ok("<return>true</return>".to_owned())
}

fn image<'w>(form: &Form, world: &'w mut World) -> Result<&'w mut Image, Fault> {
    let id = needed(form, "ImageId")?;
    let image = world.images.get_mut(id).filter(|image| image.state == "available");
    image.ok_or_else(|| Fault::new(400, "InvalidAMIID.Unavailable"))
}

fn permit(form: &Form, world: &mut World) -> Elements {
    let image = image(form, world)?;
    let grants = form.iter().filter_map(|(name, who)| {
        let kind = name.strip_prefix("LaunchPermission.Add.")?.split('.').nth(1)?;
        Some(format!("{kind}={who}"))
    });
    image.launch_permissions.extend(grants);
    Ok("<return>true</return>".to_owned())
}

fn deprecate(form: &Form, world: &mut World) -> Elements {
    let at = needed(form, "DeprecateAt")?.to_owned();
    image(form, world)?.deprecate_at = Some(at);
    Ok("<return>true</return>".to_owned())
}

/// Copies at once and is ready later; two copies with one token are one.
fn copy(form: Form, region: &str, world: &mut World) -> Elements {
    let name = needed(&form, "Name")?.to_owned();
    let token = form.get("ClientToken").cloned();
    let same = world
        .images
        .iter()
        .find(|(_, image)| token.is_some() && image.request.get("ClientToken") == token.as_ref());
    if let Some((id, _)) = same {
        return Ok(format!("<imageId>{id}</imageId>"));
    }
    check_name(&name, region, world)?;
    let source = world.images.get(needed(&form, "SourceImageId")?);
    let source = source.filter(|image| image.region == form["SourceRegion"]);
    let source = source.ok_or_else(|| Fault::new(400, "InvalidAMIID.NotFound"))?;
    let of = source.snapshots.first().and_then(|id| world.snapshots.get(id));
    let size = of.map_or(1, |snapshot| snapshot.volume_size);
    let mut snapshot = world.new_snapshot(region, size);
    snapshot.completed = true;
    snapshot.tags = form::tags_for(&form, "snapshot");
    let id = world.new_id("snap");
    world.snapshots.insert(id.clone(), snapshot);
    let tags = form::tags_for(&form, "image");
    Ok(new_image(world, (region, name), (form, tags), vec![id]))
}
