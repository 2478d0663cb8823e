//! Starts a runner process and owns it until it is reaped.
//!
//! One immortal thread spawns all runners: a thread, not the daemon, is what enters a stage's v1
//! cgroup leaf for the moment of the spawn, and a parent thread that ends would trip a death signal
//! of its children. There is no `pre_exec`, so the standard library uses `posix_spawn` (0.5 ms
//! whatever the size of the daemon; with `pre_exec` it forks: 8 ms at 500 MiB, measured). A
//! [`RunnerProcess`] that is dropped takes everything of its stage with it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc as sync_mpsc};
use std::thread;
use std::time::Duration;

use imagefactory_model::frames::ResourceLimits;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::cgroup::{CgroupPlaces, StageCgroup};
use super::process_table::{self, MARKER};

/// What to start, and where.
#[derive(Debug)]
pub(super) struct SpawnOrder {
    /// Absolute path of the runner.
    pub(super) runner: PathBuf,
    /// The work folder, or `/` to describe.
    pub(super) cwd: PathBuf,
    /// `PATH` of the configuration.
    pub(super) path: OsString,
    /// Proxies; empty without a network.
    pub(super) proxies: Vec<(OsString, OsString)>,
    /// Value of [`MARKER`].
    pub(super) marker: String,
    /// Is the daemon a subreaper?
    pub(super) adopts_orphans: bool,
    /// Where its leaf is to be made, its name and limits.
    pub(super) leaf: LeafOrder,
}

/// A leaf to make. Made by the spawning thread, so that none is left when nobody waits any more.
#[derive(Debug)]
pub(super) struct LeafOrder {
    pub(super) places: Arc<CgroupPlaces>,
    pub(super) name: String,
    pub(super) limits: ResourceLimits,
}

/// The thread that spawns. Ends when the supervisor is dropped.
#[derive(Debug)]
pub(super) struct Spawner {
    orders: sync_mpsc::Sender<(SpawnOrder, oneshot::Sender<io::Result<RunnerProcess>>)>,
}

impl Spawner {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (orders, inbox) =
            sync_mpsc::channel::<(SpawnOrder, oneshot::Sender<io::Result<RunnerProcess>>)>();
        thread::Builder::new().name("stage-spawner".to_owned()).spawn(move || {
            for (order, reply) in inbox {
                // Nobody waits any more: the process comes back here and is dropped, which ends it.
                drop(reply.send(spawn(order)));
            }
        })?;
        Ok(Spawner { orders })
    }

    /// Starts a runner. Must be called within a tokio runtime.
    pub(super) async fn spawn(&self, order: SpawnOrder) -> io::Result<RunnerProcess> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the spawning thread is gone");
        self.orders.send((order, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// A runner that was started and not yet reaped.
#[derive(Debug)]
pub(super) struct RunnerProcess {
    child: Option<Child>,
    handle: OwnedFd,
    /// The same process, for the runtime.
    watch: Option<AsyncFd<OwnedFd>>,
    marker: String,
    /// Is the daemon a subreaper?
    adopts_orphans: bool,
    /// Does the stage live in a pid namespace? Learnt from Ready.
    pub(super) in_pid_namespace: bool,
    /// Its leaf.
    pub(super) cgroup: Option<StageCgroup>,
    /// Its mounts, see [`Self::hold_mounts`].
    mounts: Option<OwnedFd>,
    ends: Option<RunnerEnds>,
}

/// Our ends of its channels, not yet in a runtime.
#[derive(Debug)]
struct RunnerEnds {
    socket: StdUnixStream,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl RunnerEnds {
    /// Enters the current runtime.
    fn register(self) -> io::Result<(UnixStream, pipe::Receiver, pipe::Receiver)> {
        self.socket.set_nonblocking(true)?;
        Ok((
            UnixStream::from_std(self.socket)?,
            pipe::Receiver::from_owned_fd(self.stdout)?,
            pipe::Receiver::from_owned_fd(self.stderr)?,
        ))
    }
}

fn spawn(order: SpawnOrder) -> io::Result<RunnerProcess> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new(&order.runner);
    command
        .env_clear()
        .env("PATH", &order.path)
        .env("LANG", "C.UTF-8")
        .env(MARKER, &order.marker)
        .envs(std::env::var_os("TZ").map(|zone| (OsStr::new("TZ").to_owned(), zone)))
        .envs(order.proxies)
        .current_dir(&order.cwd)
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(their_stdout))
        .stderr(Stdio::from(their_stderr));
    let LeafOrder { places, name, limits } = order.leaf;
    let cgroup = places.make_leaf(&name, &limits)?;
    let child = spawn_in_leaf(&mut command, cgroup.as_ref());
    // The command still holds the runner's ends; EOF must not wait for it.
    drop(command);
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            cgroup.as_ref().map(StageCgroup::remove);
            return Err(error);
        }
    };
    let pid = pid_of(&child);
    let handle = match pid.map(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK)) {
        Some(Ok(handle)) => handle,
        Some(Err(error)) => return Err(abandon(child, error.into())),
        None => return Err(abandon(child, io::Error::other("the runner has no process id"))),
    };
    let ends = RunnerEnds { socket: ours, stdout, stderr };
    let process = RunnerProcess {
        child: Some(child),
        handle,
        watch: None,
        marker: order.marker,
        adopts_orphans: order.adopts_orphans,
        in_pid_namespace: false,
        cgroup,
        mounts: None,
        ends: Some(ends),
    };
    if let Some(cgroup) = &process.cgroup {
        cgroup.attach(process.id())?;
    }
    Ok(process)
}

