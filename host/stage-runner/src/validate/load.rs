//! Rules 101 to 108 and 113: loading and negotiating, before any instance exists.

use std::io::Read;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::abi::{
    IMGF_ABI, IMGF_ABI_1_0, IMGF_E_ABI, IMGF_NEGOTIATE_DESCRIBE_ONLY, IMGF_OK,
    imagefactory_plugin_negotiate_fn, imgf_negotiate, imgf_str,
};

use super::arena::Arena;
use super::bench::Bench;
use super::snapshot::ProcessState;
use super::subject::{LoadFault, load_entry, question};

/// A stage starts in about a millisecond; a library that takes longer than this is felt.
const LOAD_SLOW: Duration = Duration::from_millis(100);
/// Longer than this it does work that belongs to an operation.
const LOAD_TOO_SLOW: Duration = Duration::from_secs(1);
/// Other work on the machine makes one measurement slow, rarely three.
const LOAD_TRIES: usize = 3;
/// A range that no plugin of today speaks.
const TOO_NEW: (u32, u32) = (IMGF_ABI(0x7fff, 0), IMGF_ABI(0x7fff, 9));

/// 101: `dlopen` with all symbols resolved.
pub(super) fn loads(bench: &Bench) {
    bench.report.phase("dlopen");
    // A missing entry is rule 009's.
    if let Err(LoadFault::Library(error)) = load_entry(&bench.order.plugin.library) {
        bench.report.failed(error);
    }
}

/// 102: loading is quick. Each try needs a process of its own, since a library stays loaded.
pub(super) fn loads_fast(bench: &Bench) {
    bench.report.phase("dlopen");
    let times = (0..LOAD_TRIES).map_while(|_| load_time(bench));
    let mut best: Option<Duration> = None;
    for time in times {
        best = Some(best.map_or(time, |best| best.min(time)));
        if time < LOAD_SLOW {
            break;
        }
    }
    let Some(best) = best else {
        bench.report.skip("the load time could not be measured");
        return;
    };
    let ms = best.as_secs_f64() * 1e3;
    bench.report.note(format!("loaded in {ms:.1} ms"));
    if best > LOAD_TOO_SLOW {
        bench.report.failed(format!("loading takes {ms:.0} ms; work belongs into operations"));
    } else if best > LOAD_SLOW {
        bench
            .report
            .advise(format!("loading takes {ms:.0} ms, more than {} ms", LOAD_SLOW.as_millis()));
    }
}

/// Loads in a forked child; `None` if that did not work.
fn load_time(bench: &Bench) -> Option<Duration> {
    let (reader, writer) = rustix::pipe::pipe().ok()?;
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => None,
        0 => {
            let started = Instant::now();
            let loaded = load_entry(&bench.order.plugin.library).is_ok();
            let nanos = started.elapsed().as_nanos() as u64;
            if loaded {
                rustix::io::write(&writer, &nanos.to_ne_bytes()).ok(); // else: a short read
            }
            // SAFETY: the child's only way out.
            unsafe { libc::_exit(0) }
        }
        _ => {
            drop(writer);
            let mut nanos = [0u8; 8];
            std::fs::File::from(reader).read_exact(&mut nanos).ok()?;
            Some(Duration::from_nanos(u64::from_ne_bytes(nanos)))
        }
    }
}

/// 103: loading and negotiating change nothing of the process.
pub(super) fn changes_nothing(bench: &Bench) {
    bench.report.phase("dlopen");
    let before = ProcessState::take();
    let Some(entry) = entry(bench) else { return };
    ask(entry, &mut question(IMGF_ABI_1_0, IMGF_ABI_1_0));
    for change in ProcessState::take().changes_since(&before) {
        bench.report.failed(change);
    }
}

