//! What may be shown of a request: never a secret header, a password in an address, a signed query.

use reqwest::Url;

/// Put in the place of a secret; the host's log says it the same way.
const REDACTED: &str = "[REDACTED]";

/// Shorter secrets are not looked for in texts: removing every `abc` would tell them by the gaps.
const SECRET_BYTES_MIN: usize = 4;

/// An address without user, password, query and fragment. Queries carry signatures and tokens, so
/// none of their values is shown.
pub fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Both only fail where there is no host, and then there is nothing to remove either.
    shown.set_username("").ok();
    shown.set_password(None).ok();
    shown.set_fragment(None);
    let had_query = shown.query().is_some_and(|query| !query.is_empty());
    shown.set_query(None);
    if had_query { format!("{shown}?…") } else { shown.to_string() }
}

/// A text of a server without the secrets that were sent to it.
pub fn shown_without<'s>(text: &str, secrets: impl IntoIterator<Item = &'s str>) -> String {
    let mut secrets: Vec<&str> =
        secrets.into_iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN).collect();
    // The longest first, so that a secret within a secret does not spoil it.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
}

/// Host and port, as a person checks them.
pub(crate) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_opens_it() {
        let url = Url::parse("https://me:hunter2@cloud.example:1/a/b?X-Amz-Signature=f00&x=1#t");
        assert_eq!(shown_url(&url.unwrap()), "https://cloud.example:1/a/b?…");
        let plain = Url::parse("http://[::1]:9292/v2/images").unwrap();
        assert_eq!(shown_url(&plain), "http://[::1]:9292/v2/images");
        assert_eq!(host_and_port(&plain), "[::1]:9292");
        assert_eq!(host_and_port(&Url::parse("https://a.example").unwrap()), "a.example:443");
    }

    #[test]
    fn a_servers_words_are_shown_without_our_secrets() {
        let said =
            shown_without("token abcdef and abcdefgh, not abc", ["abcdef", "abcdefgh", "abc"]);
        assert_eq!(said, "token [REDACTED] and [REDACTED], not abc");
    }
}
