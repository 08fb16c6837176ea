//! Server A as the article draws it: one epoll loop, a pool of ten threads, no `async`. The loop to take and change.
//!
//! The way of an event:
//!
//! ```text
//!            epoll_wait                       Queue                        pool thread
//! socket ──────────────▶ event loop ───────────────────▶ Client::turn ───────────────▶ epoll_ctl(MOD)
//!    ▲   id, ONESHOT      id → Arc<Mutex<Client>>   handshake, read, parse, reply         IN or OUT
//!    └──────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! 1. The loop accepts, gives the connection a number that is never used again, and arms its socket with
//!    `EPOLLONESHOT`: after one event the kernel is silent about it until it is armed anew.
//! 2. An event names a connection by its number. The loop looks it up and puts it into the queue; it does no work
//!    of a connection itself. As the socket is silent now, a connection is in the queue or with a thread once.
//! 3. A thread takes it, and goes as far as the socket allows: TLS and WebSocket handshake, then messages. Where the
//!    socket would block, the thread arms it: for writing while a reply is stuck, otherwise for reading. A client
//!    that does not read its replies is thus not read from, and its own sending stops.
//! 4. After [`client::MESSAGES_PER_TURN`] the connection goes to the end of the queue, so that no client starves the others.
//!    It cannot go back to epoll there: tungstenite or rustls may hold bytes of which the kernel knows no more.
//! 5. Whatever goes wrong in a connection ends that connection.
//!
//! What it lacks, and what you would add: timers (a silent client or an endless handshake stays), a farewell to the
//! clients at the end, a limit on connections below that of descriptors, and memory that does not grow with the
//! clients (tungstenite keeps 128 KiB of read buffer for each).

#![forbid(unsafe_code)]

mod client;

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::ExitCode,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
};
use rustls::ServerConfig;
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    low_level::pipe,
};
use workload::{
    Mode, Options,
    options::{self, Failure, Transport},
    report::{self, Counters},
    tls,
};

use client::{Client, Turn};

/// The article's number.
const POOL_THREADS: usize = 10;
/// std asks for 128, which a storm of clients overflows.
const BACKLOG: i32 = 4096;
const ACCEPTS_PER_TURN: usize = 64;
const EVENTS_PER_TURN: usize = 1024;
/// How long accepting rests when the process or the machine has no descriptor or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What an event is about: one of these three, or else the connection with that number.
const LISTENER: u64 = 0;
const STOP: u64 = 1;
const COUNTS: u64 = 2;
const FIRST_CLIENT: u64 = 3;

type SharedClient = Arc<Mutex<Client>>;

/// What the loop and the pool share.
struct Server {
    mode: Mode,
    tls: Option<Arc<ServerConfig>>,
    epoll: OwnedFd,
    clients: Mutex<HashMap<u64, SharedClient>>,
    queue: Queue,
    counters: Counters,
}

#[derive(Default)]
struct Extra;

impl options::Extra for Extra {
    const USAGE: &'static str = "";
    const THREADS: &'static str = "10 as in the article";

    fn take(&mut self, _: &str, _: &mut options::Value<'_>) -> Result<bool, String> {
        Ok(false)
    }
}

fn main() -> ExitCode {
    options::main::<Extra>("server-skeleton", serve)
}

fn serve(options: &Options<Extra>) -> Result<(), Failure> {
    let tls = match &options.transport {
        Transport::Plain => None,
        Transport::Tls { cert, key } => {
            Some(Arc::new(tls::server_config(cert, key).map_err(Failure::Usage)?))
        }
    };
    let listener = listen(options.listen)
        .map_err(|error| Failure::Run(options::cannot_listen(options.listen, &error)))?;
    let threads = options.threads.map_or(POOL_THREADS, |threads| threads.get());
    run(&listener, tls, options.mode, threads).map_err(|error| Failure::Run(format!("cannot go on: {error}")))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn run(listener: &TcpListener, tls: Option<Arc<ServerConfig>>, mode: Mode, threads: usize) -> io::Result<()> {
    let server = Server {
        mode,
        tls,
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        clients: Mutex::default(),
        queue: Queue::default(),
        counters: Counters::new(),
    };
    let mut event_loop = EventLoop::new(&server, listener)?;
    let outcome = thread::scope(|scope| {
        let pool = (0..threads).try_for_each(|number| {
            let thread = thread::Builder::new().name(format!("pool-{number}"));
            thread.spawn_scoped(scope, || server.work()).map(drop)
        });
        let outcome = pool.and_then(|()| event_loop.run());
        server.queue.close();
        outcome
    });
    report::counts(&server.counters.counts(mode));
    outcome
}

/// The thread that waits.
struct EventLoop<'a> {
    server: &'a Server,
    listener: &'a TcpListener,
    stop: UnixStream,
    counts: UnixStream,
    next_id: u64,
    accept_again: Option<Instant>,
}

