//! Rules 109 to 112: the descriptor and the tables that hang on it.

use imagefactory_model::frames::PluginKind;
use imagefactory_model::stage::Operation;
use imagefactory_plugin_sdk::abi::{
    IMGF_ABI, IMGF_IFACE_CLEANUP_V1, IMGF_IFACE_CLOUD_V1, IMGF_IFACE_OS_INPUTS_V1,
    IMGF_IFACE_OS_V1, IMGF_IFACE_OS_VERIFY_V1, IMGF_KIND_CLOUD, IMGF_KIND_OS, imgf_plugin,
    imgf_str,
};

use super::arena::Arena;
use super::bench::Bench;
use super::subject::Subject;
#[cfg(feature = "layout-check")]
use super::subject::load_symbol;

/// The interfaces of today's ABI with the size of their first version.
const INTERFACES: [(&str, u32); 5] = [
    (IMGF_IFACE_OS_V1, 40),
    (IMGF_IFACE_CLOUD_V1, 64),
    (IMGF_IFACE_CLEANUP_V1, 16),
    (IMGF_IFACE_OS_INPUTS_V1, 16),
    (IMGF_IFACE_OS_VERIFY_V1, 16),
];

/// 109: what the library says of itself is what the manifest says of it.
pub(super) fn describes_itself_truly(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    bench.report.phase("reading the descriptor");
    let (own, manifest) = (subject.descriptor(), &bench.order.plugin);
    if (own.struct_size as usize) < size_of::<imgf_plugin>() {
        let needed = size_of::<imgf_plugin>();
        bench
            .report
            .failed(format!("the descriptor has {} bytes instead of {needed}", own.struct_size));
        return;
    }
    for (what, text, wanted) in
        [("id", own.id, &manifest.id), ("version", own.version, &manifest.version)]
    {
        // SAFETY: static texts, as descriptor.h demands.
        match unsafe { text.text() } {
            Ok(Some(text)) if text == wanted => {}
            Ok(text) => bench.report.failed(format!(
                "the descriptor's {what} is {:?}, the manifest's {wanted:?}",
                text.unwrap_or("absent")
            )),
            Err(error) => bench.report.failed(format!("the descriptor's {what}: {error}")),
        }
    }
    let kind = match manifest.kind {
        PluginKind::Os => IMGF_KIND_OS,
        PluginKind::Cloud => IMGF_KIND_CLOUD,
    };
    if own.kind != kind {
        bench.report.failed(format!(
            "the descriptor's kind is {}, but the manifest says {:?} ({kind})",
            own.kind, manifest.kind
        ));
    }
    if !abi_is_within(own.abi_version, &manifest.abi_req) {
        let (major, minor) = (own.abi_version >> 16, own.abi_version & 0xffff);
        let required = &manifest.abi_req;
        bench.report.failed(format!(
            "compiled for ABI {major}.{minor}, which is not in abi.req {required:?}"
        ));
    }
    for (slot, missing) in [
        ("create", own.create.is_none()),
        ("destroy", own.destroy.is_none()),
        ("get_interface", own.get_interface.is_none()),
    ] {
        if missing {
            bench.report.failed(format!("the descriptor's {slot} is NULL"));
        }
    }
}

/// `abi.req` is checked as a semver requirement by the command line; here only its usual forms
/// (`1.0`, `^1.0`, `>=1.0`, `=1.0`, `~1.0`, lists of them) are understood, everything else passes.
fn abi_is_within(abi: u32, required: &str) -> bool {
    required.split(',').all(|part| {
        let part = part.trim();
        let number = part.trim_start_matches(|c: char| !c.is_ascii_digit());
        let sign = part[..part.len() - number.len()].trim();
        let mut numbers = number.split('.').map(str::parse::<u32>);
        let (Some(Ok(major)), minor) = (numbers.next(), numbers.next()) else { return true };
        let minor = minor.and_then(Result::ok).unwrap_or(0);
        let wanted = IMGF_ABI(major, minor);
        match sign {
            "" | "^" => abi >> 16 == major && abi >= wanted,
            "=" | "~" => abi == wanted,
            ">=" => abi >= wanted,
            ">" => abi > wanted,
            "<" => abi < wanted,
            "<=" => abi <= wanted,
            _ => true,
        }
    })
}

