//! House rules that a machine can hold: sizes, head comments, open ends, paths, links, commands.
//!
//! Each rule is a function from files to complaints, so that a planted file shows that it objects.
//! The rules are those of docs/ (style) and of this repository's README; formatting is rustfmt's
//! business.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use imagefactory_plugin_sdk::payload::manifest::Manifest;
use imagefactory_tests::binaries;
use imagefactory_tests::source_tree::{self, SourceFile, code_of};

/// A file beyond this is two concepts (style, rule 1).
const LINES_MAX: usize = 500;

/// Of code and comments; tables in documents may be wider, and so may a text that cannot be broken.
const COLUMNS_MAX: usize = 100;

const CODE: [&str; 6] = ["rs", "c", "h", "cpp", "sh", "py"];
const TEXT: [&str; 12] =
    ["rs", "c", "h", "cpp", "sh", "py", "md", "toml", "json", "yaml", "yml", "Makefile"];

/// Renewed by a program, or kept as they were released.
fn is_golden(source: &SourceFile) -> bool {
    source.path.starts_with("plugin-sdk/abi/") || source.path.contains("/golden")
}

fn complaints(files: &[SourceFile], rule: impl Fn(&SourceFile) -> Vec<String>) -> Vec<String> {
    files.iter().filter(|file| !is_golden(file)).flat_map(rule).collect()
}

fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn check_planted(path: &str, text: &str, rule: impl Fn(&SourceFile) -> Vec<String>) {
    let planted = SourceFile::planted(path, text);
    assert!(!rule(&planted).is_empty(), "the rule does not object to {planted:?}");
}

// ---- sizes ----

#[test]
fn no_file_of_code_is_longer_than_500_lines() {
    none(complaints(&source_tree::files(&CODE), too_long));
    check_planted("a.rs", &"line\n".repeat(LINES_MAX + 1), too_long);
}

fn too_long(source: &SourceFile) -> Vec<String> {
    let lines = source.text.lines().count();
    let complaint = format!("{} has {lines} lines; at most {LINES_MAX}", source.path);
    (lines > LINES_MAX).then_some(complaint).into_iter().collect()
}

#[test]
fn no_line_of_code_is_wider_than_100_columns() {
    none(complaints(&source_tree::files(&CODE), too_wide));
    check_planted("a.rs", &"x".repeat(COLUMNS_MAX + 1), too_wide);
    check_planted("a.rs", &format!("// {}", "x".repeat(COLUMNS_MAX)), too_wide);
    let text = SourceFile::planted("a.rs", &format!("let a = \"{}\";", "x".repeat(COLUMNS_MAX)));
    assert_eq!(too_wide(&text), Vec::<String>::new());
}

fn too_wide(source: &SourceFile) -> Vec<String> {
    let code = if source.extension() == "rs" { code_of(&source.text) } else { source.text.clone() };
    let lines = source.lines().zip(code.lines());
    let wide = lines.filter(|((_, line), code)| {
        let is_comment = line.trim_start().starts_with("//");
        // rustfmt leaves a line alone whose text is too long; what counts is the code around it.
        let counted = if is_comment { line } else { code.trim_end() };
        counted.chars().count() > COLUMNS_MAX
            && line.chars().count() > COLUMNS_MAX
            && (is_comment || around_text(line).chars().count() > COLUMNS_MAX)
    });
    wide.map(|((number, _), _)| format!("{}:{number} is too wide", source.path)).collect()
}

/// A line without what stands between its first and its last quote.
fn around_text(line: &str) -> String {
    match (line.find('"'), line.rfind('"')) {
        (Some(first), Some(last)) => format!("{}{}", &line[..first], &line[last..]),
        _ => line.to_owned(),
    }
}

// ---- head comments ----

#[test]
fn every_file_of_code_says_first_what_lives_in_it() {
    none(complaints(&source_tree::files(&CODE), headless));
    check_planted("a.rs", "use std::fs;\n//! late", headless);
    check_planted("a.sh", "#!/bin/sh\nset -e\n", headless);
}

fn headless(source: &SourceFile) -> Vec<String> {
    let mut lines = source.text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or("");
    let head = if first.starts_with("#!/") { lines.next().unwrap_or("") } else { first };
    let wanted: &[&str] = match source.extension() {
        "rs" => &["//!"],
        "c" | "h" | "cpp" => &["/*", "//"],
        "py" => &["\"\"\"", "#"],
        _ => &["#"],
    };
    let has_head = wanted.iter().any(|start| head.starts_with(start));
    let complaint = format!("{} does not begin with a head comment", source.path);
    (!has_head).then_some(complaint).into_iter().collect()
}

// ---- open ends ----

#[test]
fn whatever_is_open_has_an_issue() {
    none(complaints(&source_tree::files(&TEXT), open_ends));
    // In pieces, so that this file itself has no open end.
    check_planted("a.rs", concat!("// TO", "DO: later"), open_ends);
    check_planted("a.rs", concat!("// FIX", "ME later"), open_ends);
    check_planted("a.md", concat!("It is a list for", " now."), open_ends);
    let with_issue = SourceFile::planted("a.rs", concat!("// TO", "DO(#41): with an issue"));
    assert_eq!(open_ends(&with_issue), Vec::<String>::new());
}

