//! Secrets: got when needed, copied once, wiped when dropped, never shown.

use std::fmt;
use std::sync::atomic::{compiler_fence, Ordering};

use super::error::{ErrorCode, PluginError, Result};
use super::host::Host;
use super::stage::Stage;
use crate::abi::imgf_str;

/// The text of a secret. Debug shows nothing of it; dropping it overwrites its memory.
pub struct Secret {
    text: String,
}

impl Secret {
    /// The text, for the provider and nobody else: no file, log line, argument or environment.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(REDACTED)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.text).into_bytes();
        wipe(bytes);
    }
}

/// Overwrites the whole allocation with zeros, also what lies behind the length.
fn wipe(mut bytes: Vec<u8>) {
    bytes.clear();
    for byte in bytes.spare_capacity_mut() {
        // SAFETY: a byte of our own allocation. Volatile, because nobody reads it again and the
        // compiler would leave a plain write out.
        unsafe { std::ptr::write_volatile(byte.as_mut_ptr(), 0) };
    }
    compiler_fence(Ordering::SeqCst);
}

impl Host {
    /// A secret that was granted to this stage, by name. The host's copy is given back (and wiped
    /// there) before this returns.
    pub fn secret(&self, name: &str) -> Result<Secret> {
        let name = imgf_str::new(name);
        let _one_at_a_time = self.table.lock_secrets();
        // SAFETY: the slot's contract; name and out outlive the call.
        let got = self.table.call_for_text("secret_get", |host, out| unsafe {
            (host.secret_get)(host.ctx, name, out)
        });
        // SAFETY: the slot's contract; a name that was not got is ignored.
        self.table.visit(|host| unsafe { (host.secret_release)(host.ctx, name) });
        got.map(|text| Secret { text })
    }

    /// The credentials of this stage. [`ErrorCode::Auth`] if the request had none.
    pub fn credentials(&self, stage: &Stage<'_>) -> Result<Secret> {
        match stage.credential_name() {
            Some(name) => self.secret(name),
            None => {
                Err(PluginError::new(ErrorCode::Auth, "the request carries no credentials")
                    .by_user())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_by_debug() {
        let secret = Secret { text: "hunter2".to_owned() };
        assert_eq!(format!("{secret:?}"), "Secret(REDACTED)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
