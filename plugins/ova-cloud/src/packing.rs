//! Puts the files of a package together, each package in the container that its reader expects.
//!
//! OVAs, and boxes whose disk is compressed already, are a plain tar that the disk is written into
//! as it is made; the others are one gzip, deflated in all threads. The output is the stage's: what
//! is left of it after an error is removed by the host.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use imagefactory_plugin_sdk::author::{Host, PluginError, Result, Stage};
use imagefactory_toolkit_disk::{
    DiskAdapter, DiskFormat, GzipPart, TAR_BLOCK, VmdkDescription, tar_header, write_gzip,
    write_qcow2_zlib, write_stream_optimized,
};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::archive::Archive;
use crate::box_files::{metadata, vagrantfile, vmx};
use crate::conversion::{QCOW2, RAW, VHDX, VMDK_SPARSE, convert};
use crate::disk::Disk;
use crate::identity::{Identity, hex};
use crate::ovf::{self, DiskFile};
use crate::progress::Progress;
use crate::wishes::{Manifest, Package, Wishes};
use crate::{hyperv, rhevm};

/// What was made.
pub(crate) struct Packed {
    /// As the image's format is called.
    pub(crate) extension: &'static str,
    /// The files in it.
    pub(crate) files: Vec<String>,
}

/// Reads of a disk that is copied as it is.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes the output image.
pub(crate) fn pack(host: &Host, stage: &Stage<'_>, wishes: &Wishes, disk: &Disk) -> Result<Packed> {
    let path = host.output_image()?;
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(|error| {
        PluginError::from(error).while_doing(format!("cannot create {}", path.display()))
    })?;
    let identity = Identity::of(stage)?;
    let packer = Packer { host, wishes, identity };
    let packed = match wishes.package {
        Package::Vsphere => packer.vsphere(file, disk),
        Package::VagrantVirtualbox => packer.virtualbox(file, disk),
        Package::VagrantLibvirt => packer.libvirt(file, disk),
        Package::VagrantVmware => packer.vmware(file, disk),
        Package::Rhevm => packer.rhevm(file, disk),
        Package::Hyperv | Package::VagrantHyperv => packer.hyperv(file, disk),
    }?;
    host.check_cancelled()?;
    Ok(packed)
}

struct Packer<'p> {
    host: &'p Host,
    wishes: &'p Wishes,
    identity: Identity,
}

