//! A fake peer: the other end of a connection, which speaks WebSocket as it pleases.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use webscale_proto::handshake::head_end;
use webscale_proto::{
    CloseCode, Data, Decoder, DecoderConfig, Deflater, Inflater, MaskKey, Message, Reserved, Role, Step,
    encoder,
};

use super::handler::{Ledger, number_of, text};
use super::kernel::HOSTS;
use super::script::{Act, Form, Opening, Script};
use super::system::{PEER, System};
use super::world::Setting;
use crate::clock::Time;
use crate::tls::Tls;

const MASK: MaskKey = [0x37, 0xfa, 0x21, 0x3d];
/// Above this many bytes that the socket has not taken, a peer says nothing more.
const UNSENT_MAX: usize = 2000;
const NAME: &str = "sim.test";

/// A certificate whose handshakes have the same length each time (Ed25519), so that a seed replays.
static IDENTITY: LazyLock<(CertificateDer<'static>, PrivateKeyDer<'static>)> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("the system has randomness");
    let mut params = rcgen::CertificateParams::new([NAME.to_owned()]).expect("a name");
    params.serial_number = Some(7u64.into());
    let certificate = params.self_signed(&key).expect("they fit").der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
    (certificate, key)
});

/// The server's side of it.
pub(super) fn server_tls() -> Tls {
    Tls::from_der(vec![IDENTITY.0.clone()], IDENTITY.1.clone_key()).expect("they fit")
}

static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add(IDENTITY.0.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has them").with_root_certificates(roots);
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
});

fn tls() -> Box<ClientConnection> {
    let name = ServerName::try_from(NAME).expect("a name");
    Box::new(ClientConnection::new(CLIENT.clone(), name).expect("a configuration"))
}

/// What it did, so that what is done to it can be judged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deeds {
    /// It broke a rule of TLS, HTTP or WebSocket.
    pub(super) misbehaved: bool,
    /// It ended its direction, or the connection, without a Close frame.
    pub(super) left: bool,
    pub(super) sent_close: bool,
    /// It reads no more.
    pub(super) is_deaf: bool,
    /// It says no more, not even what it began.
    pub(super) is_mute: bool,
}

/// How its connection ended, as it saw that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Eof,
    Reset,
}

pub(super) struct Peer {
    pub(super) id: usize,
    pub(super) line: usize,
    pub(super) script: Script,
    pub(super) deeds: Deeds,
    pub(super) ended: Option<(Ended, Time)>,
    pub(super) close_code: Option<u16>,
    pub(super) opened: bool,
    pub(super) born: Time,
    security: Option<Box<ClientConnection>>,
    unsent: VecDeque<u8>,
    head: Vec<u8>,
    decoder: Decoder,
    scratch: Vec<u8>,
    deflates: bool,
    said: usize,
    /// Lengths of the messages that are not answered yet.
    waiting: VecDeque<usize>,
    /// How many were.
    heard: usize,
    /// Those that were dropped to make room for others among them.
    pub(super) skipped: usize,
    pushed: usize,
    pub(super) ticks: usize,
    dozes: usize,
    pub(super) faults: Vec<String>,
}

impl Peer {
    pub(super) fn new(id: usize, line: usize, script: Script, setting: &Setting, born: Time) -> Self {
        let mut peer = Self {
            id,
            line,
            deeds: Deeds::default(),
            ended: None,
            close_code: None,
            opened: false,
            born,
            security: (setting.secure && script.opening != Opening::Noise).then(tls),
            unsent: VecDeque::new(),
            head: Vec::new(),
            decoder: Decoder::new(),
            scratch: Vec::new(),
            deflates: false,
            said: 0,
            waiting: VecDeque::new(),
            heard: 0,
            skipped: 0,
            pushed: 0,
            ticks: 0,
            dozes: 0,
            faults: Vec::new(),
            script,
        };
        let keeps_to_it = !matches!(peer.script.opening, Opening::Noise | Opening::Silence);
        if setting.proxied && keeps_to_it {
            let header = format!("PROXY TCP4 198.51.100.{} 192.0.2.1 4711 443\r\n", id % HOSTS);
            peer.unsent.extend(header.as_bytes());
        }
        peer.open();
        peer
    }

