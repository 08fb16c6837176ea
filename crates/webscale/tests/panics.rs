//! Handlers that panic all the time: who notices, and what the log says. A binary of its own, because the log and the hook
//! for panics are the process's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{LazyLock, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use tungstenite::{Message as Frame, WebSocket};
use webscale::{Accept, Close, Handler, Message, Peer, Reject, Request, Response, Server, ServerBuilder};

/// What the library logged.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));
/// Before the first line.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn listen_to_the_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        LazyLock::force(&START);
        log::set_logger(&LINES).unwrap();
        log::set_max_level(LevelFilter::Info);
        webscale::log_panics();
    });
}

/// Panics wherever it is told to.
struct Panicking;

impl Handler for Panicking {
    type Session = bool;

    fn open(&self, request: &Request<'_>) -> Result<Accept<bool>, Reject> {
        assert!(request.path() != "/open", "open, as the test asked");
        Ok((request.path() == "/close").into())
    }

    fn http(&self, _: &Request<'_>) -> Response {
        panic!("http, as the test asked");
    }

    fn message(&self, peer: &mut Peer<'_, bool>, message: Message<'_>) {
        if let Message::Text(text) = message {
            assert!(!text.starts_with("panic"), "{text}");
        }
        peer.send(message).unwrap();
    }

    fn close(&self, session: bool, _: Close) {
        assert!(!session, "close, as the test asked");
    }
}

fn connect(address: SocketAddr, path: &str) -> tungstenite::Result<WebSocket<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    match tungstenite::client(format!("ws://{address}{path}"), stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

/// One connection whose message the handler does not survive. The code that it is closed with.
fn panic_once(address: SocketAddr) -> u16 {
    let mut socket = connect(address, "/").unwrap();
    socket.send(Frame::text("panic\nwith a line of its own")).unwrap();
    match socket.read().unwrap() {
        Frame::Close(Some(frame)) => frame.code.into(),
        other => panic!("{other:?}"),
    }
}

fn serve(builder: ServerBuilder, test: impl FnOnce(SocketAddr, &webscale::Handle)) {
    let server = builder.listen("127.0.0.1:0").build(Panicking).unwrap();
    let (address, handle) = (server.local_addr(), server.handle());
    let thread = thread::spawn(move || server.run());
    test(address, &handle);
    handle.shutdown();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_storm_of_panics_closes_its_own_connections_and_fills_no_log() {
    const STORM: usize = 300;
    let start = *START;
    listen_to_the_log();
    for builder in [Server::builder().threads(1), Server::builder().threads(2).workers(2)] {
        serve(builder, |address, handle| {
            let mut honest = connect(address, "/").unwrap();
            for n in 0..STORM {
                assert_eq!(panic_once(address), 1011);
                honest.send(Frame::text(n.to_string())).unwrap();
                assert_eq!(honest.read().unwrap(), Frame::text(n.to_string()));
            }
            let metrics = handle.metrics();
            let closed = metrics.closes().find(|(cause, _)| *cause == "panic").unwrap().1;
            assert_eq!((metrics.panics, closed), (STORM as u64, STORM as u64));
        });
    }
    let lines = LINES.0.lock().unwrap();
    // Ten in any second, and so many in these.
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    assert!(lines.len() <= 10 * seconds, "{} lines in {seconds} s", lines.len());
    let escaped = |line: &String| line.contains("panic\\nwith a line of its own");
    assert!(lines.iter().any(escaped) && lines.iter().all(|line| !line.contains('\n')), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("panicked at") && line.contains("panics.rs")));
}

#[test]
fn a_panic_in_any_method_is_counted() {
    listen_to_the_log();
    serve(Server::builder().threads(1), |address, handle| {
        let refused = connect(address, "/open").unwrap_err();
        assert!(matches!(&refused, tungstenite::Error::Http(answer) if answer.status() == 500), "{refused}");
        let mut plain = TcpStream::connect(address).unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        plain.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        let mut socket = connect(address, "/close").unwrap();
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
        assert_eq!(panic_once(address), 1011);
        assert_eq!(handle.metrics().panics, 4);
    });
}