impl Packer<'_> {
    fn vsphere(&self, file: File, disk: &Disk) -> Result<Packed> {
        let name = self.wishes.machine.file_name();
        let (ovf_name, mf_name) = (format!("{name}.ovf"), format!("{name}.mf"));
        let disk_name = format!("{name}-disk1.vmdk");
        let mut archive = Archive::new(file);
        let ovf_room = self.ovf(disk, &disk_name, u64::MAX)?.len();
        let ovf_place = archive.reserve(&ovf_name, ovf_room);
        let digests = Digests::new(self.wishes.manifest);
        let names = [ovf_name.as_str(), disk_name.as_str()];
        let mf_place =
            digests.lines(names, [b"", b""]).map(|mf| archive.reserve(&mf_name, mf.len()));
        let (disk_digests, bytes) = archive.stream(&disk_name, |to| {
            let mut to = Hashing { to, digests: digests.clone() };
            self.vmdk(disk, &disk_name, &mut to)?;
            Ok(to.digests)
        })?;
        let mut ovf = self.ovf(disk, &disk_name, bytes)?;
        ovf.resize(ovf_room, b'\n');
        let mut ovf_digests = digests;
        ovf_digests.update(&ovf);
        archive.fill(&ovf_place, &ovf)?;
        let digests = [ovf_digests.finish(), disk_digests.clone().finish()];
        let lines = disk_digests.lines(names, [&digests[0], &digests[1]]);
        let mut files = vec![ovf_name];
        if let (Some(place), Some(lines)) = (&mf_place, lines) {
            archive.fill(place, lines.as_bytes())?;
            files.push(mf_name);
        }
        files.push(disk_name);
        archive.finish()?;
        Ok(Packed { extension: "ova", files })
    }

    fn ovf(&self, disk: &Disk, name: &str, file_bytes: u64) -> Result<Vec<u8>> {
        ovf::descriptor(
            self.wishes,
            &DiskFile { name, file_bytes, virtual_bytes: disk.virtual_bytes.next_multiple_of(512) },
        )
    }

    /// Writes the disk as streamOptimized, whatever it is.
    fn vmdk(&self, disk: &Disk, name: &str, mut to: &mut dyn Write) -> Result<()> {
        if disk.is_stream_optimized()? {
            return self.copy(disk, to);
        }
        let converted = match disk.format {
            DiskFormat::Raw => None,
            _ => Some(convert(self.host, disk, RAW, "disk.raw")?),
        };
        let disk = converted.as_ref().unwrap_or(disk);
        let mut description = VmdkDescription::new(name, self.identity.bytes("disk"));
        if self.wishes.package == Package::VagrantVirtualbox {
            description.adapter = DiskAdapter::Ide;
        }
        let message = format!("compressing the disk of {} MiB", disk.virtual_bytes >> 20);
        let mut progress = Progress::new(self.host, "pack", message, disk.virtual_bytes);
        let watch = |done| progress.tell(done);
        write_stream_optimized(&disk.file, &mut to, &description, watch)?;
        Ok(())
    }

    fn copy(&self, disk: &Disk, to: &mut dyn Write) -> Result<()> {
        let message = "packing the disk".to_owned();
        let mut progress = Progress::new(self.host, "pack", message, disk.file_bytes);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut done = 0;
        while done < disk.file_bytes {
            let part = (disk.file_bytes - done).min(CHUNK_BYTES as u64) as usize;
            disk.file.read_exact_at(&mut chunk[..part], done)?;
            to.write_all(&chunk[..part])?;
            done += part as u64;
            progress.tell(done)?;
        }
        Ok(())
    }

    fn virtualbox(&self, file: File, disk: &Disk) -> Result<Packed> {
        let disk_name = format!("{}.vmdk", self.wishes.machine.file_name());
        let mut archive = Archive::new(file);
        let place = archive.reserve("box.ovf", self.ovf(disk, &disk_name, u64::MAX)?.len());
        self.add_box_files(&mut archive, disk)?;
        let ((), bytes) = archive.stream(&disk_name, |to| self.vmdk(disk, &disk_name, to))?;
        archive.fill(&place, &self.ovf(disk, &disk_name, bytes)?)?;
        archive.finish()?;
        Ok(boxed(&["box.ovf", "metadata.json", "Vagrantfile", &disk_name]))
    }

    fn libvirt(&self, file: File, disk: &Disk) -> Result<Packed> {
        let mut archive = Archive::new(file);
        self.add_box_files(&mut archive, disk)?;
        let made = match disk.format {
            DiskFormat::Qcow2 => None,
            DiskFormat::Raw => Some(self.qcow2(disk)?),
            _ => Some(convert(self.host, disk, QCOW2, "box.qcow2")?),
        };
        let image = made.as_ref().unwrap_or(disk);
        archive.stream("box.img", |to| self.copy(image, to))?;
        archive.finish()?;
        Ok(boxed(&["metadata.json", "Vagrantfile", "box.img"]))
    }

    fn qcow2(&self, disk: &Disk) -> Result<Disk> {
        let path = self.host.work_dir()?.join("box.qcow2");
        let to = File::options().read(true).write(true).create_new(true).open(&path)?;
        let message = format!("compressing the disk of {} MiB", disk.virtual_bytes >> 20);
        let mut progress = Progress::new(self.host, "compress", message, disk.virtual_bytes);
        write_qcow2_zlib(&disk.file, &to, |done| progress.tell(done))?;
        Disk::at(path)
    }

    fn add_box_files(&self, archive: &mut Archive, disk: &Disk) -> Result<()> {
        let [metadata, vagrantfile] = self.box_files(disk);
        archive.add("metadata.json", metadata.as_bytes())?;
        archive.add("Vagrantfile", vagrantfile.as_bytes())
    }

    fn box_files(&self, disk: &Disk) -> [String; 2] {
        let mac = self.identity.virtualbox_mac();
        let metadata = metadata(self.wishes.package, disk.virtual_bytes);
        [metadata, vagrantfile(self.wishes, &mac)]
    }

    fn vmware(&self, file: File, disk: &Disk) -> Result<Packed> {
        let name = self.wishes.machine.file_name();
        let disk_name = format!("{name}-disk1.vmdk");
        let [metadata, vagrantfile] = self.box_files(disk);
        let made = convert(self.host, disk, VMDK_SPARSE, &disk_name)?;
        let texts = [
            ("metadata.json".to_owned(), metadata.into_bytes()),
            ("Vagrantfile".to_owned(), vagrantfile.into_bytes()),
            (format!("{name}.vmx"), vmx(self.wishes, &disk_name).into_bytes()),
            // VMware likes it to be there, even with nothing in it.
            (format!("{name}.vmxf"), Vec::new()),
        ];
        let files = self.gzip(file, &texts, &made, &disk_name)?;
        Ok(Packed { extension: "box", files })
    }

    fn rhevm(&self, file: File, disk: &Disk) -> Result<Packed> {
        let made = match disk.format {
            DiskFormat::Raw | DiskFormat::Qcow2 => None,
            _ => Some(convert(self.host, disk, RAW, "disk.raw")?),
        };
        let disk = made.as_ref().unwrap_or(disk);
        let names = rhevm::Names::of(&self.identity);
        let texts = [
            (names.ovf(), rhevm::descriptor(self.wishes, &names, disk)?),
            (names.meta(), rhevm::meta(&names, disk).into_bytes()),
        ];
        let files = self.gzip(file, &texts, disk, &names.disk())?;
        Ok(Packed { extension: "ova", files })
    }

    fn hyperv(&self, file: File, disk: &Disk) -> Result<Packed> {
        let name = self.wishes.machine.file_name();
        let made = match disk.format {
            DiskFormat::Vhd | DiskFormat::Vhdx => None,
            _ => Some(convert(self.host, disk, VHDX, &format!("{name}.vhdx"))?),
        };
        let disk = made.as_ref().unwrap_or(disk);
        let disk_name = format!("{name}.{}", disk.format);
        let machine = hyperv::description(&self.wishes.machine, &self.identity, &disk_name)?;
        let mut texts = vec![(format!("Virtual Machines/{name}.xml"), machine)];
        if self.wishes.package == Package::VagrantHyperv {
            let [metadata, vagrantfile] = self.box_files(disk);
            texts.insert(0, ("metadata.json".to_owned(), metadata.into_bytes()));
            texts.insert(1, ("Vagrantfile".to_owned(), vagrantfile.into_bytes()));
        }
        let files = self.gzip(file, &texts, disk, &format!("Virtual Hard Disks/{disk_name}"))?;
        let boxed = self.wishes.package == Package::VagrantHyperv;
        Ok(Packed { extension: if boxed { "box" } else { "tar.gz" }, files })
    }

    /// A compressed tar of texts and then the disk.
    fn gzip(
        &self,
        mut file: File,
        texts: &[(String, Vec<u8>)],
        disk: &Disk,
        disk_name: &str,
    ) -> Result<Vec<String>> {
        let mut start = Vec::new();
        for (name, content) in texts {
            start.extend_from_slice(&tar_header(name, content.len() as u64)?);
            start.extend_from_slice(content);
            start.resize(start.len().next_multiple_of(TAR_BLOCK), 0);
        }
        start.extend_from_slice(&tar_header(disk_name, disk.file_bytes)?);
        let missing = disk.file_bytes.next_multiple_of(TAR_BLOCK as u64) - disk.file_bytes;
        let parts = vec![
            GzipPart::Bytes(start),
            GzipPart::OfFile(0..disk.file_bytes),
            GzipPart::Bytes(vec![0; missing as usize + 2 * TAR_BLOCK]),
        ];
        let message = "packing and compressing".to_owned();
        let mut progress = Progress::new(self.host, "pack", message, disk.file_bytes);
        write_gzip(&disk.file, parts, &mut file, |done| progress.tell(done))?;
        let mut files: Vec<String> = texts.iter().map(|(name, _)| name.clone()).collect();
        files.push(disk_name.to_owned());
        Ok(files)
    }
}

