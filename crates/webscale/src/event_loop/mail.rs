//! What other threads ask of a loop, and what workers give back.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use webscale_proto::CloseCode;

use super::EventLoop;
use super::ending::Stage;
use crate::close::{Close, CloseCause};
use crate::connection::{Connection, Dial, call_close};
use crate::handler::Handler;
use crate::kernel::Kernel;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::panics::{Panicked, caught};
use crate::pulse::Pulse;
use crate::sender::Command;
use crate::target::Target;
use crate::tls::TlsStream;
use crate::worker::Done;

/// A connection to be made, asked for by another thread.
pub(crate) struct Connect<S> {
    pub(crate) target: Arc<Target>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) session: S,
    /// [`Target::begin_tls`], by pointer: a program that only serves then links no TLS client.
    pub(crate) begin_tls: BeginTls,
}

/// Begins TLS. A user's session store has a part in it, and may panic.
pub(super) fn begin<T>(tls: impl FnOnce() -> Result<T, rustls::Error>) -> Result<T, CloseCause> {
    caught(tls).map_err(|Panicked| CloseCause::Fault)?.map_err(CloseCause::Tls)
}

type BeginTls = fn(&Target) -> Result<Option<TlsStream>, rustls::Error>;

/// What other threads see of a loop.
pub(crate) struct Outside<S> {
    pub(crate) commands: Arc<Mailbox<Command>>,
    pub(crate) connects: Arc<Mailbox<Connect<S>>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pulse: Arc<Pulse>,
}

/// Empty lists, to be swapped for those that the mailboxes have filled.
pub(super) struct Mail<S> {
    commands: VecDeque<Command>,
    connects: VecDeque<Connect<S>>,
    done: VecDeque<Done<S>>,
}

impl<S> Default for Mail<S> {
    fn default() -> Self {
        Self { commands: VecDeque::new(), connects: VecDeque::new(), done: VecDeque::new() }
    }
}

impl<H: Handler, K: Kernel> EventLoop<H, K> {
    /// Does what other threads asked for.
    pub(super) fn read_mail(&mut self) {
        let mut commands = std::mem::take(&mut self.mail.commands);
        self.commands.take(&mut commands);
        for command in commands.drain(..) {
            self.obey(command);
        }
        self.mail.commands = commands;
        let mut connects = std::mem::take(&mut self.mail.connects);
        self.connects.take(&mut connects);
        for connect in connects.drain(..) {
            self.connect(connect);
        }
        self.mail.connects = connects;
        self.read_done();
    }

    pub(super) fn read_done(&mut self) {
        let mut list = std::mem::take(&mut self.mail.done);
        self.done.take(&mut list);
        for done in list.drain(..) {
            self.done(done);
        }
        self.mail.done = list;
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Send(id, parcel) => {
                self.turn(id.token, |connection, turn| connection.on_send(turn, parcel));
            }
            Command::Close(id, code, reason) => {
                self.turn(id.token, |connection, turn| {
                    connection.on_close(turn, code, &reason, CloseCause::Local);
                });
            }
            Command::Shutdown => self.shut_down(),
            Command::Abort => self.stage = Stage::Ended,
        }
    }

    fn connect(&mut self, connect: Connect<H::Session>) {
        let Connect { target, source, session, begin_tls } = connect;
        let (handler, metrics) = (self.shared.handler.clone(), self.metrics.clone());
        let refuse = |session, cause| {
            call_close(&*handler, &metrics, session, Close::new(CloseCode::ABNORMAL, "", cause));
        };
        if !self.stage.is_running() {
            return refuse(session, CloseCause::Shutdown);
        }
        let tls = match begin(|| begin_tls(&target)) {
            Ok(tls) => tls,
            Err(cause) => return refuse(session, cause),
        };
        let limits = &self.shared.config.limits;
        let mut dial = Dial::new(target, source, self.now + limits.handshake_time);
        let nowhere = || Err(io::ErrorKind::AddrNotAvailable.into());
        match dial.next(self.now).unwrap_or_else(nowhere) {
            Ok(first) => {
                self.metrics.connected.add(1);
                let connection = Connection::connecting(first, tls, dial, session, self.now, limits);
                let place = self.shared.admission.enter();
                self.register(connection, place);
            }
            Err(error) => refuse(session, CloseCause::Connect(error)),
        }
    }

    fn done(&mut self, done: Done<H::Session>) {
        let token = done.id.token;
        self.settle_lent(self.lent.saturating_sub(done.bytes));
        match self.orphans.remove(&token) {
            Some(close) => {
                self.pulse.serve(done.id);
                self.metrics.panics.add(done.work.is_ok_and(|work| work.panicked).into());
                call_close(&*self.shared.handler, &self.metrics, done.session, close);
            }
            None => self.turn(token, |connection, turn| connection.on_done(turn, done)),
        }
    }
}
