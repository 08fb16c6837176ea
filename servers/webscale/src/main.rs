//! Server A on the webscale library: event loops, no pool, no `async`.
//!
//! What a user of the library writes is [`Ingest`] and [`Echo`]; the rest reads flags and prints counts.

#![forbid(unsafe_code)]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{io, thread};

use signal_hook::{consts::SIGUSR1, low_level::pipe};
use webscale::{
    Accept, CloseCode, Handle, Handler, Limits, Message, Peer, Reject, Request, SendError, Server, Tls,
};
use workload::{
    Mode, Options,
    options::{self, Failure, Transport, Value},
    report::{self, Counts},
};

/// How `ingest` deserialises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Json {
    /// sonic-rs, into the struct that borrows from the message.
    #[default]
    Fast,
    /// serde_json, into the struct that owns its strings, as the other servers do.
    SerdeOwned,
}

#[derive(Debug, Default)]
struct Extra {
    json: Json,
    workers: usize,
}

impl options::Extra for Extra {
    const USAGE: &'static str = "\
  --json fast|serde-owned
                      fast (the default): sonic-rs into borrowed fields; serde-owned: serde_json into owned
                      ones, as the other servers do
  --workers N         deserialise on N threads besides the loops";

    fn take(&mut self, name: &str, value: &mut Value<'_>) -> Result<bool, String> {
        match name {
            "json" => {
                self.json = match value.text()?.as_str() {
                    "fast" => Json::Fast,
                    "serde-owned" => Json::SerdeOwned,
                    other => return Err(format!("--json is fast or serde-owned, not {other:?}")),
                }
            }
            "workers" => self.workers = value.count()?.get(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Deserialises every message, and counts those that do not fit the struct; the library counts all.
struct Ingest {
    json: Json,
    failed: Arc<AtomicU64>,
}

impl Handler for Ingest {
    type Session = ();

    fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
        Ok(().into())
    }

    fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
        let Message::Text(text) = message else {
            self.failed.fetch_add(1, Relaxed);
            return peer.close(CloseCode::UNSUPPORTED, "telemetry is text");
        };
        // `black_box`: the struct is what a real handler would go on with, so it has to be made.
        let result = match self.json {
            Json::Fast => {
                workload::parse::parse_fast(text).map(|telemetry| drop(std::hint::black_box(telemetry)))
            }
            Json::SerdeOwned => {
                workload::parse::parse_owned(text).map(|telemetry| drop(std::hint::black_box(telemetry)))
            }
        };
        if let Err(error) = result {
            self.failed.fetch_add(1, Relaxed);
            peer.close(CloseCode::INVALID_PAYLOAD, error.reason());
        }
    }
}

/// Sends every message back.
struct Echo;

impl Handler for Echo {
    type Session = ();

    fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
        Ok(().into())
    }

    fn message(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) {
        // A client that does not read its echoes is closed by the library.
        let _: Result<(), SendError> = peer.send(message);
    }
}

fn main() -> ExitCode {
    options::main::<Extra>("server-webscale", serve)
}

fn serve(options: &Options<Extra>) -> Result<(), Failure> {
    let failed = Arc::new(AtomicU64::new(0));
    match options.mode {
        Mode::Ingest => run(options, Ingest { json: options.extra.json, failed: failed.clone() }, &failed),
        Mode::Echo => run(options, Echo, &failed),
    }
}

fn run<H: Handler>(options: &Options<Extra>, handler: H, failed: &Arc<AtomicU64>) -> Result<(), Failure> {
    let longest = options.mode.message_bytes_max();
    let defaults = Limits::default();
    let limits =
        Limits { message_bytes: longest, egress_bytes: defaults.egress_bytes.max(2 * longest), ..defaults };
    let mut builder = Server::builder()
        .listen(options.listen)
        .threads(options.threads_or_available().get())
        .workers(options.extra.workers)
        .limits(limits)
        .shutdown_on_signals();
    let mut secure = false;
    if let Transport::Tls { cert, key } = &options.transport {
        secure = true;
        builder =
            builder.tls(Tls::from_pem_files(cert, key).map_err(|error| Failure::Usage(error.to_string()))?);
    }
    let server = builder.build(handler).map_err(|error| Failure::Run(error.to_string()))?;
    let (mode, handle) = (options.mode, server.handle());
    count_on_signal(mode, handle.clone(), failed.clone())
        .map_err(|error| Failure::Run(format!("cannot listen for signals: {error}")))?;
    report::listening(server.local_addr(), secure);
    server.run().map_err(|error| Failure::Run(format!("cannot go on: {error}")))?;
    report::counts(&counts(mode, &handle, failed));
    Ok(())
}

fn counts(mode: Mode, handle: &Handle, failed: &AtomicU64) -> Counts {
    let (metrics, failed) = (handle.metrics(), failed.load(Relaxed));
    Counts { mode, messages: metrics.messages_in.saturating_sub(failed), failed, connections: metrics.opened }
}

/// Prints the counts on each SIGUSR1.
fn count_on_signal(mode: Mode, handle: Handle, failed: Arc<AtomicU64>) -> io::Result<()> {
    let (mut receiver, sender) = UnixStream::pair()?;
    pipe::register(SIGUSR1, sender)?;
    let listen = move || {
        while receiver.read_exact(&mut [0]).is_ok() {
            report::counts(&counts(mode, &handle, &failed));
        }
    };
    thread::Builder::new().name("counts".into()).spawn(listen).map(drop)
}
