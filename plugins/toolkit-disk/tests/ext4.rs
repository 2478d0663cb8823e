//! The ext4 reader against e2fsprogs, which write the file systems, and the tree they were made
//! from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use imagefactory_toolkit_disk::ext4::{Entry, EntryKind, Ext4, Ext4Error};

/// Where the file system lies in the image: behind a table, as on a disk.
const OFFSET: u64 = 1 << 20;

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    /// A tree with everything that an ordinary user can make, and the rest by debugfs.
    fn new() -> Fixture {
        let fixture = Fixture { folder: tempfile::tempdir().unwrap() };
        let tree = fixture.tree();
        fs::create_dir_all(tree.join("deep/er/est")).unwrap();
        fs::write(tree.join("empty"), "").unwrap();
        fs::write(tree.join("deep/er/est/text"), "content\n").unwrap();
        fs::write(tree.join("large"), pattern(3_000_001)).unwrap();
        fs::hard_link(tree.join("large"), tree.join("deep/linked")).unwrap();
        symlink("short", tree.join("link")).unwrap();
        symlink("x/".repeat(100), tree.join("long-link")).unwrap();
        fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o4755)).unwrap();
        // More extents than an inode holds: a tree of them.
        let holes = File::create(tree.join("holes")).unwrap();
        for number in 0..900u64 {
            holes.write_all_at(&[(number % 200 + 1) as u8; 4096], number * 3 * 4096).unwrap();
        }
        holes.set_len(900 * 3 * 4096 + 17).unwrap();
        // More names than a block holds: a hash tree.
        fs::create_dir(tree.join("many")).unwrap();
        for number in 0..2000 {
            let name = format!("many/a name that takes some room in its folder {number:04}");
            fs::write(tree.join(name), "").unwrap();
        }
        fixture.make(&["-O", "metadata_csum,64bit"]);
        fixture.debugfs(
            "mknod zero c 1 5\nmknod disk b 8 17\nmknod pipe p\n\
             sif empty uid 70000\nsif empty gid 100001\nsif empty mtime @5000000000\n\
             ea_set large user.note hello\nea_set large security.capability -f cap\n\
             ea_set large user.big -f big\n",
        );
        fixture
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn make(&self, options: &[&str]) {
        File::create(self.image()).unwrap().set_len(OFFSET + (64 << 20)).unwrap();
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-E"]).arg(format!("offset={OFFSET}"));
        make.args(options).arg("-d").arg(self.tree()).arg(self.image()).arg("16384");
        check_runs(&mut make);
    }

    fn debugfs(&self, script: &str) {
        let folder = self.folder.path();
        // A capability (version 2, cap_net_raw), and a value that fits into no inode.
        fs::write(folder.join("cap"), capability()).unwrap();
        fs::write(folder.join("big"), vec![b'b'; 2000]).unwrap();
        fs::write(folder.join("script"), script).unwrap();
        let image = format!("{}?offset={OFFSET}", self.image().display());
        check_runs(
            Command::new("debugfs").current_dir(folder).args(["-w", "-f", "script", &image]),
        );
    }

    fn entries(&self) -> BTreeMap<PathBuf, Entry> {
        let file = File::open(self.image()).unwrap();
        let ext4 = Ext4::open(&file, OFFSET).unwrap();
        let mut entries = BTreeMap::new();
        ext4.walk::<Ext4Error>(|entry| {
            let before = entries.insert(entry.path.clone(), entry.clone());
            assert_eq!(before, None, "shown twice");
            Ok(())
        })
        .unwrap();
        entries
    }
}

fn check_runs(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("e2fsprogs are installed");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 7 % 251) as u8).collect()
}

fn capability() -> Vec<u8> {
    let words = [0x0200_0001u32, 1 << 13, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Names, modes, owners, times, links, symlinks and bytes as on this machine.
fn check_like_on_disk(ext4: &Ext4<'_>, tree: &Path, entry: &Entry) {
    let on_disk = fs::symlink_metadata(tree.join(&entry.path)).unwrap();
    let what = entry.path.display();
    assert_eq!(entry.mode, on_disk.mode() & 0o7777, "{what}");
    assert_eq!((entry.uid, entry.gid), (on_disk.uid(), on_disk.gid()), "{what}");
    assert_eq!(entry.modified_s, on_disk.mtime(), "{what}");
    match &entry.kind {
        EntryKind::Symlink(target) => {
            assert_eq!(*target, fs::read_link(tree.join(&entry.path)).unwrap(), "{what}");
        }
        EntryKind::File => {
            let mut read = Vec::new();
            ext4.content(entry).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == fs::read(tree.join(&entry.path)).unwrap(), "content of {what}");
            assert_eq!(u64::from(entry.links), on_disk.nlink(), "{what}");
        }
        EntryKind::Folder => assert!(on_disk.is_dir(), "{what}"),
        other => panic!("{what} is {other:?}"),
    }
}

fn names_below(folder: &Path, prefix: &Path, names: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = prefix.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            names_below(&entry.path(), &path, names);
        }
        names.push(path);
    }
}

