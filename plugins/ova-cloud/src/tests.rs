//! OVACloud as the runner meets it: through its tables, on a fake host. The judges of what it packs
//! are tar, sha256sum, sha1sum, xmllint and qemu-img.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use imagefactory_plugin_sdk::abi::*;
use serde_json::{Value, json};

use crate::OvaCloud;
use crate::fake_host::check_manifest;
use crate::fake_host::{FakeHost, PluginInstance, StageTexts};

/// No whole MiB, and a hole in the middle.
const DISK_BYTES: u64 = (5 << 20) + 512;

fn ova_cloud() -> &'static imgf_plugin {
    imagefactory_plugin_sdk::cloud_plugin!(OvaCloud)
}

/// What a stage is given.
struct Place {
    folder: tempfile::TempDir,
    host: Box<FakeHost>,
}

impl Place {
    /// With a raw disk.
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        let disk = std::fs::File::create_new(folder.path().join("disk.raw")).unwrap();
        disk.set_len(DISK_BYTES).unwrap();
        disk.write_all_at(&b"text ".repeat(40_000), 4096).unwrap();
        disk.write_all_at(&[7; 512], DISK_BYTES - 512).unwrap();
        let place = Place { folder, host: FakeHost::new() };
        place.set(IMGF_PATH_INPUT_IMAGE, "disk.raw");
        place.set(IMGF_PATH_WORK_DIR, "work");
        place.set(IMGF_PATH_OUTPUT_IMAGE, "output");
        place
    }

    /// With a disk in another format, as a target image of `qemu-img`'s.
    fn with_disk(format: &str, options: &[&str]) -> Place {
        let place = Place::new();
        let mut convert = vec!["qemu-img", "convert", "-f", "raw", "-O", format];
        convert.extend(options);
        place.tool(&[&convert[..], &["disk.raw", "disk"]].concat());
        place.set(IMGF_PATH_INPUT_IMAGE, "disk");
        place
    }

    fn set(&self, kind: u32, name: &str) {
        let path = self.path(name).to_str().unwrap().to_owned();
        self.host.record().paths.insert(kind, path);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program's answer; its failure is the test's.
    fn tool(&self, command: &[&str]) -> String {
        let mut program = Command::new(command[0]);
        let output = program.args(&command[1..]).current_dir(self.folder.path()).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", command[0]));
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// After the OS plugin's work.
    fn pack(&self, parameters: &Value) -> i32 {
        let instance = PluginInstance::create(ova_cloud(), &self.host).unwrap();
        let cloud: &imgf_cloud_v1 = instance.table(IMGF_IFACE_CLOUD_V1).unwrap();
        instance.run(cloud.builder_did_create_target_image, &stage("base", None, parameters))
    }

    /// Of a finished target image; 0 = it did all the work.
    fn pack_target(&self, target: &str, parameters: &Value) -> (i32, u32) {
        let instance = PluginInstance::create(ova_cloud(), &self.host).unwrap();
        instance.should_create(&stage("target", Some(target), parameters))
    }

    /// Packs, unpacks into a folder and answers the files in their order.
    fn files(&self, parameters: &Value) -> Vec<String> {
        assert_eq!(self.pack(parameters), IMGF_OK, "{:?}", self.host.record().errors);
        self.unpacked()
    }

    fn unpacked(&self) -> Vec<String> {
        self.tool(&["mkdir", "out"]);
        self.tool(&["tar", "-xf", "output", "-C", "out"]);
        self.tool(&["tar", "-tf", "output"]).lines().map(str::to_owned).collect()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("out").join(name)).unwrap()
    }

    /// The disk in the package is the one that went in.
    fn check_disk(&self, format: &str, name: &str) {
        let name = format!("out/{name}");
        let compare = ["qemu-img", "compare", "-f", "raw", "-F", format, "disk.raw", &name];
        self.tool(&compare);
    }

    fn result(&self, key: &str) -> Value {
        serde_json::from_str(&self.host.result(key).unwrap()).unwrap()
    }
}

