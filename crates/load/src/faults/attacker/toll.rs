//! What an attack did, and what became of its connections.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::figure::{Bar, Figure, Unit};
use super::super::row::Findings;
use super::hostile::Account;

/// A server that refuses somebody does so sooner. What took longer met a deadline for handshakes, the shortest of which is
/// this, because somebody was slow.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

/// How a hostile connection ended, as its own side saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// The server did not take it, or its TLS or HTTP handshake failed before the attack had begun.
    Refused,
    /// It was about to come to the attack for too long, and never did.
    Late,
    /// The server sent a Close frame with this code (1005 without one).
    Closed(u16),
    /// The server answered in HTTP with this status, and ended it.
    Answered(u16),
    /// The server ended it without a word.
    Dropped,
    /// The script ended it.
    Left,
    /// It was open when the attack was over.
    Open,
}

/// What an attack did, and what became of its connections.
#[derive(Debug, Default)]
pub(crate) struct Toll {
    /// Connections that were begun.
    pub(crate) begun: u64,
    /// Those that the server's side refused at once.
    pub(crate) refused: u64,
    /// Those that could not be begun: this side had no port or no descriptor left.
    pub(crate) not_begun: u64,
    /// Those that came as far as the attack.
    pub(crate) entered: u64,
    /// The most at the same time.
    pub(crate) peak_open: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) ends: BTreeMap<End, u64>,
    /// The longest life of a connection that the server ended.
    pub(crate) longest: Duration,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Toll {
    pub(super) fn add(&mut self, account: &Account, end: End) {
        let is_late = !account.entered && (end == End::Open || account.age >= REFUSED_WITHIN);
        let end = if is_late { End::Late } else { end };
        *self.ends.entry(end).or_default() += 1;
        self.entered += u64::from(account.entered);
        self.sent_bytes += account.sent_bytes;
        self.received_bytes += account.received_bytes;
        if !matches!(end, End::Open | End::Left | End::Late) {
            self.longest = self.longest.max(account.age);
        }
    }

    /// All attacks of a row, one after the other.
    pub(crate) fn of<'a>(attacks: impl IntoIterator<Item = &'a Toll>) -> Toll {
        let mut all = Toll::default();
        attacks.into_iter().for_each(|attack| all.join(attack));
        all
    }

    /// Adds another attack of the same row, which came after this one.
    pub(crate) fn join(&mut self, later: &Toll) {
        self.begun += later.begun;
        self.refused += later.refused;
        self.not_begun += later.not_begun;
        self.entered += later.entered;
        self.peak_open = self.peak_open.max(later.peak_open);
        self.sent_bytes += later.sent_bytes;
        self.received_bytes += later.received_bytes;
        for (end, count) in &later.ends {
            *self.ends.entry(*end).or_default() += count;
        }
        self.longest = self.longest.max(later.longest);
        self.seconds += later.seconds;
    }

    /// How many ended so.
    pub(crate) fn ended(&self, end: End) -> u64 {
        self.ends.get(&end).copied().unwrap_or(0)
    }

    /// Those that reached the server.
    pub(crate) fn made(&self) -> u64 {
        self.begun - self.refused
    }

    /// Those of whom something can be expected: all but who came too late.
    pub(crate) fn in_time(&self) -> u64 {
        self.begun - self.ended(End::Late)
    }

    /// What is known of every attack: how much of it there was.
    pub(crate) fn findings(&self) -> Findings {
        let Toll { begun, entered, peak_open, sent_bytes, received_bytes, seconds, .. } = self;
        let ends: Vec<String> =
            self.ends.iter().map(|(end, count)| format!("{count} {}", end.words())).collect();
        let done = vec![
            format!(
                "{begun} connections in {seconds:.1} s, {peak_open} at the same time; {entered} came to the attack; \
                 {sent_bytes} bytes sent, {received_bytes} received"
            ),
            format!("as they saw it: {}", ends.join(", ")),
        ];
        Findings {
            done,
            connections: *peak_open,
            sent_bytes: *sent_bytes,
            not_begun: self.not_begun,
            late: self.ended(End::Late),
            ..Findings::default()
        }
    }

    /// That all of `wanted` connections came as far as the attack.
    pub(crate) fn all_entered(&self, wanted: u32) -> Figure {
        Figure::count("connections that attacked", self.entered, Bar::AtLeast(f64::from(wanted))).of_attack()
    }

    /// That every connection ended so, but for those that never came to the attack.
    pub(crate) fn all_ended(&self, name: &str, ends: &[End]) -> Figure {
        let count = ends.iter().map(|end| self.ended(*end)).sum();
        Figure::count(name, count, Bar::Exactly(self.in_time() as f64))
    }

    /// That the server ended every connection within `most`.
    pub(crate) fn reaped_within(&self, most: Duration) -> [Figure; 2] {
        let longest = self.longest.as_secs_f64();
        [
            Figure::count("connections never ended", self.ended(End::Open), Bar::Exactly(0.0)),
            Figure::new("longest life", longest, Unit::Seconds, Bar::AtMost(most.as_secs_f64())).of_time(),
        ]
    }
}

#[cfg(test)]
impl Toll {
    /// Of connections that came to the attack, unless they were refused or late, and ended so.
    pub(crate) fn made_up(ends: &[(End, u64)]) -> Toll {
        let mut toll = Toll::default();
        for (end, count) in ends {
            *toll.ends.entry(*end).or_default() += count;
            toll.begun += count;
            toll.entered += if matches!(end, End::Refused | End::Late) { 0 } else { *count };
        }
        Toll { peak_open: toll.begun, ..toll }
    }
}

impl End {
    fn words(self) -> String {
        match self {
            End::Refused => "refused".into(),
            End::Late => "too late for the attack".into(),
            End::Closed(code) => format!("closed with {code}"),
            End::Answered(status) => format!("answered with {status}"),
            End::Dropped => "dropped".into(),
            End::Left => "left by themselves".into(),
            End::Open => "still open".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one who came to the attack or did not, and so old, is counted as when it ended so.
    fn counted(entered: bool, seconds: u64, end: End) -> End {
        let mut toll = Toll::default();
        let age = Duration::from_secs(seconds);
        toll.add(&Account { entered, age, ..Account::default() }, end);
        *toll.ends.first_key_value().unwrap().0
    }

    #[test]
    fn who_never_came_to_the_attack_was_refused_or_late() {
        assert_eq!(counted(false, 1, End::Refused), End::Refused);
        assert_eq!(counted(false, 1, End::Answered(403)), End::Answered(403));
        // Patience was at its end, or the attack.
        assert_eq!(counted(false, 1, End::Open), End::Late);
        // The server's deadline for handshakes.
        assert_eq!(counted(false, 10, End::Refused), End::Late);
        assert_eq!(counted(false, 10, End::Answered(408)), End::Late);
        assert_eq!(counted(true, 10, End::Open), End::Open);
        assert_eq!(counted(true, 10, End::Answered(408)), End::Answered(408));
    }
}
