//! The layer: a root file system as tar, the way container runtimes unpack it.
//!
//! Owners, modes, times, hard links, symlinks, extended attributes (capabilities among them) and
//! large holes are kept; the order is that of the paths. So the same file system gives the same
//! bytes.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use imagefactory_plugin_sdk::author::{Host, PluginError, Result};
use imagefactory_toolkit_disk::ext4::{Content, Entry, EntryKind};
use tar::{Builder, EntryType, Header};

use crate::root_file_system::{RootFileSystem, unreadable};
use crate::selection::{Fate, Selection};

/// Fewer zeros are not worth a form that some readers do not know.
const HOLES_BYTES_MIN: u64 = 1 << 20;

/// Labels of this machine's SELinux policy mean nothing where a container runs.
const HOST_ATTRIBUTES: [&str; 1] = ["security.selinux"];

/// The unit of tar.
const BLOCK: usize = 512;

/// How much is read between two reports.
const TELL_EVERY_BYTES: u64 = 4 << 20;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LayerFacts {
    /// Names in the layer.
    pub(crate) entries: u64,
    /// Names of the root file system that are not.
    pub(crate) left_out: u64,
    /// Of all files' contents.
    pub(crate) content_bytes: u64,
    /// When the newest file was modified, in seconds since 1970.
    pub(crate) newest_s: i64,
}

/// Writes the layer; `sink` is not flushed.
pub(crate) fn write_layer(
    host: &Host,
    root: &RootFileSystem<'_>,
    selection: &Selection,
    sink: impl Write,
) -> Result<LayerFacts> {
    let chosen: Vec<(&Entry, Fate)> = root
        .entries
        .iter()
        .map(|entry| (entry, selection.fate(entry)))
        .filter(|(_, fate)| *fate != Fate::LeftOut)
        .collect();
    let total = chosen.iter().map(|(entry, _)| entry.bytes).sum();
    let mut layer = Layer {
        builder: Builder::new(sink),
        watch: Watch { host, done: 0, told: 0, total },
        first_names: HashMap::new(),
    };
    let mut facts = LayerFacts {
        left_out: (root.entries.len() - chosen.len()) as u64,
        ..LayerFacts::default()
    };
    host.progress("layer", "reading the root file system", 0, total)?;
    for (entry, fate) in chosen {
        let added = layer.add(root, entry, fate);
        if added.is_err() {
            host.check_cancelled()?;
        }
        facts.content_bytes += added?;
        facts.entries += 1;
        facts.newest_s = facts.newest_s.max(entry.modified_s);
    }
    layer.builder.into_inner().map_err(not_written)?;
    Ok(facts)
}

fn not_written(error: io::Error) -> PluginError {
    PluginError::from(error).while_doing("the layer cannot be written")
}

struct Layer<'h, W: Write> {
    builder: Builder<W>,
    watch: Watch<'h>,
    /// By inode: where the content stands that further names are hard links to.
    first_names: HashMap<u32, PathBuf>,
}

