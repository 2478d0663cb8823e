//! Rules 006 to 013: the library's file, without executing any of it.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::elf::{ElfFacts, own_machine};
use super::seen::Seen;
use super::subject::Subject;

/// The one symbol of a plugin.
const ENTRY: &str = "imagefactory_plugin_negotiate";
/// abi_stable's root module, whatever its version.
const SIDE_CAR_PREFIX: &str = "_1as_0lib_1header";
/// Where the dynamic linker looks besides its configuration.
const LIBRARY_FOLDERS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// `/etc/ld.so.conf` includes a folder of files, which could include others.
const LOADER_FILES_MAX: usize = 256;

/// 006.
pub(crate) fn lies_where_it_may(subject: &Subject, seen: &mut Seen) {
    for problem in subject.problems.iter().filter(|problem| problem.pointer == "/library/path") {
        seen.failed(problem.to_string());
    }
    let Some(library) = &subject.library else {
        seen.failed(
            "the manifest names no library; a Python plugin of the original is never executed",
        );
        return;
    };
    let named = Path::new(subject.text("/library/path"));
    if named.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        seen.failed(format!("library.path {} leaves the manifest's folder", named.display()));
        return;
    }
    let meta = match std::fs::symlink_metadata(library) {
        Ok(meta) => meta,
        Err(error) => {
            seen.failed(format!("{}: {error}", library.display()));
            return;
        }
    };
    if !meta.is_file() {
        seen.failed(format!("{} is no regular file", library.display()));
    }
    for path in [library.as_path(), &subject.manifest_path] {
        let mode = std::fs::metadata(path).map_or(0, |meta| meta.mode());
        if mode & 0o022 != 0 {
            let shown = path.display();
            seen.failed(format!(
                "{shown} may be written by others (mode {:o}); chmod go-w {shown}",
                mode & 0o7777
            ));
        }
    }
}

/// 007.
pub(crate) fn has_its_checksum(subject: &Subject, seen: &mut Seen) {
    for problem in subject.problems.iter().filter(|problem| problem.pointer == "/library/sha256") {
        seen.failed(problem.to_string());
    }
    let wanted = subject.text("/library/sha256");
    if wanted.is_empty() {
        seen.note("the manifest has no checksum");
        return;
    }
    let Some(library) = &subject.library else { return };
    match checksum(library) {
        Ok(found) if found.eq_ignore_ascii_case(wanted) => {}
        Ok(found) => seen.failed(format!(
            "{} has sha256 {found}, the manifest says {wanted}",
            library.display()
        )),
        Err(error) => seen.failed(format!("{}: {error}", library.display())),
    }
}

fn checksum(path: &Path) -> std::io::Result<String> {
    use std::fmt::Write;
    let mut digest = Sha256::new();
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    Ok(digest.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok(); // a String takes everything
        text
    }))
}

/// 008.
pub(crate) fn is_a_shared_object(subject: &Subject, seen: &mut Seen) {
    let facts = match &subject.elf {
        Ok(facts) => facts,
        Err(reason) => {
            seen.failed(reason);
            return;
        }
    };
    if !facts.is_shared {
        seen.failed("it is no shared object (ET_DYN); link it with -shared");
    }
    if let Some(own) = own_machine().filter(|own| *own != facts.machine) {
        seen.failed(format!(
            "it was built for machine {}, this one is {own} ({})",
            facts.machine,
            std::env::consts::ARCH
        ));
    }
}

/// The facts, where rule 008 is met; these rules need it.
fn facts(subject: &Subject) -> Option<&ElfFacts> {
    subject.elf.as_ref().ok()
}

/// 009.
pub(crate) fn exports_its_entry(subject: &Subject, seen: &mut Seen) {
    let Some(facts) = facts(subject) else { return };
    if !facts.exports.iter().any(|name| name == ENTRY) {
        seen.failed(format!("it does not export {ENTRY}"));
    }
    let others =
        facts.exports.iter().filter(|name| *name != ENTRY && !name.starts_with(SIDE_CAR_PREFIX));
    let others: Vec<&str> = others.map(String::as_str).collect();
    if !others.is_empty() {
        let shown = others.iter().take(6).copied().collect::<Vec<_>>().join(", ");
        seen.advise(format!(
            "it exports {} other symbols ({shown}); compile with -fvisibility=hidden and link with \
             a version script",
            others.len()
        ));
    }
}

