//! Messages that are longer than what is held.

use std::sync::mpsc::{Sender as Channel, channel};

use webscale::{
    Accept, Chunk, Close, CloseCause, CloseCode, Handler, Limits, Message, Peer, Reject, Request,
};

use super::support::{PATIENCE, Serving, builder, hear, hear_close, limits, other, say};

/// Leaves what comes in chunks to the default.
struct Whole(Channel<Close>);

impl Handler for Whole {
    type Session = ();

    fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
        Ok(().into())
    }

    fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
        peer.send(message).unwrap();
    }

    fn close(&self, (): (), close: Close) {
        self.0.send(close).unwrap();
    }
}

#[test]
fn a_handler_that_takes_no_chunks_refuses_them_with_1009() {
    let (closes, closed) = channel();
    let limits = Limits { message_bytes: 100, stream_bytes: 1 << 30, ..limits() };
    let serving = Serving::new(builder().limits(limits), Whole(closes));
    let mut socket = other(serving.address);
    say(&mut socket, &"x".repeat(100));
    assert_eq!(hear(&mut socket), "x".repeat(100));
    say(&mut socket, &"x".repeat(101));
    assert_eq!(hear_close(&mut socket), (1009, "message too big".into()));
    let close = closed.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(close.cause, CloseCause::Local) && close.code == CloseCode::TOO_BIG);
    serving.shut_down();
}

/// Echoes chunks as fragments, on a worker.
struct Stream(Channel<(usize, bool)>);

impl Handler for Stream {
    type Session = usize;

    fn open(&self, _: &Request<'_>) -> Result<Accept<usize>, Reject> {
        Ok(0.into())
    }

    fn message(&self, _: &mut Peer<'_, usize>, _: Message<'_>) {}

    fn chunk(&self, peer: &mut Peer<'_, usize>, chunk: Chunk<'_>) {
        *peer.session() += chunk.data.len();
        self.0.send((*peer.session(), chunk.is_last)).unwrap();
        if chunk.is_last {
            let total = peer.session().to_string();
            peer.send_fragment(Message::Text(&total), false).unwrap();
            peer.send_fragment(Message::Text(" bytes"), true).unwrap();
        }
    }
}

#[test]
fn a_message_longer_than_anything_that_is_held_goes_through_workers() {
    const LEN: usize = 8 << 20;
    let (chunks, told) = channel();
    let limits = Limits { message_bytes: 10_000, stream_bytes: LEN as u64, ..limits() };
    let serving = Serving::new(builder().workers(2).limits(limits), Stream(chunks));
    let mut socket = other(serving.address);
    say(&mut socket, &"ä".repeat(LEN / 2));
    assert_eq!(hear(&mut socket), format!("{LEN} bytes"));
    let all: Vec<_> = told.try_iter().collect();
    assert!(all.len() > 50 && all.windows(2).all(|pair| pair[0].0 < pair[1].0 && !pair[0].1));
    serving.shut_down();
}
