//! Which pages may open a WebSocket (RFC 6454, RFC 6455 §10.2).

use std::fmt;

/// The origins whose pages may connect. A browser names the page's origin in the `Origin` field, and sends the user's
/// cookies along whatever page it was: without a check, any page on the web acts in the user's name (cross-site WebSocket
/// hijacking). A request without the field does not come from a browser's page, and always passes.
///
/// [Default](Origins::same): the server's own pages. Behind a proxy that ends TLS, pages are `https` where this server sees
/// `http`, and the proxy may have changed `Host`: name the origins there.
///
/// Origins are compared whole, as scheme, host and port (RFC 6454 §5): no suffix and no wildcard matches, a port that is the
/// scheme's default may be left out, and case does not matter.
///
/// ```
/// use webscale::{Origins, Server};
/// let builder = Server::builder().origins(Origins::list(["https://example.com", "http://localhost:8080"]));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Origins(Rule);

#[derive(Clone, Debug, Default)]
enum Rule {
    #[default]
    Same,
    Any,
    List(Vec<String>),
}

impl Origins {
    /// Pages of the server itself: the origin is that of the `Host` field, `https` with TLS and `http` without. A name that
    /// an attacker points at this server is such a host too (DNS rebinding); [`Origins::list`] is not deceived by it.
    #[must_use]
    pub fn same() -> Self {
        Self(Rule::Same)
    }

    /// Every page on the web: for public data, or where [`Handler::open`](crate::Handler::open) checks by itself, or
    /// demands a secret that no browser adds unasked.
    #[must_use]
    pub fn any() -> Self {
        Self(Rule::Any)
    }

    /// These, as `scheme://host` or `scheme://host:port`. `null` stands for pages that have no origin, such as files and
    /// sandboxed frames: any page can make itself one of those.
    ///
    /// [`ServerBuilder::build`](crate::ServerBuilder::build) fails with [`BuildError::Origin`](crate::BuildError::Origin) for
    /// what is none.
    #[must_use]
    pub fn list<I>(origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self(Rule::List(origins.into_iter().map(Into::into).collect()))
    }

    /// The first entry of a list that is no origin, and what is wrong with it.
    #[must_use]
    pub fn fault(&self) -> Option<(String, OriginFault)> {
        let Rule::List(list) = &self.0 else { return None };
        list.iter().find_map(|entry| Some((entry.clone(), Origin::parse(entry).err()?)))
    }

    /// Whether a page of `origin` may open a WebSocket on `host`.
    pub(crate) fn admit(&self, origin: Option<&str>, host: &str, is_secure: bool) -> bool {
        let Some(origin) = origin else { return true };
        let parsed = Origin::parse(origin);
        match &self.0 {
            Rule::Any => true,
            Rule::Same => {
                let scheme = if is_secure { "https" } else { "http" };
                let own = Origin::of_authority(scheme, host);
                matches!((parsed, own), (Ok(Origin::Of(page)), Ok(own)) if page.equals(&own))
            }
            Rule::List(list) => parsed.is_ok_and(|page| {
                list.iter().any(|entry| Origin::parse(entry).is_ok_and(|e| e.equals(&page)))
            }),
        }
    }
}

/// Why a text is no origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OriginFault {
    /// It does not begin with `scheme://`.
    Scheme,
    /// The host is missing, or holds what no host has: a wildcard, user and password, a character that is not ASCII.
    Host,
    /// The port is no number from 0 to 65535.
    Port,
    /// A path, query or fragment, if only `/`.
    Path,
}

impl fmt::Display for OriginFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it must be scheme://host, scheme://host:port or null",
            Self::Host => "the host must be an ASCII name or an address; there are no wildcards",
            Self::Port => "the port must be a number up to 65535",
            Self::Path => "it must end behind host and port",
        })
    }
}

/// An origin, taken apart.
#[derive(Clone, Copy, Debug)]
enum Origin<'a> {
    Null,
    Of(Page<'a>),
}

/// Scheme, host and port; a port of `None` belongs to a scheme without a default.
#[derive(Clone, Copy, Debug)]
struct Page<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Result<Self, OriginFault> {
        if text == "null" {
            return Ok(Self::Null);
        }
        let (scheme, authority) = text.split_once("://").ok_or(OriginFault::Scheme)?;
        let begins_well = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        if !begins_well || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
            return Err(OriginFault::Scheme);
        }
        Self::of_authority(scheme, authority).map(Self::Of)
    }

    fn of_authority(scheme: &'a str, authority: &'a str) -> Result<Page<'a>, OriginFault> {
        if authority.contains(['/', '?', '#']) {
            return Err(OriginFault::Path);
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, ""),
        };
        if !is_host(host) {
            return Err(OriginFault::Host);
        }
        let port = match port {
            "" if authority.ends_with(':') => return Err(OriginFault::Port),
            "" => default_port(scheme),
            // `parse` would take a sign.
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| OriginFault::Port)?)
            }
            _ => return Err(OriginFault::Port),
        };
        Ok(Page { scheme, host, port })
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Of(one), Self::Of(other)) => one.equals(other),
            _ => false,
        }
    }
}

