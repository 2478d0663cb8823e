//! Rules 306 to 313: what an operation does to the world around it.

use std::path::{Path, PathBuf};

use imagefactory_model::stage::{JournalEvent, Operation};
use imagefactory_plugin_sdk::abi::{IMGF_E_NOT_FOUND, IMGF_E_UNSUPPORTED, IMGF_OK};

use super::bench::{Bench, Returned, Run};
use super::mock_host::Script;
use super::operation::{broken_promises, identifier_of, run_all};
use super::snapshot::files_below;
use super::stage_input::{InputImage, StageTexts, open_entries};
use super::subject::Subject;

/// Operations that make something at a provider.
const MAKING: [Operation; 4] = [
    Operation::CreateBaseImage,
    Operation::CreateTargetImage,
    Operation::PushImageToProvider,
    Operation::SnapshotImageOnProvider,
];

/// 306: whoever answers UNSUPPORTED has done nothing.
pub(super) fn does_nothing_when_unsupported(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let all = Operation::ALL.into_iter().filter(|operation| subject.has(*operation));
    for operation in all.filter(|operation| *operation != Operation::Cleanup) {
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        let returned = run.operation(operation);
        if returned.code != IMGF_E_UNSUPPORTED {
            continue;
        }
        for done in deeds(&run, &returned) {
            bench.report.failed(format!("{} answered UNSUPPORTED, but {done}", operation.name()));
        }
    }
}

/// What an operation has done that others can see.
fn deeds(run: &Run<'_>, returned: &Returned) -> Vec<String> {
    let seen = &returned.seen;
    let mut deeds = Vec::new();
    let mut count = |number: usize, what: &str| {
        if number > 0 {
            deeds.push(format!("made {number} {what}"));
        }
    };
    count(seen.journal.len(), "journal entries");
    count(seen.results.len(), "results");
    count(seen.contents.len(), "target contents");
    count(seen.artifacts, "artefacts");
    count(files_below(&run.folders.output).len(), "files in the output folder");
    count(run.folders.ledger_count(), "outside resources");
    deeds
}

/// 307: each hook stands alone, because each may have a process of its own.
pub(super) fn runs_each_hook_alone(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let hooks = [
        Operation::BuilderShouldCreateTargetImage,
        Operation::BuilderWillCreateTargetImage,
        Operation::BuilderDidCreateTargetImage,
    ];
    let mine: Vec<Operation> = hooks.into_iter().filter(|hook| subject.has(*hook)).collect();
    if mine.is_empty() {
        bench.report.skip("it has no builder hooks");
        return;
    }
    let reversed = mine.iter().rev().map(|hook| vec![*hook]);
    let twice = [mine.clone(), mine.clone()].concat();
    for order in reversed.chain([twice]) {
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        for hook in &order {
            let returned = run.operation(*hook);
            let broken = match returned.code {
                IMGF_OK => broken_promises(&run, &returned),
                IMGF_E_UNSUPPORTED => Vec::new(),
                _ => vec![format!("it answered {}", returned.told())],
            };
            let way = if order.len() == 1 {
                "alone on a fresh instance"
            } else {
                "the second time round"
            };
            for broken in broken {
                bench.report.failed(format!("{} {way}: {broken}", hook.name()));
            }
            std::fs::remove_file(run.output_image()).ok(); // there may be none
        }
    }
}

/// 308: what is gone already is deleted as well.
pub(super) fn deletes_twice(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    if !bench.operations(&subject).contains(&Operation::DeleteFromProvider) {
        bench.report.skip("it has no delete_from_provider");
        return;
    }
    let Some(run) = bench.start(&subject, Script::default()) else { return };
    let makes = [Operation::PushImageToProvider, Operation::SnapshotImageOnProvider];
    let makes = makes.into_iter().find(|operation| bench.operations(&subject).contains(operation));
    let made = makes.map(|operation| run.operation(operation));
    let mut texts = StageTexts::new(bench, &run.folders, Operation::DeleteFromProvider);
    if let Some(identifier) = made.as_ref().and_then(identifier_of) {
        texts.identify(&identifier);
    }
    for time in ["first", "second", "third"] {
        let returned = run.operation_with(Operation::DeleteFromProvider, &texts);
        let gone = returned.code == IMGF_OK || returned.code == IMGF_E_NOT_FOUND;
        if !gone && time != "first" {
            bench.report.failed(format!(
                "delete_from_provider of what is gone already answered {} the {time} time",
                returned.told()
            ));
            return;
        }
    }
}

