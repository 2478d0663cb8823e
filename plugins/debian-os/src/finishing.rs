//! What makes a tree an image that is nobody's yet, and the same each time: initramfs, boot
//! configuration, first boot, and everything of the build forgotten.

use std::io::Write;
use std::process::{Command, Stdio};

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};

use crate::archive::Archive;
use crate::boot_test::multi_user;
use crate::plan::{EPOCH_S, Plan};
use crate::times::{self, Moment};
use crate::tool;
use crate::tree::Tree;

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

/// The script of [`FIRST_BOOT_UNIT`]; its path also says that an image is one of ours.
pub(crate) const FIRST_BOOT_SCRIPT: &str = "usr/lib/imagefactory/first-boot";

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

/// Installed instead of `update-initramfs` while packages are: it notes that it was asked.
const NOTE: &str = "#!/bin/sh\n: > /var/lib/imagefactory-initramfs\n";

/// Where it notes.
const NOTED: &str = "var/lib/imagefactory-initramfs";

/// Puts the note in place of `update-initramfs`, where that is installed.
pub(crate) fn hold_initramfs(tree: &Tree<'_>) -> Result<()> {
    let script = "test -e /usr/sbin/update-initramfs || exit 0
        dpkg-divert --quiet --local --rename --add \\
            --divert /usr/sbin/update-initramfs.imagefactory /usr/sbin/update-initramfs
        printf '%s' \"$1\" > /usr/sbin/update-initramfs
        chmod 755 /usr/sbin/update-initramfs";
    tree.script(script, &[NOTE])
}

/// Takes the note away again; makes the initramfs anew where it was asked for, or where anything
/// that it may be made of has changed since `since`.
pub(crate) fn release_initramfs(tree: &Tree<'_>, since: &Moment) -> Result<()> {
    let asked = tree.has(NOTED);
    // Before the note is taken away, which is a change as well.
    let changed = since.first_change(tree.root, &INITRAMFS_INPUTS)?;
    let script = "rm -f /var/lib/imagefactory-initramfs
        test -e /usr/sbin/update-initramfs.imagefactory || exit 0
        rm -f /usr/sbin/update-initramfs
        dpkg-divert --quiet --local --rename --remove /usr/sbin/update-initramfs";
    tree.script(script, &[])?;
    if asked {
        return make_initramfs(tree, "update-initramfs");
    }
    match changed {
        Some(changed) => {
            tree.host.info(&format!("{} changed: a new initramfs", changed.display()));
            make_initramfs(tree, "update-initramfs")
        }
        None => Ok(()),
    }
}

/// Everything that an initramfs may be made of. More than is: a needless one costs seconds, a stale
/// one a system that does not start.
const INITRAMFS_INPUTS: [&str; 22] = [
    "bin",
    "boot",
    "lib",
    "lib64",
    "sbin",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "usr/share/initramfs-tools",
    "etc/cryptsetup-initramfs",
    "etc/crypttab",
    "etc/default",
    "etc/initramfs-tools",
    "etc/kernel",
    "etc/ld.so.conf.d",
    "etc/lvm",
    "etc/mdadm",
    "etc/modprobe.d",
    "etc/modules",
    "etc/modules-load.d",
    "etc/udev",
];

/// The initramfs of a tree that nothing was added to yet; the note stays in place.
pub(crate) fn make_first_initramfs(tree: &Tree<'_>, plan: &Plan) -> Result<()> {
    // The kind of the root file system decides what checks it.
    write_fstab(tree, plan)?;
    make_initramfs(tree, "update-initramfs.imagefactory")?;
    tree.script("rm -f /var/lib/imagefactory-initramfs", &[])
}

fn make_initramfs(tree: &Tree<'_>, program: &str) -> Result<()> {
    tree.host.progress("initramfs", "Making the initramfs", 71, 100)?;
    let script = "for kernel in /boot/vmlinuz-*; do
            \"$1\" -c -k \"${kernel#/boot/vmlinuz-}\"
        done";
    tree.script(script, &[program]).map_err(|error| error.while_doing("making the initramfs"))
}

fn write_fstab(tree: &Tree<'_>, plan: &Plan) -> Result<()> {
    let root = plan.seed.uuid("root");
    let line = format!("UUID={root} / ext4 defaults,errors=remount-ro 0 1\n");
    tree.write("/etc/fstab", line.as_bytes())
}

