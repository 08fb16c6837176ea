//! The opening handshake over HTTP, of both roles (RFC 6455 §4).

mod answer;

use std::net::SocketAddr;

use webscale_proto::handshake::client::{self, ClientRequest, Key, ResponseError, verify_response};
use webscale_proto::handshake::{LineFault, UpgradeError, check_lines, head_end};
use webscale_proto::{Agreed, CloseCode, Deflate, Role};

use super::{Context, Dial, Fate, Handler};
use crate::admission::Handshake;
use crate::close::{Close, CloseCause, HandshakeError};
use crate::deflate::Extension;
use crate::limits::SlowConsumer;
use crate::peer::Outgoing;
use crate::response::Response;
use crate::tls::TlsSession;

const HTTP: &[u8] = b"HTTP/";

/// A handshake under way.
pub(super) struct Opening<S> {
    /// The head so far, unless it came whole.
    head: Vec<u8>,
    /// A client's; a server's once the handler has let it in. It stands here while anything can go wrong, so that a panic
    /// does not take it along.
    pub(super) session: Option<S>,
    side: Side,
}

enum Side {
    Server(Asking),
    Client { dial: Dial, key: Key },
}

/// What an opening handshake has come to.
pub(super) enum Outcome {
    /// More bytes are needed.
    Going,
    /// Done, and the session is there; `used` bytes of the input were its own.
    Open { extension: Option<Extension>, slow_consumer: SlowConsumer, used: usize },
    /// It failed: what to tell a session, and whether an answer was written that should be delivered.
    Failed(Close, Fate),
}

/// What a server knows of a client before it has asked for anything.
struct Asking {
    peer_addr: SocketAddr,
    server_name: Option<String>,
    tls: Option<TlsSession>,
    /// What it takes of the limits of handshakes.
    _handshake: Option<Handshake>,
}

impl<S> Opening<S> {
    pub(super) fn server(peer_addr: SocketAddr) -> Self {
        let asking = Asking { peer_addr, server_name: None, tls: None, _handshake: None };
        Self { head: Vec::new(), session: None, side: Side::Server(asking) }
    }

