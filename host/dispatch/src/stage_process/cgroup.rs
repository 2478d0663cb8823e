//! One cgroup leaf for each stage: limits that its processes cannot leave, and a kill that misses
//! none.
//!
//! Finds what this process may use: the unified hierarchy (v2, where its controllers are
//! delegated), or the `pids`, `memory` and `freezer` hierarchies of v1 (hybrid systems). Works
//! without any; what is missing is said in words for the sandbox report. Who joins and when is
//! `spawn.rs`' business.
//!
//! Joining v1 costs microseconds when a thread moves *itself* (writes 0 to `tasks`): the kernel
//! skips its global lock then. Moving another process takes that lock and an RCU grace period: 10
//! to 20 ms (measured; docs/benchmarks/stage-process.md). That is the price on v2, which knows no
//! other way but
//! `clone3(CLONE_INTO_CGROUP)`, and `std::process` does not use it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use imagefactory_model::frames::ResourceLimits;
use rustix::process::{Pid, Signal, kill_process};

use super::cgroup_mounts::{unified_folder, v1_folder};

/// Where leaves can be made, found once at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CgroupPlaces {
    /// v2: our own folder; leaves are made in it.
    unified: Option<UnifiedPlace>,
    /// v1 hierarchies: our own folder in each.
    v1: Vec<(Controller, PathBuf)>,
    /// What cannot be had, with the reason.
    pub(super) missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct UnifiedPlace {
    dir: PathBuf,
    pids: bool,
    memory: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Pids,
    Memory,
    Freezer,
}

impl Controller {
    const ALL: [Controller; 3] = [Controller::Pids, Controller::Memory, Controller::Freezer];

    fn name(self) -> &'static str {
        match self {
            Controller::Pids => "pids",
            Controller::Memory => "memory",
            Controller::Freezer => "freezer",
        }
    }
}

/// How the names of our leaves begin.
const LEAF_PREFIX: &str = "imagefactory-";

/// Older than any stage takes from making its leaf to entering it.
const LEFTOVER_AGE: Duration = Duration::from_secs(60);