/// Everything that a fresh tree lacks.
pub(crate) fn finish_base(tree: &Tree<'_>, plan: &Plan, since: &Moment) -> Result<()> {
    release_initramfs(tree, since)?;
    tree.host.progress("finish", "Setting the system up", 90, 100)?;
    let write = |path: &str, text: &str| tree.write(path, text.as_bytes());
    write_fstab(tree, plan)?;
    write("/etc/hostname", "localhost\n")?;
    write("/etc/systemd/network/80-dhcp.network", NETWORK)?;
    write(&format!("/{FIRST_BOOT_SCRIPT}"), FIRST_BOOT)?;
    write("/etc/systemd/system/imagefactory-first-boot.service", FIRST_BOOT_UNIT)?;
    write(multi_user::UNIT_PATH, multi_user::UNIT)?;
    write_sources(tree, plan)?;
    let script = "chmod 755 /usr/lib/imagefactory/first-boot
        systemctl enable --quiet systemd-networkd systemd-resolved serial-getty@ttyS0.service \\
            imagefactory-first-boot.service imagefactory-multi-user.service
        test -e /etc/resolv.conf -o -L /etc/resolv.conf ||
            ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf";
    tree.script(script, &[])?;
    set_root_password(tree, plan)?;
    write_grub_configuration(tree, plan)?;
    forget_this_build(tree)
}

fn write_sources(tree: &Tree<'_>, plan: &Plan) -> Result<()> {
    let kept: Vec<&Archive> = plan.archives.iter().filter(|archive| archive.persisted).collect();
    let lines: Vec<String> = kept.iter().map(|archive| archive.image_line()).collect();
    tree.write("/etc/apt/sources.list", (lines.join("\n") + "\n").as_bytes())?;
    let tls: String = kept.iter().map(|archive| archive.tls_option(&archive.image_url)).collect();
    match tls.is_empty() {
        true => Ok(()),
        false => tree.write("/etc/apt/apt.conf.d/80imagefactory-sslverify", tls.as_bytes()),
    }
}

fn set_root_password(tree: &Tree<'_>, plan: &Plan) -> Result<()> {
    let Some(password) = &plan.template.os.rootpw else { return Ok(()) };
    // Over standard input: a password belongs in no argument. A fixed salt from the template keeps
    // the build reproducible; the hash is as strong as the password.
    let salt = plan.seed.uuid("rootpw").replace('-', "");
    let mut hash = Command::new("openssl");
    hash.args(["passwd", "-6", "-salt", &salt[..16], "-stdin"]);
    let hashed = quiet_output(&mut hash, password.expose())?;
    let mut set = tree.command(crate::tree::Network::Nothing, "chpasswd");
    set.arg("-e");
    tool::run_watched(tree.host, &mut set, format!("root:{hashed}\n").as_bytes(), |_| Ok(()))
}

/// What a program prints, without a line in the log: it was told a secret.
fn quiet_output(command: &mut Command, input: &str) -> Result<String> {
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
pub(crate) fn forget_this_build(tree: &Tree<'_>) -> Result<()> {
    let script = format!(
        "rm -f /etc/ssh/ssh_host_*_key* /var/lib/dbus/machine-id /var/lib/systemd/random-seed \
             /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid- \
             /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old /var/log/alternatives.log \
             /var/cache/debconf/*-old /var/log/bootstrap.log /var/log/fontconfig.log; \
         : > /etc/machine-id; \
         rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /tmp/* \
             /var/tmp/* /var/lib/cloud; \
         days=$(({EPOCH_S} / 86400)); \
         sed -i -E \"s/^([^:]*:[^:]*):[0-9]+:/\\1:$days:/\" /etc/shadow"
    );
    tree.script(&script, &[])?;
    times::clamp(tree.root)
}

/// Kernel and initramfs by the links that the distribution keeps, so that an upgrade inside the
/// image needs nobody to write this file again.
fn write_grub_configuration(tree: &Tree<'_>, plan: &Plan) -> Result<()> {
    let uuid = plan.seed.uuid("root");
    let more = plan.template.os.kernelparam.as_deref().unwrap_or_default();
    if more.contains(['\n', '\r', '{', '}', ';', '"', '\'', '$', '`', '\\']) {
        let message = format!("the <kernelparam> '{more}' has characters that grub would read");
        return Err(PluginError::user_fault(message));
    }
    let text = format!(
        "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\n\
         set timeout=1\nmenuentry \"{} {}\" {{\n  search --no-floppy --fs-uuid --set=root {uuid}\n  \
         linux /vmlinuz root=UUID={uuid} ro console=tty0 console=ttyS0,115200 \
         {more}\n  initrd /initrd.img\n}}\n",
        plan.suite.os, plan.suite.version
    );
    tree.write("/boot/grub/grub.cfg", text.as_bytes())
}
