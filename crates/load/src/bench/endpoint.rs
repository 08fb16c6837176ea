//! What clients connect to, and what they say in the opening handshake.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use webscale::{ClientTls, Deflate, Target, TlsVersions};

use super::BenchError;
use super::plan::{Plan, Trust};
use super::template::{Template, TemplateError};
use super::tickets::{Collects, Tickets};

/// What the clients ask for besides the URL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// Further header fields.
    pub headers: Vec<Header>,
    /// Subprotocols, the preferred first.
    pub subprotocols: Vec<String>,
    /// permessage-deflate, where it is offered.
    pub compression: Option<Compression>,
}

/// One header field. Its value is no part of any report: it may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    name: String,
    value: Template,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

/// Why a header field cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not `NAME: VALUE`.
    #[error("wanted NAME: VALUE")]
    Form,
    /// A character that has no place in a header field (RFC 9110 §5).
    #[error("{0} holds a character that has no place there")]
    Character(&'static str),
    /// The handshake writes this field itself.
    #[error("the field {0} belongs to the handshake")]
    Reserved(String),
    /// `{client}` is the only field of a value.
    #[error("the value, {0}")]
    Template(#[from] TemplateError),
}

impl Header {
    /// Reads `NAME: VALUE`, where `{client}` stands for the client's number.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn parse(text: &str) -> Result<Header, HeaderError> {
        let (name, value) = text.split_once(':').ok_or(HeaderError::Form)?;
        Header::new(name, Template::per_client(check_value(value.trim())?)?)
    }

    /// `Authorization: Basic …` (RFC 7617), from `user:password`.
    pub fn basic(credentials: &str) -> Header {
        let value = Template::literal(format!("Basic {}", BASE64.encode(credentials.as_bytes())));
        Header { name: "Authorization".into(), value }
    }

    /// `Authorization: Bearer …` (RFC 6750).
    ///
    /// # Errors
    /// [`HeaderError::Character`].
    pub fn bearer(token: &str) -> Result<Header, HeaderError> {
        let value = Template::literal(format!("Bearer {}", check_value(token)?));
        Header::new("Authorization", value)
    }

    /// `Origin: …` (RFC 6454).
    ///
    /// # Errors
    /// [`HeaderError::Character`].
    pub fn origin(origin: &str) -> Result<Header, HeaderError> {
        Header::new("Origin", Template::literal(check_value(origin)?))
    }

    /// The field's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn new(name: &str, value: Template) -> Result<Header, HeaderError> {
        if !is_token(name) {
            return Err(HeaderError::Character("the name"));
        }
        if Target::OWN_HEADERS.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Err(HeaderError::Reserved(name.into()));
        }
        Ok(Header { name: name.into(), value })
    }
}

/// Whether `text` may be a header's name or a subprotocol (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

fn check_value(value: &str) -> Result<&str, HeaderError> {
    let fits = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7F);
    if value.bytes().all(fits) { Ok(value) } else { Err(HeaderError::Character("the value")) }
}

/// What the clients offer of permessage-deflate (RFC 7692).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compression {
    /// 1 is fast, 9 is small.
    pub level: u8,
    /// Shorter messages go out as they are, in bytes.
    pub threshold: u32,
    /// Messages of the client may refer to earlier ones.
    pub client_takeover: bool,
    /// Messages of the server may.
    pub server_takeover: bool,
    /// How far back the client refers, as a power of two in bytes: 9 to 15.
    pub client_window_bits: u8,
    /// The same for the server.
    pub server_window_bits: u8,
}

impl Default for Compression {
    fn default() -> Compression {
        Compression {
            level: Deflate::LEVEL,
            threshold: Deflate::THRESHOLD,
            client_takeover: false,
            server_takeover: false,
            client_window_bits: Deflate::MAX_WINDOW_BITS,
            server_window_bits: Deflate::MAX_WINDOW_BITS,
        }
    }
}