impl CgroupPlaces {
    /// Looks at `/proc/self/{mountinfo,cgroup}` and tries whether folders can be made.
    pub(super) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut places = CgroupPlaces::default();
        for controller in Controller::ALL {
            if let Some(dir) = v1_folder(&mounts, &own, controller.name()) {
                match probe(&dir) {
                    Ok(()) => places.v1.push((controller, dir)),
                    Err(error) => places.missing.push(not_writable(&dir, &error)),
                }
            }
        }
        // A v1 freezer can end a stage as surely as cgroup.kill, and is joined for nothing.
        if !places.has_v1(Controller::Freezer)
            && let Some(dir) = unified_folder(&mounts, &own)
        {
            match probe(&dir) {
                Ok(()) => places.unified = Some(delegated(dir)),
                Err(error) => places.missing.push(not_writable(&dir, &error)),
            }
        }
        for controller in [Controller::Pids, Controller::Memory] {
            if !places.enforces(controller) && places.missing.is_empty() {
                places.missing.push(format!(
                    "cgroup {name}: no delegated controller; run the daemon under systemd with \
                     Delegate=yes, or as root where the v1 hierarchy {name} is mounted",
                    name = controller.name()
                ));
            }
        }
        let unified = places.unified.iter().map(|place| place.dir.clone());
        let all = places.v1.iter().map(|(_, dir)| dir.clone()).chain(unified);
        all.for_each(|place| sweep(&place, LEFTOVER_AGE));
        places
    }

    /// No cgroups, for this reason.
    pub(super) fn none(reason: &str) -> Self {
        CgroupPlaces { missing: vec![reason.to_owned()], ..CgroupPlaces::default() }
    }

    fn has_v1(&self, controller: Controller) -> bool {
        self.v1.iter().any(|(found, _)| *found == controller)
    }

    fn enforces(&self, controller: Controller) -> bool {
        self.has_v1(controller)
            || self.unified.as_ref().is_some_and(|unified| match controller {
                Controller::Pids => unified.pids,
                Controller::Memory => unified.memory,
                Controller::Freezer => true,
            })
    }

    /// Makes a leaf in every hierarchy in use; `None` where there is none.
    pub(super) fn make_leaf(
        &self,
        name: &str,
        limits: &ResourceLimits,
    ) -> io::Result<Option<StageCgroup>> {
        let mut leaf = StageCgroup::default();
        match self.fill(&mut leaf, name, limits) {
            Ok(()) => Ok((!leaf.dirs().is_empty()).then_some(leaf)),
            Err(error) => {
                leaf.remove();
                Err(error)
            }
        }
    }

    fn fill(&self, leaf: &mut StageCgroup, name: &str, limits: &ResourceLimits) -> io::Result<()> {
        for (controller, place) in &self.v1 {
            let dir = place.join(name);
            fs::create_dir(&dir)?;
            leaf.v1.push((*controller, dir.clone(), place.clone()));
            match controller {
                // One more for the daemon's own thread that joins to spawn.
                Controller::Pids => limit(&dir, "pids.max", above_zero(limits.processes_max, 1))?,
                Controller::Memory => {
                    limit(&dir, "memory.limit_in_bytes", above_zero(limits.memory_bytes_max, 0))?;
                }
                Controller::Freezer => {}
            }
        }
        if let Some(unified) = &self.unified {
            let dir = unified.dir.join(name);
            fs::create_dir(&dir)?;
            leaf.unified = Some(dir.clone());
            if unified.pids {
                limit(&dir, "pids.max", above_zero(limits.processes_max, 0))?;
            }
            if unified.memory {
                limit(&dir, "memory.max", above_zero(limits.memory_bytes_max, 0))?;
            }
        }
        Ok(())
    }

    /// Layers in force, for the sandbox report.
    pub(super) fn active(&self) -> Vec<String> {
        let v1 = self.v1.iter().map(|(controller, _)| format!("cgroup v1 {}", controller.name()));
        let unified = self.unified.iter().flat_map(|unified| {
            let all = [("cgroup v2", true), ("cgroup v2 pids", unified.pids)];
            let memory = ("cgroup v2 memory", unified.memory);
            let all = all.into_iter().chain([memory]);
            all.filter(|(_, on)| *on).map(|(name, _)| name.to_owned())
        });
        v1.chain(unified).collect()
    }
}

/// The leaf of one stage.
#[derive(Debug, Default)]
pub(super) struct StageCgroup {
    /// Controller, the leaf, and the folder where our own threads live.
    v1: Vec<(Controller, PathBuf, PathBuf)>,
    unified: Option<PathBuf>,
}

impl StageCgroup {
    /// A leaf that an earlier daemon made, by its folders (see `SpawnedAttempt::cgroup`).
    pub(super) fn recorded(dirs: &[PathBuf]) -> Self {
        let mut leaf = StageCgroup::default();
        for dir in dirs.iter().filter(|dir| dir.is_dir()) {
            let home = dir.parent().map(Path::to_owned).unwrap_or_default();
            if dir.join("cgroup.events").exists() {
                leaf.unified = Some(dir.clone());
            } else if dir.join("freezer.state").exists() {
                leaf.v1.push((Controller::Freezer, dir.clone(), home));
            } else if dir.join("pids.max").exists() {
                leaf.v1.push((Controller::Pids, dir.clone(), home));
            } else {
                leaf.v1.push((Controller::Memory, dir.clone(), home));
            }
        }
        leaf
    }

