//! The messages of one client that wait for an answer, in the order in which they were sent.

use std::collections::VecDeque;
use std::time::Duration;

/// Messages of one client that may wait for their answers: a server that never answers makes nothing grow further.
const EACH_MAX: usize = 1024;
/// A load of few clients may have more of them: so many in all.
const ALL_MAX: usize = 1 << 18;
/// Of a queue that has become empty, the room for so many is kept.
const KEPT_MAX: usize = 16;
/// An echo that others have overtaken for so long is lost.
const OVERTAKEN_MAX: Duration = Duration::from_secs(60);
/// Messages of one client for whose echo something else was taken, that are remembered.
const MISTAKEN_MAX: usize = 64;

/// How much of a client's may wait, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Messages.
    most: usize,
    /// How old a message may become once a later one was answered.
    overtaken: Duration,
}

impl Patience {
    /// For each of so many clients.
    pub(crate) fn for_each(clients: u32, latency_limit: Duration) -> Patience {
        let most = EACH_MAX.max(ALL_MAX / clients.max(1) as usize);
        Patience { most, overtaken: OVERTAKEN_MAX.max(latency_limit) }
    }
}

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
    /// Of a message for whose echo another message was taken before: it has been counted.
    Mistaken,
    /// Of none of those that wait.
    Unknown,
}

/// A queue of sent messages. It holds no memory before the first one.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    sent: VecDeque<Sent>,
    /// No message of this number or a later one was answered.
    next: u64,
    /// Those for whose echo something was taken that is none, the latest last.
    mistaken: Vec<Sent>,
}

impl Queue {
    /// Where the message stands for which `is` holds. Most echoes come in order: those that are overdue are looked at last.
    fn position(&self, mut is: impl FnMut(&Sent) -> bool) -> Option<usize> {
        let overdue = self.sent.partition_point(|sent| sent.number < self.next);
        (overdue..self.sent.len()).chain(0..overdue).find(|at| is(&self.sent[*at]))
    }
}

