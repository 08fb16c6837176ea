//! The messages of one client that wait for an answer, in the order in which they were sent.

use std::collections::VecDeque;
use std::time::Duration;

/// Messages of one client that may wait for their answers: a server that never answers makes nothing grow further.
const WAITING_MAX: usize = 1024;

/// A message on its way; the times count from the start of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The message's number in the schedule.
    pub(crate) number: u64,
    /// When it was due.
    pub(crate) due: Duration,
    /// When it was really sent.
    pub(crate) at: Duration,
}

/// What an echo turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Of a message later than all that were answered. Those before it may still come.
    InOrder(Sent),
    /// A later message was answered before it.
    Late(Sent),
    /// Of none of those that wait.
    Unknown,
}

/// A queue of sent messages. It holds no memory before the first one, and then that of the most that waited.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    sent: VecDeque<Sent>,
    /// No message of this number or a later one was answered.
    next: u64,
}

impl Waiting {
    /// Puts a message into the queue. Where it is full, the oldest one is given up and returned.
    pub(crate) fn push(&mut self, sent: Sent) -> Option<Sent> {
        let queue = &mut self.0.get_or_insert_default().sent;
        let given_up = if queue.len() >= WAITING_MAX { queue.pop_front() } else { None };
        if queue.capacity() == 0 {
            // Most clients never have more than one that waits, and there are many of them.
            queue.reserve_exact(1);
        }
        queue.push_back(sent);
        given_up
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.sent.len())
    }

    /// The pong for message `number` came. A peer may answer only the latest of several pings (RFC 6455 §5.5.3), and
    /// what it read before is read all the same: the earlier messages are answered too.
    pub(crate) fn pong(&mut self, number: u64) -> impl Iterator<Item = Sent> {
        self.0.iter_mut().flat_map(move |queue| {
            let answered = queue.sent.partition_point(|sent| sent.number <= number);
            queue.sent.drain(..answered)
        })
    }

    /// An echo came, whose bytes are those of the message for which `is` holds.
    pub(crate) fn echo(&mut self, is: impl FnMut(&Sent) -> bool) -> Echo {
        let Some(queue) = &mut self.0 else { return Echo::Unknown };
        let Some(sent) = queue.sent.iter().position(is).and_then(|index| queue.sent.remove(index)) else {
            return Echo::Unknown;
        };
        if sent.number < queue.next {
            return Echo::Late(sent);
        }
        queue.next = sent.number + 1;
        Echo::InOrder(sent)
    }

    /// Takes the message that waits longest.
    pub(crate) fn oldest(&mut self) -> Option<Sent> {
        self.0.as_mut()?.sent.pop_front()
    }

    /// Takes everything that still waits.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Sent> {
        self.0.take().into_iter().flat_map(|queue| queue.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(numbers: &[u64]) -> Waiting {
        let mut waiting = Waiting::default();
        for &number in numbers {
            waiting.push(Sent { number, due: Duration::from_secs(number), at: Duration::from_secs(number) });
        }
        waiting
    }

    #[test]
    fn a_pong_answers_everything_before_it() {
        let mut some = waiting(&[3, 4, 5]);
        assert_eq!(some.pong(4).map(|sent| sent.number).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(some.pong(4).count(), 0);
        assert_eq!(some.len(), 1);
        assert_eq!(some.pong(99).count(), 1);
    }

    #[test]
    fn an_echo_is_in_order_or_late_or_unknown() {
        let mut some = waiting(&[3, 4, 5, 6]);
        assert!(matches!(some.echo(|sent| sent.number == 4), Echo::InOrder(Sent { number: 4, .. })));
        assert!(matches!(some.echo(|sent| sent.number == 3), Echo::Late(Sent { number: 3, .. })));
        assert_eq!(some.echo(|sent| sent.number == 9), Echo::Unknown);
        // The fifth is lost: what comes behind it is in order all the same.
        assert!(matches!(some.echo(|sent| sent.number == 6), Echo::InOrder(Sent { number: 6, .. })));
        assert_eq!(some.take().map(|sent| sent.number).collect::<Vec<_>>(), [5]);
        assert_eq!(some.len(), 0);
    }

    #[test]
    fn equal_messages_are_answered_in_order() {
        let mut some = waiting(&[0, 1]);
        assert!(matches!(some.echo(|_| true), Echo::InOrder(Sent { number: 0, .. })));
        assert!(matches!(some.echo(|_| true), Echo::InOrder(Sent { number: 1, .. })));
        assert_eq!(some.oldest(), None);
    }

    #[test]
    fn a_server_that_never_answers_makes_nothing_grow() {
        let numbers: Vec<u64> = (0..WAITING_MAX as u64).collect();
        let mut some = waiting(&numbers);
        let sent = Sent { number: 5000, due: Duration::ZERO, at: Duration::ZERO };
        assert_eq!(some.push(sent).map(|sent| sent.number), Some(0));
        assert_eq!(some.len(), WAITING_MAX);
    }
}
