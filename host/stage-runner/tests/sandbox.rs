//! Each profile does what it is for and refuses what it forbids: as root, and as an ordinary user
//! with user namespaces. A plugin that tries doors (`plugins/probe.c`) says how each one was.

#![allow(clippy::unwrap_used, clippy::panic)] // a panic is a test's report

mod harness;

use std::os::unix::fs::{PermissionsExt, chown};

use harness::*;
use imagefactory_model::frames::*;
use imagefactory_model::stage::*;

/// Ids of no account: a stage's when the daemon is root, and an ordinary daemon's.
const STAGE: u32 = 310_000;
const USER: u32 = 420_001;

/// Who runs the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Root,
    OrdinaryUser,
}

/// Both where the tests run as root (CI does), else only the ordinary user.
fn both() -> Vec<As> {
    if is_root() { vec![As::Root, As::OrdinaryUser] } else { vec![As::OrdinaryUser] }
}

struct Probe {
    bench: Bench,
    hello: Hello,
    caller: As,
}

impl Probe {
    fn new(caller: As, profile: SandboxProfile) -> Probe {
        let bench = Bench::new();
        let library = bench.compile("probe", &[]);
        let mut hello = bench.hello(&library, PluginKind::Os);
        hello.sandbox.profile = profile;
        let owner = match caller {
            As::Root => {
                let count = if profile == SandboxProfile::OsUserns { 65_536 } else { 1 };
                hello.sandbox.identity = match profile {
                    SandboxProfile::OsRoot | SandboxProfile::None => None,
                    _ => Some(StageIdentity { uid: STAGE, gid: STAGE + 7, count }),
                };
                if hello.sandbox.identity.is_some() { STAGE } else { 0 }
            }
            As::OrdinaryUser if is_root() => USER,
            As::OrdinaryUser => rustix_uid(),
        };
        if is_root() {
            for name in ["work", "state", "output"] {
                chown(bench.path(name), Some(owner), Some(owner)).unwrap();
            }
            if caller == As::OrdinaryUser {
                hello.lock_file = Some(bench.path("work/lock"));
            }
        }
        std::fs::write(bench.path("secret"), "of the host").unwrap();
        Probe { bench, hello, caller }
    }

    /// Does the deeds; each line is `DEED: OUTCOME`.
    fn run(&self, deeds: &[String]) -> Run {
        let mut order = self.bench.order(Operation::CreateBaseImage);
        order.template_xml = Some(deeds.join("\n"));
        let uid = (self.caller == As::OrdinaryUser && is_root()).then_some(USER);
        run_as(uid, self.hello.clone(), order)
    }

    /// The outcome of each deed, in one stage.
    fn check(&self, expected: &[(String, &str)]) -> Run {
        let deeds: Vec<String> = expected.iter().map(|(deed, _)| deed.clone()).collect();
        let run = self.run(&deeds);
        assert_eq!(run.end(), Some((0, None)), "{:?} {run:?}", self.caller);
        let wanted: Vec<String> = expected.iter().map(|(d, o)| format!("{d}: {o}")).collect();
        assert_eq!(run.logs(), wanted, "{:?} {:?}", self.caller, run.ready().sandbox);
        run
    }

    fn path(&self, deed: &str, name: &str) -> String {
        format!("{deed} {}", self.bench.path(name).display())
    }
}

fn deed(text: &str) -> String {
    text.to_owned()
}

#[test]
fn cloud_reads_what_is_listed_writes_its_folders_and_reaches_nothing_else() {
    for caller in both() {
        let probe = Probe::new(caller, SandboxProfile::Cloud);
        std::fs::set_permissions(
            probe.bench.path("secret"),
            std::fs::Permissions::from_mode(0o666),
        )
        .unwrap();
        let run = probe.check(&[
            (probe.path("read", "data/fact"), "ok"),
            (probe.path("write", "data/fact"), "EACCES"),
            (probe.path("write", "work/file"), "ok"),
            (probe.path("write", "output/image"), "ok"),
            (probe.path("mkdir", "state/folder"), "ok"),
            (deed("read /usr/bin/env"), "ok"),
            (deed("read /etc/passwd"), "ok"),
            (deed("read /etc/shadow"), "EACCES"),
            (deed("open /dev/null"), "ok"),
            (deed("read /dev/urandom"), "ok"),
            (deed("open /dev/kvm"), "EACCES"),
            (deed("list /root"), "EACCES"),
            (deed("list /home"), "EACCES"),
            (deed("list /tmp"), "EACCES"),
            (probe.path("read", "secret"), "EACCES"),
            (probe.path("write", "secret"), "EACCES"),
            (deed("tool /bin/true"), "exit 0"),
        ]);
        assert_eq!(run.ready().sandbox.missing, Vec::<String>::new(), "{caller:?}");
    }
}