/// 110: an id is compared whole, and nothing behind it is read.
pub(super) fn compares_interface_ids(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let arena = Arena::default();
    let ask = |id: &str| {
        bench.report.phase(format!("get_interface({id:?}) with an unreadable page behind it"));
        let place = arena.place(id.as_bytes(), 1)?;
        Some(subject.interface(imgf_str { ptr: place, len: id.len() }))
    };
    for (id, _) in INTERFACES {
        let whole = subject.interface(imgf_str::new(id));
        if ask(id) != Some(whole) {
            bench.report.failed(format!(
                "{id:?} without a NUL behind it is not answered like the same with one"
            ));
        }
        let longer = [format!("{id}0"), format!("{id} "), format!("{id}\0"), format!("{id}/x")];
        let shorter = [&id[..id.len() - 1], &id[..id.len() - 2], "imagefactory"];
        let others = [id.to_uppercase(), format!("x{id}"), id.replace("/1", "/9")];
        let wrong = longer.iter().chain(&others).map(String::as_str).chain(shorter);
        for wrong in wrong {
            if ask(wrong).is_some_and(|table| !table.is_null()) {
                bench.report.failed(format!("the unknown id {wrong:?} is answered with a table"));
                return;
            }
        }
    }
    for unknown in ["", "/1", "imagefactory.nothing/1"] {
        if ask(unknown).is_some_and(|table| !table.is_null()) {
            bench.report.failed(format!("the unknown id {unknown:?} is answered with a table"));
        }
    }
}

/// 111: the tables are whole, the kind's own table is there, and the manifest tells the slots.
pub(super) fn fills_its_tables(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    bench.report.phase("reading the tables");
    for (id, least) in INTERFACES {
        let table = subject.interface(imgf_str::new(id));
        if table.is_null() {
            continue;
        }
        if !(table as usize).is_multiple_of(8) {
            bench.report.failed(format!("the table {id} at {table:p} is not aligned"));
            continue;
        }
        // SAFETY: every table begins with its u32 struct_size (growth rule of plugin.h).
        let bytes = unsafe { *table.cast::<u32>() };
        if bytes < least {
            bench.report.failed(format!("the table {id} has {bytes} bytes instead of {least}"));
        }
    }
    required_slots(bench, &subject);
    capabilities(bench, &subject);
}

fn required_slots(bench: &Bench, subject: &Subject) {
    let (table, required): (&str, &[Operation]) = match subject.kind {
        PluginKind::Os => (IMGF_IFACE_OS_V1, &[Operation::CreateBaseImage]),
        PluginKind::Cloud => (
            IMGF_IFACE_CLOUD_V1,
            &[
                Operation::PushImageToProvider,
                Operation::SnapshotImageOnProvider,
                Operation::BuilderShouldCreateTargetImage,
                Operation::BuilderDidCreateTargetImage,
            ],
        ),
    };
    if subject.interface(imgf_str::new(table)).is_null() {
        bench
            .report
            .failed(format!("get_interface({table}) answers NULL, but the plugin is of that kind"));
    } else if !required.iter().any(|operation| subject.has(*operation)) {
        let names: Vec<&str> = required.iter().map(|operation| operation.name()).collect();
        bench.report.failed(format!("the slot {} of {table} is NULL", names.join(" and ")));
    }
}

fn capabilities(bench: &Bench, subject: &Subject) {
    let Some(told) = &bench.order.plugin.capabilities else { return };
    for operation in Operation::ALL {
        let name = operation.name();
        let told = told.iter().any(|capability| capability == name);
        match (told, subject.has(operation)) {
            (true, false) => bench
                .report
                .failed(format!("the manifest's capabilities name {name}, but its slot is NULL")),
            (false, true) => bench
                .report
                .failed(format!("{name} is there, but the manifest's capabilities do not name it")),
            _ => {}
        }
    }
}

/// 112: what a Rust plugin says of its layout agrees with ours. Others say nothing.
#[cfg(feature = "layout-check")]
pub(super) fn agrees_in_layout(bench: &Bench) {
    use imagefactory_plugin_sdk::layout::{self, LayoutCheck};
    bench.report.phase("comparing layouts");
    let side_car = match load_symbol(&bench.order.plugin.library, layout::SIDE_CAR_SYMBOL) {
        Ok(address) => address,
        Err(error) => {
            bench.report.skip(error);
            return;
        }
    };
    // SAFETY: NULL, or the symbol of a library that is never unloaded; the cage is for liars.
    match unsafe { layout::check(side_car) } {
        LayoutCheck::Checked => bench.report.note("the abi_stable side-car agrees"),
        LayoutCheck::Absent => bench.report.note("no abi_stable side-car: structural checks only"),
        LayoutCheck::OtherVersion(version) => {
            bench.report.note(format!("its side-car is of {version}: structural checks only"));
        }
        LayoutCheck::Mismatch(difference) => bench.report.failed(difference),
    }
}

/// 112 in a runner without abi_stable.
#[cfg(not(feature = "layout-check"))]
pub(super) fn agrees_in_layout(bench: &Bench) {
    bench.report.skip("this runner was built without the layout check");
}
