//! Server A on the webscale library: event loops, no pool, no `async`.
//!
//! The handlers are in `lib.rs`; this reads flags and prints counts.

#![forbid(unsafe_code)]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::{io, thread};

use server_webscale::status::Readers;
use server_webscale::{Echo, Ingest, Json, counts, limits, logger};
use signal_hook::{consts::SIGUSR1, low_level::pipe};
use webscale::{Handle, Handler, Server, Tls};
use workload::{
    Mode, Options,
    options::{self, Failure, Transport, Value},
    report,
};

#[derive(Debug, Default)]
struct Extra {
    json: Json,
    workers: usize,
}

impl options::Extra for Extra {
    // No line continuation, which would take the first line's indent away.
    const USAGE: &'static str = "  --json borrowed|owned
                      the struct to deserialise into: borrowed (the default) takes its text from the
                      message, owned copies it, as in the other servers
  --workers N         deserialise on N threads besides the loops";

    fn take(&mut self, name: &str, value: &mut Value<'_>) -> Result<bool, String> {
        match name {
            "json" => {
                self.json = match value.text()?.as_str() {
                    "borrowed" => Json::Borrowed,
                    "owned" => Json::Owned,
                    other => return Err(format!("--json is borrowed or owned, not {other:?}")),
                }
            }
            "workers" => self.workers = value.count()?.get(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn main() -> ExitCode {
    options::main::<Extra>("server-webscale", serve)
}

fn serve(options: &Options<Extra>) -> Result<(), Failure> {
    logger::install();
    match options.mode {
        Mode::Ingest => {
            let ingest = Ingest::new(options.extra.json, Readers::default());
            let failed = ingest.failed();
            run(options, ingest, &failed)
        }
        Mode::Echo => run(options, Echo::default(), &Arc::default()),
    }
}

fn run<H: Handler>(options: &Options<Extra>, handler: H, failed: &Arc<AtomicU64>) -> Result<(), Failure> {
    let mut builder = Server::builder()
        .listen(options.listen)
        .threads(options.threads_or_available().get())
        .workers(options.extra.workers)
        .limits(limits(options.mode, None))
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
    let ended = server.run();
    logger::flush();
    ended.map_err(|error| Failure::Run(format!("cannot go on: {error}")))?;
    report::counts(&counts(mode, &handle, failed));
    Ok(())
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