impl Waiting {
    /// Puts a message into the queue. Where that is full, or the oldest one was overtaken long ago, that one is given up and
    /// returned.
    pub(crate) fn push(&mut self, sent: Sent, patience: Patience) -> Option<Sent> {
        let Queue { sent: queue, next, .. } = &mut **self.0.get_or_insert_default();
        let is_lost =
            |oldest: &Sent| oldest.number < *next && sent.at.saturating_sub(oldest.at) > patience.overtaken;
        let gives_up = queue.len() >= patience.most || queue.front().is_some_and(is_lost);
        let given_up = if gives_up { queue.pop_front() } else { None };
        // Most clients never have more than one that waits, and there are many of them: a server that stood still once is no
        // reason to hold the room for what waited then.
        if queue.is_empty() && !(1..=KEPT_MAX).contains(&queue.capacity()) {
            *queue = VecDeque::with_capacity(1);
        }
        queue.push_back(sent);
        given_up
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.sent.len())
    }

    /// The pong for message `number` came. A peer may answer only the latest of several pings (RFC 6455 §5.5.3), and
    /// what it read before is read all the same: the earlier messages are answered too. Whose pings are all answered holds
    /// no memory, as most clients wait for nothing most of the time.
    pub(crate) fn pong(&mut self, number: u64) -> impl Iterator<Item = Sent> {
        let last = self.0.as_ref().and_then(|queue| queue.sent.back());
        let all = if last.is_some_and(|last| last.number <= number) { self.0.take() } else { None };
        let some = self.0.iter_mut().flat_map(move |queue| {
            let answered = queue.sent.partition_point(|sent| sent.number <= number);
            queue.sent.drain(..answered)
        });
        all.into_iter().flat_map(|queue| queue.sent).chain(some)
    }

    /// An echo came, whose bytes are those of the message for which `is` holds.
    pub(crate) fn echo(&mut self, mut is: impl FnMut(&Sent) -> bool) -> Echo {
        let Some(queue) = &mut self.0 else { return Echo::Unknown };
        let Some(sent) = queue.position(&mut is).and_then(|index| queue.sent.remove(index)) else {
            let Some(mistaken) = queue.mistaken.iter().position(is) else { return Echo::Unknown };
            queue.mistaken.remove(mistaken);
            return Echo::Mistaken;
        };
        if sent.number < queue.next {
            return Echo::Late(sent);
        }
        queue.next = sent.number + 1;
        Echo::InOrder(sent)
    }

    /// Takes the message that waits longest, as what came stands in the place of its echo. That may have been a message of
    /// the server's own: then the echo still comes, and is not to be taken for another message's.
    pub(crate) fn mistake(&mut self) -> Option<Sent> {
        let queue = self.0.as_mut()?;
        let sent = queue.sent.pop_front()?;
        if queue.mistaken.len() >= MISTAKEN_MAX {
            queue.mistaken.remove(0);
        }
        queue.mistaken.push(sent);
        Some(sent)
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

    fn sent(number: u64) -> Sent {
        Sent { number, due: Duration::from_secs(number), at: Duration::from_secs(number) }
    }

    fn waiting(numbers: &[u64]) -> Waiting {
        let mut waiting = Waiting::default();
        for &number in numbers {
            waiting.push(sent(number), Patience::for_each(1, Duration::from_secs(1 << 20)));
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
        assert!(some.0.is_none(), "it waits for nothing");
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
        let patience = Patience::for_each(1000, Duration::ZERO);
        let (most, mut some) = (EACH_MAX as u64, Waiting::default());
        assert!((0..most).all(|number| some.push(sent(number), patience).is_none()));
        assert_eq!(some.push(sent(5000), patience).map(|sent| sent.number), Some(0));
        assert_eq!(some.len(), EACH_MAX);
        // It answers at last: what was held for so many is given back.
        assert_eq!(some.pong(5000).count(), EACH_MAX);
        some.push(sent(5001), patience);
        assert_eq!(some.0.unwrap().sent.capacity(), 1);
    }

    #[test]
    fn few_clients_may_wait_for_more() {
        assert_eq!(Patience::for_each(1, Duration::ZERO).most, ALL_MAX);
        assert_eq!(Patience::for_each(100_000, Duration::ZERO).most, EACH_MAX);
    }

    #[test]
    fn an_echo_that_was_overtaken_long_ago_is_lost() {
        let patience = Patience::for_each(1, Duration::ZERO);
        let mut some = waiting(&[0, 1]);
        assert!(matches!(some.echo(|sent| sent.number == 1), Echo::InOrder(_)));
        let after = |number, at| Sent { number, due: at, at };
        assert_eq!(some.push(after(2, OVERTAKEN_MAX), patience), None);
        let later = OVERTAKEN_MAX + Duration::from_millis(1);
        assert_eq!(some.push(after(3, later), patience), Some(sent(0)));
        // The third is as late, but nothing says that the server has passed it over.
        assert_eq!(some.push(after(4, 3 * later), patience), None);
        assert_eq!(some.len(), 3);
    }

    /// A server that says something of its own meanwhile: one message is taken for an echo, and no other suffers for it.
    #[test]
    fn a_message_that_is_no_echo_spoils_no_other() {
        let mut some = waiting(&[0, 1, 2]);
        assert_eq!(some.echo(|_| false), Echo::Unknown);
        assert_eq!(some.mistake(), Some(sent(0)));
        assert_eq!(some.echo(|sent| sent.number == 0), Echo::Mistaken);
        assert_eq!(some.echo(|sent| sent.number == 0), Echo::Unknown);
        for number in [1, 2] {
            assert!(matches!(some.echo(|sent| sent.number == number), Echo::InOrder(_)));
        }
        assert_eq!(some.mistake(), None);
    }

    #[test]
    fn mistakes_are_not_remembered_without_end() {
        let mut some = waiting(&(0..1000).collect::<Vec<_>>());
        while some.mistake().is_some() {}
        assert_eq!(some.0.as_ref().unwrap().mistaken.len(), MISTAKEN_MAX);
        assert_eq!(some.echo(|sent| sent.number == 999), Echo::Mistaken);
    }
}