#[test]
fn everything_in_the_tree_is_found_with_its_bytes_and_its_metadata() {
    let fixture = Fixture::new();
    let entries = fixture.entries();
    let file = File::open(fixture.image()).unwrap();
    let ext4 = Ext4::open(&file, OFFSET).unwrap();
    let by_debugfs = ["zero", "disk", "pipe", "empty"].map(PathBuf::from);
    for (path, entry) in &entries {
        if !by_debugfs.contains(path) && !path.as_os_str().is_empty() {
            check_like_on_disk(&ext4, &fixture.tree(), entry);
        }
    }
    let mut expected = vec![PathBuf::new()];
    names_below(&fixture.tree(), Path::new(""), &mut expected);
    expected.extend(["zero", "disk", "pipe"].map(PathBuf::from));
    expected.sort();
    let found: Vec<PathBuf> = entries.keys().cloned().collect();
    let odd = |these: &[PathBuf], those: &[PathBuf]| {
        these.iter().filter(|path| !those.contains(path)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(odd(&found, &expected), Vec::<PathBuf>::new(), "shown, but not there");
    assert_eq!(odd(&expected, &found), Vec::<PathBuf>::new(), "there, but not shown");
    let of = |path: &str| &entries[Path::new(path)];
    assert_eq!(of("large").inode, of("deep/linked").inode);
    assert_eq!(of("zero").kind, EntryKind::CharacterDevice(1, 5));
    assert_eq!(of("disk").kind, EntryKind::BlockDevice(8, 17));
    assert_eq!(of("pipe").kind, EntryKind::Fifo);
    let changed = of("empty");
    assert_eq!((changed.uid, changed.gid, changed.mode), (70_000, 100_001, 0o4755));
    assert_eq!(changed.modified_s, 5_000_000_000, "beyond 2038");
    let attributes = [
        ("security.capability".to_owned(), capability()),
        ("user.big".to_owned(), vec![b'b'; 2000]),
        ("user.note".to_owned(), b"hello".to_vec()),
    ];
    assert_eq!(of("large").attributes, attributes);
}

#[test]
fn holes_are_told_from_data() {
    let fixture = Fixture::new();
    let entries = fixture.entries();
    let file = File::open(fixture.image()).unwrap();
    let ext4 = Ext4::open(&file, OFFSET).unwrap();
    let ranges = ext4.content(&entries[Path::new("holes")]).unwrap().data_ranges();
    let expected: Vec<_> = (0..900).map(|it| it * 3 * 4096..(it * 3 + 1) * 4096).collect();
    assert_eq!(ranges, expected);
}

#[test]
fn what_cannot_be_read_correctly_is_refused_by_name() {
    let fixture = Fixture::new();
    let open = || {
        let file = File::open(fixture.image()).unwrap();
        Ext4::open(&file, OFFSET).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(open(), Ok(()));
    fixture.debugfs("feature needs_recovery");
    assert!(open().unwrap_err().contains("journal must be replayed"), "{:?}", open());
    let file = File::open(fixture.image()).unwrap();
    assert!(matches!(Ext4::open(&file, 0), Err(Ext4Error::NotExt4(0))));
    assert!(matches!(Ext4::open(&file, u64::MAX), Err(Ext4Error::NotExt4(_))));
}

#[test]
fn block_maps_and_inline_data_are_refused_and_not_misread() {
    for (options, says) in
        [(["-O", "^extent,^64bit"], "block by block"), (["-O", "inline_data"], "inode")]
    {
        let fixture = Fixture { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(fixture.tree()).unwrap();
        fs::write(fixture.tree().join("file"), "some text").unwrap();
        fixture.make(&options);
        let file = File::open(fixture.image()).unwrap();
        let read = Ext4::open(&file, OFFSET).and_then(|ext4| ext4.walk(|_| Ok(())));
        let error = read.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Deterministic, so that a failure comes again.
#[test]
fn damage_anywhere_is_an_error_or_other_content_but_never_a_panic_or_endless() {
    let fixture = Fixture::new();
    let mut sound = vec![0; 4 << 20];
    let open = || File::options().read(true).write(true).open(fixture.image()).unwrap();
    open().read_exact_at(&mut sound, OFFSET).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    for _ in 0..60 {
        let mut damaged = sound.clone();
        for _ in 0..200 {
            // Superblock, descriptors, bitmaps and inode tables lie in front.
            damaged[1024 + next(3 << 20) as usize] = next(256) as u8;
        }
        damaged[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
        damaged[1024 + 0x60..][..4].copy_from_slice(&[0xc2, 2, 0, 0]);
        let file = open();
        file.write_all_at(&damaged, OFFSET).unwrap();
        let Ok(ext4) = Ext4::open(&file, OFFSET) else { continue };
        // What it says does not matter; that it ends does.
        let walked = ext4.walk::<Ext4Error>(|entry| {
            if entry.kind == EntryKind::File {
                let content = ext4.content(entry)?;
                content.read_at(&mut [0; 4096], 0)?;
            }
            Ok(())
        });
        drop(walked);
    }
}
