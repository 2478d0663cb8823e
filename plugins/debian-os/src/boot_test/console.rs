//! What the guest says on its serial console, and what that means.
//!
//! Booted is an image whose console shows a login prompt and that multi-user.target was reached, by
//! systemd's own word or by that of our unit ([`multi_user`](super::multi_user)). A guest
//! may write whatever it likes, so what is read of it is bounded.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::Result;

use super::multi_user;

/// A boot says about 50 KiB; an endless loop of messages should end before the disk is full.
const CONSOLE_BYTES_MAX: u64 = 16 << 20;

/// Between multi-user.target and the prompt systemd only starts a program.
const PROMPT_GRACE: Duration = Duration::from_secs(120);

/// Lines that an error quotes.
const LAST_LINES: usize = 6;

/// Lines that mean that waiting is of no use.
const HOPELESS: [&str; 8] = [
    "Kernel panic",
    "grub rescue>",
    "(initramfs)",
    "emergency mode",
    "No bootable device",
    "Boot failed: not a bootable disk",
    "BdsDxe: No bootable option",
    "Freezing execution",
];

/// What the console means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing yet; with how far it is, for the progress.
    Booting(&'static str),
    /// Reached multi-user, and a login prompt waits.
    Booted,
    /// It will not boot any more, because.
    Hopeless(String),
}

/// The file that the serial port is written to.
pub(super) struct Console {
    path: PathBuf,
    read: u64,
    text: String,
    multi_user_at: Option<Instant>,
}

impl Console {
    /// Of a new guest; makes the file.
    pub(super) fn new(path: &Path) -> Result<Console> {
        File::create(path)?;
        let path = path.to_owned();
        Ok(Console { path, read: 0, text: String::new(), multi_user_at: None })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is new and judges all of it.
    pub(super) fn look(&mut self) -> Result<Sight> {
        let file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        let end = length.min(CONSOLE_BYTES_MAX);
        if end > self.read {
            let mut new = vec![0; (end - self.read) as usize];
            file.read_exact_at(&mut new, self.read)?;
            self.read = end;
            self.text.push_str(&String::from_utf8_lossy(&new));
        }
        if length > CONSOLE_BYTES_MAX {
            let mebibytes = CONSOLE_BYTES_MAX >> 20;
            return Ok(Sight::Hopeless(format!("its console has more than {mebibytes} MiB")));
        }
        Ok(self.judged())
    }

    fn judged(&mut self) -> Sight {
        let sight = judge(&self.text);
        if let Sight::Booting(_) = sight
            && reached_multi_user(&plain(&self.text))
        {
            let since = *self.multi_user_at.get_or_insert_with(Instant::now);
            if since.elapsed() > PROMPT_GRACE {
                return Sight::Hopeless(
                    "multi-user.target was reached, but no login prompt came to the serial \
                     console (is serial-getty@ttyS0 masked?)"
                        .to_owned(),
                );
            }
        }
        sight
    }

    /// Units that systemd could not start: the image works all the same.
    pub(super) fn failed_units(&self) -> Vec<String> {
        let text = plain(&self.text);
        let failed = text.lines().filter_map(|line| line.trim().strip_prefix("[FAILED]"));
        failed.map(|line| line.trim().to_owned()).collect()
    }

    /// What an error quotes.
    pub(super) fn last_lines(&self) -> String {
        let text = plain(&self.text);
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.is_empty() {
            true => "(nothing)".to_owned(),
            false => lines[lines.len().saturating_sub(LAST_LINES)..].join(" | "),
        }
    }
}

/// Judges the whole text so far.
fn judge(text: &str) -> Sight {
    let text = plain(text);
    if let Some(hopeless) = HOPELESS.iter().find(|words| text.contains(**words)) {
        return Sight::Hopeless(format!("its console says '{hopeless}'"));
    }
    match text.lines().any(is_prompt) && reached_multi_user(&text) {
        true => Sight::Booted,
        false => Sight::Booting(phase(&text)),
    }
}

/// `localhost login:`; the kernel may write behind it.
fn is_prompt(line: &str) -> bool {
    line.split_whitespace().nth(1) == Some("login:")
}

/// "Reached target Multi-User System." (Debian 11), "… multi-user.target - Multi-User …" (12).
fn reached_multi_user(plain: &str) -> bool {
    let mut lines = plain.lines().filter(|line| line.contains("Reached target "));
    plain.contains(multi_user::LINE)
        || lines
            .any(|line| line.contains("Multi-User System") || line.contains("multi-user.target"))
}

fn phase(text: &str) -> &'static str {
    if text.lines().any(is_prompt) {
        "Waiting for multi-user.target"
    } else if text.contains("Reached target ") {
        "Services are starting"
    } else if text.contains("Linux version") {
        "The kernel is starting"
    } else {
        "The firmware is starting"
    }
}

