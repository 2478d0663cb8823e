//! `imagefactory plugin new`: a folder with a plugin that builds, loads and validates.
//!
//! The C plugin is the example of the SDK (`plugin-sdk/examples/c`) with its names replaced, so
//! that what authors begin with is what the tests of the SDK build. The Rust one stands in
//! `scaffold_rust/`. Existing folders are never touched.

use std::path::{Path, PathBuf};

use super::error::PluginError;

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Language {
    /// C99, the headers and libc
    C,
    /// The Rust SDK
    Rust,
}

/// The name that the C example goes by.
const EXAMPLE_ID: &str = "HelloOS";

const C_FILES: [(&str, &str); 4] = [
    ("plugin.c", include_str!("../../../../plugin-sdk/examples/c/hello_os.c")),
    ("exports.map", include_str!("../../../../plugin-sdk/examples/c/exports.map")),
    ("Makefile", include_str!("../../../../plugin-sdk/examples/c/Makefile")),
    ("{ID}.json", include_str!("../../../../plugin-sdk/examples/c/HelloOS.json")),
];

const RUST_FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("scaffold_rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("scaffold_rust/lib.rs.in")),
    ("Makefile", include_str!("scaffold_rust/Makefile.in")),
    ("{ID}.json", include_str!("scaffold_rust/manifest.json.in")),
];

const FIXTURES: &str = include_str!("scaffold_rust/validate.json.in");

/// Writes the plugin `id` into a new `folder`; answers what to do next.
pub(crate) fn write(
    id: &str,
    language: Language,
    folder: &Path,
    sdk: Option<&Path>,
) -> Result<String, PluginError> {
    if !is_id(id) {
        return Err(PluginError::BadId { id: id.to_owned() });
    }
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| PluginError::File { path, source }
    };
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(PluginError::Exists { path: folder.to_owned() });
        }
        made => made.map_err(file(folder))?,
    }
    let files = match language {
        Language::C => C_FILES,
        Language::Rust => RUST_FILES,
    };
    for (name, text) in files.into_iter().chain([("{ID}.validate.json", FIXTURES)]) {
        let path: PathBuf = folder.join(name.replace("{ID}", id));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(file(parent))?;
        }
        std::fs::write(&path, filled(text, id, sdk)).map_err(file(&path))?;
    }
    let shown = folder.display();
    Ok(format!(
        "{shown}: plugin {id}\n  make -C {shown}          builds {id}.so beside {id}.json\n  \
         make -C {shown} check    validates it\n"
    ))
}

/// The texts with their names filled in.
fn filled(text: &str, id: &str, sdk: Option<&Path>) -> String {
    let sdk = match sdk {
        Some(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            format!("{{ path = {:?}, default-features = false }}", path.display().to_string())
        }
        None => "{ version = \"1.0.0-rc.1\", default-features = false }".to_owned(),
    };
    text.replace("hello_os.c", "plugin.c")
        .replace(EXAMPLE_ID, id)
        .replace("{ID}", id)
        .replace("{CRATE}", &crate_name(id))
        .replace("{TYPE}", &type_name(id))
        .replace("{SDK}", &sdk)
}

/// As the manifest's schema has it.
fn is_id(id: &str) -> bool {
    let first = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    first && rest && id.len() <= 64
}

/// cargo takes letters, digits, '_' and '-', and wants a letter first.
fn crate_name(id: &str) -> String {
    let name: String = id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    format!("imagefactory_plugin_{name}")
}

/// A Rust type: `my-os` becomes `MyOs`; what begins with a digit gets a word before it.
fn type_name(id: &str) -> String {
    let words = id.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name: String = words
        .map(|word| {
            let (head, tail) = word.split_at(1); // one ASCII letter or digit
            head.to_ascii_uppercase() + tail
        })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("Plugin{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::{crate_name, is_id, type_name};

    #[test]
    fn every_id_becomes_names_that_rust_takes() {
        for (id, type_wanted, crate_wanted) in [
            ("MyOS", "MyOS", "imagefactory_plugin_myos"),
            ("my-os.2", "MyOs2", "imagefactory_plugin_my_os_2"),
            ("9p", "Plugin9p", "imagefactory_plugin_9p"),
        ] {
            assert!(is_id(id));
            assert_eq!(
                (type_name(id).as_str(), crate_name(id).as_str()),
                (type_wanted, crate_wanted)
            );
        }
        for id in ["", "-x", ".x", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(!is_id(id), "{id:?} must be refused");
        }
    }
}
