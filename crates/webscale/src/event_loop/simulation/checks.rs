//! What must hold behind every step, and at the end.

use std::time::Duration;

use super::super::DEADLINE_STEP;
use super::peer::{Ended, Peer};
use super::world::{PATIENCE, Stage, World};
use crate::close::{Close, CloseCause, Timeout};
use crate::connection::Wire;
use crate::limits::SlowConsumer;
use crate::peer::ConnectionId;

/// The wheel's slot, and the looks at the clock in between.
const SLACK: Duration = Duration::from_millis(1);

impl World {
    pub(super) fn check(&mut self) {
        let (ended, faults) = {
            let mut records = self.ledger.records();
            (std::mem::take(&mut records.ended), std::mem::take(&mut records.faults))
        };
        assert!(faults.is_empty(), "{faults:?}");
        for id in ended {
            self.check_end(id);
        }
        for peer in &mut self.peers {
            if !peer.faults.is_empty() {
                let record = std::mem::take(self.ledger.records().record(peer.id));
                panic!("{:?}\n{:?}, ended {:?}", peer.faults, peer.deeds, record.end);
            }
        }
    }

    /// A session ended only for a reason that its peer, its handler or the limits gave.
    fn check_end(&self, id: usize) {
        let records = self.ledger.records();
        let (record, peer) = (&records.of[&id], &self.peers[id]);
        let Some((Close { cause, .. }, _)) = &record.end else { return };
        let limits = &self.setting.limits;
        let (now, heard, taken) = {
            let system = self.system();
            let line = &system.lines[peer.line];
            (system.now, line.heard, line.taken)
        };
        // Who does not take what waits for it is not heard either.
        let is_silent = now - heard.min(taken) >= limits.ping_after + limits.pong_time;
        let is_given = match cause {
            CloseCause::Peer => peer.deeds.sent_close,
            CloseCause::Local => record.closed_locally,
            CloseCause::Shutdown => self.stage != Stage::Running,
            CloseCause::Protocol(_) => peer.deeds.misbehaved,
            CloseCause::Panic => record.panicked,
            CloseCause::Fault => self.was_struck(id),
            CloseCause::Overload => self.is_short_of_memory(),
            CloseCause::SlowConsumer => record.full || (record.pushed > 0 && !peer.is_honest()) || is_silent,
            CloseCause::Timeout(Timeout::Pong) => is_silent,
            CloseCause::Timeout(Timeout::Message) => now - peer.born >= limits.message_time,
            CloseCause::Timeout(Timeout::Close) => {
                (record.closed_locally || self.stage != Stage::Running)
                    && now - peer.born >= limits.close_time
            }
            CloseCause::Lost(_) => peer.deeds.left || peer.ended.is_some(),
            _ => false,
        };
        assert!(is_given, "peer {id} was ended: {cause}\n{:?} {:?}", peer.deeds, peer.script);
        let has_room = self.is_short_of_memory() || !record.full;
        assert!(has_room || !peer.is_honest(), "peer {id} keeps to its window, and there is no room");
    }

    /// A loop's tables fit its connections.
    pub(super) fn check_loop(&mut self, index: usize) {
        let limits = self.setting.limits.clone();
        let memory_max = 2 * (limits.message_bytes + limits.egress_bytes + Wire::RECEIVE_BYTES);
        let Some(event_loop) = &mut self.loops[index] else { return };
        let (now, mut held) = (event_loop.now, event_loop.lent);
        for token in event_loop.connections.tokens() {
            let id = ConnectionId { event_loop: event_loop.index, token };
            let connection = event_loop.connections.get_mut(token).expect("it is there");
            held += connection.held();
            let (deadline, registered) = (connection.deadline(&limits, id), &connection.registered);
            assert!(deadline + DEADLINE_STEP + SLACK > now, "a deadline was missed: {deadline:?}, {now:?}");
            assert_eq!(registered.interest, Some(connection.interest()), "epoll does not know better");
            let (_, armed) = registered.deadline.expect("every connection has its deadline");
            assert!(armed <= deadline.round_up(DEADLINE_STEP), "nobody looks at the deadline");
            assert!(!connection.is_ready() || registered.in_ready_list, "what is received is forgotten");
            assert!(connection.buffered() <= memory_max, "{} bytes", connection.buffered());
        }
        assert_eq!(event_loop.account.own(), held, "the books are wrong");
    }

