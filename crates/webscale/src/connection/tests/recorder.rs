//! A handler that does what paths and messages tell it, and writes down what happens.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use webscale_proto::{Chunk, CloseCode, Message};

use crate::close::{Close, CloseKind};
use crate::handler::Handler;
use crate::limits::SlowConsumer;
use crate::peer::{Peer, SendError};
use crate::prepared::Prepared;
use crate::{Accept, Reject, Request, Response};

/// What a handler saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    Opened,
    Text(String),
    Binary(Vec<u8>),
    Chunk {
        data: Vec<u8>,
        is_text: bool,
        is_first: bool,
        is_last: bool,
    },
    Pong(Vec<u8>),
    Timer,
    Drained,
    /// A send behind a close was answered with this.
    Sent(Result<(), SendError>),
    Closed(u16, String, CloseKind),
}

pub(super) fn seen(text: &str) -> Seen {
    Seen::Text(text.into())
}

/// Joins chunks to the messages that they are parts of, and checks that they follow one another as they should. What is
/// left of a message that did not end is given too.
pub(super) fn joined(all: Vec<Seen>) -> (Vec<Seen>, Option<Vec<u8>>) {
    let (mut joined, mut whole) = (Vec::new(), None::<Vec<u8>>);
    for item in all {
        match item {
            Seen::Chunk { data, is_text, is_first, is_last } => {
                assert_eq!(is_first, whole.is_none(), "the first chunk, and no other, says so");
                assert!(is_last || !data.is_empty());
                whole.get_or_insert_default().extend(data);
                if is_last && let Some(bytes) = whole.take() {
                    joined.push(if is_text {
                        Seen::Text(String::from_utf8(bytes).expect("UTF-8"))
                    } else {
                        Seen::Binary(bytes)
                    });
                }
            }
            Seen::Text(_) | Seen::Binary(_) => {
                assert!(whole.is_none(), "a message between two chunks");
                joined.push(item);
            }
            _ => joined.push(item),
        }
    }
    (joined, whole)
}

pub(super) fn closed(code: u16, reason: &str, kind: CloseKind) -> Seen {
    Seen::Closed(code, reason.into(), kind)
}

/// A session whose `opened` panics.
const POISON: u64 = 99;

#[derive(Default)]
pub(super) struct Recorder {
    log: Mutex<Vec<Seen>>,
    pub(super) sessions: AtomicUsize,
    pub(super) closes: AtomicUsize,
    /// The words of the last close's cause.
    pub(super) words: Mutex<String>,
    /// Messages are not echoed.
    pub(super) is_silent: bool,
}

/// A panic without the words on stderr.
fn fail() -> ! {
    std::panic::resume_unwind(Box::new("as the test asked"))
}

impl Recorder {
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.log.lock().expect("no panic while it is held"))
    }

    fn note(&self, seen: Seen) {
        self.log.lock().expect("no panic while it is held").push(seen);
    }

    pub(super) fn session(&self) -> u64 {
        self.sessions.fetch_add(1, Relaxed);
        0
    }

    fn obey(&self, peer: &mut Peer<'_, u64>, text: &str) {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match verb {
            "panic" => fail(),
            "close" => {
                let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                let code = CloseCode::new(code.parse().expect("a number")).unwrap_or(CloseCode::NO_STATUS);
                let _ = peer.send(Message::Text("before"));
                peer.close(code, reason);
                peer.close(CloseCode::POLICY, "a second close changes nothing");
                self.note(Seen::Sent(peer.send(Message::Text("behind"))));
                self.note(Seen::Sent(peer.ping(b"behind")));
            }
            "bytes" => {
                let sent = peer.send(Message::Binary(&vec![7; rest.parse().expect("a number")]));
                self.note(Seen::Sent(sent));
            }
            "begin" | "more" => self.note(Seen::Sent(peer.send_fragment(Message::Text(rest), false))),
            "finish" => self.note(Seen::Sent(peer.send_fragment(Message::Text(rest), true))),
            "other" => self.note(Seen::Sent(peer.send_fragment(Message::Binary(rest.as_bytes()), false))),
            "send" => self.note(Seen::Sent(peer.send(Message::Text(rest)))),
            "share" => self.note(Seen::Sent(peer.send_prepared(&Prepared::new(Message::Text(rest))))),
            "fill" => {
                let room = peer.room();
                let sent = peer.send_fragment(Message::Text(&"f".repeat(room)), false);
                self.note(Seen::Sent(sent));
                self.note(Seen::Sent(peer.send_fragment(Message::Text("f"), true)));
            }
            "many" => {
                for n in 0..rest.parse::<usize>().expect("a number") {
                    let _ = peer.send(Message::Text(&n.to_string()));
                }
            }
            "ping" => self.note(Seen::Sent(peer.ping(rest.as_bytes()))),
            "timer" => {
                peer.set_timer(Instant::now() + Duration::from_millis(rest.parse().expect("a number")));
            }
            "count" => {
                *peer.session() += 1;
                let count = peer.session().to_string();
                let _ = peer.send(Message::Text(&count));
            }
            _ if self.is_silent => {}
            _ => {
                let _ = peer.send(Message::Text(text));
            }
        }
    }
}