#[test]
fn cloud_has_no_rights_and_gains_none() {
    for caller in both() {
        let probe = Probe::new(caller, SandboxProfile::Cloud);
        let uid = match caller {
            As::Root => STAGE,
            As::OrdinaryUser if is_root() => USER,
            As::OrdinaryUser => rustix_uid(),
        };
        probe.check(&[
            (deed("uid"), &uid.to_string()),
            (deed("become-root"), if uid == 0 { "ok" } else { denied_root(caller) }),
            (deed("status CapEff"), "0000000000000000"),
            (deed("status CapPrm"), "0000000000000000"),
            (deed("status CapBnd"), "0000000000000000"),
            (deed("sealed"), "1"),
            (deed("dumpable"), "0"),
            (deed("core"), "0"),
            (deed("files"), "1024"),
        ]);
    }
}

/// Where only one id is mapped, 0 does not even exist.
fn denied_root(caller: As) -> &'static str {
    match caller {
        As::Root => "EPERM",
        As::OrdinaryUser => "EINVAL",
    }
}

#[test]
fn cloud_sees_only_its_own_processes_and_cannot_signal_others() {
    for caller in both() {
        let probe = Probe::new(caller, SandboxProfile::Cloud);
        let own = std::process::id();
        probe.check(&[
            (deed("pid"), "2"),
            (deed("parent"), "1"),
            (deed("processes"), "2"),
            (format!("kill {own}"), "ESRCH"),
        ]);
    }
}

#[test]
fn cloud_is_denied_mounts_namespaces_and_dangerous_calls() {
    for caller in both() {
        let probe = Probe::new(caller, SandboxProfile::Cloud);
        probe.check(&[
            (probe.path("mount", "work/m"), "EPERM"),
            (deed("umount /proc"), "EPERM"),
            (deed("chroot"), "EPERM"),
            (deed("new-user"), "EPERM"),
            (deed("new-mounts"), "EPERM"),
            (deed("clone-user"), "EPERM"),
            (deed("clone3"), "ENOSYS"),
            (deed("ptrace"), "EPERM"),
            (deed("keyctl"), "EPERM"),
            (deed("bpf"), "EPERM"),
            #[cfg(target_arch = "x86_64")]
            (deed("x32"), "ENOSYS"),
            (deed("tool unshare -r true"), "exit 1"),
        ]);
    }
}

#[test]
fn cloud_uses_the_network_only_when_granted() {
    for caller in both() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut probe = Probe::new(caller, SandboxProfile::Cloud);
        probe.check(&[(format!("connect {port}"), "ok")]);
        probe.hello.sandbox.network = false;
        // Loopback is there, but it is another one: nobody listens.
        let run = probe.check(&[(format!("connect {port}"), "ECONNREFUSED"), (deed("unix"), "ok")]);
        assert!(run.ready().sandbox.active.contains(&"network-namespace".into()), "{run:?}");
    }
}

#[test]
fn services_behind_sockets_in_run_are_out_of_reach_unless_listed() {
    if !is_root() {
        return; // only root may put a socket into /run; CI is root
    }
    let folder = tempfile::Builder::new().prefix("imgf-service-").tempdir_in("/run").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("socket");
    let _service = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let connect = format!("connect-unix {}", socket.display());
    for caller in both() {
        let mut probe = Probe::new(caller, SandboxProfile::Cloud);
        probe.check(&[(connect.clone(), "ENOENT"), (deed("read /etc/resolv.conf"), "ok")]);
        probe.hello.sandbox.writable.push(folder.path().to_owned());
        probe.check(&[(connect.clone(), "ok")]);
    }
}

#[test]
fn a_fork_bomb_stops_at_the_limit() {
    for caller in both() {
        let mut probe = Probe::new(caller, SandboxProfile::Cloud);
        probe.hello.sandbox.limits.processes_max = 20;
        let run = probe.run(&[deed("fork 200")]);
        assert_eq!(run.end(), Some((0, None)), "{run:?}");
        let made: u32 = run.logs()[0].trim_start_matches("fork 200: ").parse().unwrap();
        // The worker's own three threads count too, and init.
        assert!((15..=20).contains(&made), "{made}");
    }
}

