//! What stages of one factory must not use at the same time (`imagefactory.host.reserve/1`).

use std::time::Duration;

use super::error::{ErrorCode, PluginError, Result};
use super::host::Host;
use super::interface::missing;
use crate::abi::{imgf_host_reserve_v1, imgf_str, IMGF_HOST_RESERVE_V1};

/// A factory-wide lock; given back when dropped, and by the host when the stage ends.
pub struct Lock {
    host: Host,
    name: String,
}

impl Host {
    /// Takes the factory-wide lock, waiting at most `patience` ([`ErrorCode::Timeout`]).
    pub fn lock(&self, name: &str, patience: Duration) -> Result<Lock> {
        let lock = self.interface::<imgf_host_reserve_v1>()?.lock;
        let lock = lock.ok_or_else(|| missing(IMGF_HOST_RESERVE_V1))?;
        let timeout_ms = patience.as_millis().min(u128::from(u64::MAX)) as u64;
        let text = imgf_str::new(name);
        // SAFETY: the slot's contract; the name outlives the call.
        self.table.call("reserve.lock", |host| unsafe { lock(host.ctx, text, timeout_ms) })?;
        Ok(Lock { host: self.clone(), name: name.to_owned() })
    }

    /// A TCP port that no other stage was given.
    pub fn next_listen_port(&self) -> Result<u16> {
        let next = self.interface::<imgf_host_reserve_v1>()?.next_listen_port;
        let next = next.ok_or_else(|| missing(IMGF_HOST_RESERVE_V1))?;
        let mut port = 0u32;
        // SAFETY: the slot's contract; `port` outlives the call.
        let call =
            self.table.call("reserve.next_port", |host| unsafe { next(host.ctx, &mut port) });
        call?;
        match u16::try_from(port) {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(PluginError::new(ErrorCode::Internal, format!("the host gave port {port}"))),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let unlock = self.host.interface::<imgf_host_reserve_v1>().ok().and_then(|it| it.unlock);
        if let Some(unlock) = unlock {
            let name = imgf_str::new(&self.name);
            // SAFETY: the slot's contract; the name outlives the call. A status has nobody to go
            // to: the host gives the lock back at the end of the stage in any case.
            self.host.table.visit(|host| unsafe { unlock(host.ctx, name) });
        }
    }
}
