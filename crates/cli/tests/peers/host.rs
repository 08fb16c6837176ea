//! Our server, for clients of other makes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use webscale::{
    Accept, Close, CloseCode, Handle, Handler, Limits, Message, Peer, Reject, Request, Response,
    ServerBuilder, Tls,
};
use webscale_load::cert::{self, Existing, Files};

use crate::common::Directory;
use crate::message::{Owned, send_next};
use crate::puppet::PATIENCE;

/// A CA and a certificate for 127.0.0.1, as `webscale cert` makes them.
pub(crate) struct Certificate {
    pub(crate) files: Files,
    pub(crate) directory: Directory,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let directory = Directory::new(&format!("peers-{}", NUMBER.fetch_add(1, Relaxed)));
        let issued = cert::issue(&[]).expect("a certificate");
        let files = issued.write(directory.path(), Existing::Keep).expect("an empty directory");
        Self { files, directory }
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls::from_pem_files(&self.files.cert, &self.files.key).expect("what was written")
    }
}

/// What a connection does, by its path.
pub(crate) enum Behaviour {
    /// `/echo`
    Echo,
    /// `/fragments/SIZE`: an echo in fragments of so many bytes, and a message in one frame behind it. Holds what is
    /// still to be sent.
    Fragments { size: usize, pieces: VecDeque<Owned> },
    /// `/close/CODE`: with the first message, which is the reason.
    Close(CloseCode),
    /// `/ping`: pings as it opens, and tells of the pong.
    Ping,
    /// `/panic`: with the first message.
    Panic,
    /// `/shutdown`: of the whole server, with the first message.
    Shutdown,
}

impl Behaviour {
    fn of(path: &str) -> Option<Self> {
        let mut parts = path.split('/').skip(1);
        Some(match parts.next()? {
            "echo" => Self::Echo,
            "fragments" => Self::Fragments { size: parts.next()?.parse().ok()?, pieces: VecDeque::new() },
            "close" => Self::Close(CloseCode::new(parts.next()?.parse().ok()?)?),
            "ping" => Self::Ping,
            "panic" => Self::Panic,
            "shutdown" => Self::Shutdown,
            _ => return None,
        })
    }
}

/// Sends the next fragment of an echo, or what comes behind them.
fn go_on(peer: &mut Peer<'_, Behaviour>) {
    let sent_last = send_next(peer, |behaviour| match behaviour {
        Behaviour::Fragments { pieces, .. } => pieces,
        _ => unreachable!("only an echo in fragments goes on"),
    });
    if sent_last {
        peer.send(Message::Text("that was all")).expect("a peer that reads");
    }
}

struct Behaving {
    closes: Sender<Close>,
    server: Arc<OnceLock<Handle>>,
}

impl Handler for Behaving {
    type Session = Behaviour;

    fn open(&self, request: &Request<'_>) -> Result<Accept<Behaviour>, Reject> {
        let nothing = || Reject::new(404, "nothing here\n");
        let accept = Accept::new(Behaviour::of(request.path()).ok_or_else(nothing)?);
        let known = request.protocols().any(|offered| offered == "chat.v2");
        Ok(if known { accept.protocol("chat.v2") } else { accept })
    }

    fn opened(&self, peer: &mut Peer<'_, Behaviour>) {
        if matches!(peer.session(), Behaviour::Ping) {
            peer.ping(b"are you there").expect("an open connection");
        }
    }

    fn http(&self, _: &Request<'_>) -> Response {
        Response::new(200, "<title>A page</title>").header("Content-Type", "text/html")
    }

    fn message(&self, peer: &mut Peer<'_, Behaviour>, message: Message<'_>) {
        match peer.session() {
            Behaviour::Echo | Behaviour::Ping => peer.send(message).expect("a peer that reads"),
            Behaviour::Fragments { size, pieces } => {
                *pieces = Owned::from(message).pieces(*size);
                go_on(peer);
            }
            Behaviour::Close(code) => {
                let code = *code;
                let Message::Text(reason) = message else { panic!("the reason is text") };
                peer.close(code, reason);
            }
            Behaviour::Shutdown => self.server.get().expect("set before it runs").shutdown(),
            Behaviour::Panic => std::panic::resume_unwind(Box::new("as the test asked")),
        }
    }

    fn pong(&self, peer: &mut Peer<'_, Behaviour>, payload: &[u8]) {
        if matches!(peer.session(), Behaviour::Fragments { .. }) {
            return go_on(peer);
        }
        let text = format!("pong {}", String::from_utf8_lossy(payload));
        peer.send(Message::Text(&text)).expect("a peer that reads");
    }

    fn close(&self, _: Behaviour, close: Close) {
        // A test that has seen enough has dropped its end.
        let _ = self.closes.send(close);
    }
}

/// The server at work on a thread of its own; aborted when dropped.
pub(crate) struct Host {
    pub(crate) handle: Handle,
    pub(crate) address: SocketAddr,
    /// Of a server with TLS.
    pub(crate) certificate: Option<Certificate>,
    closes: Receiver<Close>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Host {
    /// One without TLS.
    pub(crate) fn plain(builder: ServerBuilder) -> Self {
        Self::start(builder, None)
    }

    /// One with TLS.
    pub(crate) fn secure(builder: ServerBuilder) -> Self {
        let certificate = Certificate::new();
        Self::start(builder.tls(certificate.tls()), Some(certificate))
    }

    /// Takes messages of 1 MiB; two may wait for a client.
    fn start(builder: ServerBuilder, certificate: Option<Certificate>) -> Self {
        let limits = Limits { message_bytes: 1 << 20, egress_bytes: 3 << 20, ..Limits::default() };
        let builder = builder.listen("127.0.0.1:0").threads(1).limits(limits);
        let (sender, closes) = channel();
        let own_handle = Arc::new(OnceLock::new());
        let behaving = Behaving { closes: sender, server: own_handle.clone() };
        let server = builder.build(behaving).expect("a server");
        let (handle, address) = (server.handle(), server.local_addr());
        own_handle.set(handle.clone()).expect("set once");
        let thread = Some(thread::spawn(move || server.run()));
        Self { handle, address, certificate, closes, thread }
    }

    /// How the next connection ended.
    pub(crate) fn closed(&self) -> Close {
        self.closes.recv_timeout(PATIENCE).expect("the end of a connection")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.handle.abort();
        let ended = self.thread.take().expect("joined once").join();
        if !thread::panicking() {
            ended.expect("no loop panics").expect("an end without fault");
        }
    }
}
