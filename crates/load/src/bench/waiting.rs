//! The messages of one client that wait for an answer, in the order in which they were sent.

use std::collections::VecDeque;
use std::time::Duration;

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
    /// The oldest message that waited.
    InOrder(Sent),
    /// A later one: those before it were overtaken.
    Overtaking(Sent),
    /// None of those that wait.
    Unknown,
}

impl Echo {
    /// The message that was answered.
    pub(crate) fn sent(self) -> Option<Sent> {
        match self {
            Echo::InOrder(sent) | Echo::Overtaking(sent) => Some(sent),
            Echo::Unknown => None,
        }
    }
}

/// A queue of sent messages. It holds no memory while nothing waits.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queue: VecDeque<Sent>,
}

impl Waiting {
    pub(crate) fn push(&mut self, sent: Sent) {
        self.queue.push_back(sent);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The pong for message `number` came. A peer may answer only the latest of several pings (RFC 6455 §5.5.3), and
    /// what it read before is read all the same: the earlier messages are answered too.
    pub(crate) fn pong(&mut self, number: u64) -> impl Iterator<Item = Sent> {
        let answered = self.queue.partition_point(|sent| sent.number <= number);
        self.queue.drain(..answered)
    }

    /// An echo came, whose bytes are those of the message for which `is` holds.
    pub(crate) fn echo(&mut self, mut is: impl FnMut(&Sent) -> bool) -> Echo {
        match self.queue.iter().position(&mut is) {
            None => Echo::Unknown,
            Some(0) => self.queue.pop_front().map_or(Echo::Unknown, Echo::InOrder),
            Some(later) => self.queue.remove(later).map_or(Echo::Unknown, Echo::Overtaking),
        }
    }

    /// Takes everything that still waits.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Sent> {
        std::mem::take(&mut self.queue).into_iter()
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
    fn an_echo_is_in_order_or_overtakes_or_is_unknown() {
        let mut some = waiting(&[3, 4, 5]);
        assert!(matches!(some.echo(|sent| sent.number == 4), Echo::Overtaking(Sent { number: 4, .. })));
        assert!(matches!(some.echo(|sent| sent.number == 3), Echo::InOrder(Sent { number: 3, .. })));
        assert_eq!(some.echo(|sent| sent.number == 9), Echo::Unknown);
        assert_eq!(some.take().map(|sent| sent.number).collect::<Vec<_>>(), [5]);
        assert_eq!(some.len(), 0);
    }

    #[test]
    fn equal_messages_are_answered_in_order() {
        let mut some = waiting(&[0, 1]);
        assert!(matches!(some.echo(|_| true), Echo::InOrder(Sent { number: 0, .. })));
        assert!(matches!(some.echo(|_| true), Echo::InOrder(Sent { number: 1, .. })));
    }
}