/// 010.
pub(crate) fn is_hardened(subject: &Subject, seen: &mut Seen) {
    let Some(facts) = facts(subject) else { return };
    if facts.executable_stack {
        seen.failed("it asks for an executable stack; link with -Wl,-z,noexecstack");
    }
    if facts.text_relocations {
        seen.failed("it has text relocations; compile everything with -fPIC");
    }
    if !facts.relro {
        seen.advise("it has no RELRO; link with -Wl,-z,relro");
    }
    if !facts.bind_now {
        seen.advise("it is bound lazily; link with -Wl,-z,now");
    }
}

/// 011.
pub(crate) fn has_no_run_path(subject: &Subject, seen: &mut Seen) {
    let Some(facts) = facts(subject) else { return };
    for path in &facts.run_paths {
        if path.contains("$ORIGIN") || path.contains("${ORIGIN}") {
            seen.failed(format!(
                "its run path {path} has $ORIGIN; the library is loaded by descriptor, so it would \
                 mean /proc/self/fd"
            ));
        } else if !Path::new(path).starts_with(subject.folder()) {
            seen.failed(format!(
                "its run path {path} lies outside of {}",
                subject.folder().display()
            ));
        }
    }
}

/// 012.
pub(crate) fn finds_its_libraries(subject: &Subject, seen: &mut Seen) {
    let Some(facts) = facts(subject) else { return };
    let folders = library_folders(facts);
    for needed in &facts.needed {
        let found = match needed.contains('/') {
            true => Path::new(needed).is_file(),
            false => folders.iter().any(|folder| folder.join(needed).is_file()),
        };
        if !found {
            seen.failed(format!("{needed} is needed and not in any library folder"));
        }
        if needed.starts_with("libpython") {
            seen.advise(format!(
                "{needed} brings an interpreter with threads, handlers and fork rules of its own"
            ));
        }
    }
    let ssl: Vec<&String> =
        facts.needed.iter().filter(|name| name.starts_with("libssl.")).collect();
    if ssl.len() > 1 {
        seen.advise(format!("two OpenSSL libraries are needed: {ssl:?}"));
    }
}

/// Run path, the loader's configuration, the loader's own folders.
fn library_folders(facts: &ElfFacts) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = facts.run_paths.iter().map(PathBuf::from).collect();
    let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
    let mut read = 0;
    while let Some(file) = files.pop().filter(|_| read < LOADER_FILES_MAX) {
        read += 1;
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            match line.strip_prefix("include ") {
                // Debian and Fedora include `ld.so.conf.d/*.conf`; no other pattern occurs.
                Some(pattern) => {
                    let folder = Path::new("/etc")
                        .join(Path::new(pattern.trim()).parent().unwrap_or(Path::new("")));
                    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                    files.extend(
                        entries
                            .map(|entry| entry.path())
                            .filter(|path| path.extension().is_some_and(|e| e == "conf")),
                    );
                }
                None if line.starts_with('/') => folders.push(line.into()),
                None => {}
            }
        }
    }
    folders.extend(LIBRARY_FOLDERS.iter().map(PathBuf::from));
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    folders.extend(["/lib", "/usr/lib"].map(|folder| Path::new(folder).join(&triplet)));
    folders
}

/// 013.
pub(crate) fn fits_the_c_library(subject: &Subject, seen: &mut Seen) {
    let Some(facts) = facts(subject) else { return };
    let required = facts.versions.iter().filter_map(|name| name.strip_prefix("GLIBC_"));
    let Some(highest) = required.filter_map(glibc_version).max() else {
        seen.note("no version of glibc is required");
        return;
    };
    seen.note(format!("the highest required version of glibc is {}.{}", highest.0, highest.1));
    if let Some(own) = own_glibc().filter(|own| *own < highest) {
        seen.failed(format!(
            "it requires glibc {}.{}, this machine has {}.{}; build it on the oldest release that \
             it is for",
            highest.0, highest.1, own.0, own.1
        ));
    }
}

/// `2.34` and `2.2.5` → (2, 34) and (2, 2); names such as `PRIVATE` are none.
fn glibc_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The highest version that the C library of this machine defines.
fn own_glibc() -> Option<(u32, u32)> {
    let folders = library_folders(&ElfFacts::default());
    let library = folders.iter().map(|folder| folder.join("libc.so.6")).find(|at| at.is_file())?;
    let facts = ElfFacts::read(&library).ok()?;
    let defined = facts.defined_versions.iter().filter_map(|name| name.strip_prefix("GLIBC_"));
    defined.filter_map(glibc_version).max()
}
