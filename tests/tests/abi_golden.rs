//! The promise of `plugin-sdk/abi/`: what was released stays as it was.
//!
//! Each folder there holds the headers of one release, and the layout that they mean as JSON (for
//! the Rust side: what a semver checker would compare). Every declaration of every release must
//! stand in today's headers unchanged, comments excepted; structs marked Growable may have more
//! fields at the end. Today's text must equal the newest folder, so nothing changes unnoticed:
//! `UPDATE_GOLDEN=1` rewrites a folder whose name ends in `-rc` and refuses to touch any other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed, in its helping functions too"
)]

mod abi_reader;

use std::path::{Path, PathBuf};
use std::sync::Once;

use abi_reader::{Declaration, declarations, header_files, headers_in, root};
use imagefactory_plugin_sdk::abi;
use serde_json::{Map, Value, json};

/// The structs that may grow at the end; all others are as immutable as tables.
const GROWABLE: [&str; 5] =
    ["imgf_error", "imgf_journal_entry", "imgf_negotiate", "imgf_progress", "imgf_stage"];

fn releases() -> Vec<PathBuf> {
    static UPDATE: Once = Once::new();
    UPDATE.call_once(|| {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            rewrite(folders().last().expect("a newest release"));
        }
    });
    folders()
}

/// Folders of `plugin-sdk/abi`, oldest release first: `1.0-rc` before `1.0` before `1.1`.
fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("plugin-sdk/abi")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort_by_key(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (number, candidate) = match name.strip_suffix("-rc") {
            Some(number) => (number, true),
            None => (name.as_str(), false),
        };
        let (major, minor) =
            number.split_once('.').unwrap_or_else(|| panic!("{name}: MAJOR.MINOR"));
        (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap(), !candidate)
    });
    assert!(!found.is_empty(), "plugin-sdk/abi holds no release");
    found
}

fn rewrite(folder: &Path) {
    let name = folder.file_name().unwrap().to_string_lossy();
    assert!(name.ends_with("-rc"), "{name} is released: add a folder for the next version instead");
    let golden = folder.join("include/imagefactory");
    if golden.exists() {
        std::fs::remove_dir_all(&golden).unwrap();
    }
    std::fs::create_dir_all(&golden).unwrap();
    for (name, text) in header_files() {
        std::fs::write(golden.join(name), text).unwrap();
    }
    let layout = serde_json::to_string_pretty(&current_layout()).unwrap() + "\n";
    std::fs::write(folder.join("layout.json"), layout).unwrap();
}

fn read(headers: &[(String, String)]) -> Vec<Declaration> {
    headers.iter().flat_map(|(name, text)| declarations(name, text)).collect()
}

fn golden(folder: &Path) -> Vec<Declaration> {
    read(&headers_in(&folder.join("include/imagefactory")))
}

/// Why `new` is not what plugins compiled against `old` rely on; empty = it is.
fn broken_promises(old: &[Declaration], new: &[Declaration]) -> Vec<String> {
    let mut broken = Vec::new();
    // A macro may stand twice (IMGF_EXPORT, by compiler), so equality is asked before the name.
    for was in old.iter().filter(|was| !new.contains(was)) {
        let name = was.name();
        match (was, new.iter().find(|is| is.name() == name)) {
            (_, None) => broken.push(format!("{name} is gone")),
            (
                Declaration::Struct { fields: was, .. },
                Some(Declaration::Struct { fields: is, .. }),
            ) if GROWABLE.contains(&name) => {
                if !is.starts_with(was) {
                    broken.push(format!("{name} changed before its released end"));
                }
            }
            (was, Some(is)) => {
                let (was, is) = (was.canonical(), is.canonical());
                broken.push(format!("{name} was\n  {was}\nand is\n  {is}"));
            }
        }
    }
    broken
}

