//! Stages through the real supervisor and the real runner, in a daemon of their own.
//!
//! A [`Rig`] is a small factory: a folder with store, scratch, plugins and secrets, and a stage
//! driver that plays the daemon, as root or as an ordinary user. [`Rig::run`] runs one stage in it,
//! with a lawful one beside it, and answers [`Seen`]; [`Seen::breaches`] is the list of everything
//! that must never happen, whatever the stage did. What the stage itself should have come to is the
//! test's word.

use std::fs::{self, Permissions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use imagefactory_model::frames::{
    PluginLibrary, ResourceLimits, SandboxOrder, SandboxProfile, StageIdentity,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::host_state::{self, Belongings};
use crate::rig_order::{RigOrder, RigReport, StageOnRig};
use crate::{binaries, fixture_plugins};

/// Longest a driver may take, several deadlines and kill bounds included; then the daemon itself
/// hangs.
const DRIVER_PATIENCE: Duration = Duration::from_secs(150);

/// A steady stage looks every 5 ms. A turn of 10 s means that a neighbour took the machine away,
/// not that other tests share two cores with it.
const LONGEST_WAIT_MS: u64 = 10_000;

/// A daemon that supervises two stages needs about 20 MiB; a chatty plugin must not change that by
/// more than its bounded log.
const DAEMON_MEMORY_BYTES: u64 = 256 << 20;

/// Ids of one stage, as `/etc/subuid` counts them.
const IDS: u32 = 65536;

/// Who plays the daemon, and how its stages are confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// The driver's user.
    pub daemon: Daemon,
    /// Of both stages.
    pub profile: SandboxProfile,
}

/// The driver's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// Root, as in a container or a simple installation; gives each stage its own user ids.
    Root,
    /// A user without any right or subordinate ids.
    OrdinaryUser,
    /// The same on a machine where such a user gets no namespaces.
    WithoutNamespaces,
}

/// A small factory in a folder of its own; gone with all its files when dropped.
#[derive(Debug)]
pub struct Rig {
    situation: Situation,
    mark: String,
    canary: String,
    uid_first: u32,
    shm_bytes: u64,
    folder: tempfile::TempDir,
}

/// What was seen of one run.
#[derive(Debug)]
pub struct Seen {
    /// The driver's own word; `None` if it died or hung.
    pub report: Option<RigReport>,
    breaches: Vec<String>,
}

impl Rig {
    /// A rig for this situation; `None`, and a line on standard error, where the tests themselves
    /// are not root and so cannot play a root daemon.
    pub fn new(situation: Situation) -> Option<Rig> {
        if situation.daemon != Daemon::OrdinaryUser && !am_root() {
            eprintln!("skipped: {situation:?} needs a test run as root");
            return None;
        }
        let random = Uuid::new_v4();
        let mark = format!("rig{}", &random.simple().to_string()[..12]);
        let number = u32::from_le_bytes(random.as_bytes()[12..].try_into().expect("four bytes"));
        let folder = tempfile::Builder::new().prefix(&format!("{mark}-")).tempdir_in(rigs_folder());
        let rig = Rig {
            situation,
            canary: format!("canary-{}", Uuid::new_v4().simple()),
            // Above all ids that distributions and containers give out, and apart from other rigs.
            uid_first: 0x2000_0000 + (number % 4096) * 4 * IDS,
            shm_bytes: 4096 * (1000 + u64::from(number % 100_000)),
            folder: folder.expect("a folder for the rig"),
            mark,
        };
        rig.furnish();
        Some(rig)
    }

    /// A stage of the hostile fixture that commits one sin.
    pub fn hostile(&self, sin: &str) -> StageOnRig {
        self.hostile_from(&fixture_plugins::c_library("hostile"), sin)
    }

    /// The same from another library that calls itself Hostile.
    pub fn hostile_from(&self, library: &Path, sin: &str) -> StageOnRig {
        let library = fixture_plugins::install(&self.plugins_d(), "hostile", library);
        let mut stage = self.stage(library, 0);
        stage.parameters.insert("sin".to_owned(), Value::from(sin));
        stage
    }

