//! The boot test itself, on guests of one sector that QEMU really runs: each says what a real one
//! would say on its console, within a second.

use imagefactory_plugin_sdk::abi::*;

use super::multi_user;
use crate::DebianOs;
use crate::fake_host::{FakeHost, PluginInstance, StageTexts};
use crate::libvirt_server::{self, LibvirtServer};

const BOOT_SECTOR_BYTES: usize = 512;

/// What the guest does when it has said its text.
#[derive(Clone, Copy)]
enum Then {
    Waits,
    Resets,
}

/// A boot sector that writes a text to the first serial port (16-bit code; the text follows it).
fn guest_that_says(text: &str, then: Then) -> Vec<u8> {
    let end: &[u8] = match then {
        Then::Waits => &[0xf4, 0xeb, 0xfd], // hlt, again
        Then::Resets => &[0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe], // the keyboard controller's reset
    };
    let head = 20 + end.len();
    let at = (0x7c00 + head) as u16;
    let [low, high] = at.to_le_bytes();
    let mut code = vec![
        0xfa, // cli
        0x31, 0xc0, 0x8e, 0xd8, // ds = 0
        0xbe, low, high, // si = the text
        0xba, 0xf8, 0x03, // dx = 0x3f8
        0xfc, // cld
        0xac, 0x84, 0xc0, 0x74, 0x03, // lodsb; at 0: leave
        0xee, 0xeb, 0xf8, // out; again
    ];
    code.extend_from_slice(end);
    code.extend_from_slice(text.as_bytes());
    assert!(code.len() < 510, "the text is too long for one sector");
    code.resize(BOOT_SECTOR_BYTES - 2, 0);
    code.extend([0x55, 0xaa]);
    // A disk has more than a sector.
    code.resize(1 << 20, 0);
    code
}

/// An image in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
}

struct Tried {
    status: i32,
    host: Box<FakeHost>,
}

impl Tried {
    fn artifacts(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.host.record().artifacts.iter().map(|(name, ..)| name.clone()).collect();
        names.sort();
        names
    }
}

impl Place {
    fn of(guest: &[u8]) -> Place {
        let folder = tempfile::tempdir().unwrap();
        for name in ["work", "cache"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("image.raw"), guest).unwrap();
        Place { folder }
    }

    fn verify(&self, parameters: &str, accelerator: &str) -> Tried {
        let accelerator = format!("\"{accelerator}\"");
        self.verify_with(parameters, &[("boot_accelerator", &accelerator)])
    }

    /// With these settings, as JSON.
    fn verify_with(&self, parameters: &str, settings: &[(&str, &str)]) -> Tried {
        let host = FakeHost::new();
        for (kind, name) in [
            (IMGF_PATH_INPUT_IMAGE, "image.raw"),
            (IMGF_PATH_WORK_DIR, "work"),
            (IMGF_PATH_CACHE_DIR, "cache"),
        ] {
            let path = self.folder.path().join(name);
            host.record().paths.insert(kind, path.to_str().unwrap().to_owned());
        }
        for (name, value) in settings {
            host.record().config.insert((*name).to_owned(), (*value).to_owned());
        }
        let plugin = imagefactory_plugin_sdk::os_plugin!(DebianOs);
        let instance = PluginInstance::create(plugin, &host).unwrap();
        let verify: &imgf_os_verify_v1 = instance.table(IMGF_IFACE_OS_VERIFY_V1).unwrap();
        let stage =
            StageTexts { parameters_json: Some(parameters.to_owned()), ..StageTexts::new() };
        let status = instance.run(verify.verify_image, &stage);
        drop(instance);
        Tried { status, host }
    }
}

#[test]
fn a_guest_that_reaches_multi_user_is_proven_with_log_and_screen() {
    let text = format!("localhost login: \r\n{}\r\n", multi_user::LINE);
    let place = Place::of(&guest_that_says(&text, Then::Waits));
    let tried = place.verify("{}", "tcg");
    assert_eq!(tried.status, IMGF_OK, "{:?}", tried.host.record().errors);
    let proof = tried.host.result("verified").unwrap();
    assert!(proof.contains("\"ok\":true") && proof.contains("bios, QEMU, tcg"), "{proof}");
    assert_eq!(tried.artifacts(), ["screenshot-bios.png", "serial-bios.log"]);
    let record = tried.host.record();
    let screen = record.artifacts.iter().find(|(name, ..)| name.ends_with("png")).unwrap();
    let bytes = std::fs::read(&screen.2).unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{} bytes", bytes.len());
}

#[test]
fn a_guest_that_panics_fails_with_its_last_lines_and_the_same_papers() {
    let text = "[    0.9] No init found\r\n[    1.0] Kernel panic - not syncing: No working init";
    let tried = Place::of(&guest_that_says(text, Then::Waits)).verify("{}", "tcg");
    assert_ne!(tried.status, IMGF_OK);
    let error = tried.host.the_error();
    assert!(error.message.contains("'Kernel panic'"), "{}", error.message);
    assert!(error.message.contains("No init found | "), "{}", error.message);
    assert_eq!(tried.artifacts(), ["screenshot-bios.png", "serial-bios.log"]);
    assert_eq!(tried.host.result("verified"), None);
}

