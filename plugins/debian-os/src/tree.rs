//! A root tree, and how programs run in it.
//!
//! Each program gets mount, process and (unless it may use the network) network namespaces of its
//! own: what it mounts and what it leaves running ends with it, and the tree stays a plain folder.
//! Paths of templates are resolved inside the tree, by programs that run there, so that a symlink
//! of a package leads nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};

use crate::plan::EPOCH_S;
use crate::tool;

/// Enters the tree `$0`: /proc of the new process namespace, the stage's /dev. Whoever leads the
/// namespace takes everything in it along when it ends.
const ENTER: &str = "mount -t proc proc \"$0/proc\"; mount --rbind /dev \"$0/dev\"; \
    exec chroot \"$0\" \"$@\"";

/// Packages must start no services here.
const POLICY: (&str, &str) = ("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");

/// Suffix of what is put aside while something runs.
const ASIDE: &str = "imagefactory-aside";

/// May a program use the network?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// The stage's own.
    Stage,
    /// None, not even loopback.
    Nothing,
}

/// A root tree.
pub(crate) struct Tree<'a> {
    /// Services of the stage.
    pub(crate) host: &'a Host,
    /// Its root folder.
    pub(crate) root: &'a Path,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(host: &'a Host, root: &'a Path) -> Tree<'a> {
        Tree { host, root }
    }

    /// A program inside the tree, with nothing of the stage's environment. Its arguments follow.
    pub(crate) fn command(&self, network: Network, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child"]);
        if network == Network::Nothing {
            command.arg("--net");
        }
        command
            .args(["/bin/sh", "-ec", ENTER])
            .arg(self.root)
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("SOURCE_DATE_EPOCH", EPOCH_S.to_string());
        command
    }

    /// Runs a shell script inside, without network; its arguments are `$1` and so on.
    pub(crate) fn script(&self, script: &str, arguments: &[&str]) -> Result<()> {
        let mut command = self.command(Network::Nothing, "/bin/sh");
        tool::run(self.host, command.args(["-ec", script, "sh"]).args(arguments))
    }

    /// Writes a file, over whatever was there; folders on the way are made.
    pub(crate) fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        if !path.starts_with('/') {
            let message = format!("the file '{path}' is no absolute path");
            return Err(PluginError::user_fault(message));
        }
        let mut write = self.command(Network::Nothing, "/bin/sh");
        let script = "mkdir -p \"$(dirname \"$1\")\"; rm -f \"$1\"; cat > \"$1\"";
        write.args(["-ec", script, "sh", path]);
        tool::run_watched(self.host, &mut write, content, |_| Ok(()))
            .map_err(|error| error.while_doing(format!("writing {path}")))
    }

    /// Runs the bytes of a script, or of any program, as it was ordered.
    pub(crate) fn run_content(&self, content: &[u8], network: Network) -> Result<()> {
        const PLACE: &str = "tmp/imagefactory-command";
        let path = self.root.join(PLACE);
        fs::remove_file(&path).ok(); // mostly there is none
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let mut run = match content.starts_with(b"#!") || content.starts_with(b"\x7fELF") {
            true => self.command(network, &format!("/{PLACE}")),
            false => self.command(network, "/bin/sh"),
        };
        if !content.starts_with(b"#!") && !content.starts_with(b"\x7fELF") {
            run.arg(format!("/{PLACE}"));
        }
        run.env_remove("SOURCE_DATE_EPOCH");
        let ran = tool::run(self.host, &mut run);
        fs::remove_file(&path).ok(); // a command may remove itself
        ran
    }

    /// Does something lie at this path of the tree, a dangling symlink included?
    pub(crate) fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root.join(path)).is_ok()
    }

    /// Calls `work` while no service starts in the tree and names can be looked up in it.
    pub(crate) fn with_guests<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let policy = Guest::enter(self.root.join(POLICY.0), POLICY.1.as_bytes(), 0o755)?;
        // Without it a stage has no network, and what needs one will say so.
        let resolver = fs::read("/etc/resolv.conf").unwrap_or_default();
        let resolver = Guest::enter(self.root.join("etc/resolv.conf"), &resolver, 0o644)?;
        let answer = work();
        // On failure the tree is thrown away.
        policy.leave()?;
        resolver.leave()?;
        answer
    }
}

/// A file of the stage in place of the tree's own.
struct Guest {
    place: PathBuf,
    aside: PathBuf,
    had_one: bool,
}

impl Guest {
    fn enter(place: PathBuf, content: &[u8], mode: u32) -> Result<Guest> {
        let aside = place.with_extension(ASIDE);
        let had_one = fs::symlink_metadata(&place).is_ok();
        if had_one {
            fs::rename(&place, &aside)?;
        }
        let made = fs::write(&place, content)
            .and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(mode)));
        made.map_err(|error| {
            let message = format!("{} cannot be written: {error}", place.display());
            PluginError::new(ErrorCode::Io, message)
        })?;
        Ok(Guest { place, aside, had_one })
    }

    fn leave(self) -> Result<()> {
        // A package may have put its own there meanwhile: then that is the tree's.
        let ours = fs::symlink_metadata(&self.place).is_ok_and(|found| !found.is_symlink());
        if ours {
            fs::remove_file(&self.place)?;
        }
        if self.had_one && ours {
            fs::rename(&self.aside, &self.place)?;
        } else if self.had_one {
            fs::remove_file(&self.aside)?;
        }
        Ok(())
    }
}
