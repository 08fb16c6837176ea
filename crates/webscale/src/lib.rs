//! WebSocket servers and clients over TLS, on epoll and threads.
//!
//! (index)

mod client;
mod clock;
mod close;
mod connection;
mod egress;
mod event_loop;
mod handler;
mod limits;
mod mailbox;
mod mask;
mod metrics;
mod peer;
mod sender;
mod server;
mod signals;
mod slots;
mod target;
mod timer;
mod tls;
mod worker;

pub use client::{Client, ClientBuilder, ConnectError};
pub use close::{Close, CloseCause, Timeout};
pub use handler::{Accept, Handler, Reject, Request};
pub use limits::{Limits, SlowConsumer};
pub use metrics::Snapshot;
pub use peer::{ConnectionId, Peer, SendError};
pub use sender::Sender;
pub use server::{BuildError, Handle, Server, ServerBuilder};
pub use target::{Target, TargetError};
pub use tls::{ClientTls, Tls, TlsConfigError};
pub use webscale_proto::{CloseCode, Message, ProtocolError};
