//! `webscale serve`: a server that needs no file.

mod processes;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use server_webscale::{Echo, Ingest, Json, counts, limits};
use webscale::{BuildError, Deflate, Handler, Origins, Server, ServerBuilder, Tls};
use webscale_load::cert;
use workload::{Mode, report};

use crate::args::{ModeArg, ServeArgs};
use crate::exit::Usage;

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let tls = tls(args)?;
    if args.processes > 1 {
        return processes::run(args);
    }
    match args.mode {
        ModeArg::Echo => serve(args, tls, Mode::Echo, Echo, &Arc::default()),
        ModeArg::Ingest => {
            let ingest = Ingest::new(Json::Borrowed);
            let failed = ingest.failed();
            serve(args, tls, Mode::Ingest, ingest, &failed)
        }
    }
}

fn serve<H: Handler>(
    args: &ServeArgs,
    tls: Option<Tls>,
    mode: Mode,
    handler: H,
    failed: &Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let secure = tls.is_some();
    let server = builder(args, tls, mode).build(handler).map_err(|error| match error {
        BuildError::Limits(_) => anyhow::Error::new(Usage(error.to_string())),
        _ => error.into(),
    })?;
    let handle = server.handle();
    report::listening(server.local_addr(), secure);
    server.run()?;
    report::counts(&counts(mode, &handle, failed));
    Ok(())
}

fn builder(args: &ServeArgs, tls: Option<Tls>, mode: Mode) -> ServerBuilder {
    let mut limits = limits(mode, args.max_message);
    args.limits.apply(&mut limits);
    let mut builder = Server::builder()
        .listen(args.listen)
        .workers(args.workers.into())
        .limits(limits)
        .origins(origins(&args.origins))
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

/// The certificate that was named, or one made here; checked before anything is started.
fn tls(args: &ServeArgs) -> anyhow::Result<Option<Tls>> {
    let tls = match (&args.cert, &args.key) {
        _ if args.plain => return Ok(None),
        (Some(cert), Some(key)) => Tls::from_pem_files(cert, key),
        _ => {
            let pair = cert::self_signed(&[])?;
            Tls::from_pem(pair.cert_pem.as_bytes(), pair.key_pem.as_bytes())
        }
    };
    Ok(Some(tls.map_err(|error| Usage(error.to_string()))?))
}
