//! Man pages and completion: made from the definition of the commands, and so complete.

mod cli_rig;

use cli_rig::{Answer, command};

/// As the contract names them.
const COMMANDS: [&str; 12] = [
    "base_image",
    "target_image",
    "provider_image",
    "import_base_image",
    "images",
    "delete",
    "plugins",
    "template",
    "logs",
    "cancel",
    "watch",
    "plugin",
];

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

#[test]
fn there_is_a_man_page_for_every_command_and_it_names_its_flags() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    let made = Answer::of(&mut command(folder.path(), &["man", pages.to_str().unwrap()]));
    assert_eq!(made.status, 0, "{made:?}");
    let page = |name: &str| std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
    let main = page("imagefactory");
    for command in COMMANDS {
        assert!(main.contains(&format!("imagefactory\\-{command}")), "{command} in {main}");
        assert!(page(&format!("imagefactory-{command}")).contains(".SH SYNOPSIS"), "{command}");
    }
    for flag in ["\\-\\-snapshot", "\\-\\-parameter", "\\-\\-template", "PROVIDER", "CREDENTIALS"] {
        let page = page("imagefactory-provider_image");
        assert!(page.contains(flag), "{flag} in {page}");
    }
    assert!(page("imagefactory-template-check").contains("FILE"));
    assert!(!pages.join("imagefactory-man.1").exists(), "hidden commands have no page");
}

#[test]
fn completion_scripts_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in SHELLS {
        let script = Answer::of(&mut command(folder.path(), &["completion", shell]));
        assert_eq!(script.status, 0, "{script:?}");
        for command in COMMANDS {
            assert!(script.stdout.contains(command), "{command} for {shell}");
        }
        assert!(script.stdout.contains("oauth-secret-file"), "{shell}");
    }
}

#[test]
fn the_bash_script_is_one_that_bash_reads() {
    let folder = tempfile::tempdir().unwrap();
    let script = Answer::of(&mut command(folder.path(), &["completion", "bash"]));
    let path = folder.path().join("imagefactory.bash");
    std::fs::write(&path, script.stdout).unwrap();
    let complete = "COMP_WORDS=(imagefactory import); COMP_CWORD=1; \
                    _imagefactory imagefactory import imagefactory; echo ${COMPREPLY[@]}";
    let mut bash = std::process::Command::new("bash");
    bash.arg("-c").arg(format!(". {}; {complete}", path.display()));
    let output = bash.output().unwrap();
    let completed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(completed.trim(), "import_base_image", "{output:?}");
}

#[test]
fn help_says_where_secrets_do_not_belong() {
    let folder = tempfile::tempdir().unwrap();
    let help = Answer::of(&mut command(folder.path(), &["--help"]));
    assert_eq!(help.status, 0, "{help:?}");
    assert!(help.stdout.contains("--oauth-secret-file"), "{help:?}");
    assert!(help.stdout.contains("process list"), "{help:?}");
    for command in COMMANDS {
        assert!(help.stdout.contains(&format!("  {command} ")), "{command}");
    }
}