    #[expect(
        clippy::expect_used,
        reason = "the kernel does not stop giving random bytes, and no peer has a part in it"
    )]
    pub(super) fn client(dial: Dial, session: S) -> Self {
        let mut random = [0; 16];
        webscale_sys::random(&mut random).expect("getrandom(2) works once the system is up");
        Self {
            head: Vec::new(),
            session: Some(session),
            side: Side::Client { dial, key: client::key(random) },
        }
    }

    pub(super) fn into_session(self) -> Option<S> {
        self.session
    }

    pub(super) fn dial(&mut self) -> Option<&mut Dial> {
        match &mut self.side {
            Side::Server(_) => None,
            Side::Client { dial, .. } => Some(dial),
        }
    }

    pub(super) fn buffered(&self) -> usize {
        self.head.capacity()
    }

    pub(super) fn introduced(&mut self, peer_addr: SocketAddr, handshake: Option<Handshake>) {
        if let Side::Server(asking) = &mut self.side {
            (asking.peer_addr, asking._handshake) = (peer_addr, handshake);
        }
    }

    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        match &self.side {
            Side::Server(asking) => Some(asking.peer_addr),
            Side::Client { .. } => None,
        }
    }

    pub(super) fn named(&mut self, server_name: String) {
        if let Side::Server(asking) = &mut self.side {
            asking.server_name = Some(server_name);
        }
    }

    /// The way is free: a client writes its request.
    pub(super) fn secured(
        &mut self,
        outgoing: &mut Outgoing,
        session: Option<TlsSession>,
    ) -> Result<(), Close> {
        let (target, key) = match &mut self.side {
            Side::Server(asking) => {
                asking.tls = session.map(|session| session.with_server_name(asking.server_name.take()));
                return Ok(());
            }
            Side::Client { dial, key } => (&dial.target, key),
        };
        let protocols: Vec<&str> = target.protocols.iter().map(String::as_str).collect();
        let headers = borrowed(&target.headers);
        let request = ClientRequest {
            host: &target.host,
            target: &target.path,
            key,
            protocols: &protocols,
            deflate: target.deflate.as_ref(),
            headers: &headers,
        };
        client::write_request(&mut outgoing.frames, &request)
            .map_err(|error| failure(HandshakeError::Target(error)))
    }

    /// A server answers a client that was too slow; false where there is nobody to answer.
    pub(super) fn refuse_late<H: Handler<Session = S>>(&self, context: &mut Context<'_, H>) -> bool {
        let is_server = matches!(self.side, Side::Server(_));
        if is_server {
            let late = Response::new(408, "the opening handshake took too long\n");
            answer::turn_away(context, &late, self.head.starts_with(b"HEAD "));
        }
        is_server
    }

    /// Takes bytes until the head is whole. What stands behind it is left to the caller.
    pub(super) fn receive<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        bytes: &[u8],
    ) -> Outcome {
        let before = self.head.len();
        let limit = context.config.head.bytes;
        if before == 0
            && let Some(end) = head_end(bytes, 0)
            && end <= limit
            && let Some(head) = bytes.get(..end)
        {
            return self.answer(context, head, bytes.len() - end, end);
        }
        let room = limit.saturating_sub(before).saturating_add(1);
        self.head.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        match head_end(&self.head, before) {
            Some(end) if end <= limit => {
                let mut head = std::mem::take(&mut self.head);
                head.truncate(end);
                let used = end - before;
                self.answer(context, &head, bytes.len() - used, used)
            }
            _ if self.head.len() > limit => self.fail(context, Fault::TooLong),
            _ => match check_lines(&self.head, before) {
                // What comes behind it is not awaited.
                Err(fault) => self.fail(context, Fault::Line(fault)),
                Ok(()) if self.is_nonsense() => self.fail(context, Fault::Nonsense),
                Ok(()) => Outcome::Going,
            },
        }
    }

    /// A peer that begins with other bytes than HTTP's speaks something else, as a line of text in no ASCII.
    fn is_nonsense(&self) -> bool {
        match self.side {
            Side::Server(_) => self.head.first().is_some_and(|byte| !byte.is_ascii_graphic()),
            Side::Client { .. } => !HTTP.starts_with(self.head.get(..HTTP.len()).unwrap_or(&self.head)),
        }
    }

    fn answer<H: Handler<Session = S>>(
        &mut self,
        context: &mut Context<'_, H>,
        head: &[u8],
        behind: usize,
        used: usize,
    ) -> Outcome {
        match &self.side {
            Side::Server(asking) => answer::answer(context, head, behind, used, asking, &mut self.session),
            Side::Client { dial: Dial { target, .. }, key } => {
                let offered: Vec<&str> = target.protocols.iter().map(String::as_str).collect();
                match verify_response(head, key, &offered, target.deflate.as_ref()) {
                    Ok(response) => {
                        let extension = extension(target.deflate.as_ref(), response.deflate(), Role::Client);
                        let slow_consumer = context.config.limits.slow_consumer;
                        Outcome::Open { extension, slow_consumer, used }
                    }
                    Err(error) => Outcome::Failed(failure(HandshakeError::Response(error)), Fate::Drop),
                }
            }
        }
    }

    /// The head is wrong before it is whole.
    fn fail<H: Handler<Session = S>>(&self, context: &mut Context<'_, H>, fault: Fault) -> Outcome {
        match self.side {
            Side::Server(_) => answer::refuse(context, fault.of_request(), &self.head),
            Side::Client { .. } => Outcome::Failed(failure(fault.of_response()), Fate::Drop),
        }
    }
}

/// What can be wrong with a head that is not whole.
enum Fault {
    TooLong,
    Line(LineFault),
    Nonsense,
}

impl Fault {
    fn of_request(self) -> UpgradeError {
        match self {
            Self::TooLong => UpgradeError::HeadTooLong,
            Self::Line(fault) => fault.into(),
            Self::Nonsense => UpgradeError::Malformed,
        }
    }

    fn of_response(self) -> HandshakeError {
        match self {
            Self::TooLong => HandshakeError::HeadTooLong,
            Self::Line(_) | Self::Nonsense => HandshakeError::Response(ResponseError::Malformed),
        }
    }
}

fn failure(error: HandshakeError) -> Close {
    Close::new(CloseCode::ABNORMAL, "", CloseCause::Upgrade(error))
}

/// Header fields as the protocol's functions take them.
fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn extension(deflate: Option<&Deflate>, agreed: Option<Agreed>, role: Role) -> Option<Extension> {
    Some(Extension::new(deflate?, &agreed?, role))
}