fn stage(role: &str, target: Option<&str>, parameters: &Value) -> StageTexts {
    let parent = json!({"id": "parent", "target": target, "sha256": "c0ffee"});
    StageTexts {
        target: Some("ova".to_owned()),
        parameters_json: Some(parameters.to_string()),
        images_json: Some(json!({role: parent}).to_string()),
        ..StageTexts::new()
    }
}

#[test]
fn it_is_the_plugin_that_its_manifest_describes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-manifests/OVACloud.json");
    check_manifest(ova_cloud(), &std::fs::read_to_string(path).unwrap());
}

#[test]
fn a_base_image_goes_the_usual_way_first() {
    let place = Place::new();
    let instance = PluginInstance::create(ova_cloud(), &place.host).unwrap();
    assert_eq!(instance.should_create(&stage("base", None, &json!({}))), (IMGF_OK, 1));
    assert!(!place.path("output").exists());
}

#[test]
fn an_ova_has_descriptor_manifest_and_disk_in_that_order() {
    let place = Place::new();
    let parameters = json!({"ovf_name": "web & <db>", "ovf_cpu_count": "3", "ovf_memory_mb": 768,
        "vsphere_product_name": "A \"product\"", "vsphere_os_type": "debian12_64Guest",
        "vsphere_scsi_controller_type": "VirtualSCSI", "vsphere_network_name": "DMZ",
        "vsphere_nested_virt": "True", "vsphere_cdrom": true});
    let files = place.files(&parameters);
    let (ovf, disk) = ("web____db_.ovf", "web____db_-disk1.vmdk");
    assert_eq!(files, [ovf, "web____db_.mf", disk]);
    assert_eq!(place.result("format"), "ova");
    assert_eq!(place.result("properties")["ova_files"], json!(files));
    place.check_disk("vmdk", disk);
    for (file, line) in
        files.iter().filter(|it| *it != "web____db_.mf").zip(place.read("web____db_.mf").lines())
    {
        let sum = place.tool(&["sha256sum", &format!("out/{file}")]);
        let sum = sum.split_whitespace().next().unwrap();
        assert_eq!(line, format!("SHA256({file})= {sum}"));
    }
    place.tool(&["xmllint", "--noout", &format!("out/{ovf}")]);
    let size = std::fs::metadata(place.path("out").join(disk)).unwrap().len();
    let xml = place.read(ovf);
    for part in [
        &format!("ovf:href=\"{disk}\" ovf:id=\"file1\" ovf:size=\"{size}\""),
        &format!("ovf:capacity=\"{DISK_BYTES}\""),
        "<Name>web &amp; &lt;db&gt;</Name>",
        "<Product>A \"product\"</Product>",
        "<rasd:VirtualQuantity>768</rasd:VirtualQuantity>",
        "<rasd:ElementName>3 virtual CPU(s)</rasd:ElementName>",
        "<rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>",
        "<rasd:Connection>DMZ</rasd:Connection>",
        "<rasd:ElementName>CD/DVD drive 1</rasd:ElementName>",
        "vmw:key=\"nestedHVEnabled\"",
        "vmw:osType=\"debian12_64Guest\"",
    ] {
        assert!(xml.contains(part), "{part} is missing in\n{xml}");
    }
}

#[test]
fn a_manifest_can_be_older_or_missing() {
    let place = Place::new();
    let files = place.files(&json!({"ovf_name": "a", "ova_manifest": "sha1"}));
    assert_eq!(files, ["a.ovf", "a.mf", "a-disk1.vmdk"]);
    let sum = place.tool(&["sha1sum", "out/a-disk1.vmdk"]);
    let line = format!("SHA1(a-disk1.vmdk)= {}", sum.split_whitespace().next().unwrap());
    assert_eq!(place.read("a.mf").lines().last(), Some(line.as_str()));
    let files = Place::new().files(&json!({"ovf_name": "a", "ova_manifest": "none"}));
    assert_eq!(files, ["a.ovf", "a-disk1.vmdk"]);
}

