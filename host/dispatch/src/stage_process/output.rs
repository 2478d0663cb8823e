//! The host's own look at the image that a stage says it wrote.
//!
//! Runs after the runner has ended, when nobody writes any more. The folder is the stage's, so
//! nothing in it is trusted: the file is opened without following links and judged by its
//! descriptor.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use imagefactory_model::frames::StageIdentity;
use imagefactory_model::stage::{Operation, OutputFile};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::image_format::{points_elsewhere, probe};

/// What was promised.
#[derive(Debug)]
pub(super) struct Promise<'a> {
    /// What was called.
    pub(super) operation: Operation,
    /// The answer of `builder_should_create_target_image`.
    pub(super) should: Option<bool>,
    /// The result `format`.
    pub(super) format: Option<&'a str>,
    /// Whose ids the file may have; `None` = the daemon's own.
    pub(super) identity: Option<StageIdentity>,
}

impl Promise<'_> {
    /// Is the operation void without an image? The hook after the build may leave the image as it
    /// is.
    fn needs_image(&self) -> bool {
        match self.operation {
            Operation::CreateBaseImage | Operation::CreateTargetImage => true,
            Operation::BuilderShouldCreateTargetImage => self.should == Some(false),
            _ => false,
        }
    }
}

/// Finds and judges the image; the error is a sentence without the plugin's name.
pub(super) fn check_output(
    path: Option<&Path>,
    promise: &Promise<'_>,
) -> Result<Option<OutputFile>, String> {
    let found = match path.filter(|_| promise.operation.may_write_output()) {
        Some(path) => open(path).map_err(|error| format!("its image {error}"))?,
        None => None,
    };
    match (path, found, promise.format) {
        (Some(path), Some(file), Some(format)) => judge(path, &file, format, promise).map(Some),
        (_, Some(_), None) => {
            Err("it wrote an image and did not say in which format (result \"format\")".to_owned())
        }
        (_, None, Some(format)) => {
            Err(format!("it says that it wrote an image of format {format}, and there is none"))
        }
        (_, None, None) if promise.needs_image() => {
            Err("it reported success and wrote no image (path_get OUTPUT_IMAGE)".to_owned())
        }
        _ => Ok(None),
    }
}

/// `Ok(None)` = there is nothing under this name.
fn open(path: &Path) -> Result<Option<File>, String> {
    // NONBLOCK: a FIFO in its place must not hold us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(descriptor) => Ok(Some(File::from(descriptor))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(rustix::io::Errno::LOOP) => Err("is a symbolic link".to_owned()),
        Err(error) => Err(format!("cannot be opened: {}", io::Error::from(error))),
    }
}

fn judge(
    path: &Path,
    file: &File,
    format: &str,
    promise: &Promise<'_>,
) -> Result<OutputFile, String> {
    let unreadable = |error: io::Error| format!("its image cannot be read: {error}");
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return Err("its image is not a regular file".to_owned());
    }
    if facts.nlink() != 1 {
        return Err(format!(
            "its image has {} names (hard links); it must have one, or others could change it later",
            facts.nlink()
        ));
    }
    if !may_own(facts.uid(), promise.identity) {
        return Err(format!("its image belongs to user {}, not to the stage", facts.uid()));
    }
    if facts.len() == 0 {
        return Err("its image is empty".to_owned());
    }
    let probed = probe(file).map_err(unreadable)?;
    if !probed.fits(format) {
        return Err(format!(
            "it declared format {format}, and the image looks like {}",
            probed.name()
        ));
    }
    if let Some(link) = points_elsewhere(file, probed).map_err(unreadable)? {
        return Err(format!("its image does not stand alone: it {link}"));
    }
    Ok(OutputFile { path: path.to_owned(), bytes: facts.len(), format: format.to_owned() })
}

fn may_own(uid: u32, identity: Option<StageIdentity>) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    match identity {
        Some(ids) => uid >= ids.uid && uid - ids.uid < ids.count.max(1),
        None => uid == ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    const BASE: Promise<'static> = Promise {
        operation: Operation::CreateBaseImage,
        should: None,
        format: Some("raw"),
        identity: None,
    };

    fn check(prepare: impl FnOnce(&Path), promise: &Promise<'_>, want: Result<u64, &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        prepare(&path);
        match (check_output(Some(&path), promise), want) {
            (Ok(found), Ok(bytes)) => assert_eq!(found.map_or(0, |file| file.bytes), bytes),
            (Err(found), Err(want)) => assert!(found.contains(want), "{found:?} lacks {want:?}"),
            (found, want) => panic!("{found:?} instead of {want:?}"),
        }
    }

    #[test]
    fn an_image_counts_only_as_a_plain_file_of_the_declared_format() {
        let write = |bytes: &'static [u8]| move |path: &Path| std::fs::write(path, bytes).unwrap();
        check(write(b"disk"), &BASE, Ok(4));
        check(write(b""), &BASE, Err("empty"));
        check(write(b"QFI\xfb...."), &BASE, Err("looks like qcow2"));
        check(|_| (), &BASE, Err("there is none"));
        check(|_| (), &Promise { format: None, ..BASE }, Err("wrote no image"));
        check(write(b"disk"), &Promise { format: None, ..BASE }, Err("in which format"));
        check(|path| symlink("/etc/passwd", path).unwrap(), &BASE, Err("symbolic link"));
        check(|path| std::fs::create_dir(path).unwrap(), &BASE, Err("not a regular file"));
        let fifo = |path: &Path| {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        };
        check(fifo, &BASE, Err("not a regular file"));
        let twice = |path: &Path| {
            std::fs::write(path, b"disk").unwrap();
            std::fs::hard_link(path, path.with_extension("2")).unwrap();
        };
        check(twice, &BASE, Err("2 names"));
    }

    #[test]
    fn an_image_of_a_stranger_is_refused() {
        let ids = StageIdentity { uid: 1_000_000, gid: 1, count: 1 };
        let stage = Promise { identity: Some(ids), ..BASE };
        let write = |path: &Path| std::fs::write(path, b"disk").unwrap();
        check(write, &stage, Err("not to the stage"));
        if rustix::process::geteuid().is_root() {
            let give = |path: &Path| {
                write(path);
                chown(path, Some(1_000_000), None).unwrap();
            };
            check(give, &stage, Ok(4));
        }
    }

    #[test]
    fn hooks_may_leave_the_image_alone_and_a_hook_that_did_the_work_may_not() {
        let did = Operation::BuilderDidCreateTargetImage;
        let none = Promise { operation: did, format: None, ..BASE };
        check(|_| (), &none, Ok(0));
        let should = Operation::BuilderShouldCreateTargetImage;
        let yes = Promise { operation: should, should: Some(true), format: None, ..BASE };
        check(|_| (), &yes, Ok(0));
        let no = Promise { should: Some(false), ..yes };
        check(|_| (), &no, Err("wrote no image"));
    }
}
