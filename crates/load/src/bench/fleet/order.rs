//! What the conductor tells and asks those who hold clients, and what comes back. Between processes each stands on a line
//! of its own, as JSON.

use std::io::{self, BufRead, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use webscale_sys::clock::monotonic;

use super::{Census, Share};
use crate::bench::plan::Plan;
use crate::bench::tally::Tally;

/// An instant that other processes of this machine understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment(Duration);

impl From<Instant> for Moment {
    fn from(at: Instant) -> Moment {
        let (clock, now) = (monotonic(), Instant::now());
        Moment((clock + at.saturating_duration_since(now)).saturating_sub(now.saturating_duration_since(at)))
    }
}

impl From<Moment> for Instant {
    fn from(Moment(at): Moment) -> Instant {
        let (clock, now) = (monotonic(), Instant::now());
        let past = now.checked_sub(clock.saturating_sub(at));
        past.unwrap_or(now) + at.saturating_sub(clock)
    }
}

/// What all clients are to do from now on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Order {
    /// Connect, over the ramp that begins here.
    Connect(Moment),
    /// Send: the schedule begins here.
    Start(Moment),
    /// Send no further message. What is never answered is timed if it has waited for so long.
    End(Duration),
}

/// The first line to a process of the load: what it is part of.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) plan: Plan,
    pub(super) share: Share,
    pub(super) sources: Vec<IpAddr>,
}

/// A further line to it. [`Request::Order`] has no answer, all others have the one of their name.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Request {
    Order(Order),
    Census,
    Tally,
    /// Close all connections; the tally then is the last one.
    Close,
}

/// What such a process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer<T = Box<Tally>> {
    /// The event loops run.
    Ready,
    Census(Census),
    Tally(T),
    /// It cannot go on, and ends.
    Failed(String),
}

/// Writes one line.
pub(super) fn write(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// Reads one line; none at the end.
pub(super) fn read<T: DeserializeOwned>(input: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_instant_again() {
        let now = Instant::now();
        for at in [now, now + Duration::from_secs(5), now.checked_sub(Duration::from_millis(5)).unwrap()] {
            let again = Instant::from(Moment::from(at));
            let apart = again.saturating_duration_since(at).max(at.saturating_duration_since(again));
            assert!(apart < Duration::from_secs(1), "{apart:?}");
        }
    }

    #[test]
    fn lines_come_back_as_they_were() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Request::Census).unwrap();
        write(&mut bytes, &Request::Order(Order::End(Duration::ZERO))).unwrap();
        let mut input = &bytes[..];
        assert!(matches!(read(&mut input).unwrap(), Some(Request::Census)));
        assert!(matches!(read(&mut input).unwrap(), Some(Request::Order(Order::End(Duration::ZERO)))));
        assert!(read::<Request>(&mut input).unwrap().is_none());
        assert!(read::<Request>(&mut &b"{\"Cens"[..]).is_err());
    }
}
