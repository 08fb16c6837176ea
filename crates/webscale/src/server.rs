//! Servers: a listener and an event loop for each thread.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

use webscale_proto::{Deflate, Role};
use webscale_sys::{Listener, process};

use crate::admission::Admission;
use crate::connection::Config;
use crate::event_loop::{EventLoop, Shared};
use crate::handler::Handler;
use crate::health::Health;
use crate::kernel::{Kernel, Linux};
use crate::limits::Limits;
use crate::mailbox::Mailbox;
use crate::metrics::{Metrics, Snapshot};
use crate::network::Network;
use crate::origin::{OriginFault, Origins};
use crate::prometheus;
use crate::pulse::Vitals;
use crate::response::Response;
use crate::sender::Command;
use crate::signals;
use crate::tls::Tls;
use crate::watchdog;
use crate::worker::Workers;

/// Connections that may wait to be accepted, for each loop; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u16 = 4096;

/// Why a server could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// No address was given, or it stands for none.
    NoAddress(String),
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The [`Limits`] contradict themselves.
    Limits(&'static str),
    /// One of the [`Origins`] is none, and what is wrong with it.
    Origin(String, OriginFault),
    /// The kernel gave no epoll instance, eventfd or thread.
    Resources(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress(what) => {
                write!(f, "cannot listen on {what:?}: not an address such as 0.0.0.0:9001")
            }
            Self::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: another program has this port; choose another one or end it"
                )
            }
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Limits(fault) => write!(f, "invalid limits: {fault}"),
            Self::Origin(text, fault) => write!(f, "{text:?} is no origin: {fault}"),
            Self::Resources(error) => write!(f, "the kernel refused a resource: {error}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Collects what a server is made of.
#[derive(Debug)]
pub struct ServerBuilder {
    address: Result<SocketAddr, String>,
    tls: Option<Tls>,
    threads: usize,
    workers: usize,
    limits: Limits,
    origins: Origins,
    proxies: Vec<Network>,
    deflate: Option<Deflate>,
    signals: bool,
    port_is_shared: bool,
    pinned: bool,
}

impl ServerBuilder {
    fn new() -> Self {
        Self {
            address: Err(String::new()),
            tls: None,
            threads: thread::available_parallelism().map_or(1, usize::from),
            workers: 0,
            limits: Limits::default(),
            origins: Origins::default(),
            proxies: Vec::new(),
            deflate: None,
            signals: false,
            port_is_shared: false,
            pinned: false,
        }
    }

    /// The address to listen on: `"0.0.0.0:9001"`, a [`SocketAddr`], or a name (its first address). Port 0 lets the kernel
    /// choose.
    #[must_use]
    pub fn listen(mut self, address: impl ToSocketAddrs + fmt::Debug) -> Self {
        let found = address.to_socket_addrs().ok().and_then(|mut found| found.next());
        self.address = found.ok_or_else(|| format!("{address:?}").trim_matches('"').to_owned());
        self
    }

    /// Serves `wss://`. Without it the server speaks `ws://`, in clear.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Event loops, each on a thread of its own. Default: as many as there are processors.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Runs [`Handler::message`] and [`Handler::chunk`] on this many threads besides the loops: for handlers that block or
    /// compute for long.
    /// The messages of one connection stay in order. Default 0: on the loop.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Replaces the default [`Limits`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Behind load balancers: connections from these networks must begin with a header of the PROXY protocol, version 1 or 2
    /// (HAProxy's `proxy-protocol.txt`), in front of TLS, and are the client's that it names, for [`Request::peer_addr`](crate::Request::peer_addr) and
    /// the limits of one address. Those that it says nothing of, such as health checks, are the proxy's own. A header may
    /// have 4,096 bytes, and has the time of the handshake ([`Limits::handshake_time`]). Connections from elsewhere may not
    /// send one: nobody should be able to name another's address. Default: none.
    ///
    /// ```
    /// use webscale::Server;
    /// let builder = Server::builder().proxy_protocol(["10.0.7.0/24".parse()?]);
    /// # Ok::<(), webscale::NetworkError>(())
    /// ```
    #[must_use]
    pub fn proxy_protocol(mut self, proxies: impl IntoIterator<Item = Network>) -> Self {
        self.proxies = proxies.into_iter().collect();
        self
    }

    /// Which web pages may open a WebSocket here; others get 403, before [`Handler::open`] is asked. Default:
    /// [`Origins::same`].
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Compresses messages to and from the clients that offer permessage-deflate (RFC 7692). Default: declines it.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Shuts down on the first SIGTERM or SIGINT, and at once on the second.
    #[must_use]
    pub fn shutdown_on_signals(mut self) -> Self {
        self.signals = true;
        self
    }

    /// Lets other processes of the same user listen on the same address (SO_REUSEPORT); the kernel spreads connections
    /// over them. Without it, an address that is taken is an error.
    #[must_use]
    pub fn share_port(mut self) -> Self {
        self.port_is_shared = true;
        self
    }

    /// Pins each loop to a processor of its own, while there are enough.
    #[must_use]
    pub fn pin_threads(mut self) -> Self {
        self.pinned = true;
        self
    }

    /// Listens. From here on clients can connect; they are served by [`Server::run`].
    ///
    /// Raises the process's soft limit of descriptors to the hard one, and has the kernel make room for them (65,536 at most, half
    /// a mebibyte): its table would otherwise grow under load, for which a loop waits 10 to 25 ms each time.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build<H: Handler>(self, handler: H) -> Result<Server<H>, BuildError> {
        if let Some(fault) = self.limits.fault() {
            return Err(BuildError::Limits(fault));
        }
        if let Some((text, fault)) = self.origins.fault() {
            return Err(BuildError::Origin(text, fault));
        }
        self.limits.claim_descriptors();
        let (address, listeners) =
            listeners(self.address.map_err(BuildError::NoAddress)?, self.threads, self.port_is_shared)?;
        let options = self.limits.tcp_options();
        for listener in &listeners {
            listener.set_options(options).map_err(BuildError::Resources)?;
        }
        let handler = Arc::new(handler);
        let role = Role::Server;
        let workers = if self.workers == 0 {
            None
        } else {
            Some(Workers::start(self.workers, role, &self.limits, &handler).map_err(BuildError::Resources)?)
        };
        let config = Config {
            origins: self.origins,
            proxies: self.proxies,
            ..Config::new(role, self.limits, self.deflate)
        };
        let admission = Admission::new(&config.limits, self.threads);
        let shared = Shared { handler, config, tls: self.tls.clone(), admission };
        let shared = Arc::new(shared);
        let mut loops = Vec::with_capacity(self.threads);
        for (index, listener) in listeners.into_iter().enumerate() {
            let kernel = Linux::new().map_err(BuildError::Resources)?;
            let event_loop = EventLoop::new(index, shared.clone(), kernel, Some(listener), workers.as_ref());
            loops.push(event_loop.map_err(BuildError::Resources)?);
        }
        let handle = Handle::new(&loops, workers.as_ref(), self.tls, &shared.config.limits);
        // Nobody has asked for it yet.
        let _ = shared.config.handle.set(handle.clone());
        if self.signals {
            signals::shut_down_on_signals(handle.clone()).map_err(BuildError::Resources)?;
        }
        Ok(Server { address, loops, workers, handle, pinned: self.pinned })
    }
}