impl<W: Write> Layer<'_, W> {
    /// Adds one entry; answers the bytes of its content.
    fn add(&mut self, root: &RootFileSystem<'_>, entry: &Entry, fate: Fate) -> Result<u64> {
        let mut header = Header::new_ustar();
        header.set_mode(entry.mode);
        header.set_uid(u64::from(entry.uid));
        header.set_gid(u64::from(entry.gid));
        header.set_mtime(u64::try_from(entry.modified_s).unwrap_or(0));
        header.set_size(0);
        let mut extensions = attributes(entry);
        match &entry.kind {
            EntryKind::Folder => header.set_entry_type(EntryType::Directory),
            EntryKind::Fifo => header.set_entry_type(EntryType::Fifo),
            EntryKind::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                set_link(&mut header, &mut extensions, target);
            }
            EntryKind::File => {
                if entry.links > 1 {
                    let first = self.first_names.entry(entry.inode);
                    let first = first.or_insert_with(|| entry.path.clone());
                    if *first != entry.path {
                        header.set_entry_type(EntryType::Link);
                        set_link(&mut header, &mut extensions, first);
                        extensions.retain(|(key, _)| !key.starts_with("SCHILY."));
                        return self.append(entry, header, extensions, io::empty());
                    }
                }
                header.set_entry_type(EntryType::Regular);
                if fate == Fate::Kept && entry.bytes > 0 {
                    return self.add_content(root, entry, header, extensions);
                }
            }
            // The selection leaves them out.
            EntryKind::Socket | EntryKind::CharacterDevice(..) | EntryKind::BlockDevice(..) => {
                return Ok(0);
            }
        }
        self.append(entry, header, extensions, io::empty())
    }

    fn add_content(
        &mut self,
        root: &RootFileSystem<'_>,
        entry: &Entry,
        mut header: Header,
        mut extensions: Extensions,
    ) -> Result<u64> {
        let content = root.ext4.content(entry).map_err(|error| unreadable(&error.to_string()))?;
        let ranges = content.data_ranges();
        let data: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if entry.bytes.saturating_sub(data) < HOLES_BYTES_MIN {
            header.set_size(entry.bytes);
            return self.append(entry, header, extensions, content);
        }
        // GNU's sparse format 1.0: the map stands in front of the data.
        let map = sparse_map(&ranges, entry.bytes);
        header.set_size(map.len() as u64 + data);
        let own = |key: &str, value: &[u8]| (format!("GNU.sparse.{key}"), value.to_vec());
        extensions.extend([
            own("major", b"1"),
            own("minor", b"0"),
            own("name", entry.path.as_os_str().as_bytes()),
            own("realsize", entry.bytes.to_string().as_bytes()),
        ]);
        let data = Data { content, ranges: ranges.into(), at: 0 };
        self.append(entry, header, extensions, io::Cursor::new(map).chain(data))
    }

    fn append(
        &mut self,
        entry: &Entry,
        mut header: Header,
        mut extensions: Extensions,
        content: impl Read,
    ) -> Result<u64> {
        let plain = |component| matches!(component, Component::Normal(_));
        if !entry.path.components().all(plain) {
            return Err(unreadable("it has a name that leads elsewhere"));
        }
        let mut path = entry.path.as_os_str().as_bytes().to_vec();
        if entry.kind == EntryKind::Folder {
            path.push(b'/');
        }
        if header.set_path(Path::new(std::ffi::OsStr::from_bytes(&path))).is_err() {
            extensions.push(("path".to_owned(), path));
            header.set_path("long-name").map_err(not_written)?;
        }
        header.set_cksum();
        if !extensions.is_empty() {
            let all = extensions.iter().map(|(key, value)| (key.as_str(), &value[..]));
            self.builder.append_pax_extensions(all).map_err(not_written)?;
        }
        let watched = Watched { content, watch: &mut self.watch };
        self.builder.append(&header, watched).map_err(not_written)?;
        Ok(header.size().unwrap_or(0))
    }
}

/// Records of a PAX header.
type Extensions = Vec<(String, Vec<u8>)>;

fn attributes(entry: &Entry) -> Extensions {
    let kept =
        entry.attributes.iter().filter(|(name, _)| !HOST_ATTRIBUTES.contains(&name.as_str()));
    kept.map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.clone())).collect()
}

fn set_link(header: &mut Header, extensions: &mut Extensions, target: &Path) {
    let target = target.as_os_str().as_bytes();
    if header.set_link_name_literal(target).is_err() {
        extensions.push(("linkpath".to_owned(), target.to_vec()));
    }
}

fn sparse_map(ranges: &[Range<u64>], bytes: u64) -> Vec<u8> {
    // The last entry, of no length, says where the file ends.
    let mut map = format!("{}\n", ranges.len() + 1);
    for range in ranges {
        map += &format!("{}\n{}\n", range.start, range.end - range.start);
    }
    map += &format!("{bytes}\n0\n");
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// The data of a file with holes, one range after the other.
struct Data<'e> {
    content: Content<'e>,
    ranges: std::collections::VecDeque<Range<u64>>,
    at: u64,
}

impl Read for Data<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(range) = self.ranges.front() {
            let at = self.at.max(range.start);
            if at < range.end {
                let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(into.len());
                let read = self.content.read_at(&mut into[..wanted], at);
                let read = read.map_err(io::Error::other)?;
                self.at = at + read as u64;
                return Ok(read);
            }
            self.ranges.pop_front();
        }
        Ok(0)
    }
}

/// Tells how far it is, and ends the work when the stage is to end.
struct Watch<'h> {
    host: &'h Host,
    done: u64,
    told: u64,
    total: u64,
}

struct Watched<'w, 'h, R> {
    content: R,
    watch: &'w mut Watch<'h>,
}

impl<R: Read> Read for Watched<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(into)?;
        let watch = &mut *self.watch;
        watch.done = (watch.done + read as u64).min(watch.total);
        if watch.done - watch.told >= TELL_EVERY_BYTES {
            watch.told = watch.done;
            let message = "reading the root file system";
            let told = watch.host.progress("layer", message, watch.done, watch.total);
            told.map_err(io::Error::other)?;
        }
        Ok(read)
    }
}
