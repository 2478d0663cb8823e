//! What a plugin needs on this machine before a stage is worth starting: programs and devices.
//!
//! Asked when an order comes in, so that "qemu-img not found" is said at once and not after forty
//! minutes. Only looks; the host's version is judged with the manifest (`versions.rs`).

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use imagefactory_plugin_sdk::payload::manifest::Requires;

/// Each thing that is missing, as a sentence. `programs` are the folders of the stage's PATH.
pub fn missing(requires: &Requires, programs: &[PathBuf]) -> Vec<String> {
    let tools = requires.tools.iter().filter(|tool| !is_there(tool, programs));
    let devices = requires.devices.iter().filter(|device| !is_device(Path::new(device)));
    tools
        .map(|tool| format!("the program {tool} is not installed"))
        .chain(devices.map(|device| format!("the device {device} does not exist")))
        .collect()
}

fn is_there(tool: &str, programs: &[PathBuf]) -> bool {
    const EXECUTABLE: u32 = 0o111;
    programs.iter().any(|folder| {
        fs::metadata(folder.join(tool))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & EXECUTABLE != 0)
    })
}

/// A device node, or a folder of them (/dev/vfio).
fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| {
        let sort = found.file_type();
        sort.is_char_device() || sort.is_block_device() || sort.is_dir()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_what_is_there_is_not() {
        let requires = Requires {
            tools: vec!["sh".into(), "no-such-program".into()],
            devices: vec!["/dev/null".into(), "/dev/no-such-device".into()],
            host: None,
        };
        assert_eq!(
            missing(&requires, &["/usr/bin".into(), "/bin".into()]),
            [
                "the program no-such-program is not installed",
                "the device /dev/no-such-device does not exist"
            ]
        );
    }
}
