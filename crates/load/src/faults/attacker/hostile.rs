//! One hostile connection: as honest as its [`Entry`] says, and from there on what its script says.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use webscale_proto::handshake::client::{ClientRequest, key, write_request};
use webscale_proto::handshake::head_end;
use webscale_proto::{Decoder, DecoderConfig, Deflate, Role, Step};
use webscale_sys::{Interest, Readiness, TcpSocket};

use super::super::row::Arena;
use super::script::{Move, Script};
use super::tls;
use super::toll::End;

/// Bytes that wait for the socket, above which a script is not gone on with.
const OUT_BYTES: usize = 64 * 1024;
/// Of what a server says in HTTP, this much is kept: its status stands at the front.
const HEAD_BYTES: usize = 16 * 1024;
/// Longer than the server's time for a handshake, by default: it may end those that are late.
const COMES_WITHIN: Duration = Duration::from_secs(15);
/// The longest message that a server is expected to send.
const MESSAGE_BYTES: usize = 64 << 20;

/// What a hostile client does before it attacks, and does well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It connects.
    Tcp,
    /// It makes a TLS handshake.
    Tls,
    /// It opens a WebSocket over TLS, and offers permessage-deflate or not.
    WebSocket { deflate: bool },
}

impl Entry {
    /// It opens a WebSocket over TLS, and offers no extension.
    pub(crate) const WEBSOCKET: Entry = Entry::WebSocket { deflate: false };
}

/// How a connection stands.
pub(super) enum Standing {
    /// An event will tell when it goes on.
    Busy,
    /// It goes on at that time.
    Resting(Instant),
    Over(End),
}

/// What the server says, as far as it concerns us.
enum Ear {
    /// Nothing that is listened to.
    Deaf,
    /// HTTP.
    Http(Vec<u8>),
    /// Frames.
    Frames(Box<Decoder>),
}

enum Stage {
    Connecting,
    Securing,
    Upgrading,
    Attacking,
    Resting(Instant),
    /// Until the server says something.
    Listening,
    /// The script has come to its end.
    Waiting,
    Over(End),
}

/// What a connection did, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) entered: bool,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    pub(super) age: Duration,
}

/// One hostile connection.
pub(super) struct Hostile {
    socket: TcpSocket,
    tls: Option<Box<ClientConnection>>,
    entry: Entry,
    stage: Stage,
    script: Script,
    ear: Ear,
    /// A Close frame came, with this code.
    closed: Option<u16>,
    out: Vec<u8>,
    reading: bool,
    begun: Instant,
    /// When it came as far as the attack.
    entered: Option<Instant>,
    account: Account,
    /// What epoll knows.
    pub(super) watched: Interest,
    /// For when it was last put among the timers.
    pub(super) timer: Option<Instant>,
}

impl Hostile {
    pub(super) fn new(
        socket: TcpSocket,
        entry: Entry,
        arena: &Arena<'_>,
        script: Script,
    ) -> io::Result<Hostile> {
        let tls = match entry {
            Entry::Tcp => None,
            _ => Some(Box::new(tls::connection(&arena.tls).map_err(io::Error::other)?)),
        };
        Ok(Hostile {
            socket,
            tls,
            entry,
            stage: Stage::Connecting,
            script,
            ear: Ear::Deaf,
            closed: None,
            out: Vec::new(),
            reading: true,
            begun: Instant::now(),
            entered: None,
            account: Account::default(),
            watched: Interest::default(),
            timer: None,
        })
    }

    pub(super) fn socket(&self) -> &TcpSocket {
        &self.socket
    }

    /// Whether the server has had so much `patience` with its attack; a handshake may take longer before.
    pub(super) fn has_waited(&self, now: Instant, patience: Duration) -> bool {
        let coming = if self.tls.is_some() { COMES_WITHIN } else { Duration::ZERO };
        match self.entered {
            Some(entered) => now - entered >= patience,
            None => now - self.begun >= patience.max(coming),
        }
    }

    pub(super) fn account(&self) -> Account {
        Account { entered: self.entered.is_some(), age: self.begun.elapsed(), ..self.account }
    }

    pub(super) fn interest(&self) -> Interest {
        let write = matches!(self.stage, Stage::Connecting | Stage::Attacking) || !self.out.is_empty();
        Interest { read: self.reading, write }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.stage {
            Stage::Over(end) => Standing::Over(end),
            Stage::Resting(until) => Standing::Resting(until),
            _ => Standing::Busy,
        }
    }

    /// Goes without leaving anything behind that would keep a port.
    pub(super) fn leave(self) {
        self.socket.reset();
    }

    pub(super) fn on_event(&mut self, ready: Readiness, buffer: &mut [u8]) {
        let done = match self.stage {
            Stage::Connecting => self.connected(),
            Stage::Over(_) => Ok(()),
            _ if ready.hung_up() && !self.reading => Err(ErrorKind::ConnectionReset.into()),
            _ => {
                let flushed = if ready.writable() { self.flush() } else { Ok(()) };
                flushed.and_then(
                    |()| if ready.readable() || ready.hung_up() { self.read(buffer) } else { Ok(()) },
                )
            }
        };
        if done.and_then(|()| self.go_on()).is_err() {
            self.over();
        }
    }

