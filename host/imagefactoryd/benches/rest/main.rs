//! What the REST API costs: rates beside a bare hyper server, start-up, memory.
//!
//! Run by `cargo bench -p imagefactoryd --bench rest`, after a release build of the runner and the
//! mock plugins; prints the tables of docs/benchmarks/rest.md. Needs `wrk`, `taskset` and `chrt`.
//! The server runs on the first core, wrk on the second; keep-alive, no TLS, no OAuth. The bare
//! server answers a constant body of the same size and is measured by turns with ours, because only
//! ratios of one moment compare on a machine that does other things as well. `ROUND_S` (3),
//! `BUILDS` (1000), `ONLY` (a part's name) and `REALTIME` (a priority, where chrt is allowed) may
//! be set.

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
    let only = std::env::var("ONLY").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || only == part;
    println!("| what | requests/s | bare server | ratio |\n|---|---|---|---|");
    if wanted("fixed") {
        fixed_answers();
    }
    if wanted("images") {
        [10, 1_000, 10_000, 100_000].into_iter().for_each(stored_images);
        beside_writes();
    }
    if wanted("posts") {
        [1, 8].into_iter().for_each(posts);
    }
    println!("\n| what | measured | aim |\n|---|---|---|");
    if wanted("start") {
        start_up();
    }
    if wanted("builds") {
        builds();
    }
}

/// Which core a process runs on.
#[derive(Clone, Copy)]
pub(crate) enum Core {
    Server,
    Client,
}

/// A command of which only arguments are missing: the program and its own.
pub(crate) fn pinned(core: Core) -> Command {
    let core = match core {
        Core::Server => "0",
        Core::Client => "1",
    };
    let Ok(priority) = std::env::var("REALTIME") else {
        let mut command = Command::new("taskset");
        command.args(["-c", core]);
        return command;
    };
    let mut command = Command::new("chrt");
    command.args(["-f", &priority, "taskset", "-c", core]);
    command
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Requests per second that wrk gets answered.
fn rate(url: &str, connections: u32, script: Option<&Path>) -> f64 {
    let mut wrk = pinned(Core::Client);
    wrk.args(["wrk", "-t", "1", "-c", &connections.to_string(), "-d"]);
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

/// One row: ours and the bare server's rate, five rounds each by turns, the medians.
fn row(what: &str, served: &Served, path: &str) {
    let url = format!("{}{path}", served.url);
    let bytes = served.get(path).len();
    let bare = bare::Bare::start(bytes);
    compare(&format!("{what} ({bytes} bytes)"), (&url, &bare.url), 8, None);
}

fn compare(what: &str, (ours, bare): (&str, &str), connections: u32, script: Option<&Path>) {
    let (mut rates, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        rates.push(rate(ours, connections, script));
        theirs.push(rate(bare, connections, script));
    }
    let (rates, theirs) = (median(rates), median(theirs));
    println!("| {what} | {rates:.0} | {theirs:.0} | {:.2} |", rates / theirs);
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

/// One image, while another process changes another one all the time.
fn beside_writes() {
    let mut one = None;
    let served = Served::start(2, |storage| one = Some(fill::fill(storage, 1000, TEMPLATE)));
    let path = format!("/imagefactory/base_images/{}", one.expect("it was filled"));
    let _writer = fill::Writer::start(&served.folder.path().join("storage"));
    row("one image of 1000, beside 100 writes/s of another process", &served, &path);
}

/// All orders but one wait for their turn: what is measured is to take them.
fn posts(connections: u32) {
    let served = Served::with_sessions(1, 2, |_| {});
    served.wait_until("/imagefactory/plugins", |text| text.matches("\"active\":true").count() == 2);
    let order = |parameters: &str| {
        format!("{{\"base_image\":{{\"template\":\"{TEMPLATE}\",\"parameters\":{parameters}}}}}")
    };
    let long = order("{\"mock_duration_ms\":3000000,\"mock_steps\":1}");
    let answer = served.post("/imagefactory/base_images", &long);
    served.wait_until("/imagefactory/base_images?status=BUILDING", |text| text.contains("href"));
    let script = served.folder.path().join("post.lua");
    let body = order("{}");
    let lua = format!(
        "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\n\
         wrk.body = [[{body}]]\n"
    );
    std::fs::write(&script, lua).expect("the folder is writable");
    let bare = bare::Bare::start(answer.len());
    let url = format!("{}/imagefactory/base_images", served.url);
    let what = format!("POST to 202, durable, {connections} connections");
    compare(&what, (&url, &bare.url), connections, Some(&script));
    println!("| fsyncs of 4 KiB on that disk | {:.0} | | |", fsyncs(served.folder.path()));
}

/// How often a second this disk makes a small write durable: the ceiling of orders one by one.
fn fsyncs(folder: &Path) -> f64 {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join("fsyncs")).expect("a file");
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < Duration::from_secs(2) {
        file.write_all(&[0; 4096]).expect("room");
        file.sync_data().expect("a disk");
        count += 1;
    }
    f64::from(count) / started.elapsed().as_secs_f64()
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
    let (idle, own) = served.memory_mb();
    println!("| RSS idle | {idle:.1} MB, of it its own {own:.1} | 15 MB |");
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
        let (all, own) = served.memory_mb();
        sizes.push(format!("{all:.1} ({own:.1})"));
    }
    println!(
        "| RSS (its own) after each tenth of {count} builds | {} MB | no growth |",
        sizes.join(", ")
    );
    // Threads that waited for work have ended by then.
    std::thread::sleep(Duration::from_secs(15));
    let (all, own) = served.memory_mb();
    println!("| RSS (its own) 15 s later | {all:.1} ({own:.1}) MB | |");
}