/// Fingerprint of everything that the headers declare (FNV-1a, 64 bits): names one state of the
/// text in the CHANGELOG. It guards against forgetting, not against malice.
fn fingerprint(declarations: &[Declaration]) -> String {
    let mut lines: Vec<String> = declarations.iter().map(Declaration::canonical).collect();
    lines.sort();
    let hash = lines.join("\n").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The twin's own account of itself, as `layout.json` keeps it.
fn current_layout() -> Value {
    let mut structs = Map::new();
    for layout in abi::LAYOUTS {
        let fields: Vec<Value> = layout
            .fields
            .iter()
            .map(|f| json!({"name": f.name, "offset": f.offset, "size": f.size}))
            .collect();
        structs.insert(layout.name.into(), json!({"size": layout.size, "fields": fields}));
    }
    let constants: Map<_, _> =
        abi::CONSTANTS.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
    let strings: Map<_, _> =
        abi::STRINGS.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
    json!({"structs": structs, "constants": constants, "strings": strings})
}

/// Why Rust code written against `old` would misread `new`; empty = it would not.
fn broken_layout(old: &Value, new: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for kind in ["constants", "strings"] {
        for (name, was) in old[kind].as_object().expect("a release lists them") {
            if new[kind][name] != *was {
                broken.push(format!("{name} was {was} and is {}", new[kind][name]));
            }
        }
    }
    for (name, was) in old["structs"].as_object().expect("a release lists its structs") {
        let is = &new["structs"][name];
        let (Some(old_fields), Some(new_fields)) =
            (was["fields"].as_array(), is["fields"].as_array())
        else {
            broken.push(format!("{name} is gone"));
            continue;
        };
        let grown = GROWABLE.contains(&name.as_str()) && new_fields.starts_with(old_fields);
        if was != is && !grown {
            broken.push(format!("{name} was\n  {was}\nand is\n  {is}"));
        }
    }
    broken
}

#[test]
fn every_declaration_of_every_release_stands_unchanged() {
    let today = read(&header_files());
    for release in releases() {
        let released = golden(&release);
        assert!(released.len() > 60, "{}: only {} declarations", release.display(), released.len());
        let broken = broken_promises(&released, &today);
        assert!(broken.is_empty(), "{}:\n{}", release.display(), broken.join("\n"));
    }
}

#[test]
fn every_released_layout_of_the_rust_twin_stands_unchanged() {
    for release in releases() {
        let text = std::fs::read_to_string(release.join("layout.json")).unwrap();
        let released: Value = serde_json::from_str(&text).unwrap();
        let broken = broken_layout(&released, &current_layout());
        assert!(broken.is_empty(), "{}:\n{}", release.display(), broken.join("\n"));
    }
}

#[test]
fn the_newest_release_holds_everything_that_the_headers_say_today() {
    let releases = releases();
    let newest = releases.last().unwrap();
    let way_out = "after a CHANGELOG line: UPDATE_GOLDEN=1 cargo test --test abi_golden";
    assert_eq!(fingerprint(&golden(newest)), fingerprint(&read(&header_files())), "{way_out}");
    let text = std::fs::read_to_string(newest.join("layout.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), current_layout(), "{way_out}");
}

#[test]
fn the_changelog_has_a_line_for_the_state_of_every_release() {
    let changelog = std::fs::read_to_string(root().join("plugin-sdk/CHANGELOG.md")).unwrap();
    for release in releases() {
        let state = fingerprint(&golden(&release));
        let name = release.file_name().unwrap().to_string_lossy();
        assert!(
            changelog.lines().any(|line| line.contains(&state)),
            "plugin-sdk/CHANGELOG.md: add a line under {name} that says what changed, with the \
             fingerprint `{state}`"
        );
    }
}

#[test]
fn the_headers_mark_exactly_the_growable_structs_and_all_but_text_begin_with_their_size() {
    let mut marked = Vec::new();
    for (name, text) in header_files() {
        for part in text.split("/* Growable").skip(1) {
            let (_, rest) = part.split_once("typedef struct ").unwrap_or_else(|| panic!("{name}"));
            marked.push(rest.split(' ').next().unwrap().to_string());
        }
        for declaration in declarations(&name, &text) {
            if let Declaration::Struct { name, fields } = declaration {
                let begins = fields[0].text == "uint32_t struct_size";
                assert!(begins || name == "imgf_str", "{name} does not begin with struct_size");
            }
        }
    }
    marked.sort();
    assert_eq!(marked, GROWABLE);
}

#[test]
fn a_removed_changed_or_reordered_declaration_is_a_broken_promise() {
    let old = read(&[("a.h".into(), HEADER.into())]);
    let check = |what: &str, from: &str, to: &str, broken: usize| {
        assert!(HEADER.contains(from), "{from}");
        let new = read(&[("a.h".into(), HEADER.replace(from, to))]);
        assert_eq!(broken_promises(&old, &new).len(), broken, "{what}");
    };
    check("nothing", "uint32_t", "uint32_t", 0);
    check("a comment", "/* why */", "/* another reason */", 0);
    check("a new constant", "#define IMGF_B", "#define IMGF_NEW 3\n#define IMGF_B", 0);
    check("growth at the end", "} imgf_stage;", "uint32_t more; } imgf_stage;", 0);
    check("a removed constant", "#define IMGF_A 1", "", 1);
    check("another value", "IMGF_A 1", "IMGF_A 2", 1);
    check("another text", "one/1", "one/2", 1);
    check("growth of a table", "} imgf_os_v1;", "uint32_t more; } imgf_os_v1;", 1);
    check("growth in the middle", "uint64_t then;", "uint32_t x; uint64_t then;", 1);
    check("another parameter", "int32_t x)", "uint32_t x)", 1);
    check("another return type", "int32_t imgf_f(", "void imgf_f(", 1);
}

const HEADER: &str = "/* why */\n#define IMGF_A 1\n#define IMGF_B \"one/1\"\n\
    typedef struct imgf_stage { uint32_t struct_size; uint64_t then; } imgf_stage;\n\
    typedef struct imgf_os_v1 { uint32_t struct_size; int32_t (*f)(int32_t x); } imgf_os_v1;\n\
    int32_t imgf_f(void);\n";

#[test]
fn a_moved_or_missing_field_of_the_twin_is_a_broken_promise() {
    let old = current_layout();
    let check = |what: &str, change: &dyn Fn(&mut Value), broken: usize| {
        let mut new = old.clone();
        change(&mut new);
        assert_eq!(broken_layout(&old, &new).len(), broken, "{what}");
    };
    let last = json!({"name": "more", "offset": 184, "size": 8});
    check("nothing", &|_| {}, 0);
    check(
        "growth",
        &|v| v["structs"]["imgf_stage"]["fields"].as_array_mut().unwrap().push(last.clone()),
        0,
    );
    check(
        "a grown table",
        &|v| v["structs"]["imgf_os_v1"]["fields"].as_array_mut().unwrap().push(last.clone()),
        1,
    );
    check("a moved field", &|v| v["structs"]["imgf_stage"]["fields"][3]["offset"] = json!(24), 1);
    check("a lost struct", &|v| drop(v["structs"].as_object_mut().unwrap().remove("imgf_str")), 1);
    check("another value", &|v| v["constants"]["IMGF_E_IO"] = json!(99), 1);
    check("another id", &|v| v["strings"]["IMGF_IFACE_OS_V1"] = json!("imagefactory.os/2"), 1);
}