/// 309: the same stage again makes nothing a second time.
pub(super) fn repeats_without_doubling(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let making = bench.operations(&subject);
    for operation in making.into_iter().filter(|operation| MAKING.contains(operation)) {
        let Some(first) = bench.start(&subject, Script::default()) else { return };
        let one = first.operation(operation);
        if one.code != IMGF_OK {
            continue; // rule 301
        }
        let made = first.folders.ledger_count();
        let checkpoints = first.host.state().checkpoints().clone();
        std::fs::remove_file(first.output_image()).ok(); // an attempt has an output name of its own
        let script = Script { checkpoints, ..Script::default() };
        let Some(again) = bench.start_in(&subject, script, first.folders.clone()) else { return };
        let mut texts = StageTexts::new(bench, &again.folders, operation);
        texts.attempt = 2;
        let two = again.operation_with(operation, &texts);
        compare_attempts(bench, (&one, &two), (made, again.folders.ledger_count()));
    }
}

fn compare_attempts(bench: &Bench, (one, two): (&Returned, &Returned), made: (usize, usize)) {
    let name = one.operation.name();
    if two.code != IMGF_OK {
        bench.report.failed(format!("{name} again with the same stage_id answered {}", two.told()));
        return;
    }
    if made.1 > made.0 {
        bench.report.failed(format!(
            "{name} again with the same stage_id: {} outside resources instead of {}",
            made.1, made.0
        ));
    }
    let tokens = |returned: &Returned| -> std::collections::BTreeSet<String> {
        returned.seen.journal.iter().map(|entry| entry.token.clone()).collect()
    };
    if let Some(new) = tokens(two).difference(&tokens(one)).next() {
        bench.report.failed(format!(
            "{name} again with the same stage_id journals a new token {new:?} instead of \
             taking over"
        ));
    }
    let (before, after) = (identifier_of(one), identifier_of(two));
    if before != after {
        bench.report.failed(format!(
            "{name} again with the same stage_id: identifier_on_provider {after:?} instead of \
             {before:?}"
        ));
    }
}

/// 310: nothing is made before it is announced; cleanup removes it all, as often as asked.
pub(super) fn announces_and_cleans_up(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    for operation in bench.operations(&subject) {
        if matches!(operation, Operation::Cleanup | Operation::DeleteFromProvider) {
            continue;
        }
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        let returned = run.operation(operation);
        let name = operation.name();
        for text in returned.seen.against(310) {
            bench.report.failed(format!("{name}: {text}"));
        }
        let open = open_entries(&returned.seen.journal);
        let resources = run.folders.ledger_count();
        if resources > open.len() {
            bench.report.failed(format!(
                "{name} left {resources} outside resources and {} journal entries",
                open.len()
            ));
        }
        if !open.is_empty() {
            clean_up(bench, &subject, &run, &returned);
        }
    }
}

