//! Where a template may point: over REST never to the server's own files, since the factory would
//! read them for a stranger. Addresses of the network are judged later, by whoever fetches them.

use roxmltree::Node;

use crate::payload::finding::quoted;
use crate::payload::xml::walk::{tag, Walk};

/// Where a template came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateSource {
    /// Over the network: `file:` URLs and local paths are refused.
    Rest,
    /// From the person at the machine, who may read what they name.
    CommandLine,
}

/// Does this URL name the machine that reads it (`localhost`, 127.0.0.0/8, `::1`)? A guest that was
/// given it would look at itself, so OS plugins that install inside a guest refuse it.
pub fn names_this_host(url: &str) -> bool {
    let host = match host_of(url) {
        Some(host) => host.trim_end_matches('.').to_ascii_lowercase(),
        None => return false,
    };
    if let Ok(address) = host.parse::<std::net::Ipv6Addr>() {
        let mapped = address.to_ipv4().map_or(false, |v4| v4.is_loopback());
        return address.is_loopback() || address.is_unspecified() || mapped;
    }
    if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
        return address.is_loopback() || address.is_unspecified();
    }
    host == "localhost"
        || host == "localhost.localdomain"
        || host.ends_with(".localhost")
        || host == "ip6-localhost"
}

/// The host of `scheme://user:password@host:port/…`; an IPv6 address without its brackets.
fn host_of(url: &str) -> Option<&str> {
    let after_scheme = &url[url.find("://")? + "://".len()..];
    let end = after_scheme.find(['/', '?', '#', '\\'].as_ref()).unwrap_or(after_scheme.len());
    let authority = &after_scheme[..end];
    let host = authority.rsplit('@').next().unwrap_or(authority);
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next();
    }
    host.split(':').next()
}

/// A place that the factory fetches from: it needs a scheme, and over REST not `file:`.
pub(super) fn check_fetched<'d>(
    walk: &mut Walk<'d>,
    node: Node<'d, 'd>,
    url: &str,
    source: TemplateSource,
) {
    if source == TemplateSource::CommandLine || url.is_empty() {
        return;
    }
    if is_local_file(url) || !has_scheme(url) {
        refuse(walk, node, url);
    }
}

/// A repository, which may be written in the package manager's own words (`deb http://… ./`,
/// `ppa:…`): over REST no word of it may be a local file.
pub(super) fn check_repository<'d>(
    walk: &mut Walk<'d>,
    node: Node<'d, 'd>,
    url: &str,
    source: TemplateSource,
) {
    if source == TemplateSource::Rest && url.split_whitespace().any(is_local_file) {
        refuse(walk, node, url);
    }
}

fn refuse<'d>(walk: &mut Walk<'d>, node: Node<'_, '_>, url: &str) {
    let message = format!(
        "<{}> names {}, which is a file of the factory's machine; a template sent over REST may \
         not read it: give an http or https URL, or build on that machine with the command line",
        tag(node),
        quoted(url)
    );
    walk.find(node, message);
}

/// A path, or a URL whose scheme (or one of its compound scheme's parts) reads local files.
fn is_local_file(text: &str) -> bool {
    // URL parsers drop tabs and line ends inside a URL and controls before it; so must we.
    let text: String = text.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
    if text.starts_with(['/', '~', '\\'].as_ref()) || text == "." || text == ".." {
        return true;
    }
    if text.starts_with("../") || (text.starts_with("./") && text.len() > 2) {
        return true;
    }
    // `mirror+file:/x` and `jar:file:/x` read files as `file:/x` does.
    let lower = text.to_ascii_lowercase();
    let schemes_end = lower.find('/').unwrap_or(lower.len());
    let mut schemes = lower[..schemes_end].split([':', '+'].as_ref());
    // What follows the last colon is no scheme (`file` alone is a word).
    schemes.next_back();
    schemes.any(|scheme| matches!(scheme, "file" | "copy" | "cdrom" | "local"))
}

fn has_scheme(url: &str) -> bool {
    match url.find(':') {
        Some(end) => {
            let scheme = &url[..end];
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_this_host_are_recognised_in_every_spelling() {
        for url in [
            "http://localhost/repo",
            "http://LOCALHOST.localdomain:8080",
            "https://user:pw@127.0.0.1/x",
            "http://127.9.9.9",
            "http://localhost./x",
            "http://[::1]:80/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://0.0.0.0/",
            "http://foo.localhost",
        ] {
            assert!(names_this_host(url), "{url}");
        }
        for url in [
            "http://example.org/localhost",
            "http://localhost.example.org/",
            "http://localhost@example.org/",
            "http://128.0.0.1/",
            "http://[2001:db8::1]/",
            "localhost",
            "",
            "://",
        ] {
            assert!(!names_this_host(url), "{url}");
        }
    }

    #[test]
    fn local_files_are_recognised_in_every_spelling() {
        for text in [
            "/etc/passwd",
            "file:///etc/passwd",
            "FILE:/etc/passwd",
            "fi\tle:///etc/passwd",
            "\u{1}file:/x",
            "../x",
            "./x",
            "~/x",
            "mirror+file:/srv",
            "jar:file:/srv",
            "copy:/srv",
            "\\\\host\\share",
        ] {
            assert!(is_local_file(text), "{text:?}");
        }
        for text in ["http://example.org/file:/x", "ppa:file/x", "deb", "./", "ftp://h/x", "file"] {
            assert!(!is_local_file(text), "{text:?}");
        }
    }
}