    /// All folders of the leaf.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        let v1 = self.v1.iter().map(|(_, dir, _)| dir.clone());
        v1.chain(self.unified.clone()).collect()
    }

    /// Moves the calling thread into the v1 leaves, so that what it spawns is born there.
    pub(super) fn enter_thread(&self) -> io::Result<()> {
        self.v1.iter().try_for_each(|(_, dir, _)| write(&dir.join("tasks"), "0"))
    }

    /// Moves the calling thread back home.
    pub(super) fn leave_thread(&self) -> io::Result<()> {
        // All of them, even if one fails.
        let left: Vec<_> =
            self.v1.iter().map(|(_, _, home)| write(&home.join("tasks"), "0")).collect();
        left.into_iter().collect()
    }

    /// Moves a process into the v2 leaf, which a thread alone cannot enter.
    pub(super) fn attach(&self, pid: u32) -> io::Result<()> {
        match &self.unified {
            Some(dir) => write(&dir.join("cgroup.procs"), &pid.to_string()),
            None => Ok(()),
        }
    }

    /// Kills every process in the leaf; returns how many there were. A process in an
    /// uninterruptible system call dies when it leaves it; ask [`Self::is_empty`].
    pub(super) fn kill(&self) -> usize {
        let pids = self.pids();
        if pids.is_empty() {
            return 0;
        }
        if let Some(dir) = &self.unified
            && write(&dir.join("cgroup.kill"), "1").is_ok()
        {
            return pids.len();
        }
        // No new processes, then none that runs, then kill, then let them die.
        for (controller, dir, _) in &self.v1 {
            match controller {
                Controller::Pids => ignore(write(&dir.join("pids.max"), "0")),
                Controller::Freezer => ignore(write(&dir.join("freezer.state"), "FROZEN")),
                Controller::Memory => {}
            }
        }
        if let Some(dir) = &self.unified {
            // Before Linux 5.14 there is no cgroup.kill.
            ignore(write(&dir.join("cgroup.freeze"), "1"));
        }
        for pid in self.pids() {
            if let Some(pid) = Pid::from_raw(pid) {
                // Gone already: as good as killed.
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
        for (controller, dir, _) in &self.v1 {
            if *controller == Controller::Freezer {
                ignore(write(&dir.join("freezer.state"), "THAWED"));
            }
        }
        if let Some(dir) = &self.unified {
            ignore(write(&dir.join("cgroup.freeze"), "0"));
        }
        pids.len()
    }

    /// Nothing lives in it. Zombies do not count in v2; in v1 they do until they are reaped.
    pub(super) fn is_empty(&self) -> bool {
        self.pids().is_empty()
    }

    /// Does it limit memory, if the stage has a limit?
    pub(super) fn holds_memory(&self) -> bool {
        let v1 = self.v1.iter().any(|(controller, _, _)| *controller == Controller::Memory);
        v1 || self.unified.as_ref().is_some_and(|dir| dir.join("memory.max").exists())
    }

    /// How often the kernel killed for memory here.
    pub(super) fn oom_kills(&self) -> u64 {
        let v1 = self.v1.iter().filter(|(controller, ..)| *controller == Controller::Memory);
        let v1 = v1.map(|(_, dir, _)| dir.join("memory.oom_control"));
        let unified = self.unified.iter().map(|dir| dir.join("memory.events"));
        v1.chain(unified).filter_map(|file| counter(&file, "oom_kill")).sum()
    }

    /// Removes the leaf; false = something is left in it (processes that do not die).
    pub(super) fn remove(&self) -> bool {
        self.dirs().iter().all(|dir| remove_leaf(dir))
    }

    fn pids(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = Vec::new();
        for dir in self.dirs() {
            let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        // 0 stands for a process outside of our pid namespace: not ours to kill.
        pids.retain(|&pid| pid > 0);
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

/// Cgroups made inside the leaf go first. Depth is bounded: nobody of ours makes any.
fn remove_leaf(dir: &Path) -> bool {
    match fs::remove_dir(dir) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(_) => {
            let inner = fs::read_dir(dir).into_iter().flatten().flatten();
            for entry in inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                ignore(fs::remove_dir(entry.path()));
            }
            fs::remove_dir(dir).is_ok()
        }
    }
}

/// Zero means no limit.
fn above_zero(value: u64, extra: u64) -> Option<u64> {
    (value > 0).then(|| value.saturating_add(extra))
}

fn limit(dir: &Path, file: &str, value: Option<u64>) -> io::Result<()> {
    match value {
        Some(value) => write(&dir.join(file), &value.to_string()),
        None => Ok(()),
    }
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    // Not fs::write: it would create a missing file instead of saying that the kernel has none.
    let mut open = fs::OpenOptions::new().write(true).open(file)?;
    io::Write::write_all(&mut open, text.as_bytes())
}

/// A step whose failure changes nothing: the next one, or the final check, sees it.
fn ignore(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "cgroup");
    }
}

