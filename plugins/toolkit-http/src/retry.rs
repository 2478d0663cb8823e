//! What is repeated, how often, and after which pause: exponential backoff with full jitter, so
//! that a thousand clients of an overloaded service do not come back at the same moment.

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;

/// Bounds of the repetitions of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts altogether, the first one included.
    pub attempts: u32,
    /// Ceiling of the first pause; each further one is twice as high.
    pub first_pause: Duration,
    /// No pause is longer, unless the service asks for one.
    pub longest_pause: Duration,
    /// From the first attempt on; a pause that would end later is not begun.
    pub whole: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            // Ceilings of 0.5, 1, 2, 4, 8, 16 and 20 s: a service that restarts is awaited.
            attempts: 8,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
            whole: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// One attempt and no more: for requests whose repetition the plugin decides itself.
    pub fn never() -> RetryPolicy {
        RetryPolicy { attempts: 1, ..RetryPolicy::default() }
    }

    /// How long to wait after the failed attempt of this number (1, 2, …); `None` = no more.
    /// `asked` is the service's Retry-After, which is honoured in full or not at all.
    pub fn pause_after(
        &self,
        attempt: u32,
        spent: Duration,
        asked: Option<Duration>,
    ) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let ceiling = self.first_pause.saturating_mul(1 << (attempt - 1).min(20));
        let jittered = ceiling.min(self.longest_pause).mul_f64(unit_random());
        // Those that were asked to come back at the same moment are spread over the next ceiling.
        let pause = asked.map_or(jittered, |asked| asked + jittered.min(asked / 10));
        (spent + pause <= self.whole).then_some(pause)
    }
}

/// From 0 to 1. Jitter needs no better source than the seed of the standard library's hash maps.
fn unit_random() -> f64 {
    let random = std::hash::RandomState::new().build_hasher().finish();
    random as f64 / u64::MAX as f64
}

/// Retry-After, in seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 4,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(3),
        whole: Duration::from_secs(60),
    };

    #[test]
    fn pauses_grow_up_to_their_ceiling_and_end_with_the_attempts() {
        for _ in 0..100 {
            for (attempt, ceiling) in [(1, 1), (2, 2), (3, 3)] {
                let pause = POLICY.pause_after(attempt, Duration::ZERO, None).unwrap();
                assert!(pause <= Duration::from_secs(ceiling), "{attempt}: {pause:?}");
            }
        }
        assert_eq!(POLICY.pause_after(4, Duration::ZERO, None), None);
    }

    #[test]
    fn jitter_is_full_and_not_always_the_same() {
        let pauses: Vec<_> = (0..50).map(|_| POLICY.pause_after(3, Duration::ZERO, None)).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        assert!(pauses.iter().any(|pause| *pause < Some(Duration::from_millis(1500))));
        assert!(pauses.iter().any(|pause| *pause > Some(Duration::from_millis(1500))));
    }

    #[test]
    fn the_services_wish_is_honoured_within_the_whole_time() {
        let asked = Some(Duration::from_secs(30));
        let pause = POLICY.pause_after(1, Duration::ZERO, asked).unwrap();
        assert!(pause >= Duration::from_secs(30) && pause <= Duration::from_secs(33));
        assert_eq!(POLICY.pause_after(1, Duration::from_secs(31), asked), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("soon"), None);
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let seconds = of(&later).unwrap().as_secs();
        assert!((98..=100).contains(&seconds), "{seconds}");
    }
}
