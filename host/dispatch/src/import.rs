//! A finished disk image from outside becomes a base image: one way for REST and command line.
//!
//! ```text
//! file in staging/ ─▶ format checked ─▶ fsync, renamed to <order>.import ─▶ order recorded ─▶ 202
//!                                            then, as any order: hash ─▶ <image>.body ─▶ COMPLETE
//! ```
//!
//! A process that is killed before the record leaves a file that the next start sweeps; one that is
//! killed after it leaves an order that goes on. Never a body without a record.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use imagefactory_model::image::Image;
use imagefactory_model::order::OrderKind;
use imagefactory_store::StoreError;
use imagefactory_store::images::ImageStep;

use crate::attempts::StageEnd;
use crate::dispatcher::Dispatcher;
use crate::engine::Engine;
use crate::error::DispatchError;
use crate::requests::{Accepted, NewImport};
use crate::stage_process::format_of_import;
use crate::stage_work::OrderContext;

/// Formats whose first bytes say what they are: no other file may be called so.
const TOLD_BY_THEIR_BYTES: [&str; 5] = ["qcow2", "vmdk", "vhd", "vhdx", "vdi"];

/// A format's name is a word that plugins declare.
const FORMAT_BYTES_MAX: usize = 16;

impl Dispatcher {
    /// Orders the import of a file that lies in the store's staging folder. The file is taken away
    /// from there; where the order is refused it is gone as well.
    pub async fn import_base_image(&self, new: NewImport) -> Result<Accepted, DispatchError> {
        let staged = Staged(new.file);
        let (path, given) = (staged.0.clone(), new.format);
        let format = blocking(move || format_of(&path, given.as_deref())).await??;
        let mut image = Image::new_base(String::new(), new.options.parameters.clone());
        image.template = new.template;
        let mut order = self.new_order(&image, OrderKind::Import, &new.options);
        order.import_format = Some(format);
        let (bodies, from, id) = (self.engine().bodies.clone(), staged.0.clone(), order.id);
        let kept = Staged(blocking(move || bodies.keep_staged(&from, id)).await??);
        let warnings = self.undeclared(&new.options, None);
        let accepted = self.submit_orders(vec![image], vec![order], &new.options, warnings).await?;
        if !accepted.replayed {
            kept.belongs_to_its_order();
        }
        Ok(accepted)
    }

    /// Copies a file of this machine into the staging folder, for
    /// [`Dispatcher::import_base_image`]; holes stay holes.
    pub async fn stage_for_import(&self, file: PathBuf) -> Result<PathBuf, DispatchError> {
        let bodies = self.engine().bodies.clone();
        Ok(blocking(move || bodies.stage_copy(&file)).await??)
    }
}

impl Engine {
    /// The file becomes the image's body. Can be run again after a crash.
    pub(crate) async fn take_import(&self, context: &OrderContext) -> Result<ImageStep, StageEnd> {
        let format = context.order.import_format.clone().unwrap_or_else(|| "raw".to_owned());
        let (bodies, image, order) = (self.bodies.clone(), context.image.id, context.order.id);
        let taking = tokio::task::spawn_blocking(move || bodies.take_staged(image, order, &format));
        let body = taking.await.map_err(|_| StageEnd::Stopped)??;
        Ok(ImageStep { body: Some(body), ..ImageStep::default() })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DispatchError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| DispatchError::ShuttingDown)
}

/// A file in the staging folder that goes with this value, unless an order has it by then.
struct Staged(PathBuf);

impl Staged {
    fn belongs_to_its_order(self) {
        let mut this = self;
        this.0 = PathBuf::new();
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Renamed by then, or swept at the next start.
        std::fs::remove_file(&self.0).ok();
    }
}