    /// Who keeps to the rules got all that was owed.
    pub(super) fn check_honest(&mut self) {
        let now = self.now();
        for peer in self.peers.iter().filter(|peer| peer.is_honest() && !peer.is_content()) {
            let mut records = self.ledger.records();
            let record = records.record(peer.id);
            let was_refused = record.opens == 0 && peer.ended.is_some() && self.may_refuse(peer);
            let was_shed = matches!(record.end, Some((Close { cause: CloseCause::Overload, .. }, _)));
            let was_told = was_shed || self.stage != Stage::Running || self.was_struck(peer.id);
            let had_no_time = self.jumped.is_some_and(|jumped| jumped >= peer.born)
                || matches!(record.end, Some((Close { cause: CloseCause::Timeout(_), .. }, _)))
                || (record.opens == 0 && now - peer.born >= self.setting.limits.handshake_time);
            assert!(
                peer.ended.is_some() && (was_refused || was_told || had_no_time),
                "peer {} got less than it was owed at {now:?}: {:?}, {:?}, code {:?}, ended {:?}, session ended {:?}",
                peer.id,
                peer.deeds,
                peer.script,
                peer.close_code,
                peer.ended,
                record.end,
            );
        }
        for (id, record) in &self.ledger.records().of {
            let closing =
                record.closed_locally || self.peers[*id].deeds.sent_close || self.stage != Stage::Running;
            assert!(closing || !record.is_late(now), "the timer of peer {id} did not fire");
            let peer = &self.peers[*id];
            let reads = record.closes == 0 && !closing && !peer.deeds.is_deaf && peer.ended.is_none();
            assert!(!(reads && record.owes_drained), "nobody tells peer {id} that its queue is empty");
            let may_skip = self.setting.limits.slow_consumer == SlowConsumer::DropOldest;
            assert!(may_skip || peer.skipped == 0, "peer {id} missed answers");
        }
    }

    /// The Close frame came to whoever read, unless time or memory ran out.
    pub(super) fn check_codes(&self) {
        if self.is_short_of_memory() {
            return;
        }
        for (id, record) in &self.ledger.records().of {
            let (peer, Some((close, at))) = (&self.peers[*id], &record.end) else { continue };
            let Some((_, ended)) = peer.ended else { continue };
            let reads = !(peer.deeds.is_deaf || peer.deeds.is_mute || peer.deeds.left);
            let is_told =
                !matches!(close.cause, CloseCause::Lost(_) | CloseCause::Timeout(_)) && !self.was_struck(*id);
            let is_served = match self.stage {
                Stage::Running => true,
                Stage::Ending(since) => !self.aborted && ended - since < self.setting.limits.shutdown_time,
            };
            let in_time = is_served && ended - *at < PATIENCE;
            assert!(
                !(reads && is_told && in_time) || peer.close_code == Some(close.code.get()),
                "peer {id} was not told at {at:?} that {close}: {:?}, {:?}, ended {:?}",
                peer.close_code,
                peer.deeds,
                peer.ended,
            );
        }
    }

    /// Connections above the limits are closed at accept, and so are those for which there is nothing left.
    fn may_refuse(&self, peer: &Peer) -> bool {
        let limits = &self.setting.limits;
        let counts = [limits.connections, limits.connections_per_address, limits.handshakes_per_address];
        let is_limited = counts.iter().any(|&count| count < usize::MAX) || self.is_short_of_memory();
        is_limited || self.metrics().accept_pauses > 0 || matches!(peer.ended, Some((Ended::Reset, _)))
    }

    fn is_short_of_memory(&self) -> bool {
        self.setting.limits.held_bytes < usize::MAX
    }

    /// Nobody is left.
    pub(super) fn check_empty(&self) {
        for (id, record) in &self.ledger.records().of {
            assert_eq!(record.opens, record.closes, "peer {id}");
        }
        let metrics = self.metrics();
        let ended: u64 = metrics.closes().map(|(_, count)| count).sum();
        assert_eq!(metrics.connections, 0, "{metrics:?}");
        assert_eq!(metrics.accepted, ended);
        assert_eq!(
            metrics.opened,
            self.ledger.records().of.values().filter(|record| record.opens > 0).count() as u64
        );
        assert_eq!((self.counted(), self.shared.admission.addresses()), (0, 0));
        assert_eq!(self.system().held().count(), 0, "sockets are left");
        for event_loop in self.loops.iter().flatten() {
            assert_eq!((event_loop.connections.len(), event_loop.account.own(), event_loop.lent), (0, 0, 0));
            assert!(event_loop.orphans.is_empty() && event_loop.ready.is_empty());
            assert_eq!(event_loop.timers.next_due(), None, "timers are left");
        }
    }
}
