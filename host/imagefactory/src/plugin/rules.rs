//! The rules that a plugin is held to: one row each, with the number that plugin-abi.md 4.3 gave it.
//!
//! A number, once given, is never given a second meaning. `docs/guides/validator.md` shows this
//! table; a golden test keeps the two alike. How a rule is tried stands in `manifest_rules.rs` and
//! `library_rules.rs` for files, and in `host/stage-runner/src/validate` for everything that runs
//! plugin code.

use super::library_rules as library;
use super::manifest_rules as manifest;
use super::seen::Seen;
use super::subject::Subject;

/// One duty of a plugin.
pub(crate) struct Rule {
    /// 101 for `IMGF-P-101`.
    pub(crate) number: u16,
    /// The lowest `--level` that tries it.
    pub(crate) level: u8,
    /// Few words.
    pub(crate) title: &'static str,
    /// The whole sentence.
    pub(crate) duty: &'static str,
    /// What must be met before this one says anything; otherwise it is skipped.
    pub(crate) needs: &'static [u16],
    /// Only an advice: even a crash is a warning.
    pub(crate) advice: bool,
    /// How it is tried.
    pub(crate) check: Check,
}

/// Who tries a rule.
pub(crate) enum Check {
    /// This process, by looking at files.
    Files(fn(&Subject, &mut Seen)),
    /// A runner process of its own.
    Runner,
}

impl Rule {
    /// `IMGF-P-101`
    pub(crate) fn id(&self) -> String {
        format!("IMGF-P-{:03}", self.number)
    }

    /// The group's letter and name, from the number's hundred.
    pub(crate) fn group(&self) -> (char, &'static str) {
        match self.number / 100 {
            0 => ('A', "static"),
            1 => ('B', "load and describe"),
            2 => ('C', "life cycle"),
            3 => ('D', "operation"),
            4 => ('E', "faults"),
            5 => ('F', "cancel and time"),
            _ => ('G', "hygiene"),
        }
    }
}

/// What every rule with an instance needs: it loads, negotiates, and its tables are sound.
const SOUND: &[u16] = &[101, 104, 111];
/// What every rule needs that runs operations, often on several instances.
const RUNS: &[u16] = &[201, 202, 301];
/// What every rule needs that disturbs operations one by one.
const DISTURBS: &[u16] = &[201, 202, 301, 307, 308];

/// A rule that looks at files.
const fn files(
    number: u16,
    (title, duty): (&'static str, &'static str),
    needs: &'static [u16],
    check: fn(&Subject, &mut Seen),
) -> Rule {
    Rule { number, level: 1, title, duty, needs, advice: false, check: Check::Files(check) }
}

/// A rule that runs plugin code.
const fn runs(
    number: u16,
    level: u8,
    (title, duty): (&'static str, &'static str),
    needs: &'static [u16],
) -> Rule {
    Rule { number, level, title, duty, needs, advice: false, check: Check::Runner }
}

/// The same as an advice.
const fn advice(rule: Rule) -> Rule {
    Rule { advice: true, ..rule }
}