/// One listener a loop, all on the same address, with the port in force.
fn listeners(
    address: SocketAddr,
    count: usize,
    port_is_shared: bool,
) -> Result<(SocketAddr, Vec<Listener>), BuildError> {
    let fail = |error| BuildError::Listen(address, error);
    let first = Listener::bind(address, BACKLOG, port_is_shared).map_err(fail)?;
    // Not before it listens: two servers of one user that start at once would have the port both, unnoticed. Also a
    // single loop does it, so that a process with `share_port` can join.
    first.share().map_err(fail)?;
    let address = first.local_addr().map_err(fail)?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(Listener::bind(address, BACKLOG, true).map_err(fail)?);
    }
    Ok((address, listeners))
}

/// A server that listens.
///
/// ```
/// use webscale::{Accept, Handler, Message, Peer, Reject, Request, Server};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type Session = ();
///
///     fn open(&self, request: &Request<'_>) -> Result<Accept<()>, Reject> {
///         if request.path() == "/echo" { Ok(().into()) } else { Err(Reject::new(404, "try /echo\n")) }
///     }
///
///     fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
///         // The one error that can come here is a client that does not read; the limits see to that.
///         let _ = peer.send(message);
///     }
/// }
///
/// let server = Server::builder().listen("127.0.0.1:0").threads(1).build(Echo)?;
/// println!("listening on {}", server.local_addr());
/// let handle = server.handle();
/// let thread = std::thread::spawn(move || server.run());
/// handle.shutdown();
/// thread.join().expect("the loop does not panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server<H: Handler> {
    address: SocketAddr,
    loops: Vec<EventLoop<H>>,
    workers: Option<Workers<H::Session>>,
    handle: Handle,
    pinned: bool,
}

impl Server<std::convert::Infallible> {
    /// Begins a server.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }
}

impl<H: Handler> Server<H> {
    /// The address that it listens on, with the port in force.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Shuts the server down and reads its counters, from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until it was shut down by its [`Handle`] or a signal. Each loop has a thread of its own; the calling one
    /// watches over them, and tells the log of those that are stuck ([`Limits::stuck_after`]).
    ///
    /// # Errors
    /// The kernel gave no thread, did not pin one, or epoll failed; the other loops are ended then, as by [`Handle::abort`].
    ///
    /// [`io::ErrorKind::TimedOut`]: a handler did not return, on a loop or a worker, until the shutdown's time was over and
    /// [`Limits::stuck_after`] as well. The error names the thread. It is left behind, with what it holds: for a session that
    /// is there, [`Handler::close`] is not called. So the time of a shutdown is bounded, whatever handlers do: end the
    /// process then.
    pub fn run(self) -> io::Result<()> {
        let cpus = if self.pinned { process::allowed_cpus()? } else { Vec::new() };
        self.run_on(&cpus)
    }

