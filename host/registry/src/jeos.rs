//! The JEOS images of the providers: small ready-made images from which snapshot builds start.
//!
//! One a line, `target:provider:os:version:arch:image[:user[:cmd_prefix]]`, as in the original;
//! blank lines and lines beginning with # count as nothing. The last line for (target, provider,
//! os, version, arch) wins, as it did. Lines that do not fit are told of and skipped. Read at start
//! and on reload; listed over REST, looked up by cloud plugins through their stage's images.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::RegistryError;

/// Largest file: a line has about 100 bytes, so this is ten thousand images.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Files read from a folder, first by name.
const FILES_MAX: usize = 1000;

/// Odd lines told of.
const ODD_LINES_MAX: usize = 100;

/// One image on a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JeosImage {
    /// `ec2`.
    pub target: String,
    /// `ec2-us-east-1`.
    pub provider: String,
    /// `Fedora`.
    pub os: String,
    /// `17`.
    pub version: String,
    /// `x86_64`.
    pub arch: String,
    /// As the provider names it: `ami-0123`.
    pub image: String,
    /// Who to log in as; None: root.
    pub user: Option<String>,
    /// What to put before each command: `sudo`.
    pub cmd_prefix: Option<String>,
}

/// (target, provider, os, version, arch).
type Key = [String; 5];

/// All JEOS images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JeosImages {
    images: BTreeMap<Key, JeosImage>,
    odd_lines: Vec<OddLine>,
}

/// A line that was skipped or that replaced another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddLine {
    /// Its file.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// What is odd.
    pub message: String,
}

impl JeosImages {
    /// Reads files, and all files of folders in the order of their names. What is not there is
    /// empty.
    pub fn read(places: &[PathBuf]) -> Result<JeosImages, RegistryError> {
        let mut images = JeosImages::default();
        for place in places {
            match images.read_place(place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(RegistryError::ReadJeos { path: place.clone(), source });
                }
                Ok(()) => {}
            }
        }
        Ok(images)
    }

    fn read_place(&mut self, place: &Path) -> io::Result<()> {
        if !fs::metadata(place)?.is_dir() {
            return self.read_file(place);
        }
        let paths = fs::read_dir(place)?.map(|entry| entry.map(|entry| entry.path()));
        let mut files = paths.collect::<io::Result<Vec<PathBuf>>>()?;
        files.retain(|path| path.is_file() && !is_hidden(path));
        files.sort();
        files.into_iter().take(FILES_MAX).try_for_each(|path| self.read_file(&path))
    }

    fn read_file(&mut self, path: &Path) -> io::Result<()> {
        let mut text = Vec::new();
        let bytes = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        if bytes as u64 > FILE_BYTES_MAX {
            self.odd(path, 0, format!("the file has more than {FILE_BYTES_MAX} bytes: skipped"));
            return Ok(());
        }
        for (index, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            self.read_line(path, index + 1, line.trim());
        }
        Ok(())
    }

    fn read_line(&mut self, path: &Path, number: usize, line: &str) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        // The prefix is a command and may hold colons.
        let fields: Vec<&str> = line.splitn(8, ':').map(str::trim).collect();
        let required = match fields.get(..6) {
            Some(required) if required.iter().all(|field| !field.is_empty()) => required,
            _ => {
                let form = "target:provider:os:version:arch:image[:user[:cmd_prefix]]";
                self.odd(path, number, format!("is not {form}: skipped"));
                return;
            }
        };
        let optional = |index: usize| {
            fields.get(index).filter(|field| !field.is_empty()).map(|field| (*field).to_owned())
        };
        let owned = |index: usize| required[index].to_owned();
        let key: Key = std::array::from_fn(owned);
        let image = JeosImage {
            target: owned(0),
            provider: owned(1),
            os: owned(2),
            version: owned(3),
            arch: owned(4),
            image: owned(5),
            user: optional(6),
            cmd_prefix: optional(7),
        };
        if let Some(earlier) = self.images.insert(key, image) {
            self.odd(path, number, format!("replaces the earlier image {:?}", earlier.image));
        }
    }

    fn odd(&mut self, path: &Path, line: usize, message: String) {
        if self.odd_lines.len() < ODD_LINES_MAX {
            self.odd_lines.push(OddLine { path: path.to_owned(), line, message });
        }
    }

    /// The image for a snapshot build.
    pub fn image(
        &self,
        target: &str,
        provider: &str,
        [os, version, arch]: [&str; 3],
    ) -> Option<&JeosImage> {
        self.images.get(&[target, provider, os, version, arch].map(str::to_owned))
    }

    /// All images in the order of target, provider, os, version, arch.
    pub fn all(&self) -> impl Iterator<Item = &JeosImage> {
        self.images.values()
    }

    /// The providers of a target that have images, in order, each once.
    pub fn providers(&self, target: &str) -> Vec<&str> {
        let of_target = self.all().filter(|image| image.target == target);
        let mut providers: Vec<&str> = of_target.map(|image| image.provider.as_str()).collect();
        providers.dedup();
        providers
    }

    /// For the log.
    pub fn odd_lines(&self) -> &[OddLine] {
        &self.odd_lines
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> JeosImages {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ec2.conf"), text).unwrap();
        JeosImages::read(&[folder.path().to_owned(), "/no/such/folder".into()]).unwrap()
    }

    #[test]
    fn lines_with_and_without_user_and_prefix_are_read() {
        let images = read(
            "# comment\n\n ec2 : us-east : Fedora : 17 : x86_64 : ami-1 \n\
                           ec2:us-west:Fedora:17:x86_64:ami-2:ec2-user:sudo -u a:b\n",
        );
        assert_eq!(images.odd_lines(), []);
        let east = images.image("ec2", "us-east", ["Fedora", "17", "x86_64"]).unwrap();
        assert_eq!((east.image.as_str(), &east.user, &east.cmd_prefix), ("ami-1", &None, &None));
        let west = images.image("ec2", "us-west", ["Fedora", "17", "x86_64"]).unwrap();
        assert_eq!(west.user.as_deref(), Some("ec2-user"));
        assert_eq!(west.cmd_prefix.as_deref(), Some("sudo -u a:b"));
        assert_eq!(images.providers("ec2"), ["us-east", "us-west"]);
        assert_eq!(images.image("ec2", "us-east", ["Fedora", "18", "x86_64"]), None);
    }

    #[test]
    fn lines_that_do_not_fit_are_told_of_with_their_number() {
        let images = read("a:b:c\nec2:p:Fedora::x86_64:ami\n\u{fffd}\n");
        assert_eq!(images.all().count(), 0);
        let numbers: Vec<usize> = images.odd_lines().iter().map(|odd| odd.line).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn the_last_line_for_a_system_wins_and_says_so() {
        let images = read("t:p:o:1:a:first\nt:p:o:1:a:second\n");
        assert_eq!(images.image("t", "p", ["o", "1", "a"]).unwrap().image, "second");
        assert!(images.odd_lines()[0].message.contains("first"));
    }
}