impl From<Compression> for Deflate {
    fn from(wanted: Compression) -> Deflate {
        Deflate::default()
            .level(wanted.level)
            .threshold(wanted.threshold)
            .own_context_takeover(wanted.client_takeover)
            .peer_context_takeover(wanted.server_takeover)
            .own_window_bits(wanted.client_window_bits)
            .peer_window_bits(wanted.server_window_bits)
    }
}

/// The clients' side of TLS, besides whom they trust.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TlsOptions {
    /// The name to ask for in place of the URL's host (SNI), which is also the one that the certificate must bear.
    pub server_name: Option<String>,
    /// The one version to speak; both 1.3 and 1.2 by default.
    pub version: Option<TlsVersion>,
    /// Certificate chain and private key to show, PEM, where the server asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Share of the handshakes that are to resume an earlier session, 0 to 1.
    pub resume: f64,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsOptions {
    fn configure(&self, trust: &Trust) -> Result<ClientTls, BenchError> {
        let builder = ClientTls::builder().versions(match self.version {
            None => TlsVersions::Both,
            Some(TlsVersion::Tls12) => TlsVersions::Tls12,
            Some(TlsVersion::Tls13) => TlsVersions::Tls13,
        });
        let tls = match trust {
            Trust::Any => builder.insecure(),
            Trust::CaFile(path) => builder.ca_file(path),
            Trust::System => builder.system_roots(),
        };
        let tls = tls.map_err(BenchError::Tls)?;
        match &self.identity {
            Some((certificate, key)) => tls.identity(certificate, key).map_err(BenchError::Tls),
            None => Ok(tls),
        }
    }
}

/// A plan's endpoint, its host looked up and its certificates read.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// For a handshake in full.
    full: Arc<Target>,
    /// For one that resumes a session, where that is wanted.
    resuming: Option<Arc<Target>>,
    resume: f64,
    /// Connections so far.
    begun: u64,
    /// What differs from client to client.
    path: Option<Template>,
    headers: Vec<Header>,
}

impl Endpoint {
    pub(crate) fn new(plan: &Plan) -> Result<Endpoint, BenchError> {
        let url = Template::per_client(&plan.url).map_err(|error| BenchError::Url(error.to_string()))?;
        let of_first = url.for_client(0);
        let path_at = path_at(&plan.url);
        if !url.is_constant() && plan.url.find('{').is_some_and(|brace| brace < path_at) {
            return Err(BenchError::Url("{client} may stand in the path alone".into()));
        }
        let tls = plan.tls.configure(&plan.trust)?;
        let resume = plan.tls.resume;
        let tickets = Arc::new(Tickets::default());
        let (full, resuming) = if resume > 0.0 {
            (tls.clone().session_store(Arc::new(Collects(tickets.clone()))), Some(tls.session_store(tickets)))
        } else {
            (tls.without_resumption(), None)
        };
        let mut target = Target::with_tls(&of_first, full).map_err(BenchError::Target)?;
        if let Some(name) = &plan.tls.server_name {
            target = target.server_name(name).map_err(BenchError::Target)?;
        }
        let Handshake { headers, subprotocols, compression } = plan.handshake.clone();
        target = subprotocols.into_iter().fold(target, Target::protocol);
        target = compression.into_iter().fold(target, |target, wanted| target.deflate(wanted.into()));
        let (constant, headers) =
            headers.into_iter().partition::<Vec<_>, _>(|header| header.value.is_constant());
        for Header { name, value } in constant {
            target = target.header(name, value.for_client(0));
        }
        let path =
            Template::per_client(&plan.url[path_at..]).map_err(|error| BenchError::Url(error.to_string()))?;
        Ok(Endpoint {
            resuming: resuming.map(|tls| Arc::new(target.clone().tls(tls))),
            full: Arc::new(target),
            resume,
            begun: 0,
            path: (!path.is_constant()).then_some(path),
            headers,
        })
    }

