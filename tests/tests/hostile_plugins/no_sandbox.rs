//! The third mode: neither root nor namespaces. What cannot be contained is said, and strict
//! refuses.

use imagefactory_model::frames::SandboxProfile::{Cloud, OsUserns};
use imagefactory_model::stage::FailureCode;
use imagefactory_tests::rig_order::Ended;
use imagefactory_tests::stage_rig::{Daemon, Rig, Situation};

/// Runs a harmless end (exit status 3) where no namespace is to be had; `None` = tests are not
/// root.
fn run_without_namespaces(strict: bool, situation: Situation) -> Option<(Ended, String)> {
    let rig = Rig::new(situation)?;
    let mut stage = rig.hostile("exit_three");
    stage.sandbox.strict = strict;
    let seen = rig.run(stage);
    let report = seen.report.expect("the daemon lives");
    Some((report.stage, report.gaps.join("\n")))
}

const SITUATIONS: [Situation; 2] = [
    Situation { daemon: Daemon::WithoutNamespaces, profile: OsUserns },
    Situation { daemon: Daemon::WithoutNamespaces, profile: Cloud },
];

#[test]
fn without_namespaces_the_stage_runs_and_its_report_names_what_is_missing() {
    for situation in SITUATIONS {
        let Some((ended, gaps)) = run_without_namespaces(false, situation) else { continue };
        let failure = ended.end.expect_err("exit status 3 is no success");
        assert_eq!(failure.code, FailureCode::PluginProtocol, "{failure:?}");
        let missing = ended.sandbox.expect("a report").missing.join("\n");
        for word in ["pid-namespace", "mount-namespace", "max_user_namespaces"] {
            assert!(missing.contains(word), "{situation:?} does not name {word}: {missing}");
        }
        let deed = "a hostile plugin can leave processes behind";
        assert!(gaps.contains(deed) && gaps.contains("max_user_namespaces"), "{gaps}");
    }
}

#[test]
fn a_strict_sandbox_refuses_to_run_a_stage_without_namespaces() {
    for situation in SITUATIONS {
        let Some((ended, _)) = run_without_namespaces(true, situation) else { continue };
        let failure = ended.end.as_ref().expect_err("strict means strict");
        assert_eq!(failure.code, FailureCode::Sandbox, "{failure:?}");
        assert!(failure.message.contains("pid-namespace"), "{failure:?}");
        assert!(ended.lines.iter().all(|line| !line.contains("the sin begins")), "{ended:#?}");
    }
}