    /// A stage of any installed library, with the parameters that tell a fixture where it is.
    /// `number` is its place among the rig's stages (below 2): each has its own user ids.
    pub fn stage(&self, mut plugin: PluginLibrary, number: u32) -> StageOnRig {
        if self.situation.daemon == Daemon::WithoutNamespaces {
            // Root has no number in there, so its files look like nobody's.
            plugin.trusted_uid = Some(65534);
        }
        let inode = |file: &str| fs::metadata(file).map_or(0, |about| about.ino()).to_string();
        let words = [
            ("mark", self.mark.clone()),
            ("pid_namespace", inode("/proc/self/ns/pid")),
            ("mount_namespace", inode("/proc/self/ns/mnt")),
            ("shm_bytes", self.shm_bytes.to_string()),
            ("rig", self.folder.path().display().to_string()),
            // Half of the secret: enough to search for, not enough to be it.
            ("canary", self.canary[..20].to_owned()),
        ];
        let words = words.into_iter().map(|(key, word)| (key.to_owned(), Value::from(word)));
        let library_folder = plugin.path.parent().map(Path::to_owned);
        StageOnRig {
            sandbox: SandboxOrder {
                profile: self.situation.profile,
                strict: false,
                network: false,
                identity: self.identity(number),
                read_only: library_folder.into_iter().collect(),
                writable: Vec::new(),
                capabilities: vec!["CAP_SYS_ADMIN".to_owned(), "CAP_KILL".to_owned()],
                limits: ResourceLimits {
                    file_bytes_max: 1 << 30,
                    open_files_max: 1024,
                    memory_bytes_max: 512 << 20,
                    processes_max: 64,
                },
                cancel_grace_ms: 500,
            },
            plugin,
            parameters: words.collect::<Map<String, Value>>(),
            deadline_ms: 20_000,
            cancel_on_line: None,
        }
    }

    /// Runs the stage with a steady one beside it, and looks at the machine before and after.
    pub fn run(&self, stage: StageOnRig) -> Seen {
        let steady = fixture_plugins::c_library("steady");
        let steady = fixture_plugins::install(&self.plugins_d(), "steady", &steady);
        let mut beside = self.stage(steady, 1);
        beside.parameters.insert("until".to_owned(), Value::from("file"));
        beside.deadline_ms = stage.deadline_ms + 30_000;
        let order = RigOrder {
            runner: self.program(&binaries::stage_runner()),
            storage: self.folder.path().join("storage"),
            tmp: self.folder.path().join("tmp"),
            ready_timeout_ms: 4_000,
            heartbeat_timeout_ms: 15_000,
            term_grace_ms: 500,
            daemon_secret: self.canary.clone(),
            stage,
            beside: Some(beside),
        };
        let before = host_state::files_below(self.folder.path());
        let (answer, complaints) = self.drive(&order);
        let mut breaches = self.belongings().wait_until_gone();
        breaches.iter_mut().for_each(|line| line.insert_str(0, "left behind: "));
        self.belongings().clear();
        let after = host_state::files_below(self.folder.path());
        breaches.extend(host_state::differences(&before, &after));
        for (whose, text) in [("the answer", &answer), ("standard error", &complaints)] {
            if text.contains(&self.canary) {
                breaches.push(format!("the daemon's secret stands in {whose} of the driver"));
            }
        }
        let report = serde_json::from_str::<RigReport>(&answer);
        match &report {
            Ok(report) => breaches.extend(breaches_in(report)),
            Err(_) => breaches.push(format!("the daemon died or hung: {answer}\n{complaints}")),
        }
        Seen { report: report.ok(), breaches }
    }

    /// The rig's `plugins.d`, for further plugins.
    pub fn plugins_d(&self) -> PathBuf {
        self.folder.path().join("plugins.d")
    }

    fn belongings(&self) -> Belongings {
        let uids: Range<u32> =
            if am_root() { self.uid_first..self.uid_first + 4 * IDS } else { 0..0 };
        let mark = self.mark.clone();
        Belongings { mark, uids, shm_bytes: self.shm_bytes }
    }

    /// Ids of a stage where the daemon is root; `os-root` keeps root's.
    fn identity(&self, number: u32) -> Option<StageIdentity> {
        let confined = self.situation.profile != SandboxProfile::OsRoot;
        (self.situation.daemon == Daemon::Root && confined).then(|| {
            let uid = self.uid_first + number * IDS;
            let count = if self.situation.profile == SandboxProfile::OsUserns { IDS } else { 1 };
            StageIdentity { uid, gid: uid, count }
        })
    }

    /// The uid of the driver: its own when the daemon is an ordinary user.
    fn daemon_uid(&self) -> Option<u32> {
        let other = am_root() && self.situation.daemon != Daemon::Root;
        other.then_some(self.uid_first + 3 * IDS)
    }

    /// Store, scratch, plugins and secrets, all the daemon's.
    fn furnish(&self) {
        let root = self.folder.path();
        fs::set_permissions(root, Permissions::from_mode(0o711)).expect("the rig is ours");
        for (name, mode) in [("storage", 0o711), ("tmp", 0o711), ("plugins.d", 0o755)] {
            fs::create_dir(root.join(name)).expect("a folder of the rig");
            fs::set_permissions(root.join(name), Permissions::from_mode(mode)).expect("its mode");
        }
        fs::create_dir(root.join("storage/stages")).expect("a folder of the rig");
        fs::set_permissions(root.join("storage/stages"), Permissions::from_mode(0o711))
            .expect("mode");
        for file in ["daemon-secret", "storage/another-image.body"] {
            fs::write(root.join(file), &self.canary).expect("a file of the rig");
            fs::set_permissions(root.join(file), Permissions::from_mode(0o600)).expect("its mode");
        }
        // Installed now, so that the folder is the same before and after a run.
        for fixture in ["steady", "hostile"] {
            let library = fixture_plugins::c_library(fixture);
            fixture_plugins::install(&self.plugins_d(), fixture, &library);
        }
        if let Some(uid) = self.daemon_uid() {
            let all = host_state::files_below(root).into_keys();
            for path in all.filter(|path| !path.starts_with(self.plugins_d())) {
                chown(path, Some(uid), Some(uid)).expect("root may give files away");
            }
        }
    }

