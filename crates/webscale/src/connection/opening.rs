//! The opening handshake over HTTP, of both roles (RFC 6455 §4).

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use webscale_proto::handshake::client::{self, ClientRequest, Key, verify_response};
use webscale_proto::handshake::{self, UpgradeError, head_end, parse_request};
use webscale_proto::{Agreed, CloseCode, Deflate, Role};

use super::channel::Outcome;
use super::{Context, Fate, Handler};
use crate::close::{Close, CloseCause};
use crate::deflate::Extension;
use crate::handler::{Accept, Reject, Request};
use crate::peer::Outgoing;
use crate::target::Target;

const HTTP: &[u8] = b"HTTP/";

/// A handshake under way.
pub(super) struct Opening<S> {
    /// The head so far, unless it came whole.
    head: Vec<u8>,
    side: Side<S>,
}

enum Side<S> {
    Server { peer_addr: SocketAddr },
    Client { target: Arc<Target>, key: Key, session: S },
}

impl<S> Opening<S> {
    pub(super) fn server(peer_addr: SocketAddr) -> Self {
        Self { head: Vec::new(), side: Side::Server { peer_addr } }
    }

    pub(super) fn client(target: Arc<Target>, session: S) -> Self {
        let mut random = [0; 16];
        // The kernel gave random bytes to TLS and to the masks; it does not stop.
        webscale_sys::random(&mut random).expect("getrandom(2) works once the system is up");
        Self { head: Vec::new(), side: Side::Client { target, key: client::key(random), session } }
    }

    pub(super) fn into_session(self) -> Option<S> {
        match self.side {
            Side::Server { .. } => None,
            Side::Client { session, .. } => Some(session),
        }
    }

    /// A client writes its request.
    pub(super) fn request(&self, outgoing: &mut Outgoing) -> Result<(), Close> {
        let Side::Client { target, key, .. } = &self.side else { return Ok(()) };
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
        client::write_request(&mut outgoing.frames, &request).map_err(|error| failure(error.to_string()))
    }

    /// A server answers a client that was too slow; false where there is nobody to answer.
    pub(super) fn refuse_late(&self, outgoing: &mut Outgoing) -> bool {
        let server = matches!(self.side, Side::Server { .. });
        server
            && handshake::reject(&mut outgoing.frames, 408, &[], "the opening handshake took too long\n")
                .is_ok()
    }

    /// Takes bytes until the head is whole. What stands behind it is left to the caller.
    pub(super) fn receive<H: Handler<Session = S>>(
        mut self: Box<Self>,
        context: &mut Context<'_, H>,
        bytes: &[u8],
    ) -> Outcome<S> {
        let before = self.head.len();
        let limit = context.config.head.bytes;
        if before == 0
            && let Some(end) = head_end(bytes, 0)
            && end <= limit
        {
            return self.answer(context, &bytes[..end], bytes.len() - end, end);
        }
        let room = limit.saturating_sub(before).saturating_add(1);
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match head_end(&self.head, before) {
            Some(end) if end <= limit => {
                let mut head = std::mem::take(&mut self.head);
                head.truncate(end);
                let used = end - before;
                self.answer(context, &head, bytes.len() - used, used)
            }
            _ if self.head.len() > limit => self.too_long(context),
            _ if self.is_nonsense() => {
                let head = std::mem::take(&mut self.head);
                self.answer(context, &head, 0, bytes.len())
            }
            _ => Outcome::Going(self),
        }
    }

    /// A peer that begins with other bytes than HTTP's speaks something else, as TLS or a line of text: what it goes on to
    /// say is not awaited.
    fn is_nonsense(&self) -> bool {
        match self.side {
            Side::Server { .. } => self.head.first().is_some_and(|byte| !byte.is_ascii_graphic()),
            Side::Client { .. } => {
                let known = self.head.len().min(HTTP.len());
                self.head[..known] != HTTP[..known]
            }
        }
    }

