//! What the template adds to the bootstrapped tree, and what makes a tree an image.
//!
//! Paths of the template are resolved inside the tree (by programs that run chrooted), so that a
//! symlink in a package leads nowhere else. Commands run without a network unless the parameter
//! allows one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_plugin_sdk::payload::template::{Command as TemplateCommand, ContentType};

use crate::plan::{EPOCH_S, Plan};
use crate::tool;

/// Grows the root file system and makes host keys, once, on the first boot.
const FIRST_BOOT_UNIT: &str = "[Unit]
Description=First boot: grow the root file system, make host keys
ConditionPathExists=!/var/lib/imagefactory-first-boot
Before=ssh.service
After=local-fs.target

[Service]
Type=oneshot
ExecStart=/usr/lib/imagefactory/first-boot
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
";

const FIRST_BOOT: &str = r#"#!/bin/sh
# Runs once. The root file system is the last partition of its disk.
root=$(findmnt -n -o SOURCE /)
disk=/dev/$(lsblk -n -o PKNAME "$root")
number=$(cat "/sys/class/block/${root#/dev/}/partition")
growpart "$disk" "$number" && resize2fs "$root"
ssh-keygen -A
touch /var/lib/imagefactory-first-boot
"#;

const NETWORK: &str = "[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n";

/// Packages, files and commands of the template, in its order.
pub(crate) fn apply_template(host: &Host, plan: &Plan, root: &Path) -> Result<()> {
    let template = &plan.template;
    let mounted = Mounted::over(host, root)?;
    run_commands(host, plan, root, &template.precommands, "precommand")?;
    if !plan.late_packages.is_empty() {
        host.progress("packages", "Installing the template's packages", 72, 100)?;
        let mut install = chrooted(root);
        install.env("DEBIAN_FRONTEND", "noninteractive").args([
            "apt-get",
            "install",
            "-y",
            "--no-install-recommends",
            "-o",
            "Dpkg::Options::=--force-unsafe-io",
        ]);
        tool::run(host, install.args(&plan.late_packages))?;
    }
    for file in &template.files {
        let bytes = match file.kind {
            ContentType::Url => return Err(no_url("file", &file.name)),
            ContentType::Raw | ContentType::Base64 => file.bytes().unwrap_or_default(),
        };
        write_file(host, root, &file.name, &bytes)?;
    }
    run_commands(host, plan, root, &template.commands, "command")?;
    mounted.end(host)
}