impl Handler for Recorder {
    type Session = u64;

    fn open(&self, request: &Request<'_>) -> Result<Accept<u64>, Reject> {
        match request.path() {
            "/forbidden" => Err(Reject::new(403, "not you\n").header("X-Why", "because")),
            "/broken" => Err(Reject::new(403, "not you\n").header("X\r\nY", "")),
            "/panic" => fail(),
            "/whoami" => Ok(Accept::new(self.session()).header("X-Peer", request.peer_addr().to_string())),
            "/split" => Ok(Accept::new(self.session()).header("X-A", "b\r\nX-C: d")),
            "/chat" => Ok(Accept::new(self.session()).protocol("chat").header("X-A", "b")),
            "/newest" => Ok(Accept::new(self.session()).slow_consumer(SlowConsumer::DropNewest)),
            "/oldest" => Ok(Accept::new(self.session()).slow_consumer(SlowConsumer::DropOldest)),
            "/close" => Ok(Accept::new(self.session()).slow_consumer(SlowConsumer::Close)),
            "/poisoned" => Ok(Accept::new(self.session() + POISON)),
            _ => Ok(Accept::new(self.session())),
        }
    }

    fn http(&self, request: &Request<'_>) -> Response {
        match request.path() {
            "/healthz" => Response::new(200, "up\n").header("X-Up", "yes"),
            "/nothing" => Response::new(204, ""),
            "/long" => {
                let length = request.query().and_then(|query| query.parse().ok()).expect("a number");
                Response::new(200, vec![b'x'; length]).header("Content-Type", "application/octet-stream")
            }
            "/panic" => fail(),
            "/split" => Response::new(200, "up\n").header("X-A", "b\r\nX-C: d"),
            "/odd" => Response::new(101, ""),
            _ => Response::new(404, "no such page\n"),
        }
    }

    fn opened(&self, peer: &mut Peer<'_, u64>) {
        self.note(Seen::Opened);
        if *peer.session() == POISON {
            fail();
        }
    }

    fn message(&self, peer: &mut Peer<'_, u64>, message: Message<'_>) {
        match message {
            Message::Text(text) => {
                self.note(Seen::Text(text.into()));
                self.obey(peer, text);
            }
            Message::Binary(bytes) => {
                self.note(Seen::Binary(bytes.into()));
                if !self.is_silent {
                    let _ = peer.send(message);
                }
            }
        }
    }

    /// Echoes in fragments.
    fn chunk(&self, peer: &mut Peer<'_, u64>, chunk: Chunk<'_>) {
        let Chunk { data, is_first, is_last } = chunk;
        self.note(Seen::Chunk { data: data.as_bytes().into(), is_text: data.is_text(), is_first, is_last });
        match data {
            Message::Text(text) if text.ends_with("panic") => fail(),
            Message::Text(text) if text.ends_with("close") => peer.close(CloseCode::NORMAL, "in a chunk"),
            _ if self.is_silent => {}
            _ if peer.send_fragment(data, is_last).is_ok() => {}
            // Without this part, what follows would be taken for the rest of what was begun.
            _ => peer.close(CloseCode::INTERNAL_ERROR, "no room for a chunk"),
        }
    }

    fn pong(&self, _: &mut Peer<'_, u64>, payload: &[u8]) {
        self.note(Seen::Pong(payload.into()));
    }

    fn timer(&self, peer: &mut Peer<'_, u64>) {
        self.note(Seen::Timer);
        let _ = peer.send(Message::Text("timer"));
    }

    fn drained(&self, _: &mut Peer<'_, u64>) {
        self.note(Seen::Drained);
    }

    fn close(&self, _: u64, close: Close) {
        self.closes.fetch_add(1, Relaxed);
        *self.words.lock().expect("no panic while it is held") = close.cause.to_string();
        self.note(Seen::Closed(close.code.get(), close.reason, close.cause.kind()));
    }
}