#[test]
fn os_vm_opens_kvm_and_is_otherwise_confined_as_cloud() {
    for caller in both() {
        let probe = Probe::new(caller, SandboxProfile::OsVm);
        let kvm = match std::fs::metadata("/dev/kvm") {
            Err(_) => "ENOENT",
            Ok(_) if caller == As::Root => "ok",
            Ok(device) if device.permissions().mode() & 0o006 == 0o006 => "ok",
            Ok(_) => "EACCES",
        };
        let run = probe.check(&[
            (deed("open /dev/kvm"), kvm),
            (probe.path("read", "secret"), "EACCES"),
            (probe.path("mount", "work/m"), "EPERM"),
            (deed("new-user"), "EPERM"),
            (deed("status CapEff"), "0000000000000000"),
            (deed("sealed"), "1"),
            (deed("processes"), "2"),
        ]);
        let missing = run.ready().sandbox.missing.iter().any(|line| line.contains("/dev/kvm"));
        assert_eq!(missing, kvm != "ok", "{:?}", run.ready().sandbox);
    }
}

#[test]
fn os_userns_opens_kvm_where_the_daemon_can_give_it() {
    for caller in both() {
        let probe = Probe::new(caller, SandboxProfile::OsUserns);
        let kvm = match std::fs::metadata("/dev/kvm") {
            Err(_) => "ENOENT",
            Ok(_) if caller == As::Root => "ok",
            Ok(device) if device.permissions().mode() & 0o006 == 0o006 => "ok",
            Ok(_) => "EACCES",
        };
        let run = probe.check(&[(deed("open /dev/kvm"), kvm)]);
        let missing = &run.ready().sandbox.missing;
        assert!(!missing.iter().any(|line| line.contains("/dev/kvm")), "{missing:?}");
    }
}

#[test]
fn os_userns_mounts_chroots_and_owns_files_of_many_users() {
    for caller in both() {
        let probe = Probe::new(caller, SandboxProfile::OsUserns);
        std::fs::write(probe.bench.path("work/file"), "").unwrap();
        if is_root() {
            let (uid, gid) = if caller == As::Root { (STAGE, STAGE + 7) } else { (USER, USER) };
            chown(probe.bench.path("work/file"), Some(uid), Some(gid)).unwrap();
        }
        let many_ids = caller == As::Root;
        let run = probe.check(&[
            (deed("uid"), "0"),
            (deed("gid"), "0"),
            (probe.path("mount", "work/m"), "ok"),
            (probe.path("umount", "work/m"), "ok"),
            (deed("chroot"), "ok"),
            (deed("new-mounts"), "ok"),
            (deed("new-user"), "ok"),
            (probe.path("chown", "work/file"), if many_ids { "ok" } else { "EINVAL" }),
            (probe.path("write", "output/image"), "ok"),
            (probe.path("read", "data/fact"), "ok"),
            (
                deed("tool mount --version >/dev/null && mkdir /tmp/x && mount -t tmpfs x /tmp/x"),
                "exit 0",
            ),
            (deed("tool unshare -rm true"), "exit 0"),
        ]);
        let missing = &run.ready().sandbox.missing;
        if many_ids {
            assert_eq!(missing, &Vec::<String>::new());
        } else {
            assert_eq!(missing.len(), 1, "{missing:?}");
            assert!(missing[0].contains("uidmap") && missing[0].contains("/etc/subuid"));
        }
        // What was made there belongs to the stage's ids outside.
        if is_root() && caller == As::Root {
            use std::os::unix::fs::MetadataExt;
            let owner = std::fs::metadata(probe.bench.path("output/image")).unwrap();
            assert_eq!((owner.uid(), owner.gid()), (STAGE, STAGE + 7));
            let file = std::fs::metadata(probe.bench.path("work/file")).unwrap();
            assert_eq!((file.uid(), file.gid()), (STAGE + 1000, STAGE + 1000));
        }
    }
}

