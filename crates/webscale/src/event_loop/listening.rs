//! The listening socket: taking connections from it, and leaving them in the backlog when nothing can be given to them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use webscale_sys::Interest;

use super::mail::begin;
use super::{EventLoop, LISTENER};
use crate::clock::Time;
use crate::connection::Connection;
use crate::handler::Handler;
use crate::journal::{self, Level};
use crate::kernel::Kernel;
use crate::tls::Tls;

/// How long accepting rests when there is no descriptor left, or too much is held.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// A listening socket, and what keeps it from being read.
pub(super) struct Listening<K: Kernel> {
    listener: K::Listener,
    /// Given up for a moment when there is no descriptor left, so that a connection can be accepted and closed.
    spare: Option<K::Waker>,
    resting_until: Option<Time>,
}

impl<K: Kernel> Listening<K> {
    pub(super) fn new(kernel: &K, listener: K::Listener) -> io::Result<Self> {
        kernel.add(&listener, LISTENER, Interest::READ)?;
        Ok(Self { listener, spare: Some(kernel.waker()?), resting_until: None })
    }

    pub(super) fn resting_until(&self) -> Option<Time> {
        self.resting_until
    }

    /// No descriptor is left: takes one connection with the spare descriptor and closes it, so that a client sees an
    /// end and not silence, and lets the rest wait in the backlog for a moment.
    fn rest(&mut self, kernel: &K, now: Time) {
        self.spare = None;
        drop(kernel.accept(&self.listener));
        self.spare = kernel.waker().ok();
        self.pause(kernel, now);
    }

    /// Lets connections wait in the backlog for a moment.
    pub(super) fn pause(&mut self, kernel: &K, now: Time) {
        self.resting_until = Some(now + ACCEPT_REST);
        // Fails only where the listener is not watched, which is what is wanted.
        let _ = kernel.modify(&self.listener, LISTENER, Interest::default());
    }

    /// Whether a rest is over now.
    pub(super) fn end_rest(&mut self, kernel: &K, now: Time) -> bool {
        let is_over = self.resting_until.is_some_and(|until| until <= now);
        if is_over {
            self.resting_until = None;
            if self.spare.is_none() {
                self.spare = kernel.waker().ok();
            }
            let _ = kernel.modify(&self.listener, LISTENER, Interest::READ);
        }
        is_over
    }
}

impl<H: Handler, K: Kernel> EventLoop<H, K> {
    /// Takes connections from the backlog, as many as a turn allows.
    pub(super) fn accept(&mut self) {
        if self.account.look() {
            return self.pause_for_memory();
        }
        for _ in 0..self.shared.config.limits.turn_accepts {
            let Some(listening) = &mut self.listening else { return };
            match self.kernel.accept(&listening.listener) {
                Ok((socket, peer_addr)) => {
                    self.pulse.resume_accepting();
                    self.accepted(socket, peer_addr);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.pulse.resume_accepting();
                }
                Err(error) if is_exhausted(&error) => {
                    self.metrics.accept_pauses.add(1);
                    self.pulse.pause_accepting(self.now);
                    return listening.rest(&self.kernel, self.now);
                }
                // The connection was gone before it was taken.
                Err(_) => {}
            }
        }
    }

    /// A connection came, and is closed where a limit refuses it.
    pub(super) fn accepted(&mut self, socket: K::Socket, peer_addr: SocketAddr) {
        let address = peer_addr.ip();
        let is_proxy = self.shared.config.proxies.iter().any(|network| network.contains(address));
        let admitted = self.shared.admission.admit((!is_proxy).then_some(address));
        let (place, handshake) = match admitted {
            Ok(admitted) => admitted,
            // Counted before the client sees it.
            Err(refusal) => return self.metrics.count_refusal(refusal),
        };
        self.metrics.accepted.add(1);
        let tls = match begin(|| self.shared.tls.as_ref().map(Tls::accept).transpose()) {
            Ok(tls) => tls,
            Err(cause) => {
                journal::write(Level::Error, format_args!("a connection cannot begin: {cause}"));
                return self.metrics.count_close(cause.kind());
            }
        };
        let limits = &self.shared.config.limits;
        let mut connection = Connection::accepted(socket, tls, peer_addr, self.now, limits);
        if is_proxy {
            connection.await_proxy();
        } else {
            connection.channel.introduced(peer_addr, handshake);
        }
        self.register(connection, place);
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the next accept would fail as well.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(12 | 23 | 24 | 105))
}