#[test]
fn the_same_image_gives_the_same_package() {
    let packages = [
        json!({}),
        json!({"vsphere_ova_format": "vagrant-virtualbox"}),
        json!({"rhevm_ova_format": "rhevm"}),
        json!({"rhevm_ova_format": "vagrant-libvirt"}),
    ];
    for parameters in packages {
        let made = [(), ()].map(|()| {
            let place = Place::new();
            assert_eq!(place.pack(&parameters), IMGF_OK);
            std::fs::read(place.path("output")).unwrap()
        });
        assert!(made[0] == made[1], "{parameters}");
    }
}

/// A box, its files, its disk, and the provider it names.
fn check_box(parameters: Value, provider: &str, files: &[&str], disk: (&str, &str)) -> Place {
    let place = Place::new();
    let mut all = json!({"ovf_name": "dev", "vagrant_sync_directory": "/srv/code"});
    all.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
    assert_eq!(place.files(&all), files);
    let metadata: Value = serde_json::from_str(&place.read("metadata.json")).unwrap();
    assert_eq!(metadata["provider"], provider);
    let vagrantfile = place.read("Vagrantfile");
    assert!(vagrantfile.contains("'/srv/code', type: 'rsync'"), "{vagrantfile}");
    place.check_disk(disk.0, disk.1);
    assert_eq!(place.result("format"), "box");
    place
}

