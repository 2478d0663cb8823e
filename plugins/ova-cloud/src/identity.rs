//! Names for things that want one of their own: disks, machines, network cards.
//!
//! They follow from what the image is made of and never from chance or time: the same template,
//! parameters and base image give the same package, byte for byte.

use imagefactory_plugin_sdk::author::{Result, Stage};
use sha2::{Digest, Sha256};

/// What all names of one package follow from.
pub(crate) struct Identity([u8; 32]);

impl Identity {
    /// Of the image in work: the parent's content, the template and the parameters.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Identity> {
        let mut parent = None;
        for role in ["target", "base"] {
            parent = parent.or(stage.image(role)?.and_then(|image| image.member("sha256")));
        }
        let parent = parent.and_then(|sha256| sha256.as_text()).unwrap_or_default();
        let mut hash = Sha256::new();
        let made_of = [
            parent.as_str(),
            stage.template_xml().unwrap_or_default(),
            stage.parameters_json().unwrap_or_default(),
        ];
        for part in made_of {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Ok(Identity(hash.finalize().into()))
    }

    /// 16 bytes for this use.
    pub(crate) fn bytes(&self, of: &str) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(of);
        let digest: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes
    }

    /// A UUID for this use: version 8, which is "made otherwise" (RFC 9562).
    pub(crate) fn uuid(&self, of: &str) -> String {
        let mut bytes = self.bytes(of);
        bytes[6] = 0x80 | bytes[6] & 0x0f;
        bytes[8] = 0x80 | bytes[8] & 0x3f;
        let hex = hex(&bytes);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// A network card's address without colons, from VirtualBox's own range.
    pub(crate) fn virtualbox_mac(&self) -> String {
        format!("080027{}", hex(&self.bytes("mac")[..3])).to_uppercase()
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
