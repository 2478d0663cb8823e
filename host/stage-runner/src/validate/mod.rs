//! The validating half of the runner: everything of `imagefactory plugin validate` that must load
//! or call plugin code.
//!
//! `imagefactory-stage-runner --validate` reads one [`ProbeOrder`] (one rule, one plugin) from
//! standard input, forks an inner process that tries the rule (docs/guides/validator.md) with a
//! mock host, and writes [`ProbeLine`]s to standard output. Rules without plugin code (the files)
//! and everything that people read live in `host/imagefactory/src/plugin`.
//! Read on in the order of the `mod` lines.

mod watch;

mod report;

mod bench;

mod subject;

mod arena;

mod stage_input;

mod mock_host;

mod host_calls;

mod host_texts;

mod aborter;

mod snapshot;

mod provider;

mod load;

mod tables;

mod lifecycle;

mod operation;

mod effects;

mod faults;

mod odd_input;

mod cancel;

mod killed;

mod hygiene;

use std::io::Read;

use imagefactory_model::validation::ProbeOrder;

use bench::Bench;

/// The argument that starts this half.
pub const ARGUMENT: &str = "--validate";

/// Longest order: a template of 1 MiB and its JSON fit many times.
const ORDER_BYTES_MAX: u64 = 16 << 20;

/// One rule: reports what it finds; no finding is success.
type Probe = fn(&Bench);

/// Which function tries which rule, by its number (docs/guides/validator.md).
const PROBES: &[(u16, Probe)] = &[
    (101, load::loads),
    (102, load::loads_fast),
    (103, load::changes_nothing),
    (104, load::negotiates_ranges),
    (105, load::respects_struct_size),
    (106, load::stands_null),
    (107, load::answers_alike),
    (108, load::says_why_it_refuses),
    (109, tables::describes_itself_truly),
    (110, tables::compares_interface_ids),
    (111, tables::fills_its_tables),
    (112, tables::agrees_in_layout),
    (113, load::negotiates_on_two_threads),
    (201, lifecycle::leaks_nothing),
    (202, lifecycle::stands_two_instances),
    (203, lifecycle::creates_or_refuses_cleanly),
    (204, lifecycle::is_silent_after_destroy),
    (205, lifecycle::is_destroyed_at_any_time),
    (206, lifecycle::creates_without_effects),
    (301, operation::does_what_it_promises),
    (302, operation::tells_progress_well),
    (303, operation::reports_errors_once),
    (304, operation::uses_known_keys),
    (305, operation::speaks_utf8_and_json),
    (306, effects::does_nothing_when_unsupported),
    (307, effects::runs_each_hook_alone),
    (308, effects::deletes_twice),
    (309, effects::repeats_without_doubling),
    (310, effects::announces_and_cleans_up),
    (311, effects::keeps_no_input),
    (312, effects::leaves_its_input_alone),
    (313, effects::writes_only_where_it_may),
    (401, faults::stands_failing_services),
    (402, faults::stands_a_full_disk),
    (403, faults::stands_a_read_only_work_folder),
    (404, faults::stands_a_missing_secret),
    (405, faults::stands_odd_secrets),
    (406, odd_input::stands_malformed_templates),
    (407, odd_input::stands_a_huge_template),
    (408, odd_input::stands_odd_parameters),
    (409, odd_input::tells_absent_from_empty),
    (410, faults::stands_a_failing_provider),
    (501, cancel::ends_before_it_starts),
    (502, cancel::ends_in_its_middle),
    (503, cancel::hears_without_abort),
    (504, cancel::stands_abort_at_any_time),
    (505, cancel::stands_a_past_deadline),
    (506, killed::leaves_nothing_on_sigterm),
    (507, killed::is_cleaned_up_after_sigkill),
    (601, hygiene::leaves_nothing_behind),
    (603, hygiene::keeps_signals_and_process_state),
    (604, hygiene::keeps_secrets),
    (605, hygiene::prints_nothing),
    (606, hygiene::is_silent_between_operations),
];

/// The status when no usable order came or the probe could not be run.
const NO_ORDER: i32 = 2;

/// Reads the order, tries the rule, writes the lines; the status to exit with.
pub fn main() -> i32 {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(ORDER_BYTES_MAX).read_to_string(&mut text);
    let order: ProbeOrder = match read.map_err(|error| error.to_string()).and_then(|_| {
        serde_json::from_str(&text).map_err(|error| format!("not a probe order: {error}"))
    }) {
        Ok(order) => order,
        Err(error) => {
            eprintln!(
                "imagefactory-stage-runner {ARGUMENT}: {error} (`imagefactory plugin validate` \
                 starts this)"
            );
            return NO_ORDER;
        }
    };
    let Some((_, probe)) = PROBES.iter().find(|(rule, _)| *rule == order.rule) else {
        eprintln!("rule IMGF-P-{:03} has no probe in this runner", order.rule);
        return NO_ORDER;
    };
    match watch::run(&order, *probe) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("the probe of IMGF-P-{:03} could not be run: {error}", order.rule);
            NO_ORDER
        }
    }
}
