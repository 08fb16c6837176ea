//! Clients: many connections from one event loop.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use webscale_proto::Role;
use webscale_sys::process;

use crate::admission::Admission;
use crate::connection::Config;
use crate::event_loop::{Connect, EventLoop, Shared};
use crate::handler::Handler;
use crate::kernel::Linux;
use crate::limits::Limits;
use crate::mailbox::{Mailbox, Refused};
use crate::server::{BuildError, Handle};
use crate::target::Target;

/// Collects what a client is made of.
#[derive(Debug, Default)]
pub struct ClientBuilder {
    limits: Limits,
    cpu: Option<usize>,
}

impl ClientBuilder {
    /// Replaces the default [`Limits`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Pins the loop to one processor.
    #[must_use]
    pub fn cpu(mut self, cpu: usize) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// Starts the loop, on a thread of its own.
    ///
    /// # Errors
    /// [`BuildError::Limits`], or [`BuildError::Resources`] when the kernel gives no epoll instance or thread, or has no
    /// such processor.
    pub fn build<H: Handler>(self, handler: H) -> Result<Client<H>, BuildError> {
        if let Some(fault) = self.limits.fault() {
            return Err(BuildError::Limits(fault));
        }
        self.limits.claim_descriptors();
        let config = Config::new(Role::Client, self.limits, None);
        let admission = Admission::new(&config.limits, 1);
        let shared = Arc::new(Shared { handler: Arc::new(handler), config, tls: None, admission });
        let kernel = Linux::new().map_err(BuildError::Resources)?;
        let event_loop =
            EventLoop::new(0, shared.clone(), kernel, None, None).map_err(BuildError::Resources)?;
        let handle = Handle::new(std::slice::from_ref(&event_loop), None, None, &shared.config.limits);
        let connects = event_loop.outside().connects;
        let (cpu, (started, start)) = (self.cpu, std::sync::mpsc::sync_channel(1));
        let run = move || {
            let pinned = cpu.map_or(Ok(()), |cpu| process::pin_thread(&[cpu]));
            let fine = pinned.is_ok();
            // The builder waits for it.
            let _ = started.send(pinned);
            if fine { event_loop.run() } else { Ok(()) }
        };
        let thread =
            thread::Builder::new().name("client".into()).spawn(run).map_err(BuildError::Resources)?;
        start
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
            .map_err(BuildError::Resources)?;
        Ok(Client { connects, handle, thread: Some(thread) })
    }
}

/// Why a connection was not begun. The session comes back.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError<S> {
    /// [`Limits::mailbox_items`] connections wait to be begun: try again later.
    Busy(S),
    /// The client was shut down.
    Ended(S),
}

impl<S> fmt::Display for ConnectError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy(_) => "too many connections wait to be begun",
            Self::Ended(_) => "the client was shut down",
        })
    }
}

impl<S: fmt::Debug> std::error::Error for ConnectError<S> {}

/// Client connections on one event loop, which has a thread of its own. Dropping it aborts them: it waits until every
/// [`Handler::close`] was called. Where it is dropped by its own handler it cannot wait, as it is that thread; then they
/// are called once the handler has returned.
///
/// ```
/// use std::sync::{Arc, mpsc};
/// use webscale::{Client, Close, CloseCode, Handler, Message, Peer, Target};
///
/// /// Greets, and passes on how the connection ended.
/// struct Greeter(mpsc::Sender<Close>);
///
/// impl Handler for Greeter {
///     type Session = String;
///
///     fn opened(&self, peer: &mut Peer<'_, String>) {
///         let greeting = peer.session().clone();
///         let _ = peer.send(Message::Text(&greeting));
///     }
///
///     fn message(&self, peer: &mut Peer<'_, String>, _: Message<'_>) {
///         peer.close(CloseCode::NORMAL, "");
///     }
///
///     fn close(&self, _: String, close: Close) {
///         let _ = self.0.send(close);
///     }
/// }
///
/// let (ended, ends) = mpsc::channel();
/// let client = Client::builder().build(Greeter(ended))?;
/// // Nobody listens on port 1: `close` says so, as it does of every end.
/// client.connect(&Arc::new(Target::from_url("ws://127.0.0.1:1/")?), None, "hello".into())?;
/// println!("{}", ends.recv()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client<H: Handler> {
    connects: Arc<Mailbox<Connect<H::Session>>>,
    handle: Handle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Client<std::convert::Infallible> {
    /// Begins a client.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
}

impl<H: Handler> Client<H> {
    /// Has the loop connect to `target`, from `source` where one is given. [`Handler::opened`] follows, or
    /// [`Handler::close`] alone.
    ///
    /// # Errors
    /// [`ConnectError`], with the session.
    pub fn connect(
        &self,
        target: &Arc<Target>,
        source: Option<IpAddr>,
        session: H::Session,
    ) -> Result<(), ConnectError<H::Session>> {
        let connect = Connect { target: target.clone(), source, session, begin_tls: Target::begin_tls };
        self.connects.push(connect, 0).map_err(|refused| match refused {
            Refused::Full(connect) => ConnectError::Busy(connect.session),
            Refused::Closed(connect) => ConnectError::Ended(connect.session),
        })
    }

    /// Whether the loop runs. One that ended by itself says why in [`Client::shutdown`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Shuts the client down and reads its counters, from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Closes all connections with 1001 and waits until they are gone, for at most [`Limits::shutdown_time`]. Called by
    /// its own handler, it does not wait.
    ///
    /// # Errors
    /// What ended the loop before.
    pub fn shutdown(mut self) -> io::Result<()> {
        self.handle.shutdown();
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if thread.thread().id() == thread::current().id() {
            return Ok(());
        }
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the event loop panicked")))
    }
}

impl<H: Handler> Drop for Client<H> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.handle.abort();
            // There is nobody to tell.
            let _ = self.join();
        }
    }
}
