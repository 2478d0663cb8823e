//! apt inside a tree: installs with a configuration of this build, which leaves nothing behind.
//!
//! The image's own sources name public mirrors; the build's may be others. So apt gets a
//! configuration file of its own and never looks at the image's.

use std::fs;
use std::path::Path;

use imagefactory_plugin_sdk::author::{Host, PluginError, Result};

use crate::archive::{Archive, KEYRINGS, RepositoryKeys};
use crate::packages::Installation;
use crate::tool;
use crate::tree::{Network, Tree};

/// In the tree, while apt is used.
const FOLDER: &str = "tmp/imagefactory-apt";

/// Of every run.
const OPTIONS: &str = "Dir::Etc::sourcelist \"/tmp/imagefactory-apt/sources.list\";
Dir::Etc::sourceparts \"-\";
Acquire::Retries \"3\";
Acquire::Languages \"none\";
APT::Update::Error-Mode \"any\";
APT::Sandbox::User \"root\";
APT::Install-Recommends \"false\";
Dpkg::Options:: \"--force-unsafe-io\";
Dpkg::Options:: \"--force-confdef\";
Dpkg::Options:: \"--force-confold\";
Dpkg::Use-Pty \"false\";
";

/// What is installed already, too, or only what is asked for?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// To the newest version that these archives have.
    All,
    /// Stays as it is.
    Nothing,
}

/// Installs these, run by run.
pub(crate) fn install(
    tree: &Tree<'_>,
    archives: &[Archive],
    runs: &[Installation],
    upgrade: Upgrade,
) -> Result<()> {
    if runs.is_empty() && upgrade == Upgrade::Nothing {
        return Ok(());
    }
    let folder = tree.root.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let lines: Vec<String> = archives.iter().map(Archive::build_line).collect();
    fs::write(folder.join("sources.list"), lines.join("\n") + "\n")?;
    let tls: String =
        archives.iter().map(|archive| archive.tls_option(&archive.build_url)).collect();
    fs::write(folder.join("apt.conf"), format!("{OPTIONS}{tls}"))?;
    tree.with_guests(|| {
        apt_get(tree, &["update".to_owned()])?;
        if upgrade == Upgrade::All {
            apt_get(tree, &["dist-upgrade".to_owned(), "--yes".to_owned()])?;
        }
        for run in runs {
            let mut arguments = vec!["install".to_owned(), "--yes".to_owned()];
            arguments.extend(run.arguments.iter().cloned());
            arguments.push("--".to_owned());
            arguments.extend(run.names.iter().cloned());
            arguments.extend(run.files.iter().cloned());
            apt_get(tree, &arguments)?;
        }
        Ok(())
    })?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn apt_get(tree: &Tree<'_>, arguments: &[String]) -> Result<()> {
    let mut command = tree.command(Network::Stage, "/usr/bin/apt-get");
    command.env("APT_CONFIG", format!("/{FOLDER}/apt.conf")).arg("-q").args(arguments);
    let mut watch = PackageWatch::new(72..80);
    let ran = tool::run_watched(tree.host, &mut command, &[], |line| watch.see(tree.host, line));
    ran.map_err(|error| watch.explain(error))
}

/// Puts keys where both the build's and the image's apt look for them.
pub(crate) fn write_keys(keys: &RepositoryKeys, root: &Path) -> Result<()> {
    for (name, key) in keys.files() {
        let folder = root.join(KEYRINGS.trim_start_matches('/'));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), key)?;
    }
    Ok(())
}

/// Reads what apt and dpkg print: how far they are, and which package fails.
pub(crate) struct PackageWatch {
    /// Percentages of the build that this run fills.
    percent: std::ops::Range<u64>,
    /// Packages that are unpacked and set up, each twice counted.
    steps: u64,
    done: u64,
    fault: Option<Fault>,
}

/// What a package manager says of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// The template names what no repository has.
    Unknown(String),
    /// A package's own scripts or files failed.
    Package(String),
    /// A repository is not to be had, or not to be believed.
    Repository(String),
}

impl PackageWatch {
    pub(crate) fn new(percent: std::ops::Range<u64>) -> PackageWatch {
        PackageWatch { percent, steps: 0, done: 0, fault: None }
    }

