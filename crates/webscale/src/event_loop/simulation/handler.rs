//! A handler that does what messages tell it, and writes down what happens to each of its sessions.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use webscale_proto::{Chunk, CloseCode, Message};

use super::kernel::Machine;
use crate::clock::Time;
use crate::close::Close;
use crate::handler::Handler;
use crate::peer::{Peer, SendError};
use crate::sender::Sender;
use crate::{Accept, Reject, Request, Response};

/// How late a timer may be, as time passes in steps.
const LATE: Duration = Duration::from_millis(1);

/// What became of the session of one peer.
#[derive(Default)]
pub(super) struct Record {
    pub(super) opens: usize,
    pub(super) closes: usize,
    pub(super) end: Option<(Close, Time)>,
    /// The number of the last message.
    seen: usize,
    /// Numbers of the messages that were answered, in order.
    pub(super) answered: Vec<usize>,
    pub(super) panicked: bool,
    /// By the handler or a `Sender`.
    pub(super) closed_locally: bool,
    /// A send found no room.
    pub(super) full: bool,
    /// So that [`Handler::drained`] is owed.
    pub(super) owes_drained: bool,
    /// Sent by a `Sender`.
    pub(super) pushed: usize,
    pub(super) sender: Option<Sender>,
    pub(super) timer: Option<Time>,
    /// A message in chunks is under way.
    chunks: Vec<u8>,
}

pub(super) struct Ledger {
    machine: Machine,
    records: Mutex<Records>,
}

#[derive(Default)]
pub(super) struct Records {
    pub(super) of: BTreeMap<usize, Record>,
    /// Peers whose sessions ended since this was last looked at.
    pub(super) ended: Vec<usize>,
    /// What must not be: an assertion in a handler would be caught like any panic there.
    pub(super) faults: Vec<String>,
    /// Calls of the handler.
    pub(super) calls: u64,
}

impl Records {
    fn check(&mut self, holds: bool, peer: usize, what: &str) {
        if !holds {
            self.faults.push(format!("peer {peer}: {what}"));
        }
    }

    /// Another connection is sent something, from whatever thread this is.
    pub(super) fn push(&mut self, peer: usize) {
        if let Some(record) = self.of.get_mut(&peer)
            && let Some(sender) = &record.sender
            && record.pushed < PUSHES_MAX
        {
            record.pushed += 1;
            let pushed = format!("push {}", text(peer, record.pushed, 40));
            // It may be closing.
            let _ = sender.send(Message::Text(&pushed));
        }
    }

    pub(super) fn record(&mut self, peer: usize) -> &mut Record {
        self.of.entry(peer).or_default()
    }
}

/// What fits beside the answers that a peer waits for.
const PUSHES_MAX: usize = 8;
const LETTERS: [char; 5] = ['w', 'e', 'b', 's', 'ß'];

/// The text of a message that names its place, and what it is to look like.
pub(super) fn text(peer: usize, number: usize, length: usize) -> String {
    let mut text = format!("{peer} {number} ");
    let letters = (0..length).map(|index| LETTERS[(index + number + peer) % LETTERS.len()]);
    text.extend(letters);
    text
}

/// The number of a message of that peer, if it is unharmed.
pub(super) fn number_of(peer: usize, said: &str) -> Option<usize> {
    let mut words = said.splitn(3, ' ');
    let (_, number, rest) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    (said == text(peer, number, rest.chars().count())).then_some(number)
}

