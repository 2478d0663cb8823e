//! What the REST API costs: rates beside a bare hyper server, start-up, memory.
//!
//! Run by `cargo bench -p imagefactoryd --bench rest`, after a release build of the runner and the
//! mock plugins; prints the tables of docs/benchmarks/rest.md. Needs `wrk` and `taskset`. The
//! server runs on the first core, wrk on the second; keep-alive, no TLS, no OAuth. The bare server
//! answers a constant body of the same size and is measured right after each number, because only
//! ratios of one moment compare on a machine that does other things as well. `ROUND_S` (3) and
//! `BUILDS` (1000) may be set.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(missing_docs, reason = "a program")]

mod bare;
mod fill;
mod served;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use served::Served;

/// A template that MockOS serves.
const TEMPLATE: &str = "<template><name>mock</name><os><name>MockOS_A</name><version>1</version>\
    <arch>x86_64</arch><install type='url'><url>http://debian.example/debian</url></install></os>\
    </template>";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "bare") {
        return bare::serve(arguments[at + 1].parse().expect("bytes"));
    }
    println!("| what | requests/s | bare server | ratio |\n|---|---|---|---|");
    fixed_answers();
    for count in [10, 1_000, 10_000, 100_000] {
        stored_images(count);
    }
    println!("\n| POST to 202 (durable) | requests/s |\n|---|---|");
    for connections in [1, 8] {
        posts(connections);
    }
    println!("\n| what | measured | aim |\n|---|---|---|");
    start_up();
    builds();
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Requests per second that wrk gets answered.
fn rate(url: &str, connections: u32, script: Option<&Path>) -> f64 {
    let mut wrk = Command::new("taskset");
    wrk.args(["-c", "1", "wrk", "-t", "1", "-c", &connections.to_string(), "-d"]);
    wrk.arg(format!("{}s", number("ROUND_S", 3)));
    if let Some(script) = script {
        wrk.arg("-s").arg(script);
    }
    let output = wrk.arg(url).output().expect("wrk and taskset are installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{url}: {text}");
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).unwrap_or_else(|| panic!("{url}: {text}"))
}

/// One row: ours and the bare server's rate, three rounds each by turns, the medians.
fn row(what: &str, served: &Served, path: &str) {
    let url = format!("{}{path}", served.url);
    let bytes = served.get(path).len();
    let bare = bare::Bare::start(bytes);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ours.push(rate(&url, 8, None));
        theirs.push(rate(&bare.url, 8, None));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!("| {what} ({bytes} bytes) | {ours:.0} | {theirs:.0} | {:.2} |", ours / theirs);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn fixed_answers() {
    let served = Served::start(2, |_| {});
    served.wait_until("/imagefactory/plugins", |text| text.matches("\"active\":true").count() == 2);
    row("GET /imagefactory", &served, "/imagefactory");
    row("GET /imagefactory/plugins", &served, "/imagefactory/plugins");
}

fn stored_images(count: usize) {
    let mut one = None;
    let served = Served::start(2, |storage| one = Some(fill::fill(storage, count, TEMPLATE)));
    let path = format!("/imagefactory/base_images/{}", one.expect("it was filled"));
    row(&format!("one image of {count}"), &served, &path);
    row(&format!("the list of {count}"), &served, "/imagefactory/base_images");
    row(&format!("a page of 10 of {count}"), &served, "/imagefactory/base_images?limit=10");
}

fn posts(connections: u32) {
    let served = Served::start(2, |_| {});
    let script = served.folder.path().join("post.lua");
    let body = format!("{{\"base_image\":{{\"template\":\"{TEMPLATE}\"}}}}");
    let lua = format!(
        "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\n\
         wrk.body = [[{body}]]\n"
    );
    std::fs::write(&script, lua).expect("the folder is writable");
    let url = format!("{}/imagefactory/base_images", served.url);
    let rate = rate(&url, connections, Some(&script));
    println!("| {connections} connections, builds going on beside | {rate:.0} |");
}

fn start_up() {
    let mut times: Vec<f64> =
        (0..9).map(|_| Served::start(20, |_| {}).first_answer.as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    let (middle, last) = (times[4], times[8]);
    println!("| start to first 200, 20 plugins | {middle:.0} ms (worst {last:.0}) | 50 ms |");
}

fn builds() {
    let served = Served::start(2, |_| {});
    served.wait_until("/imagefactory/plugins", |text| text.matches("\"active\":true").count() == 2);
    println!("| RSS idle | {:.1} MB | 15 MB |", served.rss_mb());
    let started = Instant::now();
    let order = format!(
        "{{\"provider_image\":{{\"template\":\"{TEMPLATE}\",\"target\":\"mock\",\
         \"provider\":{{}},\"credentials\":\"x\"}}}}"
    );
    served.post("/imagefactory/provider_images", &order);
    let complete = |text: &str| text.contains("\"provider_image\":{");
    served.wait_until("/imagefactory/provider_images?status=COMPLETE", complete);
    println!("| template to provider image | {:.0} ms | |", started.elapsed().as_secs_f64() * 1e3);
    let order = format!("{{\"base_image\":{{\"template\":\"{TEMPLATE}\"}}}}");
    let count = number("BUILDS", 1000);
    // In tenths, to see growth and not only its sum.
    let mut sizes = Vec::new();
    for tenth in 1..=10 {
        for _ in 0..count / 10 {
            served.post("/imagefactory/base_images", &order);
        }
        let done = 1 + tenth * count / 10;
        served.wait_until("/imagefactory/base_images?status=COMPLETE", |text| {
            text.matches("\"_type\"").count() as u64 >= done
        });
        sizes.push(format!("{:.1}", served.rss_mb()));
    }
    println!("| RSS after each tenth of {count} builds | {} MB | no growth |", sizes.join(", "));
    std::thread::sleep(Duration::from_secs(5));
    println!("| RSS 5 s later | {:.1} MB | |", served.rss_mb());
}