fn counter(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Removes leaves that a daemon left when it was killed. A leaf with a process in it stays: the
/// kernel removes none. A young one may be somebody's who is about to enter it.
fn sweep(place: &Path, age: Duration) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(LEAF_PREFIX);
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified.elapsed().is_ok_and(|since| since >= age));
        if ours && old {
            remove_leaf(&entry.path());
        }
    }
}

fn probe(dir: &Path) -> io::Result<()> {
    let trial = dir.join(format!("imagefactory-probe-{}", uuid::Uuid::new_v4()));
    fs::create_dir(&trial)?;
    fs::remove_dir(&trial)
}

fn not_writable(dir: &Path, error: &io::Error) -> String {
    format!("cgroup: no folder can be made in {}: {error}", dir.display())
}

/// Enables the controllers for our leaves where systemd (or an operator) delegated our folder to
/// us.
fn delegated(dir: PathBuf) -> UnifiedPlace {
    let control = dir.join("cgroup.subtree_control");
    let enabled = |name: &str| {
        let on = fs::read_to_string(&control).unwrap_or_default();
        on.split_whitespace().any(|found| found == name)
    };
    let wanted = ["pids", "memory"];
    if wanted.iter().any(|name| !enabled(name)) && is_delegated(&dir) {
        // A folder with controllers for its children holds no processes itself: step aside.
        let aside = dir.join("daemon");
        ignore(fs::create_dir(&aside));
        ignore(write(&aside.join("cgroup.procs"), "0"));
        for name in wanted {
            ignore(write(&control, &format!("+{name}")));
        }
    }
    UnifiedPlace { pids: enabled("pids"), memory: enabled("memory"), dir }
}

/// systemd marks a folder that it will keep its hands off.
fn is_delegated(dir: &Path) -> bool {
    ["trusted.delegate", "user.delegate"].iter().any(|name| {
        let mut value = [0u8; 8];
        rustix::fs::getxattr(dir, *name, &mut value[..]).is_ok_and(|read| value[..read] == *b"1")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Runs only the half that this machine offers; each half says so in its name when it is
    /// absent.
    #[test]
    fn a_leaf_holds_what_is_spawned_from_it_and_kill_leaves_nothing() {
        let places = CgroupPlaces::detect();
        let limits = ResourceLimits {
            file_bytes_max: 0,
            open_files_max: 64,
            memory_bytes_max: 256 << 20,
            processes_max: 20,
        };
        let name = format!("imagefactory-test-{}", uuid::Uuid::new_v4());
        let Some(leaf) = places.make_leaf(&name, &limits).unwrap() else {
            assert!(!places.missing.is_empty(), "no cgroup and no word why");
            return;
        };
        leaf.enter_thread().unwrap();
        // setsid: gone from every process group.
        let mut child = Command::new("sh")
            .args(["-c", "read go; setsid sleep 600 & sleep 600"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        leaf.leave_thread().unwrap();
        leaf.attach(child.id()).unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while leaf.pids().len() < 3 && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(leaf.pids().len() >= 3, "sh, sleep and the setsid sleep: {:?}", leaf.pids());
        assert!(leaf.kill() >= 3);
        child.wait().unwrap();
        while !leaf.is_empty() && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(leaf.is_empty(), "alive: {:?}", leaf.pids());
        assert!(leaf.remove());
        assert!(leaf.dirs().iter().all(|dir| !dir.exists()));
    }

    #[test]
    fn only_our_own_old_and_empty_leaves_are_swept() {
        let place = tempfile::tempdir().unwrap();
        for name in ["imagefactory-left", "imagefactory-busy/process", "another"] {
            fs::create_dir_all(place.path().join(name)).unwrap();
        }
        fs::write(place.path().join("imagefactory-busy/process/1"), "").unwrap();
        sweep(place.path(), LEFTOVER_AGE);
        assert!(place.path().join("imagefactory-left").exists(), "it is young");
        sweep(place.path(), Duration::ZERO);
        assert!(!place.path().join("imagefactory-left").exists());
        assert!(
            place.path().join("imagefactory-busy").exists()
                && place.path().join("another").exists()
        );
    }
}