/// The format of the file, or why it is none that can be imported. `given` says it where the bytes
/// do not; against the bytes it is refused.
fn format_of(path: &Path, given: Option<&str>) -> Result<String, DispatchError> {
    let failed = |cause| StoreError::file("read", path, cause);
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let refused = |why: String| Err(DispatchError::BadDiskImage(why));
    if bytes == 0 {
        return refused("it is empty".to_owned());
    }
    let found = match format_of_import(&file).map_err(failed)? {
        Ok(found) => found,
        Err(why) => {
            return refused(format!(
                "it {why} and does not stand alone; flatten it first (qemu-img convert)"
            ));
        }
    };
    if found == "qcow2"
        && let Some(why) = qcow2_fault(&file, bytes).map_err(failed)?
    {
        return refused(why);
    }
    let given = given.map(|given| if given == "vpc" { "vhd" } else { given });
    match given {
        None => Ok(found.to_owned()),
        Some(given) if given == found => Ok(found.to_owned()),
        Some(given) if found != "raw" || TOLD_BY_THEIR_BYTES.contains(&given) => {
            refused(format!("it is said to be {given:?}, and its first bytes are those of {found}"))
        }
        Some(given) if is_format_name(given) => Ok(given.to_owned()),
        Some(given) => refused(format!("{given:?} is no name of a format")),
    }
}

fn is_format_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=FORMAT_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_word)
}

/// What a cut-off download or a future version looks like (qcow2 specification, "Header").
fn qcow2_fault(file: &File, bytes: u64) -> std::io::Result<Option<String>> {
    const HEADER_BYTES: usize = 72;
    let mut header = [0_u8; HEADER_BYTES];
    if bytes < HEADER_BYTES as u64 {
        return Ok(Some(format!("it ends within its qcow2 header, after {bytes} bytes")));
    }
    file.read_exact_at(&mut header, 0)?;
    let u32_at = |at: usize| header[at..at + 4].iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    let u64_at = |at: usize| u32_at(at) << 32 | u32_at(at + 4);
    let (version, disk_bytes, l1_entries, l1_at) = (u32_at(4), u64_at(24), u32_at(36), u64_at(40));
    Ok(match (version, disk_bytes) {
        (2 | 3, 0) => Some("its qcow2 header describes a disk of 0 bytes".to_owned()),
        (2 | 3, _) if l1_at.saturating_add(l1_entries * 8) > bytes => {
            Some(format!("it ends before its qcow2 tables do, after {bytes} bytes"))
        }
        (2 | 3, _) => None,
        (version, _) => Some(format!("it is qcow2 of version {version}, and 2 and 3 are known")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], given: Option<&str>, expected: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, bytes).unwrap();
        match (format_of(&path, given), expected) {
            (Ok(format), expected) => assert_eq!(Ok(format.as_str()), expected),
            (Err(DispatchError::BadDiskImage(why)), Err(part)) => {
                assert!(why.contains(part), "{why}");
            }
            (Err(other), expected) => panic!("{other} instead of {expected:?}"),
        }
    }

    fn qcow2(pieces: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        let sound: [(usize, &[u8]); 4] =
            [(0, b"QFI\xfb\0\0\0\x03"), (30, &[1, 0]), (39, &[1]), (46, &[2, 0])];
        for (at, piece) in sound.iter().chain(pieces) {
            bytes[*at..at + piece.len()].copy_from_slice(piece);
        }
        bytes
    }

    #[test]
    fn a_format_is_what_the_bytes_say_and_nothing_that_they_contradict() {
        check(b"any bytes", None, Ok("raw"));
        check(b"any bytes", Some("raw"), Ok("raw"));
        check(b"any bytes", Some("tar"), Ok("tar"));
        check(b"any bytes", Some("qcow2"), Err("said to be \"qcow2\""));
        check(b"any bytes", Some("../x"), Err("no name of a format"));
        check(&qcow2(&[]), None, Ok("qcow2"));
        check(&qcow2(&[]), Some("raw"), Err("those of qcow2"));
        check(b"", None, Err("empty"));
    }

    #[test]
    fn a_damaged_or_dependent_qcow2_is_refused_with_the_reason() {
        check(&qcow2(&[(14, &[1])]), None, Err("has a backing file"));
        check(&qcow2(&[(7, &[4])]), None, Err("version 4"));
        check(&qcow2(&[(30, &[0, 0])]), None, Err("0 bytes"));
        check(&qcow2(&[(46, &[4, 0])]), None, Err("ends before its qcow2 tables"));
        check(&qcow2(&[(40, &[0xff; 8])]), None, Err("ends before its qcow2 tables"));
        check(&qcow2(&[])[..40], None, Err("within its qcow2 header"));
    }
}
