//! A client of TLS 1.2 that asks for another handshake inside the session (RFC 5246 §7.4.1.2).

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ClientConnection, ConnectionTrafficSecrets, Error};

use super::tls;
use crate::http;

const PATIENCE: Duration = Duration::from_secs(10);
/// A server may answer the first time with a warning (RFC 5746 §4.5).
const REQUESTS: usize = 3;
/// A record of a handshake (RFC 5246 §6.2.1).
const HANDSHAKE: u8 = 22;
/// In front of what a record holds.
const RECORD_HEADER_BYTES: usize = 5;
/// The fixed part of a nonce of AES-GCM (RFC 5288 §3).
const SALT_BYTES: usize = 4;

/// Makes a handshake and asks for others inside it; whether the server ended that.
pub(crate) fn is_ended(address: SocketAddr) -> io::Result<bool> {
    let config = tls::of_tls_1_2().map_err(io::Error::other)?;
    let mut socket = http::connect(address, PATIENCE)?;
    let mut connection = tls::connection(&config).map_err(io::Error::other)?;
    while connection.is_handshaking() || connection.wants_write() {
        connection.complete_io(&mut socket)?;
    }
    let mut sealer = Sealer::of(connection).map_err(io::Error::other)?;
    let hello = tls::hello(&config).map_err(io::Error::other)?;
    for _ in 0..REQUESTS {
        let record = sealer.seal(HANDSHAKE, &hello[RECORD_HEADER_BYTES..]);
        if socket.write_all(&record.map_err(io::Error::other)?).is_err() {
            return Ok(true);
        }
    }
    match socket.read_to_end(&mut Vec::new()) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Record protection as TLS 1.2 has it with AES-256-GCM (RFC 5288 §3), with the keys of a session that rustls has made.
struct Sealer {
    key: LessSafeKey,
    salt: Vec<u8>,
    sequence: u64,
}

impl Sealer {
    fn of(connection: ClientConnection) -> Result<Sealer, Error> {
        let unknown = || Error::General("another cipher suite than was offered".into());
        let (sequence, secrets) = connection.dangerous_extract_secrets()?.tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { return Err(unknown()) };
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| unknown())?;
        let salt = iv.as_ref()[..SALT_BYTES].to_vec();
        Ok(Sealer { key: LessSafeKey::new(key), salt, sequence })
    }

    fn seal(&mut self, typ: u8, content: &[u8]) -> Result<Vec<u8>, Error> {
        let sequence = self.sequence.to_be_bytes();
        self.sequence += 1;
        let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
        let header = [&sequence[..], &[typ, 3, 3], &length(content.len())].concat();
        let mut sealed = content.to_vec();
        Nonce::try_assume_unique_for_key(&[&self.salt[..], &sequence].concat())
            .and_then(|nonce| self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed))
            .map_err(|_| Error::EncryptError)?;
        let outside = length(sequence.len() + sealed.len());
        Ok([&[typ, 3, 3], &outside[..], &sequence, &sealed].concat())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{PeerMisbehaved, ServerConfig, ServerConnection};

    use super::*;
    use crate::cert;

    /// Both ends of a session, the client's with its keys alone.
    fn session() -> (Sealer, ServerConnection) {
        let pair = cert::self_signed(&[]).unwrap();
        let cert = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![cert], key).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let mut client = tls::connection(&tls::of_tls_1_2().unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut up).unwrap();
            }
            assert!(receive(&mut server, &up).is_ok());
            while server.wants_write() {
                server.write_tls(&mut down).unwrap();
            }
            let mut down = &down[..];
            while !down.is_empty() {
                client.read_tls(&mut down).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        (Sealer::of(client).unwrap(), server)
    }

    fn receive(server: &mut ServerConnection, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn what_is_sealed_here_is_understood() {
        let (mut sealer, mut server) = session();
        for text in ["once", "and again"] {
            receive(&mut server, &sealer.seal(23, text.as_bytes()).unwrap()).unwrap();
            let mut heard = vec![0; text.len()];
            server.reader().read_exact(&mut heard).unwrap();
            assert_eq!(heard, text.as_bytes());
        }
    }

    #[test]
    fn it_is_renegotiation_that_is_asked_for() {
        let (mut sealer, mut server) = session();
        let hello = tls::hello(&tls::of_tls_1_2().unwrap()).unwrap();
        let mut ask =
            || receive(&mut server, &sealer.seal(HANDSHAKE, &hello[RECORD_HEADER_BYTES..]).unwrap());
        assert_eq!(ask(), Ok(()), "a warning");
        let misbehaved = PeerMisbehaved::TooManyRenegotiationRequests;
        assert_eq!(ask(), Err(Error::PeerMisbehaved(misbehaved)));
    }
}
