//! How a server is: what [`Handle::health`](crate::Handle::health) tells.

use std::fmt;
use std::time::Duration;

use crate::peer::ConnectionId;
use crate::response::Response;

/// How a server or client is at one moment, the worst first: what is stuck hides that it is shutting down, and that hides
/// overload.
///
/// As text it is one line for people, and as a [`Response`] the answer to a health check: 200 when healthy, else 503, with
/// that line. Who restarts a server by its health should do so for `stuck` alone: overload comes back after a restart,
/// with all clients at once.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Health {
    /// Every loop and every worker goes on, and clients are let in.
    Healthy,
    /// Nothing hangs, but for [`Limits::stuck_after`](crate::Limits::stuck_after) more came than could be taken.
    Overloaded(Overload),
    /// It was told to end ([`Handle::shutdown`](crate::Handle::shutdown), a signal), or has ended.
    ShuttingDown,
    /// These threads hang: loops first, by index.
    Stuck(Vec<Stuck>),
}

/// What there is too much of.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Overload {
    /// A loop accepts no connections: something that each needs is used up, such as descriptors.
    AcceptPaused {
        /// For how long.
        lasting: Duration,
    },
    /// The workers' queue turned messages away and was not half empty since.
    WorkersQueueFull {
        /// For how long.
        lasting: Duration,
    },
}

/// A thread that has worked for [`Limits::stuck_after`](crate::Limits::stuck_after) or longer without coming back for more:
/// a handler that blocks or computes, or too many of them one after another on a loop. A thread that waits for something
/// to do is never stuck.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stuck {
    /// Which one.
    pub thread: ServerThread,
    /// For how long it has not come back.
    pub lasting: Duration,
    /// The connection that it works for now, where it is one's.
    pub connection: Option<ConnectionId>,
}

/// A thread of a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ServerThread {
    /// An event loop, by its index from 0; its thread is called `loop-0`.
    Loop(usize),
    /// A worker, by its index from 0; its thread is called `worker-0`.
    Worker(usize),
}

impl Health {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        *self == Self::Healthy
    }
}

impl From<Health> for Response {
    fn from(health: Health) -> Self {
        let status = if health.is_healthy() { 200 } else { 503 };
        Self::new(status, format!("{health}\n"))
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Overloaded(overload) => write!(f, "overloaded: {overload}"),
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::Stuck(threads) => {
                f.write_str("stuck: ")?;
                for (index, thread) in threads.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{thread}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptPaused { lasting } => {
                write!(f, "accepting is paused for {:.1} s", lasting.as_secs_f64())
            }
            Self::WorkersQueueFull { lasting } => {
                write!(f, "the workers' queue is full for {:.1} s", lasting.as_secs_f64())
            }
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is busy for {:.1} s", self.thread, self.lasting.as_secs_f64())?;
        match self.connection {
            Some(id) => write!(f, ", now with connection {id}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ServerThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop(index) => write!(f, "loop-{index}"),
            Self::Worker(index) => write!(f, "worker-{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Token;

    fn response(health: Health) -> (u16, String) {
        let Response { status, body, .. } = health.into();
        (status, String::from_utf8(body).unwrap())
    }

    #[test]
    fn a_health_check_gets_the_reason() {
        let second = Duration::from_millis(6250);
        let id = ConnectionId { event_loop: 1, token: Token::from_u64(0x2a) };
        let threads = vec![
            Stuck { thread: ServerThread::Loop(1), lasting: second, connection: Some(id) },
            Stuck { thread: ServerThread::Worker(0), lasting: 2 * second, connection: None },
        ];
        let expected =
            "stuck: loop-1 is busy for 6.2 s, now with connection 1-2a; worker-0 is busy for 12.5 s\n";
        assert_eq!(response(Health::Stuck(threads)), (503, expected.into()));
        assert_eq!(response(Health::Healthy), (200, "healthy\n".into()));
        assert_eq!(response(Health::ShuttingDown), (503, "shutting down\n".into()));
        let full = Overload::WorkersQueueFull { lasting: second };
        let expected = "overloaded: the workers' queue is full for 6.2 s\n";
        assert_eq!(response(Health::Overloaded(full)), (503, expected.into()));
        let paused = Overload::AcceptPaused { lasting: second };
        let expected = "overloaded: accepting is paused for 6.2 s\n";
        assert_eq!(response(Health::Overloaded(paused)), (503, expected.into()));
    }
}
