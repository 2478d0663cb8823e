//! Names in a registry: repositories and tags, by the grammar of the OCI distribution spec.

use imagefactory_plugin_sdk::author::{PluginError, Result};

/// With a digest behind it still below what registries allow in a path.
const REPOSITORY_BYTES_MAX: usize = 200;

/// The specification's own.
const TAG_BYTES_MAX: usize = 128;

/// A repository: lower-case words, joined by `.`, `_`, `__` or dashes, in parts between slashes.
pub(crate) fn check_repository(name: &str) -> Result<String> {
    let right = name.len() <= REPOSITORY_BYTES_MAX && name.split('/').all(is_part);
    if right {
        return Ok(name.to_owned());
    }
    Err(PluginError::user_fault(format!("{name:?} cannot be a repository's name")).hint(
        "use lower-case letters, digits, and . _ - between them, as in team/debian; the registry's \
         address belongs to the provider",
    ))
}

fn is_part(part: &str) -> bool {
    let mut joint = 0; // characters since the last letter or digit
    let mut last = '/';
    for character in part.chars() {
        match character {
            'a'..='z' | '0'..='9' => joint = 0,
            '.' | '_' | '-' if last != '/' => {
                joint += 1;
                let fits = match character {
                    '-' => joint == 1 || last == '-',
                    '_' => joint == 1 || (joint == 2 && last == '_'),
                    _ => joint == 1,
                };
                if !fits {
                    return false;
                }
            }
            _ => return false,
        }
        last = character;
    }
    !part.is_empty() && joint == 0
}

/// A name that people gave something, as a repository's.
pub(crate) fn plain_repository(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|character: char| !character.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let joined = words.join("-");
    match joined.is_empty() {
        true => "image".to_owned(),
        false => joined[..joined.len().min(REPOSITORY_BYTES_MAX)].trim_end_matches('-').to_owned(),
    }
}

/// A tag.
pub(crate) fn check_tag(tag: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let first = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if first && tag.len() <= TAG_BYTES_MAX && tag.bytes().all(plain) {
        return Ok(());
    }
    Err(PluginError::user_fault(format!("{tag:?} cannot be a tag")).hint(format!(
        "use at most {TAG_BYTES_MAX} letters, digits and . _ -, a letter, digit or _ first"
    )))
}

/// `sha256:` and 64 digits, nothing else: what comes from outside becomes part of a path.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_follow_the_specifications_grammar() {
        for good in ["debian", "a/b/c", "a.b_c__d---e/f1", "0"] {
            assert!(check_repository(good).is_ok(), "{good}");
        }
        let bad = ["", "/", "a/", "A", "a..b", "a___b", "a._b", "-a", "a-", "a b", "a:1", "../x"];
        for bad in bad {
            assert!(check_repository(bad).is_err(), "{bad}");
        }
        assert!(check_repository(&"a".repeat(201)).is_err());
    }

    #[test]
    fn any_name_becomes_a_repository() {
        for (name, expected) in [("Debian 12_x", "debian-12-x"), ("--", "image"), ("Ünï", "n")] {
            assert_eq!(plain_repository(name), expected);
            assert!(check_repository(expected).is_ok());
        }
        assert!(check_repository(&plain_repository(&"a b".repeat(300))).is_ok());
    }

    #[test]
    fn tags_and_digests_are_checked() {
        for (tag, good) in
            [("latest", true), ("1.0_-x", true), ("_a", true), (".a", false), ("a/b", false)]
        {
            assert_eq!(check_tag(tag).is_ok(), good, "{tag}");
        }
        assert!(is_digest(&format!("sha256:{}", "0a".repeat(32))));
        assert!(!is_digest("sha256:../../x") && !is_digest(&"0".repeat(64)));
    }
}