impl Page<'_> {
    fn equals(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
    }
}

/// A name, or an address; an IPv6 address stands in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| {
            !ip.is_empty() && ip.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
        }),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    match () {
        () if is("http") || is("ws") => Some(80),
        () if is("https") || is("wss") => Some(443),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_a_page_of_the_server_itself() {
        let same = Origins::default();
        for (origin, host, is_secure) in [
            ("https://example.com", "example.com", true),
            ("https://example.com", "example.com:443", true),
            ("https://example.com:443", "example.com", true),
            ("HTTPS://Example.COM", "eXample.com", true),
            ("http://example.com", "example.com", false),
            ("http://example.com:80", "example.com", false),
            ("https://example.com:9001", "example.com:9001", true),
            ("http://[::1]:9001", "[::1]:9001", false),
            ("http://127.0.0.1:9001", "127.0.0.1:9001", false),
        ] {
            assert!(same.admit(Some(origin), host, is_secure), "{origin} on {host}");
            assert!(!same.admit(Some(origin), host, !is_secure), "{origin} on {host}: the other scheme");
        }
        for origin in [
            "null",
            "",
            "example.com",
            "https://other.com",
            "https://example.com.evil.com",
            "https://evil-example.com",
            "https://sub.example.com",
            "https://example.com:444",
            "https://example.com:80",
            "https://example.co",
            "https://example.com/",
            "https://user@example.com",
            "https://example.com https://evil.com",
            "https://evil.com?example.com",
            "https://example.com:0443x",
            "https://example.com:+443",
            "ftp://example.com:443",
            "://example.com",
        ] {
            assert!(!same.admit(Some(origin), "example.com", true), "{origin:?}");
        }
        assert!(same.admit(None, "example.com", true), "no browser");
    }

    #[test]
    fn listed_ones_and_no_others() {
        let list = Origins::list(["https://good.example", "http://localhost:8080", "app://shell"]);
        assert_eq!(list.fault(), None);
        for origin in
            ["https://good.example", "https://GOOD.example:443", "http://localhost:8080", "app://shell"]
        {
            assert!(list.admit(Some(origin), "whatever", false), "{origin}");
        }
        for origin in [
            "null",
            "http://good.example",
            "https://good.example:8443",
            "https://evil.good.example",
            "https://good.example.evil.com",
            "https://notgood.example",
            "http://localhost",
            "http://localhost:80",
            "app://shell:80",
            // The server's own page is not named.
            "http://whatever",
        ] {
            assert!(!list.admit(Some(origin), "whatever", false), "{origin}");
        }
        assert!(list.admit(None, "whatever", false));
        let null = Origins::list(["null"]);
        assert!(null.fault().is_none() && null.admit(Some("null"), "a", true));
        assert!(!null.admit(Some("NULL"), "a", true) && !null.admit(Some("https://a"), "a", true));
        assert!(!Origins::list([""; 0]).admit(Some("http://a"), "a", false), "nobody");
    }

    #[test]
    fn any() {
        for origin in [None, Some("null"), Some("https://evil.com"), Some("nonsense")] {
            assert!(Origins::any().admit(origin, "example.com", true));
        }
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for (entry, fault) in [
            ("", OriginFault::Scheme),
            ("*", OriginFault::Scheme),
            ("example.com", OriginFault::Scheme),
            ("//example.com", OriginFault::Scheme),
            ("1http://a", OriginFault::Scheme),
            ("Null", OriginFault::Scheme),
            ("https://", OriginFault::Host),
            ("https://*", OriginFault::Host),
            ("https://*.example.com", OriginFault::Host),
            ("https://user@example.com", OriginFault::Host),
            ("https://b\u{fc}cher.example", OriginFault::Host),
            ("https://::1", OriginFault::Host),
            ("https://[::1", OriginFault::Host),
            ("https://[]", OriginFault::Host),
            ("https://a:", OriginFault::Port),
            ("https://a:b", OriginFault::Port),
            ("https://a:65536", OriginFault::Port),
            ("https://a:+1", OriginFault::Port),
            ("https://a/", OriginFault::Path),
            ("https://a?b", OriginFault::Path),
            ("https://a:1#b", OriginFault::Path),
        ] {
            let origins = Origins::list(["https://fine.example", entry]);
            assert_eq!(origins.fault(), Some((entry.to_owned(), fault)), "{entry:?}");
        }
    }
}