    /// From here on lines fill these percentages; the number of packages, if it was told, holds.
    pub(crate) fn fill(&mut self, percent: std::ops::Range<u64>) {
        (self.percent, self.done) = (percent, 0);
    }

    /// Looks at a line.
    pub(crate) fn see(&mut self, host: &Host, line: &str) -> Result<()> {
        if let Some(found) = fault(line)
            && self.fault.is_none()
        {
            self.fault = Some(found);
        }
        if let Some(count) = newly_installed(line) {
            (self.steps, self.done) = (2 * count, 0);
        }
        let words: Vec<&str> = line.split_whitespace().take(3).collect();
        let (what, package) = match words[..] {
            ["Unpacking", package, ..] => ("Unpacking", package),
            ["Setting", "up", package] => ("Setting up", package),
            _ => return Ok(()),
        };
        self.done = (self.done + 1).min(self.steps);
        let width = self.percent.end - self.percent.start;
        let percent = self.percent.start + width * self.done / self.steps.max(1);
        host.progress("packages", &format!("{what} {package}"), percent, 100)
    }

    /// The error with the fact in front.
    pub(crate) fn explain(self, error: PluginError) -> PluginError {
        match self.fault {
            None => error,
            Some(Fault::Unknown(name)) => error
                .while_doing(format!("there is no package '{name}' in the repositories"))
                .by_user()
                .hint("look for its name in this release, or add the repository that has it"),
            Some(Fault::Package(name)) => {
                error.while_doing(format!("the package {name} failed to install"))
            }
            Some(Fault::Repository(url)) => error
                .while_doing(format!("the repository {url} cannot be used"))
                .hint("is it reachable from the factory, and signed by the key that is expected?"),
        }
    }
}

/// "0 upgraded, 12 newly installed, 0 to remove and 0 not upgraded."
fn newly_installed(line: &str) -> Option<u64> {
    let (before, _) = line.split_once(" newly installed")?;
    before.rsplit(' ').next()?.parse().ok()
}

fn fault(line: &str) -> Option<Fault> {
    let between = |start: &str, end: &str| {
        let rest = line.strip_prefix(start)?;
        Some(rest.split(end).next()?.trim_matches(['\'', '"', ' ']).to_owned())
    };
    let unknown = between("E: Unable to locate package ", " ")
        .or_else(|| between("E: Couldn't find any package by glob ", " "))
        .or_else(|| between("E: Package '", "' has no installation candidate"))
        .or_else(|| {
            let version = between("E: Version '", "'")?;
            let name = line.split(" for '").nth(1)?.split('\'').next()?;
            Some(format!("{name}={version}"))
        });
    if let Some(name) = unknown {
        return Some(Fault::Unknown(name));
    }
    let package = between("dpkg: error processing package ", " ")
        .or_else(|| between("dpkg: error processing archive ", " "));
    if let Some(name) = package {
        return Some(Fault::Package(name));
    }
    let repository = between("E: Failed to fetch ", " ")
        .or_else(|| between("E: The repository '", "'"))
        .or_else(|| between("Err:1 ", " "))
        .or_else(|| between("W: GPG error: ", " "));
    repository.map(Fault::Repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_found_in_what_apt_says() {
        let named = |line: &str| fault(line).expect(line);
        let unknown = Fault::Unknown("nosuch".to_owned());
        assert_eq!(named("E: Unable to locate package nosuch"), unknown);
        assert_eq!(named("E: Package 'nosuch' has no installation candidate"), unknown);
        assert_eq!(
            named("E: Version '9' for 'less' was not found"),
            Fault::Unknown("less=9".to_owned())
        );
        assert_eq!(
            named("dpkg: error processing package bad (--configure):"),
            Fault::Package("bad".to_owned())
        );
        let repository = Fault::Repository("http://h/d/dists/x/InRelease".to_owned());
        assert_eq!(
            named("E: Failed to fetch http://h/d/dists/x/InRelease  Could not connect"),
            repository
        );
        assert_eq!(fault("Setting up less (590-2) ..."), None);
    }

    #[test]
    fn the_number_of_packages_is_read() {
        let line = "0 upgraded, 12 newly installed, 0 to remove and 0 not upgraded.";
        assert_eq!(newly_installed(line), Some(12));
        assert_eq!(newly_installed("newly"), None);
    }
}
