//! The text at the beginning of a VMDK: what a hypervisor is told of the disk beside its content.
//!
//! Names and values are those of VMware's "Virtual Disk Format 5.0" and of what vCenter asks for at
//! import. Called by `vmdk_stream`; writes no file.

use std::io;

/// Sectors for each of a track's heads on a SCSI disk; nobody reads it any more, all want it.
const SECTORS_A_TRACK: u64 = 63;
/// Of ATA disks beyond 504 MiB and of SCSI disks.
const IDE_HEADS: u64 = 16;
const SCSI_HEADS: u64 = 255;
/// As far as ATA counts.
const IDE_CYLINDERS_MAX: u64 = 16_383;

/// The controller that the disk's geometry is meant for. vCenter takes it as a proposal,
/// Workstation and VirtualBox as the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAdapter {
    /// ATA.
    Ide,
    /// SCSI, old.
    BusLogic,
    /// SCSI; also what disks on LSI Logic SAS and on paravirtual controllers name.
    LsiLogic,
}

impl DiskAdapter {
    /// As the descriptor calls it.
    pub fn name(self) -> &'static str {
        match self {
            DiskAdapter::Ide => "ide",
            DiskAdapter::BusLogic => "buslogic",
            DiskAdapter::LsiLogic => "lsilogic",
        }
    }
}

/// What a VMDK says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmdkDescription {
    /// The name that the file will have; without quotes and line ends.
    pub file_name: String,
    /// Its controller.
    pub adapter: DiskAdapter,
    /// Identifies the content: equal for equal disks, so that builds are reproducible; the first
    /// bytes of the disk's sha256 do well. Its last four bytes are the short id, the CID.
    pub content_id: [u8; 16],
    /// Version of VMware's tools in the guest; 2147483647 means that the guest's packages bring
    /// them, and spares the user vCenter's reminder.
    pub tools_version: u32,
    /// Version of the virtual hardware, as in vmx-NN.
    pub hardware_version: u32,
}

impl VmdkDescription {
    /// For a disk of that name and content, with what is right for a Linux guest.
    pub fn new(file_name: impl Into<String>, content_id: [u8; 16]) -> VmdkDescription {
        VmdkDescription {
            file_name: file_name.into(),
            adapter: DiskAdapter::LsiLogic,
            content_id,
            tools_version: 2_147_483_647,
            hardware_version: 10,
        }
    }

    /// The whole text for a disk of so many sectors.
    pub(crate) fn text(&self, sectors: u64) -> io::Result<String> {
        let name = &self.file_name;
        if name.is_empty() || name.contains(['"', '\n', '\r', '\0', '/']) {
            let message = format!("{name:?} cannot be the name of a VMDK's file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let long_id: String = self.content_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (cylinders, heads) = match self.adapter {
            DiskAdapter::Ide => (IDE_CYLINDERS_MAX, IDE_HEADS),
            DiskAdapter::BusLogic | DiskAdapter::LsiLogic => (u64::from(u16::MAX), SCSI_HEADS),
        };
        let cylinders = sectors.div_ceil(heads * SECTORS_A_TRACK).clamp(1, cylinders);
        Ok(format!(
            "# Disk DescriptorFile\n\
             version=1\n\
             CID={}\n\
             parentCID=ffffffff\n\
             createType=\"streamOptimized\"\n\
             \n\
             # Extent description\n\
             RW {sectors} SPARSE \"{name}\"\n\
             \n\
             # The Disk Data Base\n\
             #DDB\n\
             \n\
             ddb.adapterType = \"{}\"\n\
             ddb.geometry.cylinders = \"{cylinders}\"\n\
             ddb.geometry.heads = \"{heads}\"\n\
             ddb.geometry.sectors = \"{SECTORS_A_TRACK}\"\n\
             ddb.longContentID = \"{long_id}\"\n\
             ddb.toolsVersion = \"{}\"\n\
             ddb.virtualHWVersion = \"{}\"\n",
            self.short_id(),
            self.adapter.name(),
            self.tools_version,
            self.hardware_version,
        ))
    }

    /// ffffffff means "no parent" and fffffffe "not yet written to": no disk may have them.
    fn short_id(&self) -> String {
        let [.., a, b, c, d] = self.content_id;
        let id = u32::from_be_bytes([a, b, c, d]);
        format!("{:08x}", if id >= 0xffff_fffe { 1 } else { id })
    }
}

/// The id of a disk by its sha256, or by another text in hex that stands for its content: the first
/// 32 digits, filled up with zeros.
pub fn content_id(hex: &str) -> [u8; 16] {
    let mut id = [0; 16];
    let digits = hex.chars().filter_map(|digit| digit.to_digit(16));
    for (number, digit) in digits.take(32).enumerate() {
        id[number / 2] |= (digit as u8) << (4 * (1 - number % 2));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_it_was_given() {
        let mut description = VmdkDescription::new("web.vmdk", *b"0123456789abcdef");
        description.adapter = DiskAdapter::Ide;
        let text = description.text(4 << 21).unwrap();
        for line in [
            "CID=63646566",
            "RW 8388608 SPARSE \"web.vmdk\"",
            "ddb.adapterType = \"ide\"",
            "ddb.geometry.cylinders = \"8323\"",
            "ddb.longContentID = \"30313233343536373839616263646566\"",
            "ddb.toolsVersion = \"2147483647\"",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn the_id_is_the_beginning_of_a_checksum_or_a_uuid() {
        let uuid = "12345678-9abc-def0-1234-56789abcdef0";
        let id = 0x1234_5678_9abc_def0_1234_5678_9abc_def0_u128.to_be_bytes();
        assert_eq!(content_id(uuid), id);
        assert_eq!(content_id("123456789abcdef0123456789abcdef0ffff"), id);
        assert_eq!(content_id("f"), (15_u128 << 124).to_be_bytes());
    }

    #[test]
    fn an_id_that_means_something_else_is_not_given() {
        for last in [0xff, 0xfe] {
            let mut id = [0xff; 16];
            id[15] = last;
            assert_eq!(VmdkDescription::new("a", id).short_id(), "00000001");
        }
        assert_eq!(VmdkDescription::new("a", [0xfd; 16]).short_id(), "fdfdfdfd");
    }

    #[test]
    fn a_name_that_would_break_the_text_is_refused() {
        for name in ["", "a\"b", "a\nRW 1 FLAT \"/etc/passwd\"", "a/b", "a\0"] {
            let error = VmdkDescription::new(name, [0; 16]).text(1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