fn boxed(files: &[&str]) -> Packed {
    Packed { extension: "box", files: files.iter().map(|name| (*name).to_owned()).collect() }
}

/// The checksum that a manifest asks for, as it is computed.
#[derive(Clone)]
enum Digests {
    None,
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Digests {
    fn new(manifest: Manifest) -> Digests {
        match manifest {
            Manifest::None => Digests::None,
            Manifest::Sha1 => Digests::Sha1(Sha1::new()),
            Manifest::Sha256 => Digests::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Digests::None => {}
            Digests::Sha1(hash) => hash.update(bytes),
            Digests::Sha256(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Digests::None => Vec::new(),
            Digests::Sha1(hash) => hash.finalize().to_vec(),
            Digests::Sha256(hash) => hash.finalize().to_vec(),
        }
    }

    /// The manifest of these files; without digests, one of the same length.
    fn lines(&self, names: [&str; 2], digests: [&[u8]; 2]) -> Option<String> {
        let (algorithm, bytes) = match self {
            Digests::None => return None,
            Digests::Sha1(_) => ("SHA1", 20),
            Digests::Sha256(_) => ("SHA256", 32),
        };
        let line = |(name, digest): (&str, &[u8])| {
            let digest = if digest.is_empty() { vec![0; bytes] } else { digest.to_vec() };
            format!("{algorithm}({name})= {}\n", hex(&digest))
        };
        Some(names.into_iter().zip(digests).map(line).collect())
    }
}

/// Computes a checksum of what goes through.
struct Hashing<'h> {
    to: &'h mut dyn Write,
    digests: Digests,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digests.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
