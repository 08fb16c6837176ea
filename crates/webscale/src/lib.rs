//! WebSocket servers and clients over TLS, on epoll and threads.
//!
//! A program writes a [`Handler`]; a [`Server`] calls it. Each thread has an event loop, and each connection belongs to
//! one of them, with a session that the handler made when it opened:
//!
//! ```no_run
//! use webscale::{Accept, Close, CloseCode, Handler, Message, Peer, Reject, Request, Server, Tls};
//!
//! struct Ingest;
//!
//! /// The state of one connection.
//! struct Device {
//!     name: String,
//!     messages: u64,
//! }
//!
//! impl Handler for Ingest {
//!     type Session = Device;
//!
//!     fn open(&self, request: &Request<'_>) -> Result<Accept<Device>, Reject> {
//!         match request.path().strip_prefix("/devices/") {
//!             Some(name) => Ok(Device { name: name.to_owned(), messages: 0 }.into()),
//!             None => Err(Reject::new(404, "devices connect to /devices/NAME\n")),
//!         }
//!     }
//!
//!     fn message(&self, peer: &mut Peer<'_, Device>, message: Message<'_>) {
//!         match message {
//!             // `text` borrows from the thread's buffer: nothing was allocated for it.
//!             Message::Text(text) => {
//!                 peer.session().messages += 1;
//!                 if text == "ping" {
//!                     // A client that does not read its answers is closed by the library.
//!                     let _ = peer.send(Message::Text("pong"));
//!                 }
//!             }
//!             Message::Binary(_) => peer.close(CloseCode::UNSUPPORTED, "telemetry is text"),
//!         }
//!     }
//!
//!     fn close(&self, device: Device, close: Close) {
//!         println!("{}: {} messages; {close}", device.name, device.messages);
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder()
//!         .listen("0.0.0.0:9001")
//!         .tls(Tls::from_pem_files("cert.pem", "key.pem")?)
//!         .shutdown_on_signals()
//!         .build(Ingest)?;
//!     println!("listening on wss://{}", server.local_addr());
//!     Ok(server.run()?)
//! }
//! ```
//!
//! It serves `wss://`, and wants a certificate in `cert.pem` and its key in `key.pem`: for tests the project's command makes
//! them (`webscale cert`), and is a client to try it with (`webscale bench wss://127.0.0.1:9001/devices/1 --clients 1`). Without
//! [`ServerBuilder::tls`] a server speaks `ws://`. The example `chat_door` shows how to choose who is let in, by path, token,
//! subprotocol and origin.
//!
//! - [`Handler`]: what happens on [open](Handler::open), [message](Handler::message) and [close](Handler::close);
//!   [`Request`], [`Accept`] and [`Reject`] are the opening handshake, [`Close`] is how it ended. [`Handler::http`] answers
//!   plain HTTP on the same port with a [`Response`].
//! - [`Origins`]: which web pages may connect; by default the server's own.
//! - [`Peer`]: what a handler can do with the connection that called it; [`Sender`] does it from any other thread;
//!   [`Prepared`] is a message for many.
//! - [`Server`]: listens, serves, and is shut down by its [`Handle`] or a signal.
//! - [`Client`]: many connections to a [`Target`], on one loop.
//! - [`Limits`]: how far a peer can make anything grow, with the defaults.
//! - [`Tls`] and [`ClientTls`]: certificates and trust, by rustls, [reloaded](Tls::reload) while serving; [`ClientAuth`]: which clients must show one;
//!   [`TicketKeys`]: sessions that are resumed at another process.
//! - [`Deflate`]: compression of messages (permessage-deflate, RFC 7692), where it is wanted.
//! - [`Snapshot`]: counters, readable at any time, also by Prometheus; [`Health`]: whether a loop or a worker is stuck, and
//!   which; [`log_panics`] for what handlers should not do.
//!
//! # Life of a connection
//!
//! ```text
//!   accept, TLS handshake, HTTP head ──> Handler::open ──> Handler::opened
//!        │ fails: no session, no call        │ Reject           │
//!        v                                   v                  v
//!       gone                             an HTTP answer     Handler::message, pong, timer: any number of times
//!                                                               │ either side closes, a limit, an error, a panic
//!                                                               v
//!                                                           Handler::close, exactly once
//! ```
//!
//! A handler runs on its connection's loop: what blocks there delays the other clients of that loop. For such handlers
//! [`ServerBuilder::workers`] runs `message` and `chunk` on a bounded pool instead, in order for each connection; while the
//! pool's queue is full, the client is not read.
//!
//! # Threads, memory, kernel
//!
//! A server runs [`ServerBuilder::threads`] loops, each with its own epoll instance, listener (SO_REUSEPORT), timers and
//! buffers; a connection stays on the loop that accepted it, and no lock is taken on the way of a message. A loop's buffers
//! are grown once and lent to whichever connection has its turn: an echoed message allocates nothing (over TLS, rustls
//! allocates twice), and an idle connection holds less than 512 bytes of heap, with TLS 1.3 less than 4 KiB, besides what
//! the cryptographic library allocates in C. The kernel's share of a TCP connection comes on top.
//!
//! What a server has to say beside, such as a thread that is stuck, goes to the crate `log`, in at most ten lines a second.
//! The feature `deflate`, on by default, is compression; without it, nothing of zlib is linked.
//!
//! Each connection is a descriptor: [`ServerBuilder::build`] raises RLIMIT_NOFILE to its hard limit. What else a peer can
//! make grow stands in [`Limits`].
//!
//! Linux 5.11 or later is needed, for epoll_pwait2(2). Other systems are not supported.

// What a peer sends must not reach a panic: each exception says why it is none.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod admission;
mod backlog;
mod byte_queue;
mod client;
mod clock;
mod close;
mod connection;
mod deflate;
mod egress;
mod event_loop;
mod handler;
mod health;
mod held;
mod journal;
mod kernel;
mod limits;
mod mailbox;
mod mask;
mod metrics;
mod network;
mod origin;
mod panics;
mod peer;
mod prepared;
mod prometheus;
mod pulse;
mod request;
mod response;
mod sender;
mod server;
mod signals;
mod slots;
mod target;
mod timer;
mod tls;
mod watchdog;
mod worker;

pub use client::{Client, ClientBuilder, ConnectError};
pub use close::{Close, CloseCause, HandshakeError, Timeout};
pub use handler::Handler;
pub use health::{Health, Overload, ServerThread, Stuck};
pub use limits::{Limits, SlowConsumer};
pub use metrics::Snapshot;
pub use network::{Network, NetworkError};
pub use origin::{OriginFault, Origins};
pub use panics::log_panics;
pub use peer::{ConnectionId, Peer, SendError};
pub use prepared::Prepared;
pub use request::Request;
pub use response::{Accept, Reject, Response};
pub use sender::Sender;
pub use server::{BuildError, Handle, Server, ServerBuilder};
pub use target::{Target, TargetError};
pub use tls::{
    ClientAuth, ClientTls, ClientTlsBuilder, TicketKeys, Tls, TlsConfigError, TlsSession, TlsVersions,
};
pub use webscale_proto::handshake::client::ResponseError;
pub use webscale_proto::handshake::{InvalidHeader, UpgradeError};
pub use webscale_proto::{Chunk, CloseCode, Deflate, Message, ProtocolError, proxy::ProxyError};

/// For the fuzz target, which lies outside of this crate.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// Plays the operations that `data` stands for on a connection.
    pub fn operations(data: &[u8]) {
        crate::connection::tests::play::run(data);
    }
}

/// The README's example is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