fn clean_up(bench: &Bench, subject: &Subject, run: &Run<'_>, left: &Returned) {
    let name = left.operation.name();
    if !subject.has(Operation::Cleanup) {
        bench.report.failed(format!("{name} journals, but there is no imagefactory.cleanup/1"));
        return;
    }
    let open = open_entries(&left.seen.journal);
    for time in ["first", "second"] {
        let Some(cleaner) = bench.start_in(subject, Script::default(), run.folders.clone()) else {
            return;
        };
        let mut texts = StageTexts::new(bench, &run.folders, Operation::Cleanup);
        texts.undo(&left.seen.journal);
        let returned = cleaner.operation_with(Operation::Cleanup, &texts);
        if returned.code != IMGF_OK {
            bench.report.failed(format!(
                "cleanup after {name} answered {} the {time} time",
                returned.told()
            ));
            return;
        }
        for entry in &open {
            let removed = returned
                .seen
                .journal
                .iter()
                .any(|seen| seen.token == entry.token && seen.event == JournalEvent::Removed);
            if !removed {
                let token = &entry.token;
                bench
                    .report
                    .failed(format!("cleanup after {name} recorded no REMOVED for {token}"));
            }
        }
        let left = run.folders.ledger_count();
        if left > 0 {
            bench.report.failed(format!("cleanup after {name} left {left} outside resources"));
            return;
        }
    }
}

/// 311: nothing of an operation's input is used once it has returned.
pub(super) fn keeps_no_input(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    for operation in bench.operations(&subject) {
        if operation == Operation::Cleanup {
            continue;
        }
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        run.strict.set(true);
        for time in ["first", "second"] {
            bench.report.phase(format!("{} the {time} time", operation.name()));
            run.operation(operation);
            std::fs::remove_file(run.output_image()).ok(); // there may be none
        }
        run.destroy();
    }
}

/// 312: the input image is only read.
pub(super) fn leaves_its_input_alone(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let starting = bench.operations(&subject).into_iter().filter(|of| of.input_image());
    let mut tried = false;
    for operation in starting {
        let Some(run) = bench.start(&subject, Script::default()) else { return };
        let before = std::fs::read(&run.folders.input_image).ok();
        run.operation(operation);
        tried = true;
        if std::fs::read(&run.folders.input_image).ok() != before {
            bench.report.failed(format!("{} changed IMGF_PATH_INPUT_IMAGE", operation.name()));
        }
    }
    if !tried {
        bench.report.skip("none of its operations starts from an image");
    }
}

/// 313: files are made in the folders of the stage and nowhere else.
pub(super) fn writes_only_where_it_may(bench: &Bench) {
    let Some(subject) = bench.subject() else { return };
    let before = files_below(&bench.order.folder);
    match confine_writing(&bench.order.folder) {
        Ok(note) => bench.report.note(note),
        Err(reason) => bench.report.note(format!("writing elsewhere is not prevented: {reason}")),
    }
    let mut roots: Vec<PathBuf> = Vec::new();
    let run = run_all(bench, &subject, |run, returned| {
        roots.push(run.folders.root.clone());
        if !matches!(returned.code, IMGF_OK | IMGF_E_UNSUPPORTED) {
            bench.report.failed(format!(
                "{} answered {} when it could write only to the folders of the stage",
                returned.operation.name(),
                returned.told()
            ));
        }
    });
    drop(run);
    let allowed = |path: &Path| {
        let ours = ["work", "state", "cache", "output", "ledger"];
        path.ends_with("printed")
            || path.starts_with(bench.order.folder.join("tmp"))
            || roots.iter().any(|root| {
                path == root
                    || path == root.join("input.img")
                    || ours.iter().any(|folder| path.starts_with(root.join(folder)))
            })
    };
    let stray = files_below(&bench.order.folder);
    let stray = stray.iter().filter(|path| !before.contains(path) && !allowed(path));
    for path in stray.take(4) {
        bench.report.failed(format!("{} was made outside of the stage's folders", path.display()));
    }
}

/// Denies making, changing and removing files anywhere but below `folder` and in `/dev`.
fn confine_writing(folder: &Path) -> Result<String, String> {
    use landlock::{
        ABI, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetStatus, path_beneath_rules,
    };
    // Of ABI 3 (Linux 6.2): with truncation, without later additions that do not write.
    let writing = AccessFs::from_write(ABI::V3);
    let text = |error: landlock::RulesetError| error.to_string();
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing)
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rules(path_beneath_rules([folder, Path::new("/dev")], writing)))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(text)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has no Landlock".into()),
        _ => Ok("writing elsewhere was denied by Landlock".into()),
    }
}
