//! Public repository URLs and what is used instead of them (`mirrors` in the configuration).
//!
//! A factory behind a closed network builds from local mirrors, while the image that it makes will
//! live elsewhere: so a URL has two replacements, one for the build and one for what stays in the
//! image.

use std::collections::BTreeMap;

use imagefactory_plugin_sdk::author::{Host, Result};
use serde::Deserialize;

/// The configuration's `mirrors`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Mirrors(BTreeMap<String, Mirror>);

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Mirror {
    /// For builds; the image keeps the public URL.
    Build(String),
    /// For each.
    Both { build: Option<String>, image: Option<String> },
}

impl Mirrors {
    /// Reads the configuration.
    pub(crate) fn of(host: &Host) -> Result<Mirrors> {
        Ok(host.config("mirrors")?.unwrap_or_default())
    }

    /// What a build fetches from instead of `url`.
    pub(crate) fn for_build(&self, url: &str) -> String {
        self.mapped(url, |mirror| match mirror {
            Mirror::Build(build) => Some(build),
            Mirror::Both { build, .. } => build.as_ref(),
        })
    }

    /// What the image's own configuration names instead of `url`.
    pub(crate) fn for_image(&self, url: &str) -> String {
        self.mapped(url, |mirror| match mirror {
            Mirror::Build(_) => None,
            Mirror::Both { image, .. } => image.as_ref(),
        })
    }

    /// The longest public prefix that ends at a slash decides.
    fn mapped(&self, url: &str, which: impl Fn(&Mirror) -> Option<&String>) -> String {
        let best = self
            .0
            .iter()
            .filter_map(|(public, mirror)| {
                let public = public.trim_end_matches('/');
                let rest = url.strip_prefix(public)?;
                let whole = rest.is_empty() || rest.starts_with('/');
                Some((public.len(), rest, which(mirror).filter(|_| whole)?))
            })
            .max_by_key(|(length, ..)| *length);
        match best {
            Some((_, rest, local)) => format!("{}{rest}", local.trim_end_matches('/')),
            None => url.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_whole_prefix_decides_and_the_image_keeps_the_public_url() {
        let mirrors: Mirrors = serde_json::from_str(
            r#"{"http://debian.example": "http://near.example/all/",
                "http://debian.example/debian/": {"build": "http://near.example/d", "image": "http://inside.example/d"}}"#,
        )
        .unwrap();
        assert_eq!(mirrors.for_build("http://debian.example/debian"), "http://near.example/d");
        assert_eq!(
            mirrors.for_build("http://debian.example/debian-security"),
            "http://near.example/all/debian-security"
        );
        assert_eq!(
            mirrors.for_image("http://debian.example/debian/x"),
            "http://inside.example/d/x"
        );
        assert_eq!(mirrors.for_image("http://debian.example/other"), "http://debian.example/other");
        assert_eq!(mirrors.for_build("http://elsewhere.example/"), "http://elsewhere.example/");
    }
}
