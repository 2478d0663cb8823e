//! Takes the files that a plugin handed over (`artifact_add`) out of its work folder.
//!
//! Runs after the runner has ended, however it ended: a serial log is worth most when the stage
//! failed. Each file is opened beneath the work folder without following any link, copied by
//! descriptor into a folder of the host, and listed with its new path. One that cannot be taken is
//! left out with a word.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use imagefactory_model::stage::Artifact;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};

/// Artefacts of one stage. An image has an SBOM, a log, a screenshot, some OVF files.
pub(super) const ARTIFACTS_MAX: usize = 64;

/// Longest media type; IANA's longest is below 100.
const MEDIA_TYPE_BYTES_MAX: usize = 256;

/// Checks what can be checked when it is announced; the error is for the plugin.
pub(super) fn check_announced(artifact: &Artifact, work_dir: &Path) -> Result<(), String> {
    if !is_name(&artifact.name) {
        return Err(format!(
            "artefact name {:?}: use 1 to 128 of A-Z a-z 0-9 . _ - and begin with a letter or digit",
            super::stage_log::cut(&artifact.name, 200)
        ));
    }
    if artifact.media_type.is_empty() || artifact.media_type.len() > MEDIA_TYPE_BYTES_MAX {
        return Err(format!("artefact {}: its media type has no or too many bytes", artifact.name));
    }
    match artifact.path.strip_prefix(work_dir) {
        Ok(below) if is_plain(below) => Ok(()),
        _ => Err(format!("artefact {}: its path is not below WORK_DIR", artifact.name)),
    }
}

/// Copies the announced files; returns those that were taken and a sentence for each that was not.
/// Blocks.
pub(super) fn take(
    announced: Vec<Artifact>,
    work_dir: &Path,
    into: &Path,
    bytes_max: u64,
) -> (Vec<Artifact>, Vec<String>) {
    let mut taken = Vec::new();
    let mut refused = Vec::new();
    for artifact in announced {
        match take_one(&artifact, work_dir, into, bytes_max) {
            Ok(path) => taken.push(Artifact { path, ..artifact }),
            Err(error) => {
                refused.push(format!("artefact {} was not taken: {error}", artifact.name));
            }
        }
    }
    (taken, refused)
}

fn take_one(
    artifact: &Artifact,
    work_dir: &Path,
    into: &Path,
    bytes_max: u64,
) -> io::Result<PathBuf> {
    let below = artifact.path.strip_prefix(work_dir).map_err(io::Error::other)?;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let work = open(work_dir, folder, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let source = File::from(openat2(&work, below, flags, Mode::empty(), resolve)?);
    let facts = source.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if facts.len() > bytes_max {
        return Err(io::Error::other(format!(
            "it has {} bytes; at most {bytes_max} are taken",
            facts.len()
        )));
    }
    let path = into.join(&artifact.name);
    // A second artefact of the same name replaces the first, as a second set_result does.
    let partial = into.join(format!(".{}.part", artifact.name));
    let mut copy =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&partial)?;
    io::copy(&mut source.take(bytes_max), &mut copy)?;
    copy.sync_all()?;
    rustix::fs::renameat(CWD, &partial, CWD, &path)?;
    Ok(path)
}

/// At least one name, and nothing but names: `..` would lead out again.
fn is_plain(below: &Path) -> bool {
    let mut parts = below.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn is_name(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn artifact(name: &str, path: PathBuf) -> Artifact {
        Artifact { name: name.to_owned(), media_type: "text/plain".to_owned(), path }
    }

    #[test]
    fn only_regular_files_below_the_work_folder_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (work, into) = (dir.path().join("work"), dir.path().join("into"));
        std::fs::create_dir_all(work.join("deep")).unwrap();
        std::fs::create_dir(&into).unwrap();
        std::fs::write(dir.path().join("secret"), "host's").unwrap();
        std::fs::write(work.join("deep/serial.log"), "booted").unwrap();
        std::fs::write(work.join("big"), vec![0; 101]).unwrap();
        symlink("../secret", work.join("link")).unwrap();
        symlink("..", work.join("up")).unwrap();
        let all = vec![
            artifact("serial.log", work.join("deep/serial.log")),
            artifact("link", work.join("link")),
            artifact("through", work.join("up/secret")),
            artifact("dots", work.join("deep/../../secret")),
            artifact("folder", work.join("deep")),
            artifact("big", work.join("big")),
            artifact("none", work.join("none")),
        ];
        let (taken, refused) = take(all, &work, &into, 100);
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert_eq!(taken[0].path, into.join("serial.log"));
        assert_eq!(std::fs::read_to_string(&taken[0].path).unwrap(), "booted");
        assert_eq!(refused.len(), 6, "{refused:?}");
        assert_eq!(std::fs::read_dir(&into).unwrap().count(), 1);
    }

    #[test]
    fn names_that_could_leave_the_folder_are_refused_when_announced() {
        let work = Path::new("/w");
        let check = |name: &str, path: &str, good: bool| {
            let found = check_announced(&artifact(name, path.into()), work);
            assert_eq!(found.is_ok(), good, "{name} {path}: {found:?}");
        };
        check("sbom.json", "/w/sbom.json", true);
        check("../x", "/w/x", false);
        check(".hidden", "/w/x", false);
        check("", "/w/x", false);
        check("x", "/elsewhere/x", false);
        check("x", "/w", false);
        check("x", "/w/deep/../../x", false);
    }
}