fn run_commands(
    host: &Host,
    plan: &Plan,
    root: &Path,
    commands: &[TemplateCommand],
    what: &str,
) -> Result<()> {
    for (index, command) in commands.iter().enumerate() {
        let message = format!("Running the {what} {}", command.name);
        host.progress(what, &message, 75 + index as u64 * 5 / commands.len() as u64, 100)?;
        if command.kind == ContentType::Url {
            return Err(no_url(what, &command.name));
        }
        let script = command.bytes().unwrap_or_default();
        let path = root.join("tmp/imagefactory-command");
        fs::write(&path, &script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let mut run = match plan.command_network {
            true => Command::new("chroot"),
            false => {
                let mut run = Command::new("unshare");
                run.args(["--net", "chroot"]);
                run
            }
        };
        run.arg(root).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
        if !script.starts_with(b"#!") {
            run.arg("/bin/sh");
        }
        let ran = tool::run(host, run.arg("/tmp/imagefactory-command"));
        fs::remove_file(&path)?;
        ran.map_err(|error| {
            error.while_doing(format!("running the {what} '{}'", command.name)).by_user()
        })?;
    }
    Ok(())
}

fn no_url(what: &str, name: &str) -> PluginError {
    let message = format!(
        "the {what} '{name}' is to be fetched from a URL, which DebianOS does not offer yet"
    );
    PluginError::new(ErrorCode::Unsupported, message).by_user()
}

/// Everything that turns a tree into an image that is nobody's yet, and the same each time.
pub(crate) fn finish(host: &Host, plan: &Plan, root: &Path) -> Result<()> {
    host.progress("finish", "Making the initramfs", 82, 100)?;
    make_initramfs(host, root)?;
    host.progress("finish", "Setting the system up", 90, 100)?;
    let write = |path: &str, text: &str| write_file(host, root, path, text.as_bytes());
    let root_uuid = plan.seed.uuid("root");
    write("/etc/fstab", &format!("UUID={root_uuid} / ext4 defaults,errors=remount-ro 0 1\n"))?;
    write("/etc/hostname", "localhost\n")?;
    write("/etc/systemd/network/80-dhcp.network", NETWORK)?;
    write("/usr/lib/imagefactory/first-boot", FIRST_BOOT)?;
    tool::run(host, chrooted(root).args(["chmod", "0755", "/usr/lib/imagefactory/first-boot"]))?;
    write("/etc/systemd/system/imagefactory-first-boot.service", FIRST_BOOT_UNIT)?;
    write_sources(host, plan, root)?;
    let units =
        ["systemd-networkd", "serial-getty@ttyS0.service", "imagefactory-first-boot.service"];
    tool::run(host, chrooted(root).args(["systemctl", "enable", "--quiet"]).args(units))?;
    set_root_password(host, plan, root)?;
    forget_this_build(host, root)?;
    write_grub_configuration(host, plan, root)
}

fn make_initramfs(host: &Host, root: &Path) -> Result<()> {
    let script = "rm /usr/sbin/update-initramfs \
        && dpkg-divert --quiet --local --rename --remove /usr/sbin/update-initramfs \
        && for kernel in /lib/modules/*; do update-initramfs -c -k \"${kernel##*/}\"; done";
    let mounted = Mounted::over(host, root)?;
    let mut make = chrooted(root);
    make.env("SOURCE_DATE_EPOCH", EPOCH_S.to_string()).args(["/bin/sh", "-ec", script]);
    tool::run(host, &mut make).map_err(|error| error.while_doing("making the initramfs"))?;
    mounted.end(host)
}

fn write_sources(host: &Host, plan: &Plan, root: &Path) -> Result<()> {
    let kept = plan.archives.iter().filter(|archive| archive.persisted);
    let lines: Vec<String> = kept.map(|archive| archive.line(&archive.image_url)).collect();
    write_file(host, root, "/etc/apt/sources.list", (lines.join("\n") + "\n").as_bytes())
}

fn set_root_password(host: &Host, plan: &Plan, root: &Path) -> Result<()> {
    let Some(password) = &plan.template.os.rootpw else { return Ok(()) };
    // Over standard input: a password belongs in no argument. A fixed salt from the template keeps
    // the build reproducible; the hash is as strong as the password.
    let salt = plan.seed.uuid("rootpw").replace('-', "");
    let mut hash = Command::new("openssl");
    hash.args(["passwd", "-6", "-salt", &salt[..16], "-stdin"]);
    let hashed = quiet_output(&mut hash, password.expose())?;
    let mut set = chrooted(root);
    set.args(["chpasswd", "-e"]);
    tool::run_watched(host, &mut set, format!("root:{hashed}\n").as_bytes(), |_| Ok(()))
}

/// What a program prints, without a line in the log: it was told a secret.
fn quiet_output(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write;
    use std::process::Stdio;
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
        stdin.write_all(b"\n")?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(PluginError::new(
            ErrorCode::Internal,
            format!("{name} failed ({})", output.status),
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Keys, ids, logs and times of this build do not belong into an image.
fn forget_this_build(host: &Host, root: &Path) -> Result<()> {
    let script = format!(
        "rm -f /etc/ssh/ssh_host_*_key* /var/lib/dbus/machine-id /var/lib/systemd/random-seed \
             /etc/resolv.conf /usr/sbin/policy-rc.d /etc/passwd- /etc/shadow- /etc/group- \
             /etc/gshadow- /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old /var/log/alternatives.log; \
         : > /etc/machine-id; \
         rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /tmp/* /var/tmp/*; \
         days=$(({EPOCH_S} / 86400)); \
         sed -i -E \"s/^([^:]*:[^:]*):[0-9]+:/\\1:$days:/\" /etc/shadow; \
         find / -xdev -newermt @{EPOCH_S} -exec touch -h -d @{EPOCH_S} {{}} +"
    );
    tool::run(host, chrooted(root).args(["/bin/sh", "-ec", &script]))
}

/// Kernel and initramfs by the links that the distribution keeps, so that an upgrade inside the
/// image needs nobody to write this file again.
fn write_grub_configuration(host: &Host, plan: &Plan, root: &Path) -> Result<()> {
    let uuid = plan.seed.uuid("root");
    let more = plan.template.os.kernelparam.as_deref().unwrap_or_default();
    let text = format!(
        "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\n\
         set timeout=1\nmenuentry \"{} {}\" {{\n  search --no-floppy --fs-uuid --set=root {uuid}\n  \
         linux /vmlinuz root=UUID={uuid} ro console=tty0 console=ttyS0,115200 \
         {more}\n  initrd /initrd.img\n}}\n",
        plan.suite.os, plan.suite.version
    );
    write_file(host, root, "/boot/grub/grub.cfg", text.as_bytes())?;
    let touch = format!("@{EPOCH_S}");
    tool::run(
        host,
        chrooted(root).args(["touch", "-d", &touch, "/boot", "/boot/grub", "/boot/grub/grub.cfg"]),
    )
}

/// Writes a file below the tree; the path is resolved inside it.
fn write_file(host: &Host, root: &Path, path: &str, content: &[u8]) -> Result<()> {
    if !path.starts_with('/') {
        let message = format!("the file '{path}' of the template is no absolute path");
        return Err(PluginError::user_fault(message));
    }
    let mut write = chrooted(root);
    write.args([
        "/bin/sh",
        "-ec",
        "mkdir -p \"$(dirname \"$1\")\"; rm -f \"$1\"; cat > \"$1\"",
        "sh",
        path,
    ]);
    tool::run_watched(host, &mut write, content, |_| Ok(()))
        .map_err(|error| error.while_doing(format!("writing {path}")))
}

/// A program inside the tree, with nothing of the stage's environment.
fn chrooted(root: &Path) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8");
    command
}

/// /proc and /dev in the tree, while something runs in it that needs them.
struct Mounted<'a> {
    root: &'a Path,
}

impl<'a> Mounted<'a> {
    fn over(host: &Host, root: &'a Path) -> Result<Mounted<'a>> {
        tool::run(host, Command::new("mount").args(["-t", "proc", "proc"]).arg(root.join("proc")))?;
        tool::run(host, Command::new("mount").arg("--rbind").arg("/dev").arg(root.join("dev")))?;
        // Packages must not start services in a tree.
        fs::write(root.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(root.join("usr/sbin/policy-rc.d"), fs::Permissions::from_mode(0o755))?;
        // For commands that may use the network, and apt; removed when the build is forgotten.
        fs::remove_file(root.join("etc/resolv.conf")).ok();
        fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf")).ok();
        Ok(Mounted { root })
    }

    /// On failure they vanish with the stage's mount namespace.
    fn end(self, host: &Host) -> Result<()> {
        for folder in ["dev", "proc"] {
            tool::run(host, Command::new("umount").arg("--recursive").arg(self.root.join(folder)))?;
        }
        Ok(())
    }
}