    fn run_on(self, cpus: &[usize]) -> io::Result<()> {
        let Self { loops, workers, handle, .. } = self;
        let result = watchdog::run(loops, cpus, &handle);
        match workers.map(Workers::end) {
            Some(stuck) if !stuck.is_empty() => result.and(Err(watchdog::left_behind(&stuck))),
            _ => result,
        }
    }
}

/// Steers a server or client from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    loops: Vec<LoopHandle>,
    pub(crate) vitals: Arc<Vitals>,
    /// For its counters.
    tls: Option<Tls>,
}

#[derive(Clone)]
struct LoopHandle {
    commands: Arc<Mailbox<Command>>,
    metrics: Arc<Metrics>,
}

impl Handle {
    pub(crate) fn new<H: Handler, K: Kernel>(
        loops: &[EventLoop<H, K>],
        workers: Option<&Workers<H::Session>>,
        tls: Option<Tls>,
        limits: &Limits,
    ) -> Self {
        let outsides = loops.iter().map(EventLoop::outside);
        let (loops, pulses) = outsides
            .map(|outside| {
                (LoopHandle { commands: outside.commands, metrics: outside.metrics }, outside.pulse)
            })
            .unzip();
        Self { loops, tls, vitals: Arc::new(Vitals::new(pulses, workers.map(Workers::crew), limits)) }
    }

    /// Steers nothing: where there is a connection, but no server, as in tests.
    pub(crate) fn of_nobody(limits: &Limits) -> Self {
        Self { loops: Vec::new(), tls: None, vitals: Arc::new(Vitals::new(Vec::new(), None, limits)) }
    }

    /// Stops accepting, closes every connection with 1001, spread over [`Limits::shutdown_spread`], and ends [`Server::run`]
    /// when all are gone, or after [`Limits::shutdown_time`] as [`Handle::abort`] does. A connection is closed behind the
    /// answers to the messages that were received before; what has not finished its opening handshake is dropped. Returns
    /// at once.
    pub fn shutdown(&self) {
        self.vitals.shut_down();
        self.tell(|| Command::Shutdown);
    }

    /// Ends [`Server::run`] at once: connections are dropped, messages that no worker has begun are not handled. A handler
    /// that a worker is running is still awaited, as every session is given back to
    /// [`Handler::close`](crate::Handler::close); but for no longer than [`Limits::stuck_after`].
    pub fn abort(&self) {
        self.vitals.abort();
        self.tell(|| Command::Abort);
    }

    /// The counters of all loops.
    #[must_use]
    pub fn metrics(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for event_loop in &self.loops {
            sum.add(&event_loop.metrics);
        }
        if let Some(tls) = &self.tls {
            (sum.certificate_reloads, sum.certificate_reloads_failed) = tls.reloads();
        }
        sum
    }

    /// The answer to a scrape by Prometheus, in its text format 0.0.4: the state of health, and the counters as
    /// [`Snapshot::prometheus`] writes them.
    ///
    /// ```
    /// use webscale::{Request, Response};
    ///
    /// /// As in [`Handler::http`](webscale::Handler::http). Strangers learn from counters what an attack comes to, so
    /// /// these are for this machine alone.
    /// fn http(request: &Request<'_>) -> Response {
    ///     match request.path() {
    ///         "/healthz" => request.server().health().into(),
    ///         "/metrics" if request.peer_addr().ip().is_loopback() => request.server().scrape(&[]),
    ///         _ => Response::new(404, "nothing here\n"),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn scrape(&self, labels: &[(&str, &str)]) -> Response {
        let text = prometheus::page(&self.metrics(), &self.health(), labels);
        Response::new(200, text).header("Content-Type", prometheus::CONTENT_TYPE)
    }

    /// How it is now: worked out from what loops and workers note, which never waits for one that is stuck.
    #[must_use]
    pub fn health(&self) -> Health {
        self.vitals.health()
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for event_loop in &self.loops {
            // A loop that has ended needs no telling.
            let _ = event_loop.commands.push_unbounded(command());
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({} loops)", self.loops.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;
    use std::sync::Barrier;
    use webscale_proto::Message;

    struct Nothing;

    impl Handler for Nothing {
        type Session = ();

        fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {}
    }

    fn free_address() -> SocketAddr {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 1, false).unwrap();
        listener.local_addr().unwrap()
    }

    #[test]
    fn a_loop_that_fails_ends_the_others() {
        let server = Server::builder().listen("127.0.0.1:0").threads(3).build(Nothing).unwrap();
        let here = process::allowed_cpus().unwrap()[0];
        // There is no such processor.
        let error = server.run_on(&[here, usize::MAX, here]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn of_two_servers_that_start_at_once_one_has_the_port_at_most() {
        for _ in 0..100 {
            let (address, start) = (free_address(), Barrier::new(2));
            let build = || {
                start.wait();
                Server::builder().listen(address).threads(2).build(Nothing)
            };
            let (one, other) = thread::scope(|scope| {
                let other = scope.spawn(build);
                (build(), other.join().expect("no panic"))
            });
            assert!(one.is_err() || other.is_err(), "both listen on {address}");
        }
    }
}
