//! The fake kernel as a loop sees it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use webscale_sys::{Interest, TcpOptions};

use super::system::{SERVER, System};
use crate::clock::Time;
use crate::connection::{Ready, Socket};
use crate::kernel::{Kernel, Wake, Watch};

/// Addresses that peers have.
pub(super) const HOSTS: usize = 8;

/// Called when a loop waits and nothing but another thread can end that; false: there is none.
pub(super) type Others = Box<dyn FnMut() -> bool + Send>;

/// The system below all loops of a simulation.
#[derive(Clone)]
pub(super) struct Machine {
    system: Arc<Mutex<System>>,
    pub(super) others: Arc<Mutex<Option<Others>>>,
    origin: Instant,
}

impl Machine {
    pub(super) fn new(seed: u64, loops: usize) -> Self {
        let system = Arc::new(Mutex::new(System::new(seed, loops)));
        Self { system, others: Arc::default(), origin: Instant::now() }
    }

    pub(super) fn system(&self) -> MutexGuard<'_, System> {
        self.system.lock().expect("nothing panics while it is held, or all is over")
    }

    pub(super) fn now(&self) -> Time {
        self.system().now
    }

    /// The same after a panic.
    pub(super) fn try_now(&self) -> Time {
        self.system.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    /// As a handler names a time to come.
    pub(super) fn instant(&self, time: Time) -> Instant {
        self.origin + (time - Time::default())
    }

    pub(super) fn listener(&self, backlog: usize) -> FakeListener {
        FakeListener(Descriptor { number: self.system().listen(backlog), machine: self.clone() })
    }
}

/// One of the server's; closed when it is dropped.
pub(super) struct Descriptor {
    number: u32,
    machine: Machine,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Ok(mut system) = self.machine.system.lock() {
            system.close(self.number);
        }
    }
}

pub(super) struct FakeListener(Descriptor);

pub(super) struct FakeSocket {
    descriptor: Descriptor,
    line: usize,
}

pub(super) struct FakeWaker {
    descriptor: Descriptor,
    raised: Arc<AtomicBool>,
}

impl Wake for FakeWaker {
    fn wake(&self) {
        self.raised.store(true, Ordering::SeqCst);
    }

    fn clear(&self) {
        self.raised.store(false, Ordering::SeqCst);
        self.descriptor.machine.system().changes += 1;
    }
}

impl FakeSocket {
    /// A system call, or the fault of whoever makes it.
    fn call<T>(&self, act: impl FnOnce(&mut System) -> T) -> T {
        let mut system = self.descriptor.machine.system();
        if system.strikes(self.line) {
            drop(system);
            // Without the words on stderr.
            std::panic::resume_unwind(Box::new("as the seed says"));
        }
        act(&mut system)
    }
}

impl Socket for FakeSocket {
    fn connect(_: SocketAddr, _: Option<IpAddr>) -> io::Result<Self> {
        Err(io::ErrorKind::NetworkUnreachable.into())
    }

    fn set_options(&mut self, _: TcpOptions) -> io::Result<()> {
        Ok(())
    }

    fn reset_when_closed(&mut self) {
        self.call(|system| system.lines[self.line].reset_when_closed(SERVER));
    }

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.call(|system| system.recv(self.line, SERVER, buffer))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call(|system| system.send(self.line, SERVER, bytes))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.call(|system| system.shutdown_write(self.line, SERVER))
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        let is_reset = self.call(|system| system.lines[self.line].is_reset(SERVER));
        Ok(is_reset.then(|| io::ErrorKind::ConnectionReset.into()))
    }
}

/// What the kernel is to one loop.
pub(super) struct FakeKernel {
    machine: Machine,
    event_loop: usize,
}

impl FakeKernel {
    pub(super) fn new(machine: Machine, event_loop: usize) -> Self {
        Self { machine, event_loop }
    }
}

impl Kernel for FakeKernel {
    type Listener = FakeListener;
    type Socket = FakeSocket;
    type Waker = FakeWaker;
    type Events = Vec<(u64, Ready)>;

    fn events(&self) -> Self::Events {
        Vec::new()
    }

    fn wait(&self, events: &mut Self::Events, timeout: Option<Duration>) -> io::Result<()> {
        // Whoever runs a loop sees to it that there is something to do; at its end it waits for others.
        let is_idle = timeout.is_none_or(|time| time > Duration::ZERO);
        if is_idle && self.machine.system().ready(self.event_loop).is_empty() {
            let mut others = self.machine.others.lock().expect("it does not panic");
            let act = others.as_mut().expect("a loop that has nothing to do");
            assert!(act(), "a loop waits for nobody");
        }
        *events = self.machine.system().report(self.event_loop);
        Ok(())
    }

    fn event(events: &Self::Events, index: usize) -> Option<(u64, Ready)> {
        events.get(index).copied()
    }

    /// Every look takes its time.
    fn now(&self) -> Time {
        let mut system = self.machine.system();
        system.now = system.now + Duration::from_micros(1);
        system.now
    }

    fn time(&self, instant: Instant) -> Time {
        Time::default() + instant.saturating_duration_since(self.machine.origin)
    }

    fn waker(&self) -> io::Result<FakeWaker> {
        let raised = Arc::default();
        let number = self.machine.system().waker(&raised)?;
        Ok(FakeWaker { descriptor: Descriptor { number, machine: self.machine.clone() }, raised })
    }

    fn accept(&self, listener: &FakeListener) -> io::Result<(FakeSocket, SocketAddr)> {
        let (number, line) = self.machine.system().accept(listener.0.number)?;
        let descriptor = Descriptor { number, machine: self.machine.clone() };
        let (host, port) = ([192, 0, 2, u8::try_from(line % HOSTS).expect("below")], 4711);
        Ok((FakeSocket { descriptor, line }, SocketAddr::from((host, port))))
    }
}

/// What has a descriptor.
trait Described {
    fn number(&self) -> u32;
}

impl Described for FakeListener {
    fn number(&self) -> u32 {
        self.0.number
    }
}

impl Described for FakeSocket {
    fn number(&self) -> u32 {
        self.descriptor.number
    }
}

impl Described for FakeWaker {
    fn number(&self) -> u32 {
        self.descriptor.number
    }
}

impl<S: Described> Watch<S> for FakeKernel {
    fn add(&self, source: &S, token: u64, interest: Interest) -> io::Result<()> {
        self.machine.system().watch(self.event_loop, source.number(), (token, interest), true)
    }

    fn modify(&self, source: &S, token: u64, interest: Interest) -> io::Result<()> {
        self.machine.system().watch(self.event_loop, source.number(), (token, interest), false)
    }
}
