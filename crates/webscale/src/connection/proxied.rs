//! The beginning of a connection that a proxy brings: the proxy says whose it is, in front of all else.

use super::{CloseCause, Connection, Handler, Socket, Turn};
use crate::close::Timeout;
use crate::journal::{self, Level};

impl<K: Socket, S: Send + 'static> Connection<K, S> {
    /// The peer is a proxy, whose header must come first.
    pub(crate) fn await_proxy(&mut self) {
        self.link.await_proxy();
    }

    /// Takes the proxy's header off the front of what was received. Says how many bytes stand behind it; `None` where they
    /// are nobody's, because it is not whole, or was the end.
    pub(super) fn introduce<H: Handler<Session = S>>(
        &mut self,
        turn: &mut Turn<'_, H>,
        count: usize,
    ) -> Option<usize> {
        let (header, rest) = match self.link.take_proxy_header(turn.wire, count) {
            Ok(header) => header?,
            Err(error) => {
                // Not a client's doing: proxy and server are set up differently.
                let proxy = self.channel.peer_addr();
                journal::write(Level::Warn, format_args!("from {proxy:?}: {error}"));
                return self.turn_away(turn, CloseCause::Proxy(error));
            }
        };
        let client = header.client.or(self.channel.peer_addr())?;
        let handshake = self.registered.place.as_mut().map(|place| place.settle(client.ip()));
        match handshake.transpose() {
            Ok(handshake) => {
                self.channel.introduced(client, handshake.flatten());
                Some(rest)
            }
            Err(refusal) => {
                turn.context.metrics.count_refusal(refusal);
                self.turn_away(turn, CloseCause::Refused)
            }
        }
    }

    fn turn_away<H: Handler<Session = S>>(
        &mut self,
        turn: &mut Turn<'_, H>,
        cause: CloseCause,
    ) -> Option<usize> {
        self.channel.lost(&mut turn.context, cause);
        self.link.kill();
        None
    }

    /// The proxy took too long.
    pub(super) fn proxy_timed_out<H: Handler<Session = S>>(&mut self, turn: &mut Turn<'_, H>) {
        self.turn_away(turn, CloseCause::Timeout(Timeout::Handshake));
    }
}
