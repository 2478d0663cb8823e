//! The rules that a plugin is held to: one row each.
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
    needs: &'static [u16],
    check: fn(&Subject, &mut Seen),
    title: &'static str,
    duty: &'static str,
) -> Rule {
    Rule { number, level: 1, title, duty, needs, advice: false, check: Check::Files(check) }
}

/// A rule that runs plugin code.
const fn runs(
    number: u16,
    level: u8,
    needs: &'static [u16],
    title: &'static str,
    duty: &'static str,
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
    files(1, &[], manifest::is_valid, "manifest",
        "The manifest is JSON, meets plugin-manifests/manifest.schema.json, and its \
         schema_version is known."),
    files(2, &[], manifest::has_its_id, "id",
        "The id is the file's stem and [A-Za-z0-9][A-Za-z0-9._-]{0,63}."),
    files(3, &[], manifest::has_versions, "versions",
        "version and abi.req are semver."),
    files(4, &[], manifest::has_a_licence, "licence",
        "license is an SPDX expression (advice: old manifests have free text)."),
    files(5, &[], manifest::has_targets, "targets",
        "Target rows have the kind's arity, NULLs only at the end, and none twice."),
    files(6, &[], library::lies_where_it_may, "library path",
        "library.path stays inside the manifest's folder and is a regular file that nobody but \
         its owner may write."),
    files(7, &[6], library::has_its_checksum, "checksum",
        "library.sha256, where given, is that of the file."),
    files(8, &[6], library::is_a_shared_object, "ELF",
        "The library is an ELF shared object of this machine."),
    files(9, &[8], library::exports_its_entry, "exports",
        "The library exports imagefactory_plugin_negotiate and (advice) nothing else but \
         abi_stable's side-car."),
    files(10, &[8], library::is_hardened, "hardening",
        "No executable stack and no text relocations; RELRO and BIND_NOW (advice)."),
    files(11, &[8], library::has_no_run_path, "run path",
        "RPATH and RUNPATH are absent or inside the plugin's own folder, without $ORIGIN."),
    files(12, &[8], library::finds_its_libraries, "needed libraries",
        "Every NEEDED library can be found; no second OpenSSL, no libpython (advice)."),
    files(13, &[8], library::fits_the_c_library, "C library",
        "The versions required of the C library are there on this machine; the highest is \
         printed."),
    files(14, &[], manifest::has_schemas, "schemas",
        "The schemas in the manifest are JSON Schema; defaults and examples meet them."),
    files(15, &[], manifest::has_its_tools, "required tools",
        "requires.tools are plain program names; those that are missing here are told."),

    runs(101, 1, &[8, 12, 13], "load",
        "dlopen(RTLD_NOW|RTLD_LOCAL) succeeds."),
    runs(102, 1, &[101], "load time",
        "Loading takes less than 1 s, and (advice) less than 100 ms."),
    runs(103, 1, &[101], "load changes nothing",
        "Loading and negotiating change no thread, descriptor, folder, umask, locale, \
         environment, signal, limit, and print nothing."),
    runs(104, 1, &[9, 101], "negotiation",
        "Every range that holds 1.0 is answered with a version in it, every other with \
         IMGF_E_ABI."),
    runs(105, 1, &[104], "struct_size",
        "A larger imgf_negotiate is accepted and its tail untouched; a smaller one is refused \
         unread and unwritten."),
    advice(runs(106, 1, &[104], "NULL",
        "NULL arguments are refused instead of followed (advice).")),
    runs(107, 1, &[104], "static answers",
        "The same question gets the identical descriptor and text."),
    runs(108, 1, &[104], "refusal text",
        "A refusal carries a sentence."),
    runs(109, 1, &[104], "descriptor",
        "The descriptor's id, version, kind and ABI are those of the manifest."),
    runs(110, 1, &[104], "interface ids",
        "get_interface compares the whole id and nothing behind it."),
    runs(111, 1, &[104], "tables",
        "Tables are whole, the kind's own is there with its required slot, capabilities are \
         exactly the slots that are not NULL."),
    runs(112, 1, &[101], "layout",
        "The abi_stable side-car, where there is one, agrees with the host's types."),
    runs(113, 1, &[104, 107], "negotiation on threads",
        "negotiate may be called on several threads at once."),

    runs(201, 2, SOUND, "create and destroy",
        "Create and destroy, again and again, leak no descriptor, thread or memory."),
    runs(202, 2, &[201], "two instances",
        "Two instances live side by side and end in any order."),
    runs(203, 2, &[201], "create on a poor host",
        "create succeeds or refuses cleanly when host services are missing or fail."),
    runs(204, 2, RUNS, "silence after destroy",
        "No host function is called after destroy has returned."),
    runs(205, 2, RUNS, "destroy at any time",
        "destroy is safe without an operation, after a failed one, after a cancelled one."),
    advice(runs(206, 2, &[201], "create without effects",
        "create opens no connection and writes no file (advice).")),

    runs(301, 2, &[201], "promises",
        "An operation that answers IMGF_OK has set the required results and written the output \
         in the declared format."),
    runs(302, 2, RUNS, "progress",
        "Phases are of a-z, 0-9 and -; done never falls nor exceeds total; something is told \
         every minute (advice)."),
    runs(303, 2, RUNS, "error record",
        "An error is reported exactly once, with the returned code and a message; success \
         reports none."),
    runs(304, 2, RUNS, "known words",
        "Only the keys, events, levels, paths and statuses of the headers are used."),
    runs(305, 2, RUNS, "text",
        "Texts are UTF-8 and JSON is JSON."),
    runs(306, 2, RUNS, "unsupported",
        "Whoever answers IMGF_E_UNSUPPORTED has done nothing."),
    runs(307, 2, RUNS, "hooks alone",
        "Each builder hook works in a process that has not seen the others, and a second time."),
    runs(308, 2, RUNS, "delete twice",
        "Deleting what is gone already answers IMGF_OK or IMGF_E_NOT_FOUND."),
    runs(309, 2, RUNS, "same stage again",
        "The same stage_id makes nothing a second time and answers the same identifier."),
    runs(310, 2, RUNS, "journal and cleanup",
        "Nothing exists outside that was not announced; cleanup removes it all and may be \
         repeated."),
    runs(311, 2, RUNS, "input not kept",
        "No text of an operation's input is used after it has returned."),
    runs(312, 2, RUNS, "input image",
        "The input image is only read."),
    runs(313, 2, RUNS, "folders",
        "Files are made in the folders of the stage and nowhere else."),

    runs(401, 3, DISTURBS, "failing host services",
        "Each call of a host function may fail: a clean status follows, and nothing is made \
         that was not recorded."),
    runs(402, 3, DISTURBS, "full disk",
        "A full disk is IMGF_E_IO, IMGF_E_QUOTA or IMGF_E_UNAVAILABLE, never success."),
    runs(403, 3, DISTURBS, "read-only work folder",
        "A work folder that cannot be written is IMGF_E_IO, IMGF_E_PERMISSION or IMGF_E_QUOTA."),
    runs(404, 3, DISTURBS, "missing secret",
        "Missing credentials are IMGF_E_AUTH, IMGF_E_NOT_FOUND, IMGF_E_PERMISSION or \
         IMGF_E_INVALID_ARGUMENT."),
    runs(405, 3, DISTURBS, "odd secrets",
        "Credentials may be any text: quotes, line breaks, 1 MiB."),
    runs(406, 3, DISTURBS, "malformed templates",
        "What is no template is refused or ignored, and never a crash."),
    runs(407, 3, DISTURBS, "huge template",
        "A template of 10 MB is served or refused."),
    runs(408, 3, DISTURBS, "odd parameters",
        "Missing, further and wrongly typed parameters are served or refused."),
    runs(409, 3, DISTURBS, "absent and empty",
        "Every text of the input may be absent or empty."),
    runs(410, 3, DISTURBS, "failing provider",
        "401, 403, 404, 429, 500, 503, broken and missing answers get their class; 429 and 503 \
         are RETRYABLE."),

    runs(501, 3, DISTURBS, "cancelled before",
        "An operation that was cancelled before it started answers IMGF_E_CANCELLED."),
    runs(502, 3, DISTURBS, "cancelled in the middle",
        "A cancelled operation answers IMGF_E_CANCELLED within the cancel grace."),
    runs(503, 3, &[201, 202, 301, 307, 308, 502], "cancelled without abort",
        "Flag and descriptor alone are heard, without abort."),
    runs(504, 3, &[201, 202, 301, 501, 502], "abort",
        "abort may come twice, on another thread, before, during and after an operation, and \
         does not block."),
    runs(505, 3, DISTURBS, "deadline",
        "A deadline in the past ends in IMGF_OK, IMGF_E_TIMEOUT or IMGF_E_CANCELLED."),
    runs(506, 3, DISTURBS, "SIGTERM",
        "SIGTERM to the process group leaves no child behind."),
    runs(507, 3, &[201, 202, 301, 310], "SIGKILL and cleanup",
        "After SIGKILL at any point cleanup removes, in a fresh process, all that was \
         announced."),

    runs(601, 4, RUNS, "nothing left",
        "After destroy no thread, descriptor, child, mount or loop device is left."),
    runs(603, 4, RUNS, "process state",
        "Operations leave signals, folder, umask, locale, environment and limits alone."),
    runs(604, 4, RUNS, "secrets",
        "Credentials appear in no log, progress, result, error, journal entry, environment or \
         file."),
    advice(runs(605, 4, RUNS, "printing",
        "Operations print nothing (advice).")),
    runs(606, 4, RUNS, "silence between operations",
        "No host function is called while no function of the plugin runs."),
];

/// The rule of a number.
pub(crate) fn rule(number: u16) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.number == number)
}
