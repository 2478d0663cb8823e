//! Fetches what templates name by URL: contents of files and commands, packages, media.
//!
//! A template comes from whoever may order images; what it names must not lead to services that
//! only the factory can reach. So names are looked up here, private addresses are refused, and the
//! connection goes to the address that was checked, at each redirect anew. What the operator's
//! `mirrors` map is the operator's choice and may be anywhere. Sizes and times are bounded, and the
//! digest of each content is kept for the image's properties.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use reqwest::Url;
use reqwest::blocking::{Client, Response};
use reqwest::header::LOCATION;
use sha2::{Digest, Sha256};

use crate::mirrors::Mirrors;

/// Of a file's or command's content, unless the configuration says otherwise (`url_bytes_max`):
/// templates carry configuration and scripts, seldom archives.
const CONTENT_BYTES_MAX: u64 = 256 << 20;

/// Of an installation medium: a double-layer DVD.
pub(crate) const MEDIUM_BYTES_MAX: u64 = 9 << 30;

/// Until a server has answered a request, and for each read: one that is slower is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// More is a circle (curl's and browsers' limit is 20 to 50; mirrors need 2).
const REDIRECTS_MAX: usize = 8;

/// Fetches, and remembers what was fetched.
pub(crate) struct Fetcher<'a> {
    host: &'a Host,
    mirrors: &'a Mirrors,
    private_allowed: bool,
    bytes_max: u64,
    digests: RefCell<BTreeMap<String, String>>,
}

impl<'a> Fetcher<'a> {
    /// With the limits of the configuration.
    pub(crate) fn of(host: &'a Host, mirrors: &'a Mirrors) -> Result<Fetcher<'a>> {
        // A second instance in one process finds it installed.
        rustls::crypto::ring::default_provider().install_default().ok();
        Ok(Fetcher {
            host,
            mirrors,
            private_allowed: host.config("url_private_addresses")?.unwrap_or(false),
            bytes_max: host.config("url_bytes_max")?.unwrap_or(CONTENT_BYTES_MAX),
            digests: RefCell::default(),
        })
    }

    /// Digest of each content by its URL.
    pub(crate) fn digests(&self) -> BTreeMap<String, String> {
        self.digests.borrow().clone()
    }

    /// The content of `what` (for messages), in memory.
    pub(crate) fn bytes(&self, url: &str, what: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.fetch(url, what, self.bytes_max, &mut bytes)?;
        Ok(bytes)
    }

    /// The same into a file.
    pub(crate) fn file(&self, url: &str, what: &str, bytes_max: u64, path: &Path) -> Result<()> {
        let mut file = File::create_new(path)?;
        self.fetch(url, what, bytes_max, &mut file)
    }

    fn fetch(&self, url: &str, what: &str, bytes_max: u64, sink: &mut dyn Write) -> Result<()> {
        let from = shown(url);
        let failed = |error: PluginError| error.while_doing(format!("fetching {what} from {from}"));
        let mut response = self.follow(url).map_err(failed)?;
        let announced = response.content_length().unwrap_or_default();
        let too_long = || {
            let message = format!("it is longer than {bytes_max} bytes, which is the limit");
            PluginError::user_fault(message)
        };
        if announced > bytes_max {
            return Err(failed(too_long()));
        }
        let (mut done, mut digest) = (0, Sha256::new());
        let mut chunk = vec![0; 1 << 20];
        loop {
            let read = response.read(&mut chunk).map_err(|error| failed(error.into()))?;
            if read == 0 {
                break;
            }
            done += read as u64;
            if done > bytes_max {
                return Err(failed(too_long()));
            }
            digest.update(&chunk[..read]);
            sink.write_all(&chunk[..read])?;
            // Without a total: it is a part of one phase of the build, not its measure.
            let message = format!("Fetching {what}: {} MB", done / 1_000_000);
            self.host.progress("fetch", &message, 0, 0)?;
        }
        if announced > done {
            let message = format!("it ended after {done} of {announced} bytes");
            return Err(failed(PluginError::new(ErrorCode::Io, message)));
        }
        let digest = hex(&digest.finalize());
        self.host.info(&format!("fetched {what} from {from}: {done} bytes, sha256 {digest}"));
        self.digests.borrow_mut().insert(from, format!("sha256:{digest}"));
        Ok(())
    }

    /// The answer at the end of the redirects.
    fn follow(&self, public: &str) -> Result<Response> {
        let mapped = self.mirrors.for_build(public);
        let trusted = mapped != public;
        let mut url = parse(&mapped)?;
        for _ in 0..REDIRECTS_MAX {
            let response = self.ask(&url, trusted)?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let next = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match next.filter(|_| status.is_redirection()) {
                Some(next) => {
                    let joined = url.join(next).map_err(|error| {
                        PluginError::user_fault(format!("it leads to '{next}': {error}"))
                    })?;
                    url = parse(joined.as_str())?;
                }
                None => {
                    let message = format!("the server answers {status}");
                    return Err(PluginError::user_fault(message));
                }
            }
        }
        Err(PluginError::user_fault(format!("it leads on more than {REDIRECTS_MAX} times")))
    }

    fn ask(&self, url: &Url, trusted: bool) -> Result<Response> {
        let name = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = (bare, port)
            .to_socket_addrs()
            .map_err(|error| {
                PluginError::new(ErrorCode::Unavailable, format!("{name} has no address: {error}"))
            })?
            .collect();
        if !trusted && !self.private_allowed {
            refuse_private(name, &found)?;
        }
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs(name, &found)
            .connect_timeout(PATIENCE)
            // Of the blocking client: for the answer, and for each read.
            .timeout(PATIENCE)
            .user_agent("DebianOS/2.0.0")
            .build()
            .map_err(|error| PluginError::new(ErrorCode::Internal, chain(&error)))?;
        let sent = client.get(url.clone()).send();
        sent.map_err(|error| PluginError::new(ErrorCode::Unavailable, chain(&error.without_url())))
    }
}