/// Spawns from within the leaf, so that no moment exists in which the runner is outside of it.
fn spawn_in_leaf(command: &mut Command, cgroup: Option<&StageCgroup>) -> io::Result<Child> {
    let Some(cgroup) = cgroup else { return command.spawn() };
    cgroup.enter_thread()?;
    let child = command.spawn();
    if let Err(error) = cgroup.leave_thread() {
        // The next spawn enters its own leaf from here; only this leaf cannot be removed.
        tracing::warn!(%error, "the spawning thread could not leave a stage's cgroup");
    }
    child
}

fn abandon(mut child: Child, error: io::Error) -> io::Error {
    // It waits for Hello and has done nothing.
    if child.kill().is_ok() {
        drop(child.wait());
    }
    error
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

impl RunnerProcess {
    /// Its process id, also the id of its group. Names it as long as it is not reaped.
    pub(super) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    fn pid(&self) -> Option<Pid> {
        self.child.as_ref().and_then(pid_of)
    }

    /// Enters the current runtime: from now on [`Self::ended`] can be awaited. Gives our ends of
    /// its channels out.
    pub(super) fn register(&mut self) -> io::Result<(UnixStream, pipe::Receiver, pipe::Receiver)> {
        let ends = self.ends.take().ok_or_else(|| io::Error::other("registered already"))?;
        #[expect(
            deprecated,
            reason = "sound here: an OwnedFd is what the unsafe successor asks for, \
                                       and this crate has no unsafe"
        )]
        let watch = AsyncFd::new(self.handle.try_clone()?)?;
        self.watch = Some(watch);
        ends.register()
    }

    /// Keeps the mount namespace of a runner that has reported one. Its last process would
    /// otherwise destroy it before it ends, and that waits for an RCU grace period: 0.2 ms, and
    /// some milliseconds on a busy machine (docs/benchmarks/stage-process.md). Only root may open
    /// it; for others nothing is held.
    pub(super) fn hold_mounts(&mut self) {
        let id = self.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let init = children.ok().and_then(|all| all.split_whitespace().next().map(str::to_owned));
        let namespace = init.and_then(|init| File::open(format!("/proc/{init}/ns/mnt")).ok());
        self.mounts = namespace.map(OwnedFd::from);
    }

    /// Resolves when the process has ended; it is a zombie then and still has its pid.
    pub(super) async fn ended(&self) -> io::Result<()> {
        match &self.watch {
            Some(watch) => watch.readable().await.map(|_ready| ()),
            None => Err(io::Error::other("not registered with a runtime")),
        }
    }

    /// SIGTERM to the whole group.
    pub(super) fn terminate_group(&self) {
        if let Some(pid) = self.pid() {
            // Nobody left in the group: as good as ended.
            let _gone = kill_process_group(pid, Signal::TERM);
        }
    }

    /// SIGKILL to everything of the stage that can be found: leaf, group, the runner (whose pid
    /// namespace dies with it), adopted orphans. Returns how many processes besides the runner's
    /// own were still there in the leaf or orphaned.
    pub(super) fn kill_everything(&self) -> usize {
        let _gone = pidfd_send_signal(&self.handle, Signal::KILL);
        let in_leaf = self.cgroup.as_ref().map_or(0, StageCgroup::kill);
        let Some(pid) = self.pid() else { return in_leaf };
        let _gone = kill_process_group(pid, Signal::KILL);
        in_leaf
    }

    /// Adopted orphans of the stage: killed and reaped. Returns how many there were. Not looked for
    /// where there can be none: without a subreaper, or when a runner that left by itself had a pid
    /// namespace and so has buried all. A killed one leaves its namespace's first process to us.
    pub(super) async fn end_orphans(&self) -> usize {
        let possible = self.adopts_orphans && (!self.in_pid_namespace || self.was_killed());
        let Some(pid) = self.pid().filter(|_| possible) else { return 0 };
        let marker = self.marker.clone();
        let pid = pid.as_raw_nonzero().get();
        let sweep = move || process_table::end_orphans(&marker, pid);
        tokio::task::spawn_blocking(sweep).await.unwrap_or(0)
    }

    /// Did a signal end it? It stays a zombie.
    fn was_killed(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let seen = waitid(WaitId::PidFd(self.handle.as_fd()), look);
        // What cannot be read is taken for the worse.
        !matches!(seen, Ok(Some(status)) if status.exited())
    }

    /// Reaps the ended process. `None` = it has not ended.
    pub(super) fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Waits, at most `patience`, until the leaf is empty. What the kernel takes its time for is
    /// done in the background: removing the leaf, destroying the mounts.
    pub(super) async fn clear_away(&mut self, patience: Duration) -> bool {
        if let Some(mounts) = self.mounts.take() {
            tokio::task::spawn_blocking(move || drop(mounts));
        }
        let Some(leaf) = self.cgroup.take() else { return true };
        clear(leaf, patience).await
    }
}