impl<'a> EventLoop<'a> {
    fn new(server: &'a Server, listener: &'a TcpListener) -> io::Result<Self> {
        let stop = signals(&[SIGTERM, SIGINT])?;
        let counts = signals(&[SIGUSR1])?;
        epoll::add(&server.epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&server.epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        epoll::add(&server.epoll, &counts, EventData::new_u64(COUNTS), EventFlags::IN)?;
        Ok(Self { server, listener, stop, counts, next_id: FIRST_CLIENT, accept_again: None })
    }

    /// Until a signal says stop.
    fn run(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_PER_TURN);
        report::listening(self.listener.local_addr()?, self.server.tls.is_some());
        loop {
            match epoll::wait(&self.server.epoll, spare_capacity(&mut events), self.timeout().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.accept_again()?;
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    STOP => return self.stop.read(&mut [0; 1]).map(drop),
                    COUNTS => self.print_counts(),
                    id => self.server.enqueue(id),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                // What fails for this client has dropped its socket.
                Ok((tcp, _)) => drop(self.open(tcp)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_exhaustion(&error) => return self.pause_accepting(&error),
                // The client was gone before it was accepted.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, tcp: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
        let id = self.next_id;
        self.next_id += 1;
        tcp.set_nonblocking(true)?;
        tcp.set_nodelay(true)?;
        epoll::add(&self.server.epoll, &tcp, EventData::new_u64(id), EventFlags::IN | EventFlags::ONESHOT)?;
        let client = Client::new(tcp, self.server)?;
        lock(&self.server.clients).insert(id, Arc::new(Mutex::new(client)));
        Ok(())
    }

    /// Level-triggered, a listener that cannot accept would wake the loop for ever.
    fn pause_accepting(&mut self, error: &io::Error) -> io::Result<()> {
        report::exhausted(error);
        self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
        self.watch_listener(EventFlags::empty())
    }

    fn accept_again(&mut self) -> io::Result<()> {
        if self.accept_again.take_if(|at| *at <= Instant::now()).is_some() {
            self.watch_listener(EventFlags::IN)?;
        }
        Ok(())
    }

    fn watch_listener(&self, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.server.epoll, self.listener, EventData::new_u64(LISTENER), flags)?)
    }

    fn timeout(&self) -> Option<Timespec> {
        let left = self.accept_again?.saturating_duration_since(Instant::now());
        Timespec::try_from(left).ok()
    }

    fn print_counts(&mut self) {
        // The pipe only wakes: signals that come close together are answered once.
        while self.counts.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
        report::counts(&self.server.counters.counts(self.server.mode));
    }
}

/// A descriptor that becomes readable when one of the signals arrives.
fn signals(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// No descriptor or no memory is left, in the process or in the machine.
fn is_exhaustion(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

impl Server {
    /// A stale number, of a client that has been closed, finds nothing.
    fn enqueue(&self, id: u64) {
        let client = lock(&self.clients).get(&id).cloned();
        if let Some(client) = client {
            self.queue.push((id, client));
        }
    }

    /// The way of a pool thread.
    fn work(&self) {
        while let Some((id, client)) = self.queue.pop() {
            let mut guard = lock(&client);
            match guard.turn(self) {
                Ok(Turn::Blocked) if self.arm(id, &guard).is_ok() => {}
                Ok(Turn::Unfinished) => {
                    drop(guard);
                    self.queue.push((id, client));
                }
                _ => {
                    guard.finish();
                    lock(&self.clients).remove(&id);
                }
            }
        }
    }

    fn arm(&self, id: u64, client: &Client) -> io::Result<()> {
        let socket = client.socket().ok_or(io::ErrorKind::NotConnected)?;
        let direction = if socket.write_blocked() { EventFlags::OUT } else { EventFlags::IN };
        let flags = direction | EventFlags::ONESHOT;
        Ok(epoll::modify(&self.epoll, socket.tcp(), EventData::new_u64(id), flags)?)
    }
}

/// The clients that have something to do. Each is in it once at most, so their number bounds it.
#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    ready: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<(u64, SharedClient)>,
    closed: bool,
}

impl Queue {
    fn push(&self, job: (u64, SharedClient)) {
        lock(&self.jobs).waiting.push_back(job);
        self.ready.notify_one();
    }

    /// Waits for the next one. None: the queue is closed.
    fn pop(&self) -> Option<(u64, SharedClient)> {
        let idle = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.closed;
        let mut jobs = self.ready.wait_while(lock(&self.jobs), idle).unwrap_or_else(PoisonError::into_inner);
        if jobs.closed { None } else { jobs.waiting.pop_front() }
    }

    fn close(&self) {
        lock(&self.jobs).closed = true;
        self.ready.notify_all();
    }
}

/// Nothing that is locked here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