fn parse(url: &str) -> Result<Url> {
    let parsed = Url::parse(url)
        .map_err(|error| PluginError::user_fault(format!("'{url}' is no URL: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        let message = format!(
            "'{url}' is neither http nor https, and the build reads no files of \
            the factory's machine: serve it over http"
        );
        return Err(PluginError::user_fault(message));
    }
    Ok(parsed)
}

fn refuse_private(name: &str, found: &[SocketAddr]) -> Result<()> {
    match found.iter().find(|address| !is_public(address.ip())) {
        None => Ok(()),
        Some(address) => {
            let message = format!(
                "{name} is at the private address {}, where templates may not lead the factory",
                address.ip()
            );
            Err(PluginError::user_fault(message).hint(
                "the operator can map the URL in 'mirrors', or set url_private_addresses of the \
                 plugin DebianOS to true",
            ))
        }
    }
}

/// Is this an address that anybody may ask? (RFC 6890's registries, without the public part.)
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b); // RFC 6598
            let benchmark = a == 198 && (18..20).contains(&b); // RFC 2544
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || shared
                || benchmark)
        }
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    if let Some(v4) = v6.to_ipv4_mapped() {
        return is_public(IpAddr::V4(v4));
    }
    // Global unicast is 2000::/3; of it 2001:db8::/32 is for documentation, 2002::/16 and
    // 64:ff9b::/96 carry addresses of version 4 that may be private.
    let segments = v6.segments();
    segments[0] & 0xe000 == 0x2000
        && segments[0] != 0x2002
        && !(segments[0] == 0x2001 && segments[1] == 0xdb8)
}

/// A chain of causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

/// A URL without the password that it may hold, for messages and properties.
pub(crate) fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() || !parsed.username().is_empty() => {
            let masked = parsed.set_username("").and_then(|()| parsed.set_password(None));
            masked.map_or_else(|()| "(a URL)".to_owned(), |()| parsed.to_string())
        }
        _ => url.to_owned(),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_anybody_may_ask_are_public() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::",
            "64:ff9b::a00:1",
            "2001:db8::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["151.101.2.132", "2a04:4e42::644", "::ffff:151.101.2.132"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn passwords_of_urls_are_not_shown() {
        assert_eq!(shown("http://me:secret@h/x"), "http://h/x");
        assert_eq!(shown("http://h/x"), "http://h/x");
    }

    #[test]
    fn only_http_is_fetched() {
        for url in ["file:///etc/shadow", "/etc/shadow", "ftp://h/x", "gopher://h/"] {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