    /// A program of ours where the driver's user can start it: in place, or copied into the rig.
    fn program(&self, program: &Path) -> PathBuf {
        if self.daemon_uid().is_none() || open_to_all(program) {
            return program.to_owned();
        }
        let copy = self.folder.path().join(program.file_name().expect("a program has a name"));
        if !copy.exists() {
            fs::copy(program, &copy).expect("a program can be copied");
        }
        copy
    }

    /// Runs the driver; answers its standard output and its standard error.
    fn drive(&self, order: &RigOrder) -> (String, String) {
        let program = self.program(&binaries::build_folder().join("stage-driver"));
        let mut driver = match self.situation.daemon {
            Daemon::Root | Daemon::OrdinaryUser => Command::new(program),
            Daemon::WithoutNamespaces => without_namespaces(&program),
        };
        driver.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("SECRET", &self.canary);
        driver.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(uid) = self.daemon_uid() {
            driver.uid(uid).gid(uid);
        }
        let mut driver = driver.spawn().expect("the stage driver starts");
        let pid = driver.id();
        let text = serde_json::to_vec(order).expect("an order is JSON");
        let mut input = driver.stdin.take().expect("its standard input is a pipe");
        let (done, answer) = mpsc::channel();
        std::thread::spawn(move || {
            // A driver that dies before it has read all is seen by its answer.
            input.write_all(&text).unwrap_or_default();
            drop(input);
            done.send(driver.wait_with_output()).unwrap_or_default();
        });
        let output = answer.recv_timeout(DRIVER_PATIENCE).unwrap_or_else(|_| {
            // SAFETY: kill has no memory effects; the pid is our child's, which nobody waited for
            // yet.
            unsafe { libc::kill(i32::try_from(pid).expect("a pid"), libc::SIGKILL) };
            answer.recv().expect("a killed driver ends")
        });
        let output = output.expect("the driver can be waited for");
        let mut complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        complaints.push_str(&format!("driver: {}", output.status));
        (String::from_utf8_lossy(&output.stdout).into_owned(), complaints)
    }
}

impl Seen {
    /// Everything that must never happen, whatever a stage does: something left on the machine, a
    /// file changed, a secret read, an attempt that worked, a neighbour or the daemon disturbed.
    pub fn breaches(&self) -> &[String] {
        &self.breaches
    }
}

/// Starts a program as user 1000 of a user namespace that was the last one to be had: the limit on
/// them counts below a namespace too, so the machine's own limit need not be touched.
pub fn without_namespaces(program: &Path) -> Command {
    let inner = "echo 1 > /proc/sys/user/max_user_namespaces && \
                 exec unshare --user --map-user=1000 --map-group=1000 -- \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", inner]).arg(program);
    command
}

fn breaches_in(report: &RigReport) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(report.stage.lines.iter().filter(|line| line.contains("BREACH")).cloned());
    let descriptors =
        host_state::differences(&report.descriptors_before, &report.descriptors_after);
    found.extend(descriptors.iter().map(|line| format!("the daemon's descriptors: {line}")));
    found.extend(report.children_after.iter().map(|child| format!("child of the daemon: {child}")));
    if report.peak_memory_bytes > DAEMON_MEMORY_BYTES {
        found.push(format!("the daemon grew to {} MiB", report.peak_memory_bytes >> 20));
    }
    if report.connections > 0 {
        found.push(format!("{} connections to the daemon's port", report.connections));
    }
    if let Some(beside) = &report.beside {
        match &beside.end {
            Err(failure) => found.push(format!("the steady stage failed: {failure:?}")),
            Ok(product) => {
                let wait = product.results.get("properties").map(|all| &all["longest_wait_ms"]);
                if wait.and_then(Value::as_u64).is_none_or(|wait| wait > LONGEST_WAIT_MS) {
                    found.push(format!("the steady stage had to wait {wait:?} ms"));
                }
                if product.output_bytes != Some(1 << 20) || product.output_is_pure != Some(true) {
                    found.push(format!("the steady stage's image is damaged: {product:?}"));
                }
            }
        }
    }
    found
}

/// In the build folder, where libraries are trusted as those are, else in the system's scratch.
fn rigs_folder() -> PathBuf {
    let folder = binaries::build_folder().join("rigs");
    fs::create_dir_all(&folder).expect("the build folder is writable");
    if open_to_all(&folder) { folder } else { std::env::temp_dir() }
}

/// May every user pass through all folders above?
fn open_to_all(path: &Path) -> bool {
    let passable =
        |folder: &Path| fs::metadata(folder).is_ok_and(|about| about.mode() & 0o001 != 0);
    path.ancestors().skip(1).all(passable)
}

fn am_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
