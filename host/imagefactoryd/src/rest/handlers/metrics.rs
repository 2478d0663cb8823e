//! `/metrics`: numbers for Prometheus (text format 0.0.4). Counts only: no names of clients or
//! images.

use std::fmt::Write;
use std::sync::Arc;

use hyper::http::StatusCode;

use crate::rest::Rest;
use crate::rest::answers::{self, Answer};

/// GET `/metrics`.
pub(crate) async fn show(rest: &Arc<Rest>) -> Answer {
    let mut text = String::new();
    let version = env!("CARGO_PKG_VERSION");
    describe(&mut text, "imagefactory_build_info", "gauge", "Version of the factory");
    line(&mut text, "imagefactory_build_info", &[("version", version)], 1);
    describe(&mut text, "imagefactory_images", "gauge", "Images by kind and status");
    for (kind, status, images) in rest.store().census().await? {
        let labels = [("kind", kind.name()), ("status", status.name())];
        line(&mut text, "imagefactory_images", &labels, images);
    }
    describe(&mut text, "imagefactory_plugins", "gauge", "Plugins by state");
    let registry = rest.dispatcher.registry();
    let mut by_state = std::collections::BTreeMap::<&str, u64>::new();
    for entry in registry.entries() {
        *by_state.entry(entry.state.name()).or_default() += 1;
    }
    for (state, plugins) in by_state {
        line(&mut text, "imagefactory_plugins", &[("state", state)], plugins);
    }
    let name = "imagefactory_leftovers";
    describe(&mut text, name, "gauge", "What failed cleanups left outside, by state");
    let left = rest.store().leftovers().await?;
    for (state, given_up) in [("tried_again", false), ("given_up", true)] {
        let count = left.iter().filter(|left| left.given_up == given_up).count() as u64;
        line(&mut text, name, &[("state", state)], count);
    }
    let requests = "imagefactory_http_requests_total";
    describe(&mut text, requests, "counter", "Answers by method and status");
    for (method, status, count) in rest.counters.requests() {
        let status = status.to_string();
        line(&mut text, requests, &[("method", method), ("status", &status)], count);
    }
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        describe(&mut text, name, "gauge", "Memory of the daemon, without its stages");
        line(&mut text, name, &[], bytes);
    }
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(answers::with_type(StatusCode::OK, media_type, text.into()))
}

fn describe(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a text never fails.
    write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n").ok();
}

/// Labels are words of ours: nothing in them needs escaping.
fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let labels: Vec<String> =
        labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let labels =
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    // As above.
    writeln!(text, "{name}{labels} {value}").ok();
}

/// `VmRSS` of /proc/self/status, which counts in kB (proc(5)).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes * 1024)
}
