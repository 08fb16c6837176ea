//! What a TLS handshake came to.

use std::cell::Cell;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CommonState, HandshakeKind};
use webscale_proto::Role;

/// What a client and this server agreed on in the TLS handshake. It lives while the opening handshake is answered: a
/// handler that needs some of it later puts that into its session.
#[derive(Clone, Debug)]
pub struct TlsSession {
    server_name: Option<String>,
    alpn: Option<Vec<u8>>,
    version: &'static str,
    cipher_suite: &'static str,
    client_certificates: Vec<CertificateDer<'static>>,
    is_resumed: bool,
}

impl TlsSession {
    /// What the end with this `role` sees.
    pub(super) fn of(state: &CommonState, role: Role) -> Self {
        // A client's peer is no client; and its chain is long.
        let certificates = state.peer_certificates().filter(|_| role == Role::Server);
        let version = state.protocol_version().and_then(|version| version.as_str());
        let suite = state.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        Self {
            server_name: None,
            alpn: state.alpn_protocol().map(<[u8]>::to_vec),
            version: version.unwrap_or("unknown"),
            cipher_suite: suite.unwrap_or("unknown"),
            client_certificates: certificates.unwrap_or_default().to_vec(),
            is_resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    pub(crate) fn with_server_name(self, server_name: Option<String>) -> Self {
        Self { server_name, ..self }
    }

    /// The name that the client wants to speak to (SNI, RFC 6066 §3), in lower case; `None` for one that named an
    /// address, or nothing.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The protocol that was agreed on by ALPN (RFC 7301): `http/1.1`, or `None` for a client that offered none.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// `TLSv1_3` or `TLSv1_2`.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// The cipher suite by its name in the IANA's list: `TLS13_AES_128_GCM_SHA256`.
    #[must_use]
    pub fn cipher_suite(&self) -> &'static str {
        self.cipher_suite
    }

    /// The client's certificates, in DER; empty where it showed none. The first one is its own, was verified, and alone says
    /// who it is; those behind it are as the client sent them, and may be anything. A session that was resumed, which only
    /// a configuration of [`Tls::from_rustls`](crate::Tls::from_rustls) may allow, has those of its first handshake.
    #[must_use]
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        &self.client_certificates
    }

    /// The client came back with a ticket of an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }
}

thread_local! {
    static SERVER_NAME: Cell<Option<String>> = const { Cell::new(None) };
}

/// The name in the `ClientHello` that this thread's last call into rustls read, if there was one.
pub(super) fn take_server_name() -> Option<String> {
    SERVER_NAME.take()
}

/// Takes note of the name that a client wants: an unbuffered connection does not tell it otherwise. rustls asks for a
/// certificate within the call that reads the `ClientHello`, whether the session is resumed or not.
#[derive(Debug)]
pub(super) struct NamingResolver(pub(super) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for NamingResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        SERVER_NAME.set(hello.server_name().map(str::to_ascii_lowercase));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}