#[test]
fn a_guest_that_starts_anew_or_says_nothing_does_not_boot() {
    let tried = Place::of(&guest_that_says("GRUB loading.\r\n", Then::Resets)).verify("{}", "tcg");
    let error = tried.host.the_error();
    assert!(error.message.contains("powered itself off or started anew"), "{}", error.message);
    assert!(error.message.ends_with("GRUB loading."), "{}", error.message);

    let tried = Place::of(&guest_that_says("localhost login: ", Then::Waits))
        .verify(r#"{"boot_timeout_s":3}"#, "tcg");
    let error = tried.host.the_error();
    assert!(error.message.contains("within 3 s"), "{}", error.message);
    assert!(error.message.contains("waiting for multi-user.target"), "{}", error.message);
    assert_eq!(tried.artifacts(), ["screenshot-bios.png", "serial-bios.log"]);
}

#[test]
fn nothing_of_a_boot_reaches_the_image() {
    let text = format!("localhost login: \r\n{}\r\n", multi_user::LINE);
    let guest = guest_that_says(&text, Then::Waits);
    let place = Place::of(&guest);
    assert_eq!(place.verify("{}", "tcg").status, IMGF_OK);
    assert_eq!(std::fs::read(place.folder.path().join("image.raw")).unwrap(), guest);
}

#[test]
fn the_accelerator_is_tried_once_and_the_guest_runs_with_it() {
    let text = format!("localhost login: \r\n{}\r\n", multi_user::LINE);
    let guest = guest_that_says(&text, Then::Waits);
    let place = Place::of(&guest);
    let first = place.verify("{}", "auto");
    assert_eq!(first.status, IMGF_OK, "{:?}", first.host.record().errors);
    let opens = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let record = place.folder.path().join("cache/accelerator.json");
    assert_eq!(record.exists(), opens, "what only cannot be opened is not worth a record");
    let lines = |tried: &Tried| -> Vec<String> {
        tried.host.record().lines.iter().map(|line| line.message.clone()).collect()
    };
    let refused = "guests are emulated (tcg): ";
    if opens && std::fs::read_to_string(&record).unwrap().contains("\"tcg\"") {
        let said = lines(&first);
        let why = said.iter().find(|line| line.starts_with(refused)).expect("the reason");
        assert!(why.contains("/dev/kvm opens, but a guest does not run: "), "{why}");
        // Whether this guest would have run with kvm says nothing: it never leaves real mode, which
        // hosts manage on which no kernel comes up.
    }
    let again = place.verify("{}", "auto");
    assert_eq!(again.status, IMGF_OK);
    let tried = |(phase, ..): &(String, u64, u64)| phase.as_str() == "accelerator";
    assert_eq!(first.host.record().progress.iter().any(tried), opens);
    assert!(!again.host.record().progress.iter().any(tried), "it was tried again");
}

#[test]
fn libvirt_boots_a_copy_and_keeps_nothing_of_it() {
    let server = LibvirtServer::start();
    let quoted = |text: &str| format!("{text:?}");
    let settings = [
        ("boot_via", "\"libvirt\"".to_owned()),
        ("boot_accelerator", "\"tcg\"".to_owned()),
        ("libvirt_uri", quoted(&server.uri())),
        ("libvirt_program", quoted(&libvirt_server::program().display().to_string())),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let text = format!("localhost login: \r\n{}\r\n", multi_user::LINE);
    let place = Place::of(&guest_that_says(&text, Then::Waits));
    let tried = place.verify_with("{}", &settings);
    assert_eq!(tried.status, IMGF_OK, "{:?}", tried.host.record().errors);
    let proof = tried.host.result("verified").unwrap();
    assert!(proof.contains("bios, libvirt, tcg"), "{proof}");
    assert_eq!(tried.artifacts(), ["screenshot-bios.png", "serial-bios.log"]);
    check_nothing_left(&server, &tried);

    let panic = guest_that_says("[ 1.0] Kernel panic - not syncing", Then::Waits);
    let tried = Place::of(&panic).verify_with("{}", &settings);
    assert!(tried.host.the_error().message.contains("'Kernel panic'"));
    check_nothing_left(&server, &tried);
}

fn check_nothing_left(server: &LibvirtServer, tried: &Tried) {
    assert_eq!(server.volumes(), Vec::<String>::new());
    assert_eq!(server.virsh(&["list", "--all", "--name"]).trim(), "");
    let journal = &tried.host.record().journal;
    let events: Vec<u32> = journal.iter().map(|entry| entry.event).collect();
    let whole = [IMGF_JOURNAL_WILL_CREATE, IMGF_JOURNAL_CREATED, IMGF_JOURNAL_REMOVED];
    assert_eq!(events, whole, "{journal:?}");
}
