//! The plugin's half of negotiation: settles on a version, or says why not.

use std::sync::Mutex;

use crate::abi::*;

/// The oldest and the newest ABI that plugins built with this SDK speak.
const SPOKEN: (u32, u32) = (IMGF_ABI_1_0, IMGF_ABI_1_0);

/// Refusals live for ever, as negotiate.h demands, so each question's text is made once. A host
/// asks one question, a validator a handful; beyond this many the text leaves out the host's range.
const REFUSALS_MAX: usize = 64;

static REFUSALS: Mutex<Vec<((u32, u32), &'static str)>> = Mutex::new(Vec::new());

/// `imagefactory_plugin_negotiate` of a Rust plugin.
///
/// # Safety
/// `n` is NULL or points to as many readable and writable bytes as its `struct_size` states, at
/// least 4.
pub unsafe fn negotiate(n: *mut imgf_negotiate, plugin: &'static imgf_plugin) -> i32 {
    // SAFETY: the caller's promise.
    let asked = match unsafe { read_growing(n as *const imgf_negotiate) } {
        Some(asked) if asked.struct_size >= IMGF_NEGOTIATE_SIZE_1_0 => asked,
        _ => return IMGF_E_INVALID_ARGUMENT,
    };
    let newest_common = asked.host_abi_max.min(SPOKEN.1);
    let oldest_common = asked.host_abi_min.max(SPOKEN.0);
    let outcome = if newest_common < oldest_common {
        let text = refusal(asked.host_abi_min, asked.host_abi_max);
        (IMGF_E_ABI, 0, std::ptr::null(), imgf_str::new(text))
    } else {
        (IMGF_OK, newest_common, plugin as *const imgf_plugin, imgf_str::ABSENT)
    };
    let (status, chosen_abi, plugin, refusal) = outcome;
    // SAFETY: not NULL and aligned (it was read), and large enough for these fields of ABI 1.0.
    // Field by field, without a reference to the whole: what lies behind them stays untouched.
    unsafe {
        (*n).chosen_abi = chosen_abi;
        (*n).plugin = plugin;
        (*n).refusal = refusal;
    }
    status
}

/// One sentence with both ranges, in storage that is never freed; the same question always gets
/// the same text at the same address.
fn refusal(host_min: u32, host_max: u32) -> &'static str {
    let asked = (host_min, host_max);
    let mut known = REFUSALS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((_, text)) = known.iter().find(|(question, _)| *question == asked) {
        return text;
    }
    if known.len() >= REFUSALS_MAX {
        return "this plugin speaks plugin ABI 1.0, which is outside the host's range";
    }
    let text = format!(
        "this plugin speaks plugin ABI {}, the host speaks {} to {}",
        dotted(SPOKEN.1),
        dotted(host_min),
        dotted(host_max)
    );
    let text: &'static str = Box::leak(text.into_boxed_str());
    known.push((asked, text));
    text
}

fn dotted(abi: u32) -> String {
    format!("{}.{}", abi >> 16, abi & 0xffff)
}