/// All rules, in the order of their numbers. Each is tried after those that it needs.
#[rustfmt::skip] // a table: one row, one rule
pub(crate) const RULES: &[Rule] = &[
    files(1, ("manifest", "The manifest is JSON, meets plugin-manifests/manifest.schema.json, and its schema_version is known."), &[], manifest::is_valid),
    files(2, ("id", "The id is the file's stem and [A-Za-z0-9][A-Za-z0-9._-]{0,63}."), &[], manifest::has_its_id),
    files(3, ("versions", "version and abi.req are semver."), &[], manifest::has_versions),
    files(4, ("licence", "license is an SPDX expression (advice: old manifests have free text)."), &[], manifest::has_a_licence),
    files(5, ("targets", "Target rows have the kind's arity, NULLs only at the end, and none twice."), &[], manifest::has_targets),
    files(6, ("library path", "library.path stays inside the manifest's folder and is a regular file that nobody but its owner may write."), &[], library::lies_where_it_may),
    files(7, ("checksum", "library.sha256, where given, is that of the file."), &[6], library::has_its_checksum),
    files(8, ("ELF", "The library is an ELF shared object of this machine."), &[6], library::is_a_shared_object),
    files(9, ("exports", "The library exports imagefactory_plugin_negotiate and (advice) nothing else but abi_stable's side-car."), &[8], library::exports_its_entry),
    files(10, ("hardening", "No executable stack and no text relocations; RELRO and BIND_NOW (advice)."), &[8], library::is_hardened),
    files(11, ("run path", "RPATH and RUNPATH are absent or inside the plugin's own folder, without $ORIGIN."), &[8], library::has_no_run_path),
    files(12, ("needed libraries", "Every NEEDED library can be found; no second OpenSSL, no libpython (advice)."), &[8], library::finds_its_libraries),
    files(13, ("C library", "The versions required of the C library are there on this machine; the highest is printed."), &[8], library::fits_the_c_library),
    files(14, ("schemas", "The schemas in the manifest are JSON Schema; defaults and examples meet them."), &[], manifest::has_schemas),
    files(15, ("required tools", "requires.tools are plain program names; those that are missing here are told."), &[], manifest::has_its_tools),

    runs(101, 1, ("load", "dlopen(RTLD_NOW|RTLD_LOCAL) succeeds."), &[8, 12, 13]),
    runs(102, 1, ("load time", "Loading takes less than 1 s, and (advice) less than 100 ms."), &[101]),
    runs(103, 1, ("load changes nothing", "Loading and negotiating change no thread, descriptor, folder, umask, locale, environment, signal, limit, and print nothing."), &[101]),
    runs(104, 1, ("negotiation", "Every range that holds 1.0 is answered with a version in it, every other with IMGF_E_ABI."), &[9, 101]),
    runs(105, 1, ("struct_size", "A larger imgf_negotiate is accepted and its tail untouched; a smaller one is refused unread and unwritten."), &[104]),
    advice(runs(106, 1, ("NULL", "NULL arguments are refused instead of followed (advice)."), &[104])),
    runs(107, 1, ("static answers", "The same question gets the identical descriptor and text."), &[104]),
    runs(108, 1, ("refusal text", "A refusal carries a sentence."), &[104]),
    runs(109, 1, ("descriptor", "The descriptor's id, version, kind and ABI are those of the manifest."), &[104]),
    runs(110, 1, ("interface ids", "get_interface compares the whole id and nothing behind it."), &[104]),
    runs(111, 1, ("tables", "Tables are whole, the kind's own is there with its required slot, capabilities are exactly the slots that are not NULL."), &[104]),
    runs(112, 1, ("layout", "The abi_stable side-car, where there is one, agrees with the host's types."), &[101]),
    runs(113, 1, ("negotiation on threads", "negotiate may be called on several threads at once."), &[104, 107]),

    runs(201, 2, ("create and destroy", "Create and destroy, again and again, leak no descriptor, thread or memory."), SOUND),
    runs(202, 2, ("two instances", "Two instances live side by side and end in any order."), &[201]),
    runs(203, 2, ("create on a poor host", "create succeeds or refuses cleanly when host services are missing or fail."), &[201]),
    runs(204, 2, ("silence after destroy", "No host function is called after destroy has returned."), RUNS),
    runs(205, 2, ("destroy at any time", "destroy is safe without an operation, after a failed one, after a cancelled one."), RUNS),
    advice(runs(206, 2, ("create without effects", "create opens no connection and writes no file (advice)."), &[201])),

    runs(301, 2, ("promises", "An operation that answers IMGF_OK has set the required results and written the output in the declared format."), &[201]),
    runs(302, 2, ("progress", "Phases are of a-z, 0-9 and -; done never falls nor exceeds total; something is told every minute (advice)."), RUNS),
    runs(303, 2, ("error record", "An error is reported exactly once, with the returned code and a message; success reports none."), RUNS),
    runs(304, 2, ("known words", "Only the keys, events, levels, paths and statuses of the headers are used."), RUNS),
    runs(305, 2, ("text", "Texts are UTF-8 and JSON is JSON."), RUNS),
    runs(306, 2, ("unsupported", "Whoever answers IMGF_E_UNSUPPORTED has done nothing."), RUNS),
    runs(307, 2, ("hooks alone", "Each builder hook works in a process that has not seen the others, and a second time."), RUNS),
    runs(308, 2, ("delete twice", "Deleting what is gone already answers IMGF_OK or IMGF_E_NOT_FOUND."), RUNS),
    runs(309, 2, ("same stage again", "The same stage_id makes nothing a second time and answers the same identifier."), RUNS),
    runs(310, 2, ("journal and cleanup", "Nothing exists outside that was not announced; cleanup removes it all and may be repeated."), RUNS),
    runs(311, 2, ("input not kept", "No text of an operation's input is used after it has returned."), RUNS),
    runs(312, 2, ("input image", "The input image is only read."), RUNS),
    runs(313, 2, ("folders", "Files are made in the folders of the stage and nowhere else."), RUNS),

    runs(401, 3, ("failing host services", "Each call of a host function may fail: a clean status follows, and nothing is made that was not recorded."), DISTURBS),
    runs(402, 3, ("full disk", "A full disk is IMGF_E_IO, IMGF_E_QUOTA or IMGF_E_UNAVAILABLE, never success."), DISTURBS),
    runs(403, 3, ("read-only work folder", "A work folder that cannot be written is IMGF_E_IO, IMGF_E_PERMISSION or IMGF_E_QUOTA."), DISTURBS),
    runs(404, 3, ("missing secret", "Missing credentials are IMGF_E_AUTH, IMGF_E_NOT_FOUND, IMGF_E_PERMISSION or IMGF_E_INVALID_ARGUMENT."), DISTURBS),
    runs(405, 3, ("odd secrets", "Credentials may be any text: quotes, line breaks, 1 MiB."), DISTURBS),
    runs(406, 3, ("malformed templates", "What is no template is refused or ignored, and never a crash."), DISTURBS),
    runs(407, 3, ("huge template", "A template of 10 MB is served or refused."), DISTURBS),
    runs(408, 3, ("odd parameters", "Missing, further and wrongly typed parameters are served or refused."), DISTURBS),
    runs(409, 3, ("absent and empty", "Every text of the input may be absent or empty."), DISTURBS),
    runs(410, 3, ("failing provider", "401, 403, 404, 429, 500, 503, broken and missing answers get their class; 429 and 503 are RETRYABLE."), DISTURBS),

    runs(501, 3, ("cancelled before", "An operation that was cancelled before it started answers IMGF_E_CANCELLED."), DISTURBS),
    runs(502, 3, ("cancelled in the middle", "A cancelled operation answers IMGF_E_CANCELLED within the cancel grace."), DISTURBS),
    runs(503, 3, ("cancelled without abort", "Flag and descriptor alone are heard, without abort."), &[201, 202, 301, 307, 308, 502]),
    runs(504, 3, ("abort", "abort may come twice, on another thread, before, during and after an operation, and does not block."), &[201, 202, 301, 501, 502]),
    runs(505, 3, ("deadline", "A deadline in the past ends in IMGF_OK, IMGF_E_TIMEOUT or IMGF_E_CANCELLED."), DISTURBS),
    runs(506, 3, ("SIGTERM", "SIGTERM to the process group leaves no child behind."), DISTURBS),
    runs(507, 3, ("SIGKILL and cleanup", "After SIGKILL at any point cleanup removes, in a fresh process, all that was announced."), &[201, 202, 301, 310]),

    runs(601, 4, ("nothing left", "After destroy no thread, descriptor, child, mount or loop device is left."), RUNS),
    runs(603, 4, ("process state", "Operations leave signals, folder, umask, locale, environment and limits alone."), RUNS),
    runs(604, 4, ("secrets", "Credentials appear in no log, progress, result, error, journal entry, environment or file."), RUNS),
    advice(runs(605, 4, ("printing", "Operations print nothing (advice)."), RUNS)),
    runs(606, 4, ("silence between operations", "No host function is called while no function of the plugin runs."), RUNS),
];

/// The rule of a number.
pub(crate) fn rule(number: u16) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.number == number)
}
