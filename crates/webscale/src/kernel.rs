//! What a loop asks of the system below it: Linux, or the one that a test plays.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use webscale_sys::{Events, Interest, Listener, Poller, TcpSocket, Waker};

use crate::clock::{Clock, Time};
use crate::connection::{Ready, Socket};

/// Events that one wait brings at most; the rest come with the next one.
const EVENTS: usize = 1024;

/// One loop's view of the system: descriptors, their readiness, and time.
pub(crate) trait Kernel:
    Sized + Watch<<Self as Kernel>::Listener> + Watch<<Self as Kernel>::Socket> + Watch<<Self as Kernel>::Waker>
{
    type Listener;
    type Socket: Socket;
    type Waker: Wake + 'static;
    /// What one wait reports. It stays on the loop's own thread.
    type Events;

    fn events(&self) -> Self::Events;
    /// Blocks until something is ready, for at most `timeout` (`None`: for ever).
    fn wait(&self, events: &mut Self::Events, timeout: Option<Duration>) -> io::Result<()>;
    /// The `index`th report of the last wait: the token of what was watched, and what it is ready for.
    fn event(events: &Self::Events, index: usize) -> Option<(u64, Ready)>;
    fn now(&self) -> Time;
    fn time(&self, instant: Instant) -> Time;
    fn waker(&self) -> io::Result<Self::Waker>;
    fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Socket, SocketAddr)>;
}

/// Watches descriptors of one kind; closing one ends its watch.
pub(crate) trait Watch<S> {
    fn add(&self, source: &S, token: u64, interest: Interest) -> io::Result<()>;
    fn modify(&self, source: &S, token: u64, interest: Interest) -> io::Result<()>;
}

/// Wakes a loop from any thread.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
    /// Takes back all wakes so far.
    fn clear(&self);
}

/// epoll(7), eventfd(2), CLOCK_MONOTONIC.
pub(crate) struct Linux {
    poller: Poller,
    clock: Clock,
}

impl Linux {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { poller: Poller::new()?, clock: Clock::start() })
    }
}

impl Kernel for Linux {
    type Listener = Listener;
    type Socket = TcpSocket;
    type Waker = Waker;
    type Events = Events;

    fn events(&self) -> Events {
        Events::with_capacity(EVENTS)
    }

    fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.poller.wait(events, timeout)
    }

    #[inline]
    fn event(events: &Events, index: usize) -> Option<(u64, Ready)> {
        let event = events.get(index)?;
        let ready = Ready {
            readable: event.readiness.readable(),
            writable: event.readiness.writable(),
            hung_up: event.readiness.hung_up(),
        };
        Some((event.token, ready))
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn time(&self, instant: Instant) -> Time {
        self.clock.time(instant)
    }

    fn waker(&self) -> io::Result<Waker> {
        Waker::new()
    }

    fn accept(&self, listener: &Listener) -> io::Result<(TcpSocket, SocketAddr)> {
        listener.accept()
    }
}

impl<S: AsFd> Watch<S> for Linux {
    fn add(&self, source: &S, token: u64, interest: Interest) -> io::Result<()> {
        self.poller.add(source, token, interest)
    }

    fn modify(&self, source: &S, token: u64, interest: Interest) -> io::Result<()> {
        self.poller.modify(source, token, interest)
    }
}

impl Wake for Waker {
    fn wake(&self) {
        Self::wake(self);
    }

    fn clear(&self) {
        Self::clear(self);
    }
}
