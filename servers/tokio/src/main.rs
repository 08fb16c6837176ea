//! Server B: the same server on tokio, as a good tokio user writes it. One task for each client.

#![forbid(unsafe_code)]

use std::{
    future::poll_fn, io, net::SocketAddr, num::NonZero, process::ExitCode, sync::Arc, task::Poll,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use workload::{
    Mode, Options,
    options::{self, Failure, Transport},
    parse::parse_owned,
    report::{self, Counters},
    tls,
};

/// The kernel's own limit (net.core.somaxconn) is the same by default.
const BACKLOG: u32 = 4096;
/// TLS and WebSocket handshake together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refused client has for its half of the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting rests when no descriptor is left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the tasks have to notice the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Extra {
    read_buffer: Option<NonZero<usize>>,
    current_thread: bool,
}

impl options::Extra for Extra {
    const USAGE: &'static str =
        "  --read-buffer BYTES what a connection reads into (default: tungstenite's 131072)
  --current-thread    tokio's single-threaded runtime, in place of --threads";

    fn take(&mut self, name: &str, value: &mut options::Value<'_>) -> Result<bool, String> {
        match name {
            "read-buffer" => self.read_buffer = Some(value.count()?),
            "current-thread" => self.current_thread = true,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// What the tasks share.
struct Server {
    mode: Mode,
    tls: Option<TlsAcceptor>,
    config: WebSocketConfig,
    counters: Counters,
}

fn main() -> ExitCode {
    options::main("server-tokio", serve)
}

fn serve(options: &Options<Extra>) -> Result<(), Failure> {
    let tls = match &options.transport {
        Transport::Plain => None,
        Transport::Tls { cert, key } => Some(tls::server_config(cert, key).map_err(Failure::Usage)?),
    };
    let runtime = runtime(options)?;
    let server = Arc::new(Server {
        mode: options.mode,
        tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
        config: websocket_config(options),
        counters: Counters::new(),
    });
    let outcome = runtime.block_on(accept_until_stopped(&server, options.listen));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome.map_err(Failure::Run)?;
    report::counts(&server.counters.counts(server.mode));
    Ok(())
}

fn runtime(options: &Options<Extra>) -> Result<Runtime, Failure> {
    let mut builder = match (options.extra.current_thread, options.threads) {
        (true, Some(_)) => {
            return Err(Failure::Usage("--current-thread is one thread: leave out --threads".into()));
        }
        (true, None) => Builder::new_current_thread(),
        (false, _) => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(options.threads_or_available().get())
        .enable_all()
        .build()
        .map_err(|error| Failure::Run(format!("cannot start the runtime: {error}")))
}

fn websocket_config(options: &Options<Extra>) -> WebSocketConfig {
    let bytes_max = Some(options.mode.message_bytes_max());
    let config = WebSocketConfig::default().max_message_size(bytes_max).max_frame_size(bytes_max);
    match options.extra.read_buffer {
        Some(bytes) => config.read_buffer_size(bytes.get()),
        None => config,
    }
}

async fn accept_until_stopped(server: &Arc<Server>, address: SocketAddr) -> Result<(), String> {
    let cannot = |error| format!("cannot handle signals: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut counts = signal(SignalKind::user_defined1()).map_err(cannot)?;
    let listener = listen(address).map_err(|error| options::cannot_listen(address, &error))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    report::listening(address, server.tls.is_some());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                // What goes wrong with one client ends that client's task and nothing else.
                Ok((tcp, _)) => drop(tokio::spawn(serve_client(tcp, Arc::clone(server)))),
                Err(error) => rest_if_exhausted(&error).await,
            },
            _ = counts.recv() => report::counts(&server.counters.counts(server.mode)),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A client that was gone before it was accepted is no reason to wait, a lack of descriptors is.
async fn rest_if_exhausted(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        report::exhausted(error);
        sleep(ACCEPT_PAUSE).await;
    }
}

async fn serve_client(tcp: TcpStream, server: Arc<Server>) -> Result<(), Error> {
    tcp.set_nodelay(true)?;
    match &server.tls {
        None => converse(tcp, &server).await,
        Some(tls) => {
            let stream = timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)).await.map_err(io::Error::from)??;
            converse(stream, &server).await
        }
    }
}

async fn converse<S>(stream: S, server: &Server) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = accept_async_with_config(stream, Some(server.config));
    let mut socket = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(io::Error::from)??;
    server.counters.connection();
    while let Some(message) = next(&mut socket).await {
        match (server.mode, message?) {
            (Mode::Echo, message @ (Message::Text(_) | Message::Binary(_))) => {
                server.counters.message();
                socket.feed(message).await?;
            }
            (Mode::Ingest, Message::Text(text)) => match parse_owned(&text) {
                Ok(_) => server.counters.message(),
                Err(error) => refuse(&mut socket, server, CloseCode::Invalid, error.reason()).await?,
            },
            (Mode::Ingest, Message::Binary(_)) => {
                refuse(&mut socket, server, CloseCode::Unsupported, report::BINARY_REFUSED).await?;
            }
            // tungstenite answers pings and the closing handshake.
            _ => {}
        }
    }
    // TLS has a farewell of its own.
    Ok(socket.get_mut().shutdown().await?)
}

/// The next message. Answers go out when there is none to be read, those to several messages at once.
async fn next<S>(socket: &mut WebSocketStream<S>) -> Option<Result<Message, Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|context| match socket.poll_next_unpin(context) {
        Poll::Pending => match socket.poll_flush_unpin(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            _ => Poll::Pending,
        },
        message => message,
    })
    .await
}

/// Closes, and looks at nothing more of what the client sends.
async fn refuse<S>(
    socket: &mut WebSocketStream<S>,
    server: &Server,
    code: CloseCode,
    reason: &str,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    server.counters.failed();
    socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
    let answer = async { while let Some(Ok(_)) = socket.next().await {} };
    Ok(timeout(CLOSE_TIMEOUT, answer).await.map_err(io::Error::from)?)
}