/// Without the sequences that colour a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\u{1b}' {
            if character != '\r' && character != '\0' {
                plain.push(character);
            }
            continue;
        }
        if let Some('[') = characters.next() {
            // Parameters, then one letter or @ [ \ ] ^ _ ` { | } ~ ends it (ECMA-48 5.4).
            for parameter in characters.by_ref() {
                if ('\u{40}'..='\u{7e}').contains(&parameter) {
                    break;
                }
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "[\u{1b}[0;32m  OK  \u{1b}[0m] Reached target \u{1b}[0;1;39m";
    const NETWORK: &str = "network.target\u{1b}[0m - Network.\r\n";
    const MULTI_USER: &str = "multi-user.target\u{1b}[0m - Multi-User System.\r\n";
    const PROMPT: &str = "\r\nDebian GNU/Linux 12 localhost ttyS0\r\n\r\nlocalhost login: ";

    fn check(text: &str, booted: bool, why: &str) {
        assert_eq!(judge(text) == Sight::Booted, booted, "{why}: {:?}", judge(text));
    }

    #[test]
    fn booted_is_a_prompt_and_multi_user() {
        check("", false, "nothing said");
        check(&format!("{OK}{NETWORK}"), false, "no prompt");
        check(&format!("{OK}{NETWORK}{PROMPT}"), false, "a prompt before multi-user.target");
        check(&format!("{OK}{NETWORK}{PROMPT}\r\n{OK}{MULTI_USER}"), true, "the prompt came first");
        check(&format!("{OK}{MULTI_USER}"), false, "nobody can log in");
        check(&format!("{OK}{MULTI_USER}{PROMPT}"), true, "both");
        check(PROMPT, false, "a getty alone");
        check(&format!("{PROMPT}\r\n{}\r\n", multi_user::LINE), true, "our unit's word");
        let older = format!("{OK}Multi-User System\u{1b}[0m.\r\n{PROMPT}");
        check(&older, true, "Debian 11's words");
        check("cloud-init: last login: yesterday", false, "no prompt, but the words");
        let behind = format!("{OK}{MULTI_USER}{PROMPT}[   30.1] random: crng init done");
        check(&behind, true, "a line behind the prompt");
    }

    #[test]
    fn what_will_never_boot_is_known_by_its_words() {
        let panic = format!("{PROMPT}\r\n[    1.2] Kernel panic - not syncing: No working init");
        assert!(matches!(judge(&panic), Sight::Hopeless(why) if why.contains("Kernel panic")));
        assert!(matches!(judge("\r\n(initramfs) "), Sight::Hopeless(_)));
    }

    #[test]
    fn new_text_is_read_once_and_the_last_lines_are_plain() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial");
        let mut console = Console::new(&path).unwrap();
        assert!(matches!(console.look().unwrap(), Sight::Booting(_)));
        assert_eq!(console.last_lines(), "(nothing)");
        let mut file = File::options().append(true).open(&path).unwrap();
        write!(file, "{OK}{MULTI_USER}[FAILED] Failed to start x.service\r\n").unwrap();
        assert!(matches!(console.look().unwrap(), Sight::Booting(_)));
        write!(file, "{PROMPT}").unwrap();
        assert_eq!(console.look().unwrap(), Sight::Booted);
        assert!(console.last_lines().ends_with("localhost ttyS0 | localhost login:"));
        assert_eq!(console.failed_units(), ["Failed to start x.service"]);
    }

    #[test]
    fn a_guest_that_never_stops_talking_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial");
        let mut console = Console::new(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(CONSOLE_BYTES_MAX + 1).unwrap();
        let sight = console.look().unwrap();
        assert!(matches!(&sight, Sight::Hopeless(why) if why.contains("16 MiB")), "{sight:?}");
    }
}