    fn open(&mut self) {
        let id = self.id;
        let upgrade = |path: String, more: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: {NAME}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
            )
        };
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let head = match self.script.opening {
            Opening::Upgrade => upgrade(format!("/{id}"), ""),
            Opening::Deflate => upgrade(format!("/{id}"), deflate),
            Opening::Cut => upgrade(format!("/{id}"), "X-").trim_end().to_owned(),
            Opening::Lost => upgrade("/nowhere".into(), ""),
            Opening::Http => format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"),
            Opening::Noise => "\u{1}\u{2}\u{3} this is neither TLS nor HTTP \r\n\r\n".into(),
            Opening::Silence => String::new(),
        };
        self.deeds.misbehaved |= self.script.opening == Opening::Noise;
        if self.script.opening == Opening::Silence {
            self.unsent.clear();
            self.deeds.is_mute = true;
        } else {
            self.write(head.as_bytes());
        }
    }

    pub(super) fn is_honest(&self) -> bool {
        self.script.is_honest
    }

    /// What it wanted to say was said and answered, and the connection ended in order.
    pub(super) fn is_content(&self) -> bool {
        self.ended.is_some()
            && self.close_code.is_some()
            && self.waiting.is_empty()
            && self.script.acts.is_empty()
    }

    /// Bytes that the server still owes it an answer for.
    fn owed(&self) -> usize {
        self.waiting.iter().map(|length| length + 64).sum()
    }

    fn write(&mut self, bytes: &[u8]) {
        match &mut self.security {
            None => self.unsent.extend(bytes),
            Some(tls) => {
                tls.set_buffer_limit(None);
                // What it cannot seal it was told not to.
                let _ = tls.writer().write_all(bytes);
                self.seal();
            }
        }
    }

    fn seal(&mut self) {
        if let Some(tls) = &mut self.security {
            while tls.wants_write() {
                tls.write_tls(&mut self.unsent).expect("memory takes all");
            }
        }
    }

    /// Does something, if there is something; whether it did.
    pub(super) fn act(&mut self, system: &mut System, ledger: &Ledger) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let spoke = self.speak(system);
        let sent = self.send(system);
        let dozed = self.dozes > 0;
        self.dozes = self.dozes.saturating_sub(1);
        let heard = !self.deeds.is_deaf && !dozed && self.listen(system, ledger);
        spoke || sent || heard || dozed
    }

    fn send(&mut self, system: &mut System) -> bool {
        if self.unsent.is_empty()
            || self.deeds.is_mute
            || self.deeds.left
            || system.lines[self.line].is_reset(PEER)
        {
            return false;
        }
        let piece = if system.mood.wild { system.random.within(1, self.script.piece) } else { usize::MAX };
        let bytes = self.unsent.make_contiguous();
        let count = piece.min(bytes.len());
        let sent = system.send(self.line, PEER, &bytes[..count]).unwrap_or(0);
        self.unsent.drain(..sent);
        sent > 0
    }

    fn listen(&mut self, system: &mut System, ledger: &Ledger) -> bool {
        let mut buffer = [0; 4096];
        let count = if system.mood.wild { system.random.within(1, buffer.len()) } else { buffer.len() };
        match system.recv(self.line, PEER, &mut buffer[..count]) {
            Ok(0) => self.end(system, Ended::Eof),
            Ok(count) => self.take(&buffer[..count], ledger),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(_) => self.end(system, Ended::Reset),
        }
        true
    }

    fn end(&mut self, system: &mut System, ended: Ended) {
        self.ended = Some((ended, system.now));
        system.close_peer(self.line);
    }

    /// The connection is given up, in the way of `Act::Reset`.
    pub(super) fn reset(&mut self, system: &mut System) {
        self.deeds.left = true;
        system.lines[self.line].reset(PEER);
        self.end(system, Ended::Reset);
    }

    fn speak(&mut self, system: &mut System) -> bool {
        // Who was told to close says no more of its own.
        if self.deeds.is_mute || self.deeds.left || self.unsent.len() > UNSENT_MAX {
            return false;
        }
        let is_early = matches!(self.script.acts.front(), Some(Act::Reset | Act::Fin | Act::Sleep));
        if !self.opened && !is_early || self.close_code.is_some() || self.deeds.sent_close {
            return false;
        }
        match self.script.acts.front() {
            Some(Act::Say { length, .. })
                if self.is_honest() && self.owed() + length > self.script.window =>
            {
                false
            }
            Some(Act::Bye) if self.is_honest() && !self.waiting.is_empty() => false,
            Some(_) => {
                let act = self.script.acts.pop_front().expect("it was there");
                self.perform(act, system);
                true
            }
            None => false,
        }
    }

    fn perform(&mut self, act: Act, system: &mut System) {
        let mut frames = Vec::new();
        match act {
            Act::Say { length, form } => {
                self.said += 1;
                let said = text(self.id, self.said, length);
                self.waiting.push_back(said.len());
                self.frame(&mut frames, &said, form);
            }
            Act::Word(word) => encoder::message(&mut frames, Message::Text(&word), Some(MASK)),
            Act::Ping => encoder::ping(&mut frames, b"are you there", Some(MASK)).expect("short"),
            Act::Raw(bytes) => {
                self.deeds.misbehaved = true;
                frames = bytes;
            }
            Act::Bomb(length) => {
                self.deeds.misbehaved = true;
                let mut out = Vec::new();
                let mut deflater = Deflater::new(6, 15, false);
                let payload = deflater.message(&vec![b'0'; length], &mut out).expect("zeros compress");
                encoder::compressed(&mut frames, true, payload, Some(MASK));
            }
            Act::Bye => {
                self.deeds.sent_close = true;
                encoder::close(&mut frames, Some(CloseCode::NORMAL), "bye", Some(MASK));
            }
            Act::Fin => {
                self.deeds.left = true;
                // What it said before may be cut.
                self.unsent.clear();
                let _ = system.shutdown_write(self.line, PEER);
                return;
            }
            Act::Reset => return self.reset(system),
            Act::Deafen => self.deeds.is_deaf = true,
            Act::Doze(turns) => self.dozes = turns,
            Act::Sleep => (self.deeds.is_deaf, self.deeds.is_mute) = (true, true),
        }
        self.write(&frames);
    }

    fn frame(&self, frames: &mut Vec<u8>, said: &str, form: Form) {
        let bytes = said.as_bytes();
        match form {
            Form::Compressed if self.deflates => {
                let (mut deflater, mut out) = (Deflater::new(6, 15, false), Vec::new());
                match deflater.message(bytes, &mut out) {
                    Some(payload) => encoder::compressed(frames, true, payload, Some(MASK)),
                    None => encoder::message(frames, Message::Text(said), Some(MASK)),
                }
            }
            Form::Whole | Form::Compressed => encoder::message(frames, Message::Text(said), Some(MASK)),
            Form::Fragments(size) => {
                let last = bytes.len().saturating_sub(1) / size;
                for (index, part) in bytes.chunks(size).enumerate() {
                    let opcode = if index == 0 { Data::Text } else { Data::Continuation };
                    encoder::fragment(frames, opcode, index == last, part, Some(MASK));
                    if index == 0 {
                        encoder::ping(frames, b"between", Some(MASK)).expect("short");
                    }
                }
            }
        }
    }

    /// Bytes come from the server.
    fn take(&mut self, bytes: &[u8], ledger: &Ledger) {
        let Some(tls) = &mut self.security else { return self.hear(bytes, ledger) };
        let (mut rest, mut plain, mut failed) = (bytes, Vec::new(), false);
        while !rest.is_empty() && !failed {
            tls.read_tls(&mut rest).expect("memory has no errors");
            match tls.process_new_packets() {
                // The end of TLS, or nothing more for now, both end it.
                Ok(_) => drop(tls.reader().read_to_end(&mut plain)),
                Err(_) => failed = true,
            }
        }
        if failed {
            self.fault("TLS of the server is broken");
        }
        self.seal();
        self.hear(&plain, ledger);
    }

    fn fault(&mut self, what: impl std::fmt::Display) {
        self.faults.push(format!("peer {}: {what}", self.id));
    }

    fn hear(&mut self, bytes: &[u8], ledger: &Ledger) {
        if self.opened {
            return self.frames(bytes, ledger);
        }
        self.head.extend_from_slice(bytes);
        let Some(end) = head_end(&self.head, 0) else { return };
        let rest = self.head.split_off(end);
        if self.head.starts_with(b"HTTP/1.1 101") {
            let head = String::from_utf8_lossy(&self.head);
            self.deflates = head.contains("permessage-deflate");
            self.opened = true;
            self.frames(&rest, ledger);
        } else {
            self.head.extend(rest);
        }
    }

    fn frames(&mut self, mut bytes: &[u8], ledger: &Ledger) {
        let reserved = if self.deflates { Reserved::RSV1 } else { Reserved::NONE };
        let config = DecoderConfig { reserved, ..DecoderConfig::new(Role::Client) };
        let (mut decoder, mut scratch) =
            (std::mem::take(&mut self.decoder), std::mem::take(&mut self.scratch));
        while !bytes.is_empty() {
            let (used, step) = match decoder.decode(&config, bytes, &mut scratch) {
                Ok(decoded) => decoded,
                Err(error) => {
                    self.fault(format_args!("the server breaks the protocol: {error}"));
                    break;
                }
            };
            bytes = &bytes[used..];
            self.step(step, ledger);
        }
        (self.decoder, self.scratch) = (decoder, scratch);
    }

    fn step(&mut self, step: Step<'_>, ledger: &Ledger) {
        if self.close_code.is_some() {
            return self.fault("a frame behind the Close frame");
        }
        let mut reply = Vec::new();
        match step {
            Step::Message(message) => self.message(message, ledger),
            Step::Extended { text, payload, .. } => {
                let (mut inflater, mut out) = (Inflater::new(15, false), Vec::new());
                match inflater.message(payload, text, usize::MAX, &mut out) {
                    Ok(message) => self.message(message, ledger),
                    Err(error) => self.fault(error),
                }
            }
            Step::Ping(payload) => encoder::pong(&mut reply, payload, Some(MASK)).expect("it fitted a ping"),
            Step::Close(frame) => {
                self.close_code = Some(frame.map_or(1005, |frame| frame.code.get()));
                if !self.deeds.sent_close {
                    encoder::close(&mut reply, frame.map(|frame| frame.code), "", Some(MASK));
                }
            }
            Step::Pong(_) | Step::NeedMore | Step::Fragment | Step::Chunk(_) | Step::ExtendedPart { .. } => {}
        }
        if !self.deeds.sent_close && !self.deeds.left {
            self.write(&reply);
        }
        self.deeds.sent_close |= self.close_code.is_some();
    }

    /// Answers come in the order in which they were given; whoever does not read may miss the oldest.
    fn answered(&mut self, number: usize, ledger: &Ledger) {
        let place = {
            let mut records = ledger.records();
            let answered = &records.record(self.id).answered;
            answered.iter().skip(self.heard).position(|&answer| answer == number)
        };
        self.waiting.pop_front();
        match place {
            Some(skipped) => (self.heard, self.skipped) = (self.heard + skipped + 1, self.skipped + skipped),
            None => self.fault(format_args!("answer {number} was not given, or came before")),
        }
    }

    fn message(&mut self, message: Message<'_>, ledger: &Ledger) {
        match message {
            Message::Text("tick") => self.ticks += 1,
            Message::Text(said) => {
                if let Some(number) = number_of(self.id, said) {
                    self.answered(number, ledger);
                } else {
                    let push = said.strip_prefix("push ").and_then(|rest| number_of(self.id, rest));
                    match push {
                        Some(number) if number > self.pushed => self.pushed = number,
                        _ => self.fault(format_args!("was sent {said:?}")),
                    }
                }
            }
            Message::Binary(bytes) => {
                if bytes != [7; 500] {
                    self.fault("was sent bytes that nobody sent");
                }
            }
        }
    }
}
