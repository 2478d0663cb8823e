//! Packages as templates name them: `less`, `less=590-2`, `less/bookworm-backports`, `libc6:i386`;
//! with arguments for apt, or as a file of their own.
//!
//! Names become arguments of programs, so only what apt calls a package passes.

use imagefactory_plugin_sdk::author::{PluginError, Result};
use imagefactory_plugin_sdk::payload::template::Package;

use crate::archive::Archive;

/// Arguments of apt-get that change how a package is chosen and nothing else. Those that end in
/// `=` take a value.
const ARGUMENTS: [&str; 6] = [
    "--install-recommends",
    "--no-install-recommends",
    "--install-suggests",
    "--reinstall",
    "--allow-downgrades",
    "--target-release=",
];

/// What one run of apt installs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Installation {
    /// As apt takes them.
    pub(crate) names: Vec<String>,
    /// Before the names.
    pub(crate) arguments: Vec<String>,
    /// Packages that are files: an URL, or the path of one of the template's files.
    pub(crate) files: Vec<String>,
}

/// The runs that these packages need: one for all ordinary ones first, then one for each that has
/// arguments, in order. None where there are no packages.
pub(crate) fn installations(
    packages: &[Package],
    archives: &[Archive],
) -> Result<Vec<Installation>> {
    let mut together = Installation::default();
    let mut apart = Vec::new();
    for package in packages {
        check(package, archives)?;
        let arguments = arguments(package)?;
        let run = match arguments.is_empty() {
            true => &mut together,
            false => {
                apart.push(Installation { arguments, ..Installation::default() });
                match apart.last_mut() {
                    Some(run) => run,
                    None => &mut together,
                }
            }
        };
        match &package.file {
            Some(file) => run.files.push(file.clone()),
            None => run.names.push(package.name.clone()),
        }
    }
    let mut all = vec![together];
    all.extend(apart);
    all.retain(|run| !run.names.is_empty() || !run.files.is_empty());
    Ok(all)
}

fn check(package: &Package, archives: &[Archive]) -> Result<()> {
    if !is_package(&package.name) {
        let message = format!(
            "'{}' is no name of a package; write NAME, NAME=VERSION, NAME/SUITE or NAME:ARCH",
            package.name
        );
        return Err(PluginError::user_fault(message));
    }
    let Some(repository) = &package.repository else { return Ok(()) };
    if archives.iter().any(|archive| archive.name == *repository) {
        return Ok(());
    }
    let message = format!(
        "the package {} is to come from the repository '{repository}', which the template does \
         not have",
        package.name
    );
    Err(PluginError::user_fault(message))
}

/// Debian Policy 5.6.1 and 5.6.12, and the suffixes of apt-get(8).
fn is_package(text: &str) -> bool {
    let (name, choice) = match text.find(['=', '/']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (name, arch) = name.split_once(':').map_or((name, None), |(name, arch)| (name, Some(arch)));
    let word = |text: &str, more: &str| {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c);
        text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text.chars().all(known)
    };
    let version = |text: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || ".+-:~_".contains(c);
        !text.is_empty() && text.chars().all(known)
    };
    // apt-get reads a name that ends in + or - as install or remove; some packages do end in +.
    word(name, "+-.")
        && !name.ends_with('-')
        && arch.is_none_or(|arch| word(arch, "-"))
        && choice.is_none_or(version)
}

fn arguments(package: &Package) -> Result<Vec<String>> {
    let Some(text) = &package.arguments else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let whole = match word {
            "-t" | "--target-release" => {
                format!("--target-release={}", words.next().unwrap_or_default())
            }
            other => other.to_owned(),
        };
        let known = ARGUMENTS.iter().any(|known| match known.ends_with('=') {
            true => whole.strip_prefix(known).is_some_and(|value| {
                !value.is_empty()
                    && value.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            }),
            false => whole == *known,
        });
        if !known {
            let message = format!(
                "the argument '{whole}' of the package {} is not taken; there are {}",
                package.name,
                ARGUMENTS.join(" ")
            );
            return Err(PluginError::user_fault(message));
        }
        all.push(whole);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, arguments: Option<&str>) -> Package {
        let arguments = arguments.map(str::to_owned);
        Package { name: name.to_owned(), repository: None, file: None, arguments }
    }

    fn check_refused(package: &Package, says: &str) {
        let error = installations(std::slice::from_ref(package), &[]).unwrap_err();
        assert!(error.message().contains(says), "{}", error.message());
    }

    #[test]
    fn names_are_those_of_apt_and_nothing_that_apt_reads_otherwise() {
        for name in ["less", "g++", "libc6:i386", "less=590-2.1~deb12u2", "bash=5.2:x+b1", "a/sid"]
        {
            assert!(is_package(name), "{name}");
        }
        for name in
            ["", "-o", "--force-yes", "less-", "a b", "a;b", "../x.deb", "/x.deb", "a=", "A", "a*"]
        {
            assert!(!is_package(name), "{name}");
        }
        check_refused(&package("-oDir=/", None), "no name of a package");
    }

    #[test]
    fn packages_with_arguments_are_installed_apart_in_order() {
        let packages = [
            package("a", None),
            package("b", Some("-t sid")),
            package("c", None),
            package("d", Some("--install-recommends --reinstall")),
        ];
        let runs = installations(&packages, &[]).unwrap();
        let names: Vec<_> = runs.iter().map(|run| run.names.join(" ")).collect();
        assert_eq!(names, ["a c", "b", "d"]);
        assert_eq!(runs[1].arguments, ["--target-release=sid"]);
        assert_eq!(runs[2].arguments, ["--install-recommends", "--reinstall"]);
        assert_eq!(installations(&[], &[]).unwrap(), []);
    }

    #[test]
    fn arguments_that_do_more_are_refused_with_those_that_there_are() {
        check_refused(&package("a", Some("-oDPkg::Pre-Invoke::=x")), "--install-recommends");
        check_refused(&package("a", Some("-t")), "'--target-release='");
        check_refused(&package("a", Some("-t $(x)")), "not taken");
    }

    #[test]
    fn a_repository_that_is_not_there_is_named() {
        let odd = Package { repository: Some("extra".to_owned()), ..package("a", None) };
        check_refused(&odd, "'extra'");
    }
}
