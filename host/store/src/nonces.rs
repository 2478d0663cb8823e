//! OAuth nonces: each is good once per consumer until its timestamp has left the window, across
//! restarts.

use async_trait::async_trait;

use crate::StoreError;

/// The memory of used nonces.
#[async_trait]
pub trait Nonces {
    /// Takes a nonce: `true` the first time, `false` for a replay. Survives `kill -9`.
    async fn take_nonce(
        &self,
        consumer: &str,
        timestamp: i64,
        nonce: &str,
    ) -> Result<bool, StoreError>;

    /// Forgets nonces with timestamps before this one (seconds): they are refused by age.
    async fn forget_nonces_before(&self, timestamp: i64) -> Result<(), StoreError>;

    /// Sets the mark: all timestamps that are accepted from now on lie before it. Durable.
    async fn set_nonce_mark(&self, mark: i64, boot_id: &str) -> Result<(), StoreError>;

    /// The mark and the boot in which it was set.
    async fn nonce_mark(&self) -> Result<Option<(i64, String)>, StoreError>;
}
