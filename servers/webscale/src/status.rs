//! What a running server says of itself, by HTTP: GET /healthz and GET /metrics.

use std::net::SocketAddr;

use webscale::{
    Accept, Handle, Handler, Limits, Message, Peer, Reject, Request, Response, Server, ServerBuilder,
};

/// Who may read /metrics on the port of the service: from counters, strangers learn what an attack comes to. Whether the
/// server is healthy, /healthz tells everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readers {
    /// Whoever asks from this host, and not for somebody else as a proxy does (`Forwarded`, `X-Forwarded-For`).
    #[default]
    Loopback,
    /// Everybody.
    Anyone,
    /// Nobody: there is no such page.
    Nobody,
}

impl Readers {
    fn include(self, request: &Request<'_>) -> bool {
        let is_passed_on = ["Forwarded", "X-Forwarded-For"].iter().any(|name| request.header(name).is_some());
        match self {
            Self::Anyone => true,
            Self::Nobody => false,
            Self::Loopback => request.peer_addr().ip().to_canonical().is_loopback() && !is_passed_on,
        }
    }
}

/// The answer to a plain request on the port of the service.
#[must_use]
pub fn answer(request: &Request<'_>, readers: Readers) -> Response {
    match request.path() {
        "/metrics" if readers == Readers::Nobody => not_here(),
        "/metrics" if !readers.include(request) => {
            Response::new(403, "metrics are for those who ask from this host\n")
        }
        _ => page(request.server(), request.path()).unwrap_or_else(not_here),
    }
}

fn not_here() -> Response {
    Response::new(426, "this is a WebSocket endpoint\n")
}

/// The page of `server` at this path.
fn page(server: &Handle, path: &str) -> Option<Response> {
    match path {
        "/healthz" => Some(server.health().into()),
        // Processes that share a port are asked by turns; each is a series of its own.
        "/metrics" => Some(server.scrape(&[("pid", &std::process::id().to_string())])),
        _ => None,
    }
}

/// A port for these pages alone, by plain HTTP, for all who reach it. It has a loop of its own, so that it answers also
/// while all loops of the server hang.
#[must_use]
pub fn port(address: SocketAddr) -> ServerBuilder {
    let limits = Limits { connections: 64, ..Limits::default() };
    Server::builder().listen(address).threads(1).limits(limits)
}

/// What answers at [`port`], for this server.
#[derive(Debug)]
pub struct Pages(pub Handle);

impl Handler for Pages {
    type Session = ();

    fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
        Err(Reject::new(404, "no WebSocket is served here\n"))
    }

    fn http(&self, request: &Request<'_>) -> Response {
        let missing = || Response::new(404, "there are /healthz and /metrics\n");
        page(&self.0, request.path()).unwrap_or_else(missing)
    }

    fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {}
}