    /// The time has come to go on.
    pub(super) fn on_time(&mut self) {
        if let Stage::Resting(until) = self.stage
            && until <= Instant::now()
        {
            self.stage = Stage::Attacking;
            if self.go_on().is_err() {
                self.over();
            }
        }
    }

    /// The server ended the connection, or broke it.
    fn over(&mut self) {
        let end = match (&self.ear, self.closed) {
            (_, Some(code)) => End::Closed(code),
            (Ear::Http(head), None) => status(head).map_or(End::Dropped, End::Answered),
            _ if self.entered.is_none() => End::Refused,
            _ => End::Dropped,
        };
        self.stage = Stage::Over(end);
    }

    fn connected(&mut self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        self.stage = if self.tls.is_some() { Stage::Securing } else { self.enter() };
        self.seal()
    }

    /// From here on it is hostile.
    fn enter(&mut self) -> Stage {
        self.entered = Some(Instant::now());
        Stage::Attacking
    }

    /// Takes what TLS has to say to where it waits for the socket.
    fn seal(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.out)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes)?,
            None => self.out.extend_from_slice(bytes),
        }
        self.seal()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.socket.send(&self.out) {
                Ok(taken) => {
                    self.out.drain(..taken);
                    self.account.sent_bytes += taken as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes on as far as it can without an event.
    fn go_on(&mut self) -> io::Result<()> {
        if matches!(self.stage, Stage::Securing) && self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking())
        {
            self.secured()?;
        }
        while matches!(self.stage, Stage::Attacking) && self.out.len() < OUT_BYTES {
            match self.script.next() {
                Some(Move::Send(bytes)) => self.send(&bytes)?,
                Some(Move::SendBelow(bytes)) => self.out.extend_from_slice(&bytes),
                Some(Move::Rest(time)) => self.stage = Stage::Resting(Instant::now() + time),
                Some(Move::Listen) => self.stage = Stage::Listening,
                Some(Move::StopReading) => self.reading = false,
                Some(Move::UpdateKeys) => self.update_keys()?,
                Some(Move::ShutDown) => {
                    self.flush()?;
                    self.socket.shutdown_write()?;
                }
                Some(Move::Leave) => self.stage = Stage::Over(End::Left),
                None => self.stage = Stage::Waiting,
            }
        }
        self.flush()
    }

    fn update_keys(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.refresh_traffic_keys().map_err(io::Error::other)?;
        }
        self.seal()
    }

    fn secured(&mut self) -> io::Result<()> {
        self.ear = Ear::Http(Vec::new());
        let Entry::WebSocket { deflate } = self.entry else {
            self.stage = self.enter();
            return Ok(());
        };
        let mut random = [0; 16];
        webscale_sys::random(&mut random)?;
        let deflate = deflate.then(Deflate::default);
        let request = ClientRequest {
            host: "localhost",
            target: "/",
            key: &key(random),
            protocols: &[],
            deflate: deflate.as_ref(),
            headers: &[],
        };
        let mut head = Vec::new();
        write_request(&mut head, &request).map_err(io::Error::other)?;
        self.stage = Stage::Upgrading;
        self.send(&head)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let received = match self.socket.recv(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        self.account.received_bytes += received as u64;
        if matches!(self.stage, Stage::Listening) {
            self.stage = Stage::Attacking;
        }
        let mut records = &buffer[..received];
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let mut plaintext = Vec::new();
        while !records.is_empty() {
            tls.read_tls(&mut records)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let before = plaintext.len();
            plaintext.resize(before + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plaintext[before..])?;
        }
        self.seal()?;
        self.hear(&plaintext)
    }

    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Ear::Http(head) = &mut self.ear {
            let room = HEAD_BYTES.saturating_sub(head.len());
            head.extend_from_slice(&bytes[..bytes.len().min(room)]);
            let Some(end) = head_end(head, 0).filter(|_| matches!(self.stage, Stage::Upgrading)) else {
                return Ok(());
            };
            if status(head) != Some(101) {
                return Ok(());
            }
            let behind = head.split_off(end);
            self.ear = Ear::Frames(Box::default());
            self.stage = self.enter();
            return self.hear_frames(&behind);
        }
        self.hear_frames(bytes)
    }

    fn hear_frames(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Ear::Frames(decoder) = &mut self.ear else { return Ok(()) };
        let config = DecoderConfig { max_message: MESSAGE_BYTES, ..DecoderConfig::new(Role::Client) };
        let mut scratch = Vec::new();
        loop {
            let (used, step) = decoder.decode(&config, bytes, &mut scratch).map_err(io::Error::other)?;
            bytes = &bytes[used..];
            match step {
                Step::NeedMore => return Ok(()),
                Step::Close(frame) => self.closed = Some(frame.map_or(1005, |frame| frame.code.get())),
                _ => {}
            }
        }
    }
}

/// The status at the front of an answer in HTTP.
fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