#[test]
fn os_userns_shows_a_minimal_root_and_nothing_of_the_host() {
    for caller in both() {
        let probe = Probe::new(caller, SandboxProfile::OsUserns);
        std::fs::set_permissions(
            probe.bench.path("secret"),
            std::fs::Permissions::from_mode(0o666),
        )
        .unwrap();
        probe.check(&[
            (deed("read /usr/bin/env"), "ok"),
            (deed("write /usr/bin/imgf-new"), "EROFS"),
            (deed("read /bin/sh"), "ok"),
            (deed("read /etc/passwd"), "ok"),
            (deed("read /etc/shadow"), "ENOENT"),
            (deed("list /home"), "ENOENT"),
            (deed("open /dev/null"), "ok"),
            (deed("open /dev/loop-control"), "ENOENT"),
            (probe.path("read", "secret"), "ENOENT"),
            (probe.path("write", "data/fact"), "EROFS"),
            (deed("write /tmp/mine"), "ok"),
            (deed("processes"), "2"),
            (deed("pid"), "2"),
            (deed("ptrace"), "EPERM"),
            (deed("bpf"), "EPERM"),
            (deed("sealed"), "1"),
            (deed("cwd"), "/"),
        ]);
        assert!(!std::path::Path::new("/tmp/mine").exists());
    }
}

#[test]
fn os_root_mounts_with_listed_rights_and_the_host_sees_nothing_of_it() {
    if !is_root() {
        return; // the profile is for a daemon that is root; CI is root
    }
    let mut probe = Probe::new(As::Root, SandboxProfile::OsRoot);
    probe.hello.sandbox.capabilities = vec!["CAP_SYS_ADMIN".into(), "CAP_SYS_CHROOT".into()];
    let run = probe.check(&[
        (deed("uid"), "0"),
        (probe.path("mount", "work/m"), "ok"),
        (probe.path("write", "work/m/file"), "ok"),
        (deed("chroot"), "ok"),
        (deed("status CapEff"), "0000000000240000"),
        (deed("status CapBnd"), "0000000000240000"),
        (probe.path("chown", "work"), "EPERM"),
        (deed("ptrace"), "EPERM"),
        (deed("bpf"), "EPERM"),
        (deed("processes"), "2"),
        (deed("sealed"), "1"),
    ]);
    assert!(!probe.bench.path("work/m/file").exists(), "the mount reached the host");
    assert_eq!(run.ready().sandbox.missing, Vec::<String>::new());
}

#[test]
fn os_root_as_an_ordinary_user_says_that_it_has_no_rights() {
    let probe = Probe::new(As::OrdinaryUser, SandboxProfile::OsRoot);
    let run = probe.check(&[(deed("open /dev/loop-control"), "EACCES")]);
    let missing = &run.ready().sandbox.missing;
    assert!(missing.iter().any(|line| line.starts_with("root: ")), "{missing:?}");
}

#[test]
fn none_keeps_the_daemons_rights_but_not_its_pid_namespace() {
    for caller in both() {
        let probe = Probe::new(caller, SandboxProfile::None);
        probe.check(&[
            (probe.path("read", "secret"), "ok"),
            (deed("list /tmp"), "ok"),
            (deed("sealed"), "0"),
            (deed("pid"), "2"),
        ]);
    }
}

#[test]
fn a_strict_sandbox_refuses_what_is_missing_and_says_how_to_get_it() {
    let mut probe = Probe::new(As::OrdinaryUser, SandboxProfile::OsUserns);
    probe.hello.sandbox.strict = true;
    let run = probe.run(&[]);
    assert_eq!(run.refused().why, RefusalKind::Sandbox);
    assert!(run.refused().message.contains("/etc/subuid"), "{run:?}");
}

#[test]
fn root_without_ids_for_the_stage_is_reported_and_strictly_refused() {
    if !is_root() {
        return; // only root needs ids for the stage; CI is root
    }
    let mut probe = Probe::new(As::Root, SandboxProfile::Cloud);
    probe.hello.sandbox.identity = None;
    let run = probe.check(&[(deed("uid"), "0"), (deed("status CapEff"), "0000000000000000")]);
    assert!(run.ready().sandbox.missing[0].starts_with("identity: "), "{run:?}");
    probe.hello.sandbox.strict = true;
    assert_eq!(probe.run(&[]).refused().why, RefusalKind::Sandbox);
}

#[test]
fn a_listed_folder_that_does_not_exist_is_refused_by_name() {
    for caller in both() {
        for profile in [SandboxProfile::Cloud, SandboxProfile::OsUserns] {
            let mut probe = Probe::new(caller, profile);
            probe.hello.sandbox.writable.push(probe.bench.path("nowhere"));
            let run = probe.run(&[]);
            assert_eq!(run.refused().why, RefusalKind::Sandbox);
            assert!(run.refused().message.contains("nowhere"), "{run:?}");
        }
    }
}
