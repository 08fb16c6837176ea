//! Level-triggered readiness: epoll(7), and eventfd(2) to wake a loop from another thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// What a descriptor is watched for. Errors and hang-ups are always reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interest {
    /// Bytes to read, a connection to accept, or end of stream.
    pub read: bool,
    /// Room to write, or a connect that ended.
    pub write: bool,
}

impl Interest {
    /// Reading only.
    pub const READ: Self = Self { read: true, write: false };
    /// Writing only.
    pub const WRITE: Self = Self { read: false, write: true };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Readiness(EventFlags);

impl Readiness {
    /// A read would not block (EPOLLIN).
    #[must_use]
    pub fn readable(self) -> bool {
        self.0.contains(EventFlags::IN)
    }

    /// A write would not block (EPOLLOUT).
    #[must_use]
    pub fn writable(self) -> bool {
        self.0.contains(EventFlags::OUT)
    }

    /// Nothing more will pass in either direction (EPOLLHUP, EPOLLERR).
    #[must_use]
    pub fn hung_up(self) -> bool {
        self.0.intersects(EventFlags::HUP | EventFlags::ERR)
    }
}

/// One report of [`Poller::wait`].
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The number that was given when the descriptor was added.
    pub token: u64,
    /// What it is ready for.
    pub readiness: Readiness,
}

/// Room for the reports of one wait.
pub struct Events {
    list: Vec<epoll::Event>,
}

impl Events {
    /// Room for at most `capacity` reports a wait; the rest come with the next one.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { list: Vec::with_capacity(capacity) }
    }

    /// The `index`th report of the last wait.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Event> {
        let event = self.list.get(index)?;
        Some(Event { token: event.data.u64(), readiness: Readiness(event.flags) })
    }

    /// How many reports the last wait gave.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The last wait ended with nothing ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// An epoll instance.
pub struct Poller {
    fd: OwnedFd,
}

impl Poller {
    /// # Errors
    /// EMFILE, ENFILE or ENOMEM of epoll_create1(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches `source`, reporting it as `token`. Closing the descriptor ends the watch.
    ///
    /// # Errors
    /// ENOSPC at `/proc/sys/fs/epoll/max_user_watches`, ENOMEM, or EEXIST when it is watched already.
    pub fn add(&self, source: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.fd, source, EventData::new_u64(token), interest.flags())?)
    }

    /// Changes what `source` is watched for.
    ///
    /// # Errors
    /// ENOENT when it is not watched.
    pub fn modify(&self, source: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, source, EventData::new_u64(token), interest.flags())?)
    }

    /// Stops watching `source` while it stays open.
    ///
    /// # Errors
    /// ENOENT when it is not watched.
    pub fn remove(&self, source: &impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, source)?)
    }

    /// Blocks until something is ready, for at most `timeout` (`None`: for ever). A signal counts as nothing ready.
    ///
    /// # Errors
    /// Only what a defect of the caller's brings about: EBADF, EFAULT, EINVAL.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        events.list.clear();
        match epoll::wait(&self.fd, rustix::buffer::spare_capacity(&mut events.list), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Wakes a [`Poller`] from any thread.
pub struct Waker {
    fd: OwnedFd,
}

impl Waker {
    /// # Errors
    /// EMFILE, ENFILE or ENOMEM of eventfd(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)? })
    }

    /// Makes the descriptor readable. Waking twice before a [`Waker::clear`] is the same as once.
    pub fn wake(&self) {
        // The one possible failure, EAGAIN, means that it is readable already.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Takes back all wakes so far.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_wakes_until_it_is_cleared() {
        let (poller, waker) = (Poller::new().unwrap(), Waker::new().unwrap());
        let mut events = Events::with_capacity(8);
        poller.add(&waker, 7, Interest::READ).unwrap();
        poller.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());

        waker.wake();
        waker.wake();
        poller.wait(&mut events, None).unwrap();
        assert_eq!(events.len(), 1);
        let event = events.get(0).unwrap();
        assert_eq!(event.token, 7);
        assert!(event.readiness.readable() && !event.readiness.hung_up());
        assert!(events.get(1).is_none());

        waker.clear();
        poller.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }

    #[test]
    fn a_wake_from_another_thread_ends_a_wait_without_timeout() {
        let (poller, waker) = (Poller::new().unwrap(), Waker::new().unwrap());
        let mut events = Events::with_capacity(1);
        poller.add(&waker, 1, Interest::READ).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake());
            poller.wait(&mut events, None).unwrap();
        });
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn no_interest_reports_nothing_and_a_removed_source_neither() {
        let (poller, waker) = (Poller::new().unwrap(), Waker::new().unwrap());
        let mut events = Events::with_capacity(1);
        waker.wake();
        poller.add(&waker, 1, Interest::default()).unwrap();
        poller.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
        poller.modify(&waker, 1, Interest::READ).unwrap();
        poller.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.len(), 1);
        poller.remove(&waker).unwrap();
        poller.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }
}
