//! Credentials of open orders, sealed (plugin-abi.md 3.4, 6).
//!
//! An order that was answered must go on after a crash, so its credentials must outlive the
//! process; they stand in one file an order, encrypted with XChaCha20-Poly1305 and bound to the
//! order's id, apart from the database, its WAL and every backup of it. The key is a 0600 file
//! beside it, or a systemd credential. The file is unlinked when the order is final and its cleanup
//! is done.

use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use uuid::Uuid;

use crate::StoreError;
use crate::layout::{StoreLayout, write_whole};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Sealed credentials. Every function blocks.
#[derive(Clone)]
pub struct Vault {
    folder: PathBuf,
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens the vault of a store. The key is `$CREDENTIALS_DIRECTORY/vault.key` where systemd
    /// gives one (`LoadCredential=`), else `vault.key` in the store, made at first use.
    pub fn open(layout: &StoreLayout) -> Result<Vault, StoreError> {
        let given = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| Path::new(&folder).join("vault.key"))
            .filter(|path| path.exists());
        let path = given.unwrap_or_else(|| layout.root().join("vault.key"));
        let key = match std::fs::read(&path) {
            Ok(key) => key,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => new_key(&path)?,
            Err(cause) => return Err(StoreError::file("read", &path, cause)),
        };
        let key: [u8; KEY_BYTES] = key.try_into().map_err(|key: Vec<u8>| {
            StoreError::damaged(path.display().to_string(), format!("{} bytes, not 32", key.len()))
        })?;
        let cipher = XChaCha20Poly1305::new(&Key::from(key));
        Ok(Vault { folder: layout.vault(), cipher })
    }

    /// Seals the credentials of an order, durably.
    pub fn seal(&self, order: Uuid, credentials: &str) -> Result<(), StoreError> {
        let path = self.path(order);
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload { msg: credentials.as_bytes(), aad: order.as_bytes() };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|cause| StoreError::damaged("the vault", cause))?;
        let written = write_whole(&path, &[nonce.as_slice(), &sealed].concat(), 0o600);
        if written.is_err() {
            // The order will not be taken; what can be unlinked is.
            std::fs::remove_file(&path).ok();
        }
        written
    }

    /// The credentials of an order; `None` when there are none (any more).
    pub fn open_sealed(&self, order: Uuid) -> Result<Option<String>, StoreError> {
        let path = self.path(order);
        let sealed = match std::fs::read(&path) {
            Ok(sealed) => sealed,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(StoreError::file("read", &path, cause)),
        };
        let damaged = || {
            StoreError::damaged(
                format!("the credentials of order {order}"),
                "they do not open with this key",
            )
        };
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let payload = Payload { msg: sealed, aad: order.as_bytes() };
        let opened = self.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| damaged())?;
        String::from_utf8(opened).map(Some).map_err(|_| damaged())
    }

    /// Unlinks the credentials of an order; none is no error.
    pub fn forget(&self, order: Uuid) -> Result<(), StoreError> {
        let path = self.path(order);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(StoreError::file("remove", &path, cause)),
        }
    }

    fn path(&self, order: Uuid) -> PathBuf {
        self.folder.join(order.to_string())
    }
}

fn new_key(path: &Path) -> Result<Vec<u8>, StoreError> {
    let key: [u8; KEY_BYTES] = random()?;
    write_whole(path, &key, 0o600)?;
    Ok(key.to_vec())
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], StoreError> {
    let mut bytes = [0; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|cause| StoreError::file("read", Path::new("/dev/urandom"), cause))?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(folder: &Path) -> Vault {
        Vault::open(&StoreLayout::create(folder).unwrap()).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let order = Uuid::new_v4();
        vault(folder.path()).seal(order, "<secret>s3cr3t</secret>").unwrap();
        let opened = vault(folder.path()).open_sealed(order).unwrap();
        assert_eq!(opened.as_deref(), Some("<secret>s3cr3t</secret>"));
    }

    #[test]
    fn nothing_on_disk_shows_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let order = Uuid::new_v4();
        let vault = vault(folder.path());
        vault.seal(order, "s3cr3t-canary").unwrap();
        let on_disk = std::fs::read(vault.path(order)).unwrap();
        assert!(!on_disk.windows(13).any(|part| part == b"s3cr3t-canary"));
    }

    #[test]
    fn sealed_credentials_open_for_their_own_order_only() {
        let folder = tempfile::tempdir().unwrap();
        let (order, other) = (Uuid::new_v4(), Uuid::new_v4());
        let vault = vault(folder.path());
        vault.seal(order, "s3cr3t").unwrap();
        std::fs::rename(vault.path(order), vault.path(other)).unwrap();
        assert!(vault.open_sealed(other).is_err());
        vault.forget(other).unwrap();
        assert_eq!(vault.open_sealed(other).unwrap(), None);
    }
}
