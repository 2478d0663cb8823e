//! What this machine cannot contain, in the words of an operator: which deed of a hostile plugin
//! each missing layer would have stopped.
//!
//! Pure: reads the report of a runner that put its walls up around nothing
//! ([`super::StageSupervisor::containment`]). The daemon says it at its start, and refuses to start
//! where the configuration insists on a strict sandbox.

use std::fmt;

use imagefactory_model::frames::SandboxReport;

/// What stands around a stage of one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containment {
    /// The layers, as the runner and the supervisor report them.
    pub report: SandboxReport,
}

/// A layer that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// What a hostile plugin can do without it; `None` = it confines nobody, but something that
    /// lawful plugins may need is not there.
    pub deeds: Vec<&'static str>,
    /// The layer, why it is missing and how to get it.
    pub missing: String,
}

/// Layers by the names that reports use, and what a plugin can do where they are missing.
const DEEDS: [(&str, &str); 9] = [
    ("pid-namespace", "leave processes behind that flee from their group, and signal others"),
    ("mount-namespace", "reach the services behind the sockets in /run"),
    ("network-namespace", "meet the host's abstract sockets, even when it is denied the network"),
    ("own-proc", "see the host's processes and their arguments"),
    ("landlock", "read and write whatever its user id may"),
    ("identity", "act as root on the host's files"),
    ("seccomp", "use the kernel's dangerous calls"),
    ("cgroup pids", "start as many processes as the machine can hold"),
    ("cgroup memory", "use up the machine's memory with many processes"),
];

impl Containment {
    pub(super) fn new(report: SandboxReport) -> Self {
        Containment { report }
    }

    /// Every layer that is missing, with what follows.
    pub fn gaps(&self) -> Vec<Gap> {
        let gap = |missing: &String| Gap { deeds: deeds(missing), missing: missing.clone() };
        self.report.missing.iter().map(gap).collect()
    }
}

/// A line of a report is `layer[, layer…]: reason`.
fn deeds(missing: &str) -> Vec<&'static str> {
    let layers = missing.split_once(": ").map_or(missing, |(layers, _)| layers);
    let all = layers.split(", ").flat_map(|layer| {
        // A cgroup folder that cannot be written is missing for every controller.
        DEEDS.iter().filter(move |(name, _)| {
            *name == layer || (layer == "cgroup" && name.starts_with("cgroup "))
        })
    });
    all.map(|(_, deed)| *deed).collect()
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.deeds.as_slice() {
            [] => write!(f, "missing: {}", self.missing),
            deeds => write!(
                f,
                "a hostile plugin can {} (missing {})",
                deeds.join(", and "),
                self.missing
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imagefactory_model::frames::SandboxProfile;

    fn check_gap(missing: &str, expected: &str) {
        let report = SandboxReport {
            profile: SandboxProfile::Cloud,
            active: Vec::new(),
            missing: vec![missing.to_owned()],
        };
        let gaps = Containment::new(report).gaps();
        assert_eq!(gaps[0].to_string(), expected);
    }

    #[test]
    fn a_missing_layer_names_the_deeds_that_it_would_have_stopped() {
        check_gap(
            "landlock: this kernel has none",
            "a hostile plugin can read and write whatever its user id may (missing landlock: this \
             kernel has none)",
        );
        check_gap(
            "pid-namespace, mount-namespace: EPERM",
            "a hostile plugin can leave processes behind that flee from their group, and signal \
             others, and reach the services behind the sockets in /run (missing pid-namespace, \
             mount-namespace: EPERM)",
        );
    }

    #[test]
    fn without_cgroups_neither_processes_nor_memory_are_counted() {
        for missing in ["cgroup: switched off in the configuration", "cgroup: EACCES"] {
            assert_eq!(deeds(missing).len(), 2, "{missing}");
        }
        assert_eq!(deeds("cgroup pids: no delegated controller").len(), 1);
    }

    #[test]
    fn what_confines_nobody_has_no_deeds() {
        check_gap("/dev/kvm: is no device", "missing: /dev/kvm: is no device");
    }
}