#[test]
fn each_vagrant_box_has_what_its_provider_reads() {
    let files = ["metadata.json", "Vagrantfile", "box.img"];
    let wish = json!({"rhevm_ova_format": "vagrant-libvirt"});
    let place = check_box(wish, "libvirt", &files, ("qcow2", "box.img"));
    assert!(place.read("metadata.json").contains(r#""virtual_size":1"#));

    let files = ["box.ovf", "metadata.json", "Vagrantfile", "dev.vmdk"];
    let wish = json!({"vsphere_ova_format": "vagrant-virtualbox"});
    let place = check_box(wish, "virtualbox", &files, ("vmdk", "dev.vmdk"));
    let ovf = place.read("box.ovf");
    assert!(ovf.contains("virtualbox-2.2") && ovf.contains("PIIX4") && ovf.contains("\"NAT\""));
    assert!(place.read("Vagrantfile").contains("base_mac = \"080027"));

    let files = ["metadata.json", "Vagrantfile", "dev.vmx", "dev.vmxf", "dev-disk1.vmdk"];
    let wish = json!({"vsphere_ova_format": "vagrant-vmware-fusion", "fusion_nested_virt": true});
    let place = check_box(wish, "vmware_fusion", &files, ("vmdk", "dev-disk1.vmdk"));
    let vmx = place.read("dev.vmx");
    assert!(vmx.contains("scsi0:0.fileName = \"dev-disk1.vmdk\"") && vmx.contains("vhv.enable"));

    let disk = "Virtual Hard Disks/dev.vhdx";
    let files = ["metadata.json", "Vagrantfile", "Virtual Machines/dev.xml", disk];
    let wish = json!({"hyperv_ova_format": "hyperv-vagrant"});
    let place = check_box(wish, "hyperv", &files, ("vhdx", disk));
    place.tool(&["xmllint", "--noout", "out/Virtual Machines/dev.xml"]);
}

#[test]
fn an_export_for_rhv_names_its_files_alike_in_all_places() {
    let place = Place::new();
    let wish = json!({"rhevm_ova_format": "rhevm", "ovf_name": "web", "ovf_memory_mb": "2048",
        "rhevm_default_display_type": "1", "rhevm_description": "mine"});
    let files = place.files(&wish);
    let [ovf, meta, disk] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!(*meta, format!("{disk}.meta"));
    place.check_disk("raw", disk);
    place.tool(&["xmllint", "--noout", &format!("out/{ovf}")]);
    let (ovf, volume) = (place.read(ovf), disk.strip_prefix("images/").unwrap());
    for part in [format!("\"{volume}\""), "mine</Desc".to_owned(), "2048 MB of memory".to_owned()] {
        assert!(ovf.contains(&part), "{part} is missing in\n{ovf}");
    }
    let meta = place.read(meta);
    assert!(meta.contains("FORMAT=RAW\n") && meta.contains("SIZE=10241\n"), "{meta}");
}

#[test]
fn a_target_image_is_packed_as_it_is() {
    let place = Place::with_disk("vmdk", &["-o", "subformat=streamOptimized"]);
    assert_eq!(place.pack_target("vsphere", &json!({"ovf_name": "a"})), (IMGF_OK, 0));
    assert_eq!(place.unpacked(), ["a.ovf", "a.mf", "a-disk1.vmdk"]);
    place.tool(&["cmp", "disk", "out/a-disk1.vmdk"]);

    let place = Place::with_disk("qcow2", &[]);
    assert_eq!(place.pack_target("rhevm", &json!({"vsphere_ova_format": "vsphere"})), (IMGF_OK, 0));
    let files = place.unpacked();
    place.tool(&["cmp", "disk", &format!("out/{}", files[2])]);
    assert!(place.read(&files[1]).contains("FORMAT=COW"));

    let place = Place::with_disk("vhdx", &[]);
    let wish = json!({"hyperv_ova_format": "hyperv", "ovf_name": "a"});
    assert_eq!(place.pack_target("hyperv", &wish), (IMGF_OK, 0));
    assert_eq!(place.unpacked(), ["Virtual Machines/a.xml", "Virtual Hard Disks/a.vhdx"]);
    place.tool(&["cmp", "disk", "out/Virtual Hard Disks/a.vhdx"]);
    assert_eq!(place.result("format"), "tar.gz");
}

#[test]
fn another_format_is_converted_to_what_the_package_needs() {
    let place = Place::with_disk("qcow2", &[]);
    assert_eq!(place.pack_target("vsphere", &json!({"ovf_name": "a"})), (IMGF_OK, 0));
    place.unpacked();
    place.check_disk("vmdk", "a-disk1.vmdk");
    let place = Place::with_disk("vmdk", &[]);
    let wish = json!({"rhevm_ova_format": "vagrant-libvirt"});
    assert_eq!(place.pack_target("openstack-kvm", &wish), (IMGF_OK, 0));
    place.unpacked();
    place.check_disk("qcow2", "box.img");
}

#[test]
fn what_cannot_be_packed_is_refused_with_a_sentence_before_any_work() {
    let cases = BTreeMap::from([
        ("more than one package", json!({"rhevm_ova_format": "rhevm", "hyperv_ova_format": "x"})),
        ("vagrant-virtualbox", json!({"vsphere_ova_format": "vagrant-qemu"})),
        ("1 to 4096", json!({"ovf_cpu_count": 0})),
        ("whole number up to 4096", json!({"ovf_cpu_count": "many"})),
        ("whole number up to 67108864", json!({"ovf_memory_mb": 1e12 as u64})),
        ("sha256, sha1, none", json!({"ova_manifest": "md5"})),
        ("true, false", json!({"vsphere_cdrom": "perhaps"})),
        ("ovf_name", json!({"ovf_name": "a\nb"})),
        ("vagrant_sync_directory", json!({"vagrant_sync_directory": "/a'; system('x'); '"})),
        ("up to 1", json!({"rhevm_default_display_type": 2})),
    ]);
    for (sentence, parameters) in cases {
        let place = Place::new();
        let instance = PluginInstance::create(ova_cloud(), &place.host).unwrap();
        let (status, _) = instance.should_create(&stage("base", None, &parameters));
        assert_eq!(status, IMGF_E_INVALID_ARGUMENT, "{parameters}");
        let error = place.host.the_error();
        let said = format!("{} {}", error.message, error.hint.unwrap_or_default());
        assert!(said.contains(sentence), "{said}");
    }
}

#[test]
fn a_damaged_disk_and_a_cancel_end_it() {
    let place = Place::with_disk("qcow2", &[]);
    let disk = std::fs::File::options().write(true).open(place.path("disk")).unwrap();
    disk.set_len(20).unwrap();
    assert_eq!(place.pack(&json!({})), IMGF_E_INVALID_ARGUMENT);
    assert!(place.host.the_error().message.contains("cut off"));
    let place = Place::new();
    place.host.cancel();
    assert_eq!(place.pack(&json!({})), IMGF_E_CANCELLED);
    assert!(!place.path("output").exists());
}