    fn answer<H: Handler<Session = S>>(
        self,
        context: &mut Context<'_, H>,
        head: &[u8],
        behind: usize,
        used: usize,
    ) -> Outcome<S> {
        match self.side {
            Side::Server { peer_addr } => accept(context, head, behind, used, peer_addr),
            Side::Client { target, key, session } => {
                let offered: Vec<&str> = target.protocols.iter().map(String::as_str).collect();
                match verify_response(head, &key, &offered, target.deflate.as_ref()) {
                    Ok(response) => {
                        let extension = extension(target.deflate.as_ref(), response.deflate(), Role::Client);
                        Outcome::Open(session, extension, used)
                    }
                    Err(error) => Outcome::Failed(Some(session), failure(error.to_string()), Fate::Drop),
                }
            }
        }
    }

    fn too_long<H: Handler<Session = S>>(self, context: &mut Context<'_, H>) -> Outcome<S> {
        match self.side {
            Side::Server { .. } => refuse(context, UpgradeError::HeadTooLong),
            Side::Client { session, .. } => {
                Outcome::Failed(Some(session), failure("the answer's head is too long".into()), Fate::Drop)
            }
        }
    }
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn failure(what: String) -> Close {
    Close::new(CloseCode::ABNORMAL, "", CloseCause::Upgrade(what))
}

/// A server's answer to one request.
fn accept<H: Handler>(
    context: &mut Context<'_, H>,
    head: &[u8],
    behind: usize,
    used: usize,
    peer_addr: SocketAddr,
) -> Outcome<H::Session> {
    let request = match parse_request(head, &context.config.head) {
        Ok(request) => request,
        Err(error) => return refuse(context, error),
    };
    if behind > 0 {
        // RFC 6455 §4.1: a client sends nothing before it has the answer. What does is smuggling.
        return reject(context, Reject::new(400, "bytes behind the request\n"));
    }
    let view = Request::new(&request, peer_addr);
    let opened = catch_unwind(AssertUnwindSafe(|| context.handler.open(&view)));
    let Accept { session, protocol, headers } = match opened {
        Ok(Ok(accept)) => accept,
        Ok(Err(rejected)) => return reject(context, rejected),
        Err(_) => return reject(context, Reject::new(500, "the server failed to handle the request\n")),
    };
    let deflate = context.config.deflate.as_ref();
    let agreed = deflate.and_then(|deflate| deflate.answer(request.extensions()));
    let (frames, protocol) = (&mut context.outgoing.frames, protocol.as_deref());
    match handshake::accept(frames, &request, protocol, agreed.as_ref(), &borrowed(&headers)) {
        Ok(()) => Outcome::Open(session, extension(deflate, agreed, Role::Server), used),
        Err(error) => {
            log::error!("the handler's answer to an opening handshake is invalid: {error}");
            reject_with(context, Some(session), Reject::new(500, "the server's answer was invalid\n"))
        }
    }
}

fn extension(deflate: Option<&Deflate>, agreed: Option<Agreed>, role: Role) -> Option<Extension> {
    Some(Extension::new(deflate?, &agreed?, role))
}

fn refuse<H: Handler>(context: &mut Context<'_, H>, error: UpgradeError) -> Outcome<H::Session> {
    context.metrics.rejected.add(1);
    error.write(&mut context.outgoing.frames);
    Outcome::Failed(None, failure(error.reason().into()), Fate::Finish { answered: false })
}

fn reject<H: Handler>(context: &mut Context<'_, H>, reject: Reject) -> Outcome<H::Session> {
    reject_with(context, None, reject)
}

fn reject_with<H: Handler>(
    context: &mut Context<'_, H>,
    session: Option<H::Session>,
    reject: Reject,
) -> Outcome<H::Session> {
    context.metrics.rejected.add(1);
    let Reject { status, headers, body } = reject;
    if let Err(error) = handshake::reject(&mut context.outgoing.frames, status, &borrowed(&headers), &body) {
        log::error!("the handler's answer to an opening handshake is invalid: {error}");
        // No header of ours is invalid.
        let _ =
            handshake::reject(&mut context.outgoing.frames, 500, &[], "the server's answer was invalid\n");
    }
    Outcome::Failed(
        session,
        failure(format!("answered with status {status}")),
        Fate::Finish { answered: false },
    )
}