    /// The address that is connected to first.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.addresses().first().map(SocketAddr::ip)
    }

    /// Whether the server is on this machine: only an address of this machine can be bound.
    pub(crate) fn is_near(&self) -> bool {
        self.address().is_some_and(|address| UdpSocket::bind((address, 0)).is_ok())
    }

    /// The host's addresses, in the order in which they are tried.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.full.addresses()
    }

    /// What this client connects to now.
    pub(crate) fn target(&mut self, client: u32) -> Arc<Target> {
        self.begun += 1;
        let base = match &self.resuming {
            Some(resuming) if is_one_of(self.begun, self.resume) => resuming,
            _ => &self.full,
        };
        if self.path.is_none() && self.headers.is_empty() {
            return base.clone();
        }
        let mut target = Target::clone(base);
        if let Some(path) = &self.path {
            target = target.path(path.for_client(client));
        }
        for Header { name, value } in &self.headers {
            target = target.header(name, value.for_client(client));
        }
        Arc::new(target)
    }
}

/// Where the path of a URL begins, or what stands in its place.
fn path_at(url: &str) -> usize {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    url[host..].find(['/', '?']).map_or(url.len(), |path| host + path)
}

/// Whether the `nth` of all, from 1, belongs to `share` of them, spread evenly.
fn is_one_of(nth: u64, share: f64) -> bool {
    let count = |n: u64| (n as f64 * share).floor();
    count(nth) > count(nth - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_or_refused_in_words() {
        assert_eq!(Header::parse("X-Device: d-{client}").unwrap().value.for_client(7), "d-7");
        assert_eq!(
            Header::basic("Aladdin:open sesame").value.for_client(0),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(Header::bearer("{a}").unwrap().value.for_client(0), "Bearer {a}");
        let cases = [
            ("no colon", "NAME: VALUE"),
            (": x", "the name"),
            ("a b: x", "the name"),
            ("a: x\r\nb: y", "the value"),
            ("Host: x", "belongs to the handshake"),
            ("sec-websocket-KEY: x", "belongs to the handshake"),
            ("a: {seq}", "only field"),
        ];
        for (text, words) in cases {
            let error = Header::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(Header::bearer("a\nb").is_err() && Header::origin("a\nb").is_err());
    }

    #[test]
    fn secrets_do_not_show() {
        let plan = Plan {
            handshake: Handshake { headers: vec![Header::basic("user:secret")], ..Handshake::default() },
            ..Plan::new("ws://127.0.0.1:9")
        };
        let shown = format!("{plan:?}");
        assert!(shown.contains("Authorization: …"), "{shown}");
        assert!(!shown.contains("dXNlcjpzZWNyZXQ"), "{shown}");
    }

    #[test]
    fn clients_share_a_target_unless_something_differs() {
        let mut same = Endpoint::new(&Plan::new("ws://127.0.0.1:9/x")).unwrap();
        assert!(Arc::ptr_eq(&same.target(1), &same.target(2)));
        let mut endpoint = Endpoint::new(&Plan::new("ws://127.0.0.1:9/x/{client}?y")).unwrap();
        assert!(format!("{:?}", endpoint.target(41)).contains("\"/x/41?y\""));
        for (url, words) in [
            ("ws://{client}.example/", "in the path alone"),
            ("ws://127.0.0.1/{seq}", "only field"),
            ("ws://127.0.0.1/{name}", "no field"),
        ] {
            let error = Endpoint::new(&Plan::new(url)).unwrap_err().to_string();
            assert!(error.contains(words), "{url}: {error}");
        }
    }

    #[test]
    fn shares_are_spread_evenly() {
        let which = |share: f64| (1..=8).filter(|nth| is_one_of(*nth, share)).collect::<Vec<_>>();
        assert_eq!(which(0.0), [0; 0]);
        assert_eq!(which(0.25), [4, 8]);
        assert_eq!(which(1.0), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
