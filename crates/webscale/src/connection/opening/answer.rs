//! What a server says to a request.

use webscale_proto::handshake::{self, Answer, UpgradeError, parse_request, respond};
use webscale_proto::{CloseCode, Role};

use super::{Asking, Close, CloseCause, Context, Fate, Handler, Outcome, borrowed, extension, failure};
use crate::close::HandshakeError;
use crate::journal::{self, Level};
use crate::metrics::Metrics;
use crate::panics::caught;
use crate::request::Request;
use crate::response::{Accept, Reject, Response};

/// Answers a whole head, with `behind` bytes behind it; `used` of the bytes that came last are the head's. Whoever is let in
/// gets a session, in its `place`.
pub(super) fn answer<H: Handler>(
    context: &mut Context<'_, H>,
    head: &[u8],
    behind: usize,
    used: usize,
    asking: &Asking,
    place: &mut Option<H::Session>,
) -> Outcome {
    let request = match parse_request(head, &context.config.head) {
        Ok(request) => request,
        Err(error) => return refuse(context, error, head),
    };
    if behind > 0 {
        // RFC 6455 §4.1: a client sends nothing before it has the answer. What does is smuggling.
        let response = Response::new(400, "bytes behind the request\n");
        return reject(context, &response, request.method() == "HEAD");
    }
    let view = Request::new(&request, asking.peer_addr, asking.tls.as_ref(), context.config.handle());
    if request.key().is_none() {
        return http(context, &view);
    }
    if !context.config.origins.admit(request.origin(), request.host(), asking.tls.is_some()) {
        return reject(context, &Response::new(403, "pages of this Origin may not connect\n"), false);
    }
    match caught(|| context.handler.open(&view)) {
        Ok(Ok(accept)) => open(context, &request, accept, used, place),
        Ok(Err(Reject(response))) => reject(context, &response, false),
        Err(_) => reject(context, &failed(context.metrics), false),
    }
}

fn open<H: Handler>(
    context: &mut Context<'_, H>,
    request: &handshake::Request<'_>,
    accept: Accept<H::Session>,
    used: usize,
    place: &mut Option<H::Session>,
) -> Outcome {
    let Accept { session, protocol, headers, slow_consumer } = accept;
    *place = Some(session);
    let deflate = context.config.deflate.as_ref();
    let agreed = deflate.and_then(|deflate| deflate.answer(request.extensions()));
    let (frames, protocol) = (&mut context.outgoing.frames, protocol.as_deref());
    match handshake::accept(frames, request, protocol, agreed.as_ref(), &borrowed(&headers)) {
        Ok(()) => Outcome::Open {
            extension: extension(deflate, agreed, Role::Server),
            slow_consumer: slow_consumer.unwrap_or(context.config.limits.slow_consumer),
            used,
        },
        Err(error) => {
            log(&error.to_string());
            turn_away(context, &invalid(), false);
            Outcome::Failed(failure(HandshakeError::Accept(error)), Fate::Finish { answered: false })
        }
    }
}

fn http<H: Handler>(context: &mut Context<'_, H>, request: &Request<'_>) -> Outcome {
    let response = caught(|| context.handler.http(request));
    let status =
        write(context, &response.unwrap_or_else(|_| failed(context.metrics)), request.method() == "HEAD");
    context.metrics.http.add(1);
    let close = Close::new(CloseCode::ABNORMAL, "", CloseCause::Http(status));
    Outcome::Failed(close, Fate::Finish { answered: false })
}

/// `head` is what there is of the request.
pub(super) fn refuse<H: Handler>(context: &mut Context<'_, H>, error: UpgradeError, head: &[u8]) -> Outcome {
    context.metrics.count_rejection(error.status());
    error.write(&mut context.outgoing.frames, head);
    Outcome::Failed(failure(HandshakeError::Request(error)), Fate::Finish { answered: false })
}

fn reject<H: Handler>(context: &mut Context<'_, H>, response: &Response, is_head: bool) -> Outcome {
    let status = turn_away(context, response, is_head);
    Outcome::Failed(failure(HandshakeError::Rejected(status)), Fate::Finish { answered: false })
}

/// Answers who gets no WebSocket, and counts it. Gives the status.
pub(super) fn turn_away<H: Handler>(context: &mut Context<'_, H>, response: &Response, is_head: bool) -> u16 {
    let status = write(context, response, is_head);
    context.metrics.count_rejection(status);
    status
}

/// Writes an answer, or 500 in place of one that cannot be written. Gives the status.
fn write<H: Handler>(context: &mut Context<'_, H>, response: &Response, is_head: bool) -> u16 {
    let Response { status, headers, body } = response;
    let frames = &mut context.outgoing.frames;
    let answer = Answer { status: *status, headers: &borrowed(headers), body };
    let fault = if body.len() > context.config.limits.egress_bytes {
        "the body is longer than Limits::egress_bytes".to_owned()
    } else {
        match respond(frames, &answer, is_head) {
            Ok(()) => return *status,
            Err(error) => error.to_string(),
        }
    };
    log(&fault);
    let Response { status, body, .. } = invalid();
    // Nothing is wrong with ours.
    let _ = respond(frames, &Answer { status, headers: &[], body: &body }, is_head);
    status
}

fn failed(metrics: &Metrics) -> Response {
    metrics.panics.add(1);
    Response::new(500, "the server failed to handle the request\n")
}

fn invalid() -> Response {
    Response::new(500, "the server's answer was invalid\n")
}

fn log(fault: &str) {
    journal::write(Level::Error, format_args!("an answer of the handler is invalid: {fault}"));
}