/// 104: every range gets the right answer.
pub(super) fn negotiates_ranges(bench: &Bench) {
    let Some(entry) = entry(bench) else { return };
    let newest = IMGF_ABI(1, 99);
    let common = [
        (IMGF_ABI_1_0, IMGF_ABI_1_0, 0),
        (IMGF_ABI(0, 1), newest, 0),
        (IMGF_ABI_1_0, IMGF_ABI(3, 0), 0),
        (IMGF_ABI_1_0, IMGF_ABI_1_0, IMGF_NEGOTIATE_DESCRIBE_ONLY),
        (IMGF_ABI_1_0, IMGF_ABI_1_0, !IMGF_NEGOTIATE_DESCRIBE_ONLY),
    ];
    for (min, max, flags) in common {
        let mut n = question(min, max);
        n.flags = flags;
        bench.report.phase(format!("negotiate {}", range(min, max)));
        let code = ask(entry, &mut n);
        if code != IMGF_OK || n.plugin.is_null() {
            bench.report.failed(format!(
                "the range {} (flags {flags:#x}) holds 1.0, but the answer is {code} and \
                 plugin {:p}",
                range(min, max),
                n.plugin
            ));
        } else if n.chosen_abi < min || n.chosen_abi > max {
            let chosen = version(n.chosen_abi);
            bench.report.failed(format!("of the range {} it chose {chosen}", range(min, max)));
        }
    }
    for (min, max) in [(IMGF_ABI(0, 1), IMGF_ABI(0, 9)), TOO_NEW] {
        let mut n = question(min, max);
        bench.report.phase(format!("negotiate {}", range(min, max)));
        let code = ask(entry, &mut n);
        if code != IMGF_E_ABI {
            bench.report.failed(format!(
                "no version in {} is spoken today, so the answer must be IMGF_E_ABI (14), not \
                 {code}",
                range(min, max)
            ));
        }
    }
}

/// 105: `struct_size` is read; what lies behind the known struct is not touched.
pub(super) fn respects_struct_size(bench: &Bench) {
    let Some(entry) = entry(bench) else { return };
    const TAIL: usize = 64;
    const MARK: u8 = 0xa5;
    #[repr(C)]
    struct Larger {
        known: imgf_negotiate,
        tail: [u8; TAIL],
    }
    let mut larger = Larger { known: question(IMGF_ABI_1_0, IMGF_ABI_1_0), tail: [MARK; TAIL] };
    larger.known.struct_size = size_of::<Larger>() as u32;
    bench.report.phase("negotiate with a larger struct");
    // SAFETY: the struct is as large as it says; its first field is the known one.
    let code = unsafe { entry((&raw mut larger).cast()) };
    if code != IMGF_OK {
        bench.report.failed(format!(
            "a struct of a newer host ({} bytes) is answered {code}",
            size_of::<Larger>()
        ));
    }
    if larger.tail != [MARK; TAIL] {
        bench.report.failed("bytes behind imgf_negotiate were written");
    }
    smaller_is_refused(bench, entry);
}

fn smaller_is_refused(bench: &Bench, entry: imagefactory_plugin_negotiate_fn) {
    // Up to and with host_abi_max and flags: a host from before the first release.
    const BYTES: usize = 16;
    let mut n = question(IMGF_ABI_1_0, IMGF_ABI_1_0);
    n.struct_size = BYTES as u32;
    // SAFETY: the first bytes of a plain struct.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const n).cast::<u8>(), BYTES) };
    let arena = Arena::default();
    let Some(place) = arena.place(bytes, align_of::<imgf_negotiate>()) else { return };
    bench.report.phase("negotiate with a smaller struct (an unreadable page follows it)");
    // SAFETY: the struct is as large as it says; a plugin that does not look faults, in its cage.
    let code = unsafe { entry(place.cast_mut().cast()) };
    if code == IMGF_OK {
        bench
            .report
            .failed(format!("a struct of {BYTES} bytes is too small, but the answer is IMGF_OK"));
    }
    // SAFETY: still our own mapping of BYTES bytes.
    if unsafe { std::slice::from_raw_parts(place, BYTES) } != bytes {
        bench.report.failed(format!("a struct of {BYTES} bytes was written to"));
    }
}

/// 106: NULL is refused, not followed. An advice: hosts never pass it.
pub(super) fn stands_null(bench: &Bench) {
    let Some(entry) = entry(bench) else { return };
    bench.report.phase("negotiate(NULL)");
    // SAFETY: negotiate.h says what happens with NULL.
    if unsafe { entry(std::ptr::null_mut()) } == IMGF_OK {
        bench.report.advise("negotiate(NULL) is answered IMGF_OK");
    }
    let mut n = question(IMGF_ABI_1_0, IMGF_ABI_1_0);
    ask(entry, &mut n);
    // SAFETY: static descriptor of a plugin that met rule 104.
    let Some(plugin) = (unsafe { n.plugin.as_ref() }) else { return };
    bench.report.phase("create(NULL)");
    let mut instance = std::ptr::null_mut();
    if let Some(create) = plugin.create {
        // SAFETY: descriptor.h says what happens with NULL.
        if unsafe { create(std::ptr::null(), &mut instance) } == IMGF_OK {
            bench.report.advise("create without a host is answered IMGF_OK");
        }
    }
    bench.report.phase("destroy(NULL)");
    if let Some(destroy) = plugin.destroy {
        // SAFETY: descriptor.h: NULL is ignored.
        unsafe { destroy(std::ptr::null_mut()) }
    }
    bench.report.phase("get_interface(absent)");
    if let Some(get) = plugin.get_interface {
        // SAFETY: an absent text.
        if !unsafe { get(imgf_str::ABSENT) }.is_null() {
            bench.report.advise("get_interface answers a table for an absent id");
        }
    }
}

