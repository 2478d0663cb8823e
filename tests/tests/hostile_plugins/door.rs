//! The one door between the hostile tests and the harness: run a sin, judge its end.

use imagefactory_model::frames::SandboxProfile::{Cloud, OsRoot, OsUserns};
use imagefactory_model::stage::FailureCode;
use imagefactory_tests::fixture_plugins;
use imagefactory_tests::rig_order::{Ended, StageOnRig};
use imagefactory_tests::stage_rig::{Daemon, Rig, Situation};

/// The two confined profiles under both daemons: where a sandbox stands, all of it must hold.
pub(crate) const CONFINED: [Situation; 4] = [
    Situation { daemon: Daemon::Root, profile: OsUserns },
    Situation { daemon: Daemon::Root, profile: Cloud },
    Situation { daemon: Daemon::OrdinaryUser, profile: OsUserns },
    Situation { daemon: Daemon::OrdinaryUser, profile: Cloud },
];

/// And `os-root`: processes, mounts and the channel are contained there too; files are not, because
/// the plugin is root by the operator's word.
pub(crate) const EVERYWHERE: [Situation; 5] = [
    CONFINED[0],
    CONFINED[1],
    CONFINED[2],
    CONFINED[3],
    Situation { daemon: Daemon::Root, profile: OsRoot },
];

/// The profile whose plugins may make no namespaces.
pub(crate) const CLOUD: [Situation; 2] = [CONFINED[1], CONFINED[3]];

/// The profiles whose plugins may.
pub(crate) const BUILDERS: [Situation; 3] = [CONFINED[0], CONFINED[2], EVERYWHERE[4]];

/// One profile under both daemons, for sins against the channel's data, which no sandbox layer
/// looks at.
pub(crate) const ANYWHERE: [Situation; 2] = [CONFINED[0], CONFINED[2]];

/// How a stage must end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// With one of these codes and a message that holds the plugin's name and all these words.
    Failure(&'a [FailureCode], &'a [&'a str]),
    /// As if nothing had been wrong: the sin is harmless in a process of its own.
    Success,
    /// In success, or with one of these codes: two threads race, either order is right.
    SuccessOr(&'a [FailureCode]),
}

/// Commits the sin in each situation and judges its end.
pub(crate) fn check_sin(sin: &str, situations: &[Situation], wanted: Wanted) {
    check(sin, situations, wanted, |_| {});
}

/// The same for a sin that does not end by itself: the deadline is 1.5 s.
pub(crate) fn check_endless_sin(sin: &str, situations: &[Situation], wanted: Wanted) {
    check(sin, situations, wanted, |stage| stage.deadline_ms = 1500);
}

/// The same, and the stage is asked to end as soon as it has begun.
pub(crate) fn check_cancelled_sin(sin: &str, situations: &[Situation], wanted: Wanted) {
    check(sin, situations, wanted, |stage| {
        stage.cancel_on_line = Some(format!("the sin begins: {sin}"));
    });
}

/// The same for a sin that takes its time: a minute, since the daemon of a test is not optimised.
pub(crate) fn check_long_sin(sin: &str, situations: &[Situation], wanted: Wanted) {
    check(sin, situations, wanted, |stage| stage.deadline_ms = 60_000);
}

/// The same for an attempt at something forbidden: it must have been made, and must have failed.
pub(crate) fn check_attempt(sin: &str, situations: &[Situation], wanted: Wanted) -> Vec<Ended> {
    let all = check(sin, situations, wanted, |_| {});
    for ended in &all {
        assert!(
            ended.lines.iter().any(|line| line.contains("tried ")),
            "the attempt {sin} was never made: {:#?}",
            ended.lines
        );
    }
    all
}

/// Loads the fixture `hostile-at-load`, compiled to this sin, under each daemon.
pub(crate) fn check_at_load(sin: &str, wanted: Wanted) {
    let library =
        fixture_plugins::c_library_with("hostile-at-load", &[&format!("-DSIN=\"{sin}\"")]);
    for situation in [CONFINED[0], CONFINED[3]] {
        check_one(sin, situation, wanted, |rig| rig.hostile_from(&library, sin));
    }
}

/// Runs the Rust fixture, which panics in the way that `sin` names.
pub(crate) fn check_rust_panic(sin: &str, situations: &[Situation], wanted: Wanted) {
    let library = fixture_plugins::rust_library("hostile-rust");
    for situation in situations {
        check_one(sin, *situation, wanted, |rig| rig.hostile_from(&library, sin));
    }
}

fn check(
    sin: &str,
    situations: &[Situation],
    wanted: Wanted,
    prepare: impl Fn(&mut StageOnRig),
) -> Vec<Ended> {
    let prepared = |rig: &Rig| {
        let mut stage = rig.hostile(sin);
        prepare(&mut stage);
        stage
    };
    let all = situations.iter().map(|situation| check_one(sin, *situation, wanted, prepared));
    all.flatten().collect()
}

/// `None` where this situation cannot be had.
fn check_one(
    sin: &str,
    situation: Situation,
    wanted: Wanted,
    stage: impl Fn(&Rig) -> StageOnRig,
) -> Option<Ended> {
    let rig = Rig::new(situation)?;
    let seen = rig.run(stage(&rig));
    let breaches = seen.breaches().join("\n  ");
    let ended = seen.report.map(|report| report.stage);
    let told =
        ended.as_ref().map(|ended| (&ended.end, ended.lines.iter().take(50), &ended.sandbox));
    assert!(breaches.is_empty(), "{sin} in {situation:?}:\n  {breaches}\n{told:#?}");
    let ended = ended.expect("a daemon without a report is a breach");
    if let Err(why) = judge(sin, &ended, wanted) {
        let Ended { end, lines, milliseconds, .. } = &ended;
        panic!("{sin} in {situation:?}, {milliseconds} ms: {why}\n{end:#?}\n{lines:#?}");
    }
    Some(ended)
}
/// Is this the end that was wanted? The reason if not.
pub(crate) fn judge(sin: &str, ended: &Ended, wanted: Wanted) -> Result<(), String> {
    let (codes, words): (&[FailureCode], &[&str]) = match wanted {
        Wanted::Failure(codes, words) => (codes, words),
        Wanted::Success => (&[], &[]),
        Wanted::SuccessOr(codes) => (codes, &[]),
    };
    match &ended.end {
        Ok(_) if matches!(wanted, Wanted::Failure(..)) => Err("it succeeded".to_owned()),
        Ok(product) => {
            let honest = product.format.as_deref() == Some("raw")
                && product.results.get("format").is_none_or(|format| format == "raw")
                && product.output_bytes == Some(1 << 20)
                && product.output_is_pure == Some(true);
            honest.then_some(()).ok_or_else(|| "its success is a lie".to_owned())
        }
        Err(failure) => {
            if !codes.contains(&failure.code) {
                return Err(format!("its code is {}, not one of {codes:?}", failure.code));
            }
            for word in ["Hostile"].iter().chain(words) {
                if !failure.message.contains(word) {
                    return Err(format!("its message does not name {word}: {}", failure.message));
                }
            }
            let begun = format!("the sin begins: {sin}");
            let told = failure.log_tail.iter().chain([&failure.message]);
            let has_begun = ended.lines.iter().any(|line| line.contains(&begun));
            // A chatty plugin pushes its own first line out of the tail, not the tail itself.
            let mut told = told.filter(|line| ended.lines.len() > 20 || line.contains(&begun));
            if has_begun && told.next().is_none() {
                return Err(format!("its last lines are not told: {:?}", failure.log_tail));
            }
            Ok(())
        }
    }
}
