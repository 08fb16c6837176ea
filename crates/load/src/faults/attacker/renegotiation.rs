//! A client of TLS 1.2 that asks for another handshake inside the session (RFC 5246 §7.4.1.2).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{
    ClientConnection, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion, SupportedCipherSuite,
};

use super::tls;

const PATIENCE: Duration = Duration::from_secs(10);
/// A server may answer the first time with a warning (RFC 5746 §4.5).
const REQUESTS: usize = 3;
/// In front of what a record holds.
const RECORD_HEADER_BYTES: usize = 5;
/// The fixed part of a nonce of AES-GCM (RFC 5288 §3).
const SALT_BYTES: usize = 4;

/// Makes a handshake and asks for others inside it; whether the server ended that.
pub(crate) fn is_ended(address: SocketAddr) -> io::Result<bool> {
    let config = tls::of_tls_1_2().map_err(io::Error::other)?;
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut connection = tls::connection(&config).map_err(io::Error::other)?;
    while connection.is_handshaking() || connection.wants_write() {
        connection.complete_io(&mut socket)?;
    }
    let mut sealer = Sealer::of(connection).map_err(io::Error::other)?;
    let hello = tls::hello(&config).map_err(io::Error::other)?;
    for _ in 0..REQUESTS {
        let record = sealer.seal(ContentType::Handshake, &hello[RECORD_HEADER_BYTES..]);
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

/// Seals records with the keys of a session that rustls has made.
struct Sealer {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Sealer {
    fn of(connection: ClientConnection) -> Result<Sealer, Error> {
        let unknown = || Error::General("another cipher suite than was offered".into());
        let Some(SupportedCipherSuite::Tls12(suite)) = connection.negotiated_cipher_suite() else {
            return Err(unknown());
        };
        let (sequence, secrets) = connection.dangerous_extract_secrets()?.tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { return Err(unknown()) };
        let (salt, explicit) = iv.as_ref().split_at(SALT_BYTES);
        Ok(Sealer { encrypter: suite.aead_alg.encrypter(key, salt, explicit), sequence })
    }

    fn seal(&mut self, typ: ContentType, content: &[u8]) -> Result<Vec<u8>, Error> {
        let payload = OutboundChunks::Single(content);
        let plain = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        let sealed = self.encrypter.encrypt(plain, self.sequence)?;
        self.sequence += 1;
        Ok(sealed.encode())
    }
}