impl Ledger {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, records: Mutex::default() }
    }

    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().expect("nothing panics while it is held")
    }

    fn answer(&self, peer: &mut Peer<'_, usize>, message: Message<'_>, number: usize) {
        let sent = peer.send(message);
        let mut records = self.records();
        let record = records.record(*peer.session());
        match sent {
            Ok(()) => record.answered.push(number),
            Err(error) => record.refused(error),
        }
    }

    /// A message by its number, which must be the next one, or a word that tells what to do.
    fn whole(&self, peer: &mut Peer<'_, usize>, said: &str) {
        let id = *peer.session();
        if let Some(number) = number_of(id, said) {
            {
                let mut records = self.records();
                let last = std::mem::replace(&mut records.record(id).seen, number);
                records.check(number == last + 1, id, "a message is missing, or came twice");
            }
            return self.answer(peer, Message::Text(said), number);
        }
        match said.split_once(' ') {
            Some(("timer", millis)) => {
                let after = Duration::from_millis(millis.parse().unwrap_or(0));
                let due = self.machine.now() + after;
                self.records().record(id).timer = Some(due);
                peer.set_timer(self.machine.instant(due));
            }
            Some(("cancel", _)) => {
                self.records().record(id).timer = None;
                peer.cancel_timer();
            }
            Some(("close", _)) => {
                self.records().record(id).closed_locally = true;
                peer.close(CloseCode::NORMAL, "as you said");
            }
            Some(("tell", other)) => self.records().push(other.parse().unwrap_or(0)),
            Some(("panic", _)) => self.panic(id),
            Some(("flood", count)) => {
                for _ in 0..count.parse().unwrap_or(0) {
                    if let Err(error) = peer.send(Message::Binary(&[7; 500])) {
                        self.records().record(id).refused(error);
                    }
                }
            }
            // A peer that misbehaves says whatever it likes.
            _ => {}
        }
    }

    fn panic(&self, id: usize) {
        self.records().record(id).panicked = true;
        // Without the words on stderr.
        std::panic::resume_unwind(Box::new("as the peer asked"))
    }
}

impl Handler for Ledger {
    type Session = usize;

    fn open(&self, request: &Request<'_>) -> Result<Accept<usize>, Reject> {
        let id = request.path().strip_prefix('/').and_then(|id| id.parse().ok());
        let id: usize = id.ok_or_else(|| Reject::new(404, "no such peer\n"))?;
        let mut records = self.records();
        let record = records.record(id);
        record.opens += 1;
        let is_first = record.opens == 1;
        records.check(is_first, id, "opened twice");
        Ok(id.into())
    }

    fn http(&self, _: &Request<'_>) -> Response {
        Response::new(200, "up\n")
    }

    fn opened(&self, peer: &mut Peer<'_, usize>) {
        let sender = peer.sender();
        let mut records = self.records();
        records.calls += 1;
        records.record(*peer.session()).sender = Some(sender);
    }

    fn message(&self, peer: &mut Peer<'_, usize>, message: Message<'_>) {
        self.records().calls += 1;
        if let Message::Text(said) = message {
            self.whole(peer, said);
        }
    }

    fn chunk(&self, peer: &mut Peer<'_, usize>, chunk: Chunk<'_>) {
        let id = *peer.session();
        let whole = {
            let mut records = self.records();
            records.calls += 1;
            let begun = !records.record(id).chunks.is_empty();
            records.check(begun != chunk.is_first, id, "the first chunk, and no other, says so");
            records.record(id).chunks.extend_from_slice(chunk.data.as_bytes());
            chunk.is_last.then(|| std::mem::take(&mut records.record(id).chunks))
        };
        if let Some(said) = whole.and_then(|bytes| String::from_utf8(bytes).ok()) {
            self.whole(peer, &said);
        }
    }

    fn pong(&self, _: &mut Peer<'_, usize>, _: &[u8]) {
        self.records().calls += 1;
    }

    fn timer(&self, peer: &mut Peer<'_, usize>) {
        let (id, now) = (*peer.session(), self.machine.now());
        {
            let mut records = self.records();
            records.calls += 1;
            let due = records.record(id).timer.take();
            records.check(due.is_some_and(|due| due <= now), id, "a timer that was not set, or not yet due");
        }
        let _ = peer.send(Message::Text("tick"));
    }

    fn drained(&self, peer: &mut Peer<'_, usize>) {
        let mut records = self.records();
        records.calls += 1;
        records.record(*peer.session()).owes_drained = false;
    }

    fn close(&self, id: usize, close: Close) {
        let now = self.machine.now();
        let mut records = self.records();
        records.calls += 1;
        records.ended.push(id);
        let record = records.record(id);
        record.closes += 1;
        let is_first = record.closes == 1;
        (record.end, record.sender, record.timer) = (Some((close, now)), None, None);
        records.check(is_first, id, "closed twice");
    }
}

impl Record {
    fn refused(&mut self, error: SendError) {
        self.full = true;
        self.owes_drained |= error == SendError::Full;
    }

    /// A timer of an open session that should have fired long ago.
    pub(super) fn is_late(&self, now: Time) -> bool {
        self.closes == 0 && self.timer.is_some_and(|due| due + LATE < now)
    }
}
