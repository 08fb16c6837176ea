//! `serve --wilful`: handlers that panic or hang when a client says so, for `webscale faults` to see what becomes of the others.

use std::sync::{Condvar, Mutex, PoisonError};

use server_webscale::Echo;
use webscale::{Accept, Handler, Message, Peer, Reject, Request, Response};

/// Echoes; a text of `panic` panics, and one of `block` waits until somebody asks for `/release` before it is echoed.
pub(super) struct Wilful {
    echo: Echo,
    /// Times that somebody did.
    releases: Mutex<u64>,
    released: Condvar,
}

impl Wilful {
    pub(super) fn new(echo: Echo) -> Self {
        Self { echo, releases: Mutex::default(), released: Condvar::new() }
    }

    fn block(&self) {
        let mut releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *releases;
        while *releases == before {
            releases = self.released.wait(releases).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn release(&self) {
        *self.releases.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.released.notify_all();
    }
}

impl Handler for Wilful {
    type Session = ();

    fn open(&self, request: &Request<'_>) -> Result<Accept<()>, Reject> {
        self.echo.open(request)
    }

    fn http(&self, request: &Request<'_>) -> Response {
        // Not a message: where all workers hang there is none left to take one.
        if request.path() == "/release" {
            self.release();
        }
        self.echo.http(request)
    }

    fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
        match message {
            Message::Text("panic") => panic!("as it was told"),
            Message::Text("block") => self.block(),
            _ => {}
        }
        self.echo.message(peer, message);
    }
}
