//! Delivers callbacks: one PUT per status change and URL, in order, retried, across restarts.
//!
//! The queue lies in the store; this loop takes the first waiting line of each image and URL, so a
//! URL never hears of COMPLETE before BUILDING. A listener that does not answer is tried again with
//! growing pauses and given up in the end, with a line in the log. Whoever calls [`deliver`] runs
//! it for as long as the process lives; dropping the future loses nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imagefactory_model::document::masked_url;
use imagefactory_store::ImageStore;
use imagefactory_store::callbacks::Callback;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::broadcast::error::RecvError;

use crate::events::Changes;
use crate::private_addresses::{OnlyPublic, is_private};

/// Deliveries at once.
const AT_ONCE: u32 = 16;

/// Tries of one callback; with the pauses below the last is about three hours after the first.
const TRIES_MAX: u32 = 16;

/// First pause; it doubles.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 60);

/// A listener has so long to accept the connection, and so long for its whole answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Looks again without being told: another process may have queued something.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How callbacks are sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallbackRules {
    /// Refuse listeners on private, loopback and link-local addresses.
    pub public_only: bool,
}

/// Why callbacks cannot be sent at all.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client for callbacks")]
pub struct CallbackError(#[from] reqwest::Error);

/// Delivers what is queued until the process ends. The TLS provider of the process must be
/// installed.
pub async fn deliver(
    store: Arc<dyn ImageStore>,
    changes: Changes,
    rules: CallbackRules,
) -> Result<(), CallbackError> {
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("imagefactory/", env!("CARGO_PKG_VERSION")));
    if rules.public_only {
        client = client.dns_resolver(Arc::new(OnlyPublic));
    }
    let client = client.build()?;
    let mut changes = changes.listen();
    loop {
        let pause = match deliver_due(&*store, &client, rules).await {
            Ok(next_due) => next_due.min(LOOK_AGAIN),
            Err(error) => {
                tracing::error!("callbacks wait: {error}");
                LOOK_AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            change = changes.recv() => {
                if matches!(change, Err(RecvError::Closed)) {
                    return Ok(());
                }
            }
        }
    }
}

/// Delivers all that is due; answers how long nothing will be.
async fn deliver_due(
    store: &dyn ImageStore,
    client: &reqwest::Client,
    rules: CallbackRules,
) -> Result<Duration, imagefactory_store::StoreError> {
    loop {
        let waiting = store.next_callbacks(AT_ONCE).await?;
        let now = now_ms();
        let (due, later): (Vec<Callback>, Vec<Callback>) =
            waiting.into_iter().partition(|callback| callback.due_at_ms <= now);
        if due.is_empty() {
            let next = later.iter().map(|callback| callback.due_at_ms - now).min();
            let next = next.and_then(|ms| u64::try_from(ms).ok());
            return Ok(next.map_or(LOOK_AGAIN, Duration::from_millis));
        }
        let sent = due.into_iter().map(|callback| async move {
            let outcome = send(client, rules, &callback).await;
            settle(store, &callback, outcome).await
        });
        for settled in futures_util::future::join_all(sent).await {
            settled?;
        }
    }
}

async fn settle(
    store: &dyn ImageStore,
    callback: &Callback,
    outcome: Result<(), Refusal>,
) -> Result<(), imagefactory_store::StoreError> {
    let (image, url) = (callback.image_id, masked_url(&callback.url));
    match outcome {
        Ok(()) => store.callback_done(callback.seq).await,
        Err(Refusal { why, final_: false }) if callback.attempts + 1 < TRIES_MAX => {
            let pause = pause_after(callback.attempts);
            tracing::debug!(%image, %url, "callback: {why}; again in {} s", pause.as_secs());
            let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
            store.callback_later(callback.seq, now_ms().saturating_add(pause_ms)).await
        }
        Err(Refusal { why, .. }) => {
            let tries = callback.attempts + 1;
            tracing::warn!(%image, %url, "callback dropped after {tries} tries: {why}");
            store.callback_done(callback.seq).await
        }
    }
}

/// Why a callback was not taken.
struct Refusal {
    why: String,
    /// No use in trying again.
    final_: bool,
}

impl Refusal {
    fn for_good(why: impl Into<String>) -> Refusal {
        Refusal { why: why.into(), final_: true }
    }
}

async fn send(
    client: &reqwest::Client,
    rules: CallbackRules,
    callback: &Callback,
) -> Result<(), Refusal> {
    let mut url = Url::parse(&callback.url)
        .map_err(|error| Refusal::for_good(format!("it is no URL: {error}")))?;
    // An address in the URL is not asked of any resolver.
    let literal: Option<IpAddr> =
        url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    if rules.public_only && literal.is_some_and(is_private) {
        return Err(Refusal::for_good("private addresses are not allowed by the configuration"));
    }
    let (user, password) = (url.username().to_owned(), url.password().map(str::to_owned));
    // What is sent as Basic auth does not belong into the request's URL. Both fail only for URLs
    // that cannot have a user, which then have none.
    url.set_username("").ok();
    url.set_password(None).ok();
    let mut request =
        client.put(url).header(CONTENT_TYPE, "application/json").body(callback.document.clone());
    if !user.is_empty() || password.is_some() {
        request = request.basic_auth(decoded(&user), password.as_deref().map(decoded));
    }
    let answer = request.send().await.map_err(|error| Refusal {
        // The error's own text names the URL; the log line does that, without password.
        why: error.without_url().to_string(),
        final_: false,
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    // A client error will not go away by itself, but for the two that say "later".
    let final_ = (status.is_client_error() || status.is_redirection())
        && !matches!(status.as_u16(), 408 | 429);
    Err(Refusal { why: format!("the listener answered {status}"), final_ })
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn pause_after(attempts: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(attempts)).min(PAUSE_MAX)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stay_bounded() {
        assert_eq!(pause_after(0), Duration::from_secs(1));
        assert_eq!(pause_after(3), Duration::from_secs(8));
        assert_eq!(pause_after(40), PAUSE_MAX);
        let all: u64 = (0..TRIES_MAX).map(|attempt| pause_after(attempt).as_secs()).sum();
        assert!((2 * 3600..4 * 3600).contains(&all), "{all} s in all");
    }
}
