//! A client that sends before the server has said anything (RFC 8446 §2.3), whether or not its ticket allows it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup, StreamOwned};

use super::tls;
use crate::http;

const EARLY: &[u8] = b"GET /early HTTP/1.1\r\nHost: localhost\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(10);
/// As much as a server that allows it usually does.
const EARLY_BYTES: u32 = 16 * 1024;

/// Tickets, each of which is said to allow early data: the server that issued it knows better.
#[derive(Debug, Default)]
struct Lavish(Mutex<Vec<Tls13ClientSessionValue>>);

impl ClientSessionStore for Lavish {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, mut ticket: Tls13ClientSessionValue) {
        ticket._private_set_max_early_data_size(EARLY_BYTES);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// What became of early data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// There was no ticket.
    Unsent,
    Refused,
    Taken,
}

/// A client that was here before, whose tickets it takes to allow early data.
pub(crate) struct Returning(Arc<ClientConfig>);

impl Returning {
    pub(crate) fn new() -> Result<Returning, rustls::Error> {
        let mut config = Arc::unwrap_or_clone(tls::hostile()?);
        config.resumption = Resumption::store(Arc::new(Lavish::default()));
        config.enable_early_data = true;
        Ok(Returning(Arc::new(config)))
    }

    /// Sends a request before the handshake, if there is a ticket, and another behind it, whose answer brings the next ticket.
    /// What became of the early one.
    pub(crate) fn visit(&self, address: SocketAddr) -> io::Result<Fate> {
        let mut connection = tls::connection(&self.0).map_err(io::Error::other)?;
        let sent = connection.early_data().map(|mut early| early.write_all(EARLY)).transpose()?;
        let mut socket = http::connect(address, PATIENCE)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let fate = match (sent, connection.is_early_data_accepted()) {
            (None, _) => Fate::Unsent,
            (Some(()), false) => Fate::Refused,
            (Some(()), true) => Fate::Taken,
        };
        match http::get(StreamOwned::new(connection, socket), "localhost", "/healthz")?.status()? {
            200 => Ok(fate),
            status => {
                Err(io::Error::other(format!("the request behind early data is answered with {status}")))
            }
        }
    }
}
