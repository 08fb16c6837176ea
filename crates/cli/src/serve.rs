//! `webscale serve`: a server that needs no file.

mod inheritance;
mod processes;
mod reload;
mod signals;
mod status;
mod wilful;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use server_webscale::{Echo, Ingest, Json, counts, limits, logger};
use webscale::{
    BuildError, ClientAuth, Deflate, Handler, Limits, Origins, Server, ServerBuilder, TicketKeys, Tls,
    TlsConfigError,
};
use workload::{Mode, report};

use crate::args::ServeArgs;
use crate::exit::Usage;
use inheritance::Inheritance;
use status::StatusPort;
use wilful::Wilful;

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    if let Some(fault) = args.status.fault(args.processes) {
        return Err(Usage(fault).into());
    }
    let inheritance = if args.inherit { Inheritance::receive()? } else { Inheritance::make(args)? };
    let tls = tls(args, &inheritance)?;
    let mode = args.mode.into();
    let mut limits = limits(mode, args.max_message);
    args.times.apply(&mut limits);
    let limits = args.limits.apply(limits, args.processes)?;
    if args.processes > 1 {
        return processes::run(args, &inheritance);
    }
    logger::install();
    let readers = args.status.readers();
    match mode {
        Mode::Echo if args.wilful => serve(args, tls, limits, Wilful::new(Echo(readers)), &Arc::default()),
        Mode::Echo => serve(args, tls, limits, Echo(readers), &Arc::default()),
        Mode::Ingest => {
            let ingest = Ingest::new(Json::Borrowed, readers);
            let failed = ingest.failed();
            serve(args, tls, limits, ingest, &failed)
        }
    }
}

fn serve<H: Handler>(
    args: &ServeArgs,
    tls: Option<Tls>,
    limits: Limits,
    handler: H,
    failed: &Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let secure = tls.is_some();
    if let Some((tls, files)) = tls.clone().zip(args.reloadable()) {
        reload::on_hang_up(tls, files)?;
    }
    let server = builder(args, tls, limits).build(handler).map_err(|error| match error {
        BuildError::Limits(_) => anyhow::Error::new(Usage(error.to_string())),
        _ => error.into(),
    })?;
    let handle = server.handle();
    let status = args.status.status.map(|address| StatusPort::open(address, handle.clone())).transpose()?;
    report::listening(server.local_addr(), secure);
    let ended = server.run();
    drop(status);
    logger::flush();
    ended?;
    report::counts(&counts(args.mode.into(), &handle, failed));
    Ok(())
}

fn builder(args: &ServeArgs, tls: Option<Tls>, limits: Limits) -> ServerBuilder {
    let mut builder = Server::builder()
        .listen(args.listen)
        .workers(args.workers.into())
        .limits(limits)
        .origins(origins(&args.origins))
        .proxy_protocol(args.proxy_protocol.iter().copied())
        .shutdown_on_signals();
    if let Some(threads) = args.threads {
        builder = builder.threads(threads.into());
    }
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    if args.deflate {
        builder = builder.deflate(Deflate::default());
    }
    if args.share_port { builder.share_port() } else { builder }
}

fn origins(named: &[String]) -> Origins {
    match named {
        [] => Origins::same(),
        named if named.iter().any(|origin| origin == "any") => Origins::any(),
        named => Origins::list(named),
    }
}

/// The certificate that was named, or the one made here; checked before anything is started.
fn tls(args: &ServeArgs, inheritance: &Inheritance) -> anyhow::Result<Option<Tls>> {
    let tls = match (&args.cert, &args.key, &inheritance.certificate) {
        (Some(cert), Some(key), _) => Tls::from_pem_files(cert, key),
        (.., Some((cert, key))) => Tls::from_pem(cert.as_bytes(), key.as_bytes()),
        _ => return Ok(None),
    };
    let tls =
        tls.and_then(|tls| with_clients(tls, args)).and_then(|tls| with_tickets(tls, args, inheritance));
    Ok(Some(tls.map_err(|error| Usage(error.to_string()))?))
}

/// Asks clients for certificates, where that was asked for.
fn with_clients(tls: Tls, args: &ServeArgs) -> Result<Tls, TlsConfigError> {
    let Some(ca) = &args.client_ca else { return Ok(tls) };
    let auth = if args.client_ca_optional { ClientAuth::optional(ca)? } else { ClientAuth::required(ca)? };
    tls.client_certificates(match &args.client_crl {
        Some(crl) => auth.crl_file(crl)?,
        None => auth,
    })
}

/// Seals session tickets with the keys that other processes have too, where there are such.
fn with_tickets(tls: Tls, args: &ServeArgs, inheritance: &Inheritance) -> Result<Tls, TlsConfigError> {
    match (&args.ticket_secret, &inheritance.ticket_secret) {
        (Some(file), _) => tls.ticket_keys(TicketKeys::from_file(file)?),
        (None, Some(secret)) => tls.ticket_keys(TicketKeys::new(secret)?),
        (None, None) => Ok(tls),
    }
}