/// 107: the same question gets the same answer.
pub(super) fn answers_alike(bench: &Bench) {
    let Some(entry) = entry(bench) else { return };
    let mut first = question(IMGF_ABI_1_0, IMGF_ABI_1_0);
    let mut first_refused = question(TOO_NEW.0, TOO_NEW.1);
    ask(entry, &mut first);
    ask(entry, &mut first_refused);
    for _ in 0..3 {
        let mut again = question(IMGF_ABI_1_0, IMGF_ABI_1_0);
        ask(entry, &mut again);
        if again.plugin != first.plugin || again.chosen_abi != first.chosen_abi {
            bench.report.failed(format!(
                "the descriptor was at {:p}, then at {:p}; it must be static",
                first.plugin, again.plugin
            ));
            return;
        }
        let mut refused = question(TOO_NEW.0, TOO_NEW.1);
        ask(entry, &mut refused);
        if refused.refusal.ptr != first_refused.refusal.ptr
            || refused.refusal.len != first_refused.refusal.len
        {
            bench.report.failed("the text of the refusal is not static");
            return;
        }
    }
}

/// 108: a refusal has a sentence.
pub(super) fn says_why_it_refuses(bench: &Bench) {
    let Some(entry) = entry(bench) else { return };
    let mut n = question(TOO_NEW.0, TOO_NEW.1);
    if ask(entry, &mut n) == IMGF_OK {
        return; // rule 104
    }
    // SAFETY: a static text, as negotiate.h demands.
    match unsafe { n.refusal.text() } {
        Ok(Some(text)) if !text.trim().is_empty() => bench.report.note(format!("refusal: {text}")),
        Ok(_) => bench.report.failed("it refuses without a sentence in `refusal`"),
        Err(error) => bench.report.failed(format!("the refusal is not UTF-8: {error}")),
    }
}

/// 113: negotiate is [any-thread].
pub(super) fn negotiates_on_two_threads(bench: &Bench) {
    const ROUNDS: usize = 200;
    let Some(entry) = entry(bench) else { return };
    bench.report.phase("negotiate on two threads at once");
    let start = Barrier::new(2);
    let work = || {
        start.wait();
        (0..ROUNDS)
            .map(|_| {
                let mut n = question(IMGF_ABI_1_0, IMGF_ABI_1_0);
                (ask(entry, &mut n), n.plugin as usize)
            })
            .collect::<std::collections::BTreeSet<_>>()
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let one = work();
        (one, other.join().unwrap_or_default())
    });
    let all: Vec<_> = one.union(&two).collect();
    if all.len() != 1 || one.iter().any(|(code, _)| *code != IMGF_OK) {
        let codes: Vec<i32> = all.iter().map(|(code, _)| *code).collect();
        bench.report.failed(format!("on two threads at once the answers differ: {codes:?}"));
    }
}

fn entry(bench: &Bench) -> Option<imagefactory_plugin_negotiate_fn> {
    bench.report.phase("dlopen");
    match load_entry(&bench.order.plugin.library) {
        Ok(entry) => {
            bench.report.phase("negotiate");
            Some(entry)
        }
        Err(fault) => {
            bench.report.skip(fault.text());
            None
        }
    }
}

fn ask(entry: imagefactory_plugin_negotiate_fn, n: &mut imgf_negotiate) -> i32 {
    // SAFETY: a whole struct that lives through the call.
    unsafe { entry(n) }
}

fn version(abi: u32) -> String {
    format!("{}.{}", abi >> 16, abi & 0xffff)
}

fn range(min: u32, max: u32) -> String {
    format!("{} to {}", version(min), version(max))
}
