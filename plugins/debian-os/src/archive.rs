//! Repositories of packages: the distribution's own and what templates and clouds add, as apt's
//! configuration wants them, once for the build and once for the image.

use std::collections::BTreeMap;

use imagefactory_plugin_sdk::author::{PluginError, Result};
use imagefactory_plugin_sdk::payload::template::Repository;

use crate::mirrors::Mirrors;
use crate::suites::Suite;

/// What `repository_keys` calls the archive of `<install>`.
pub(crate) const INSTALL: &str = "install";

/// Where keys of repositories lie, in the image and while it is built.
pub(crate) const KEYRINGS: &str = "/etc/apt/keyrings";

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    /// As in the template; [`INSTALL`] for the distribution's own.
    pub(crate) name: String,
    /// What the build fetches from.
    pub(crate) build_url: String,
    /// As the template names it.
    pub(crate) public_url: String,
    /// What the image is told.
    pub(crate) image_url: String,
    /// Suite or path.
    pub(crate) suite: String,
    /// Components; none for a flat repository.
    pub(crate) components: String,
    /// Whose signature is asked for.
    pub(crate) trust: Trust,
    /// Does it stay in the image's configuration?
    pub(crate) persisted: bool,
    /// Is the server's certificate asked for?
    pub(crate) sslverify: bool,
}

/// Why the content of a repository is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The template says so, or an iso's checksum was right: no signature is asked for.
    Unsigned,
    /// Signed by a key that apt knows.
    Distribution,
    /// Signed by this key: a file below [`KEYRINGS`].
    Key(String),
}

impl Archive {
    /// The distribution's archive at this public URL.
    pub(crate) fn of_install(
        url: &str,
        suite: &Suite,
        mirrors: &Mirrors,
        keys: &RepositoryKeys,
    ) -> Archive {
        let url = url.trim_end_matches('/');
        Archive {
            name: INSTALL.to_owned(),
            build_url: mirrors.for_build(url),
            public_url: url.to_owned(),
            image_url: mirrors.for_image(url),
            suite: suite.codename.to_owned(),
            components: suite.components.join(" "),
            trust: keys.of(INSTALL).map_or(Trust::Distribution, Trust::Key),
            persisted: true,
            sslverify: true,
        }
    }

    /// The archive on an installation medium: [`crate::medium`] says later where it lies and
    /// whether it is believed. Nothing of it stays in the image, which will not have the medium.
    pub(crate) fn of_medium(suite: &Suite, keys: &RepositoryKeys) -> Archive {
        Archive {
            name: INSTALL.to_owned(),
            build_url: String::new(),
            public_url: String::new(),
            image_url: String::new(),
            suite: suite.codename.to_owned(),
            components: suite.components.join(" "),
            trust: keys.of(INSTALL).map_or(Trust::Distribution, Trust::Key),
            persisted: false,
            sslverify: true,
        }
    }

    /// `deb http://… suite component` as apt writes it, or a plain URL of a repository of this
    /// release.
    pub(crate) fn further(
        repository: &Repository,
        suite: &Suite,
        mirrors: &Mirrors,
        keys: &RepositoryKeys,
    ) -> Result<Archive> {
        let words: Vec<&str> =
            repository.url.split_whitespace().filter(|word| *word != "deb").collect();
        let url = words.first().copied().unwrap_or_default().trim_end_matches('/');
        if words.iter().any(|word| word.contains(['[', ']', '"', '#']) || word.starts_with('-')) {
            let message = format!(
                "the repository '{}' has options in its url; write 'URL suite component', and \
                 its key into the parameter repository_keys",
                repository.name
            );
            return Err(PluginError::user_fault(message));
        }
        let named = words.get(1).copied();
        Ok(Archive {
            name: repository.name.clone(),
            build_url: mirrors.for_build(url),
            public_url: url.to_owned(),
            image_url: mirrors.for_image(url),
            suite: named.unwrap_or(suite.codename).to_owned(),
            components: match named {
                Some(path) if path.ends_with('/') => String::new(),
                Some(_) if words.len() > 2 => words[2..].join(" "),
                _ => suite.components.join(" "),
            },
            trust: match (repository.signed, keys.of(&repository.name)) {
                (_, Some(key)) => Trust::Key(key),
                (true, None) => Trust::Distribution,
                (false, None) => Trust::Unsigned,
            },
            persisted: repository.persisted,
            sslverify: repository.sslverify,
        })
    }

    /// The line of sources.list for the build.
    pub(crate) fn build_line(&self) -> String {
        self.line(&self.build_url)
    }

    /// The line of sources.list that stays in the image.
    pub(crate) fn image_line(&self) -> String {
        self.line(&self.image_url)
    }

    fn line(&self, url: &str) -> String {
        let options = match &self.trust {
            Trust::Unsigned => "[trusted=yes] ".to_owned(),
            Trust::Distribution => String::new(),
            Trust::Key(file) => format!("[signed-by={KEYRINGS}/{file}] "),
        };
        format!("deb {options}{url} {} {}", self.suite, self.components).trim_end().to_owned()
    }

