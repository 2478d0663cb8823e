//! What a later attempt of the same stage is to know (`imagefactory.host.checkpoint/1`).

use super::error::Result;
use super::host::{none_if_not_found, Host};
use super::interface::missing;
use crate::abi::{imgf_host_checkpoint_v1, imgf_str, IMGF_HOST_CHECKPOINT_V1};

impl Host {
    /// Keeps a JSON value under a key; durable before it returns.
    pub fn put_checkpoint_json(&self, key: &str, value_json: &str) -> Result<()> {
        let put = self.interface::<imgf_host_checkpoint_v1>()?.put;
        let put = put.ok_or_else(|| missing(IMGF_HOST_CHECKPOINT_V1))?;
        let (key, value) = (imgf_str::new(key), imgf_str::new(value_json));
        // SAFETY: the slot's contract; both texts outlive the call.
        self.table.call("checkpoint.put", |host| unsafe { put(host.ctx, key, value) })
    }

    /// What this or an earlier attempt put under the key; `None` = nothing.
    pub fn checkpoint_json(&self, key: &str) -> Result<Option<String>> {
        let get = self.interface::<imgf_host_checkpoint_v1>()?.get;
        let get = get.ok_or_else(|| missing(IMGF_HOST_CHECKPOINT_V1))?;
        let key = imgf_str::new(key);
        // SAFETY: the slot's contract; key and out outlive the call.
        none_if_not_found(
            self.table
                .call_for_text("checkpoint.get", |host, out| unsafe { get(host.ctx, key, out) }),
        )
    }
}