fn open_ends(source: &SourceFile) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in source.lines() {
        for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
            for (at, _) in line.match_indices(word) {
                let before = line[..at].chars().last();
                let after = &line[at + word.len()..];
                let is_word = !before.is_some_and(char::is_alphanumeric)
                    && !after.starts_with(|next: char| next.is_alphanumeric() || next == '_');
                if is_word && !after.starts_with("(#") {
                    found.push(format!("{}:{number}: {word} without an issue", source.path));
                }
            }
        }
        if line.to_lowercase().contains(concat!("for", " now")) {
            found.push(format!("{}:{number}: a makeshift without an issue", source.path));
        }
    }
    found
}

// ---- paths of one machine ----

#[test]
fn no_path_of_one_machine_is_committed() {
    none(complaints(&source_tree::files(&TEXT), machine_paths));
    check_planted("a.md", concat!("see /wo", "rk/main/x"), machine_paths);
    check_planted("a.rs", concat!("\"/root/", ".cargo/bin\""), machine_paths);
}

fn machine_paths(source: &SourceFile) -> Vec<String> {
    let paths = [
        concat!("/wo", "rk/main"),
        concat!("/wo", "rk/shared"),
        concat!("/wo", "rk/."),
        concat!("/root/", ".cargo"),
        concat!("/tmp/", "brief"),
    ];
    let lines = source.lines().filter(|(_, line)| paths.iter().any(|path| line.contains(path)));
    lines.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())).collect()
}

// ---- manifests ----

#[test]
fn every_manifest_is_valid_and_called_by_its_id() {
    let all = source_tree::files(&["json"]);
    let manifests: Vec<SourceFile> = all.into_iter().filter(is_manifest).collect();
    none(manifests.iter().flat_map(invalid_manifest).collect());
    check_planted("plugin-manifests/A.json", "{\"id\":\"A\"}", invalid_manifest);
    check_planted("plugin-manifests/A.json", "{", invalid_manifest);
}

/// Of the plugins that we ship, and of the lawful and hostile fixtures; broken ones have their own
/// test.
fn is_manifest(source: &SourceFile) -> bool {
    let name = source.path.rsplit('/').next().unwrap_or("");
    let schema = name.contains("schema");
    let fixture = ["steady", "hostile"]
        .iter()
        .any(|fixture| source.path.starts_with(&format!("tests/fixtures/{fixture}/")));
    !schema && (source.path.starts_with("plugin-manifests/") || fixture)
}

fn invalid_manifest(source: &SourceFile) -> Vec<String> {
    let name = source.path.rsplit('/').next().unwrap_or("");
    match Manifest::parse(source.text.as_bytes(), name.trim_end_matches(".json")) {
        Err(error) => vec![format!("{}: {error}", source.path)],
        Ok((_, warnings)) => {
            warnings.iter().map(|warning| format!("{}: {warning:?}", source.path)).collect()
        }
    }
}

// ---- documents ----

#[test]
fn every_link_of_a_document_leads_somewhere() {
    none(complaints(&source_tree::files(&["md"]), dead_links));
    check_planted("docs/A.md", "see [it](nowhere.md)", dead_links);
    check_planted("docs/A.md", "# Here\nsee [it](#there)", dead_links);
}

fn dead_links(source: &SourceFile) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in source.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (_, rest) in line.match_indices("](").map(|(at, _)| line.split_at(at + 2)) {
            let link = rest.split([')', ' ']).next().unwrap_or("");
            if !link.contains("://") && !link.starts_with("mailto:") && !leads(source, link) {
                found.push(format!("{}:{number}: {link} leads nowhere", source.path));
            }
        }
    }
    found
}

fn leads(source: &SourceFile, link: &str) -> bool {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let root = binaries::workspace();
    let folder =
        root.join(&source.path).parent().map(std::path::Path::to_owned).unwrap_or_default();
    let text = if path.is_empty() {
        source.text.clone()
    } else {
        let target = folder.join(path);
        if !target.exists() {
            return false;
        }
        std::fs::read_to_string(target).unwrap_or_default()
    };
    anchor.is_empty() || anchors(&text).iter().any(|known| known == anchor)
}

/// The anchors of a document's headings, as the usual renderers make them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let titles = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: &char| c.is_alphanumeric() || *c == '-' || *c == '_' || *c == ' ';
    titles.map(|title| title.chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_make_command_of_a_document_is_in_the_makefile() {
    let makefiles = source_tree::files(&["Makefile"]);
    let makefile = makefiles.iter().find(|file| file.path == "Makefile").expect("a Makefile");
    let unknown = |source: &SourceFile| unknown_commands(source, makefile);
    none(complaints(&source_tree::files(&["md"]), unknown));
    check_planted("README.md", "```sh\nmake no-such-goal\n```", unknown);
}

/// `make GOAL` in blocks of code and in `quoted` code.
fn unknown_commands(source: &SourceFile, makefile: &SourceFile) -> Vec<String> {
    let goals: Vec<&str> = makefile
        .text
        .lines()
        .filter(|line| !line.starts_with(['\t', '#', '.', ' ']))
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(names, _)| names.split_whitespace())
        .collect();
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in source.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        let commands: Vec<&str> = if in_code {
            vec![line.trim().trim_start_matches("$ ")]
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        for command in commands {
            let Some(arguments) = command.strip_prefix("make ") else { continue };
            let named = arguments.split_whitespace().take_while(|word| !word.starts_with('#'));
            for goal in named.filter(|word| !word.contains('=') && !word.starts_with('-')) {
                if !goals.contains(&goal) {
                    found.push(format!("{}:{number}: make has no goal {goal}", source.path));
                }
            }
        }
    }
    found
}