async fn clear(leaf: StageCgroup, patience: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if leaf.is_empty() {
            // The kernel lets go of a v1 leaf some milliseconds after its last process; nobody's
            // result waits for that.
            let remains = Remains { child: None, cgroup: Some(leaf), mounts: None };
            tokio::task::spawn_blocking(move || remains.bury());
            return true;
        }
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        leaf.kill();
        // The kernel has no event for an empty v1 leaf that can be waited for without a helper.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Drop for RunnerProcess {
    fn drop(&mut self) {
        if self.child.is_none() && self.cgroup.is_none() && self.mounts.is_none() {
            return;
        }
        self.kill_everything();
        let (child, cgroup, mounts) = (self.child.take(), self.cgroup.take(), self.mounts.take());
        let remains = Remains { child, cgroup, mounts };
        // The watch list: waited for as long as it takes, by one waiter. A thread of its own,
        // because a runtime that shuts down would wait for a process that hangs in the kernel.
        let undertaker = thread::Builder::new().name("stage-undertaker".to_owned());
        if let Err(error) = undertaker.spawn(move || remains.bury()) {
            tracing::warn!(%error, "no thread to wait for an abandoned runner; it stays a zombie");
        }
    }
}

/// A killed stage whose end nobody awaits any more.
struct Remains {
    child: Option<Child>,
    cgroup: Option<StageCgroup>,
    mounts: Option<OwnedFd>,
}

impl Remains {
    fn bury(self) {
        drop(self.mounts);
        if let Some(mut child) = self.child {
            let pid = child.id();
            match child.wait() {
                Ok(status) => tracing::debug!(pid, %status, "abandoned runner reaped"),
                Err(error) => tracing::warn!(pid, %error, "abandoned runner cannot be reaped"),
            }
        }
        let Some(leaf) = self.cgroup else { return };
        // 10 s: what was killed and is not in the kernel's hands is gone in milliseconds.
        for _ in 0..1000 {
            if leaf.is_empty() && leaf.remove() {
                return;
            }
            leaf.kill();
            thread::sleep(Duration::from_millis(10));
        }
        tracing::warn!(cgroup = ?leaf.dirs(), "a stage's processes do not die; its cgroup stays");
    }
}