    /// apt's option where the server's certificate is not asked for; empty otherwise.
    pub(crate) fn tls_option(&self, url: &str) -> String {
        let Some(host) = url.strip_prefix("https://").filter(|_| !self.sslverify) else {
            return String::new();
        };
        let host = host.split(['/', ':']).next().unwrap_or_default();
        format!(
            "Acquire::https::{host}::Verify-Peer \"false\";\n\
             Acquire::https::{host}::Verify-Host \"false\";\n"
        )
    }

    /// URL of a file that says what the repository holds: its digest changes when a package does.
    pub(crate) fn release_urls(&self) -> Vec<String> {
        let folder = match self.suite.strip_suffix('/') {
            Some(path) => format!("{}/{path}", self.build_url.trim_end_matches('/')),
            None => format!("{}/dists/{}", self.build_url, self.suite),
        };
        let folder = folder.trim_end_matches(['/', '.']);
        let names: &[&str] = match self.trust {
            // A repository without signatures may lack even the file that could be signed.
            Trust::Unsigned => &["InRelease", "Release", "Packages", "Packages.gz"],
            _ => &["InRelease", "Release"],
        };
        names.iter().map(|name| format!("{folder}/{name}")).collect()
    }
}

/// The parameter `repository_keys`: name of a repository → its public key in ASCII armour.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct RepositoryKeys(BTreeMap<String, String>);

impl RepositoryKeys {
    /// The file of this repository's key, below [`KEYRINGS`].
    fn of(&self, name: &str) -> Option<String> {
        self.0.contains_key(name).then(|| file_name(name))
    }

    /// File below [`KEYRINGS`] and its content.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().map(|(name, key)| (file_name(name), key.as_str()))
    }

    /// Each must be a key of a repository that there is.
    pub(crate) fn check(&self, archives: &[Archive]) -> Result<()> {
        for (name, key) in &self.0 {
            let message = if !archives.iter().any(|archive| archive.name == *name) {
                let names: Vec<&str> =
                    archives.iter().map(|archive| archive.name.as_str()).collect();
                format!("there is no repository of this name; there are {}", names.join(", "))
            } else if !key.trim_start().starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
                "it is no public key in ASCII armour (gpg --armor --export)".to_owned()
            } else {
                continue;
            };
            let message = format!("the parameter repository_keys, '{name}': {message}");
            return Err(PluginError::user_fault(message));
        }
        Ok(())
    }
}

/// A file name of whatever a repository is called.
fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("imagefactory-{}.asc", name.chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suites::suite;

    fn repository(url: &str, signed: bool) -> Repository {
        let name = "extra one".to_owned();
        Repository { name, url: url.to_owned(), signed, persisted: true, sslverify: false }
    }

    fn line(url: &str, signed: bool, keys: &RepositoryKeys) -> String {
        let suite = suite("Debian", "12").unwrap();
        let archive = Archive::further(&repository(url, signed), &suite, &Mirrors::default(), keys);
        archive.unwrap().build_line()
    }

    #[test]
    fn a_repository_is_a_url_or_what_apt_writes() {
        let none = RepositoryKeys::default();
        assert_eq!(line("http://h/x/", true, &none), "deb http://h/x bookworm main");
        assert_eq!(line("deb http://h/x sid a b", true, &none), "deb http://h/x sid a b");
        assert_eq!(line("http://h/x ./", false, &none), "deb [trusted=yes] http://h/x ./");
    }

    #[test]
    fn a_key_of_its_own_is_asked_for_even_if_the_template_says_unsigned() {
        let armour = "-----BEGIN PGP PUBLIC KEY BLOCK-----".to_owned();
        let keys = RepositoryKeys(BTreeMap::from([("extra one".to_owned(), armour)]));
        let expected =
            "deb [signed-by=/etc/apt/keyrings/imagefactory-extra-one.asc] http://h/x sid main";
        assert_eq!(line("http://h/x sid main", false, &keys), expected);
    }

    #[test]
    fn options_in_a_url_are_refused_and_keys_of_nobody_too() {
        let suite = suite("Debian", "12").unwrap();
        let (mirrors, none) = (Mirrors::default(), RepositoryKeys::default());
        let odd = repository("[trusted=yes] http://h/x sid main", true);
        let error = Archive::further(&odd, &suite, &mirrors, &none).unwrap_err();
        assert!(error.message().contains("repository_keys"), "{}", error.message());
        let keys = RepositoryKeys(BTreeMap::from([("nobody".to_owned(), "x".to_owned())]));
        let install = Archive::of_install("http://h/debian", &suite, &mirrors, &none);
        let error = keys.check(&[install]).unwrap_err();
        assert!(error.message().contains("there are install"), "{}", error.message());
    }
}
