//! What every server has to do. Each check takes the path of a binary and further arguments for it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use rustix::process::Signal;
use tungstenite::{
    Bytes, Error, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{Certificate, Client, Connect, Directory, Server, TIMEOUT, files::argument, refusal};
use crate::{Mode, PAYLOAD_BYTES, payload, report::Counts};

/// Runs the check without TLS and with it.
fn both_ways(check: impl Fn(Option<&Certificate>)) {
    check(None);
    check(Some(&Certificate::new()));
}

fn round_trip(client: &mut Client, message: &Message) {
    client.send(message.clone()).expect("the server takes it");
    // A mismatch of 16 MiB is not printed.
    let length = message.len();
    assert!(client.read().expect("the server answers") == *message, "the echo of {length} bytes differs");
}

fn text(length: usize) -> String {
    "aé€😀".chars().cycle().take(length / 10 * 4).chain("b".repeat(length % 10).chars()).collect()
}

/// The closing handshake to its end: after it, the server has seen all that the client sent.
fn close(client: &mut Client) {
    client
        .close(Some(CloseFrame { code: CloseCode::Normal, reason: "done".into() }))
        .expect("an open connection");
    loop {
        match client.read() {
            Ok(Message::Close(answer)) => assert_eq!(answer.expect("a code").code, CloseCode::Normal),
            Ok(other) => panic!("a message behind the last one: {other}"),
            Err(Error::ConnectionClosed) => return,
            Err(error) => panic!("the connection ends with {error}"),
        }
    }
}

/// Reads until the connection ends, and returns the close frame if there was one.
fn closed_by_server(client: &mut Client) -> Option<CloseFrame> {
    let mut frame = None;
    loop {
        match client.read() {
            Ok(Message::Close(close)) => frame = close,
            Ok(other) => panic!("an answer to what has to be refused: {other}"),
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the server says nothing")
            }
            Err(_) => return frame,
        }
    }
}

/// Text and binary, of every length at which a frame changes its shape.
pub fn messages_are_echoed(binary: &str, arguments: &[&str]) {
    both_ways(|certificate| {
        let server = Server::start(binary, Mode::Echo, certificate, arguments);
        let mut client = Connect::to(server.address(), certificate).client();
        let lengths = [0, 1, 125, 126, 127, 4095, 4096, 16_384, 16_385, 65_535, 65_536, 131_072, 1 << 20];
        for length in lengths {
            round_trip(&mut client, &Message::text(text(length)));
            round_trip(&mut client, &Message::binary(vec![0xa5; length]));
        }
        close(&mut client);
        let messages = 2 * lengths.len() as u64;
        let counts = server.stop(Signal::TERM);
        assert_eq!(counts, Counts { mode: Mode::Echo, messages, failed: 0, connections: 1 });
    });
}

/// It does not fit the kernel's buffers, and the client reads only when it has sent all of it: the server has to
/// wait until it can go on writing.
pub fn the_longest_message_is_echoed(binary: &str, arguments: &[&str]) {
    both_ways(|certificate| {
        let server = Server::start(binary, Mode::Echo, certificate, arguments);
        let mut client = Connect::to(server.address(), certificate).client();
        let longest: Bytes = (0..=u8::MAX).cycle().take(Mode::Echo.message_bytes_max()).collect();
        round_trip(&mut client, &Message::binary(longest));
        close(&mut client);
        assert_eq!(server.stop(Signal::TERM).messages, 1);
    });
}

/// Far more messages than a server handles in one go, sent before the first echo is read.
pub fn a_burst_comes_back_in_order(binary: &str, arguments: &[&str]) {
    const MESSAGES: u64 = 1000;
    both_ways(|certificate| {
        let server = Server::start(binary, Mode::Echo, certificate, arguments);
        let mut client = Connect::to(server.address(), certificate).client();
        for number in 0..MESSAGES {
            client.write(Message::text(number.to_string())).expect("the server takes it");
        }
        client.flush().expect("the server takes it");
        for number in 0..MESSAGES {
            assert_eq!(client.read().expect("an echo"), Message::text(number.to_string()));
        }
        close(&mut client);
        assert_eq!(server.stop(Signal::TERM).messages, MESSAGES);
    });
}

/// From several threads, so that a server's own threads meet.
pub fn many_clients_are_served_at_once(binary: &str, arguments: &[&str]) {
    const THREADS: u64 = 8;
    const CLIENTS: u64 = 25;
    const MESSAGES: u64 = 5;
    both_ways(|certificate| {
        let server = Server::start(binary, Mode::Echo, certificate, arguments);
        let connect = Connect::to(server.address(), certificate);
        let crowd = |thread: u64| {
            let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect.client()).collect();
            for number in 0..MESSAGES {
                for (seed, client) in (thread * CLIENTS..).zip(&mut clients) {
                    client.send(Message::text(payload(seed + number))).expect("the server takes it");
                }
                for (seed, client) in (thread * CLIENTS..).zip(&mut clients) {
                    assert_eq!(client.read().expect("an echo"), Message::text(payload(seed + number)));
                }
            }
            clients.iter_mut().for_each(close);
        };
        thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || crowd(thread)))));
        let (messages, connections) = (THREADS * CLIENTS * MESSAGES, THREADS * CLIENTS);
        let counts = Counts { mode: Mode::Echo, messages, failed: 0, connections };
        assert_eq!(server.stop(Signal::TERM), counts);
    });
}

/// In both modes, also between messages, with the same payload.
pub fn a_ping_is_answered(binary: &str, arguments: &[&str]) {
    for mode in [Mode::Echo, Mode::Ingest] {
        let server = Server::start(binary, mode, None, arguments);
        let mut client = Connect::to(server.address(), None).client();
        for payload in [&b""[..], b"first", &[7; 125]] {
            client.send(Message::Ping(Bytes::copy_from_slice(payload))).expect("the server takes it");
            assert_eq!(client.read().expect("a pong"), Message::Pong(Bytes::copy_from_slice(payload)));
        }
        close(&mut client);
        assert_eq!(server.stop(Signal::TERM), Counts { mode, messages: 0, failed: 0, connections: 1 });
    }
}

/// Also while the server runs, on SIGUSR1.
pub fn messages_are_parsed_and_counted(binary: &str, arguments: &[&str]) {
    const CLIENTS: u64 = 12;
    const MESSAGES: u64 = 10;
    both_ways(|certificate| {
        let mut server = Server::start(binary, Mode::Ingest, certificate, arguments);
        let mut clients: Vec<_> =
            (0..CLIENTS).map(|_| Connect::to(server.address(), certificate).client()).collect();
        for seed in 0..MESSAGES {
            for client in &mut clients {
                client.send(Message::text(payload(seed))).expect("the server takes it");
            }
        }
        clients.iter_mut().for_each(close);
        let counts =
            Counts { mode: Mode::Ingest, messages: CLIENTS * MESSAGES, failed: 0, connections: CLIENTS };
        assert_eq!(server.counts(), counts);
        assert_eq!(server.counts(), counts);
        assert_eq!(server.stop(Signal::TERM), counts);
    });
}

/// 1007 with the place for JSON that does not fit, 1003 for a binary message; the neighbours stay.
pub fn a_message_that_does_not_fit_is_refused(binary: &str, arguments: &[&str]) {
    both_ways(|certificate| {
        let server = Server::start(binary, Mode::Ingest, certificate, arguments);
        let connect = Connect::to(server.address(), certificate);
        let mut neighbour = connect.client();
        let unknown = payload(1).replacen("\"note\"", "\"notes\"", 1);
        for (message, code, part) in [
            (Message::text(unknown), CloseCode::Invalid, "unknown field `notes`"),
            (Message::text("{}"), CloseCode::Invalid, "line 1, column 2: missing field"),
            (Message::text("telemetry"), CloseCode::Invalid, "line 1, column "),
            (Message::text(""), CloseCode::Invalid, "line 1, column "),
            (Message::binary(payload(1)), CloseCode::Unsupported, "text"),
        ] {
            let mut client = connect.client();
            client.send(message).expect("the server takes it");
            // It lies behind the refused one: nobody counts it.
            client.send(Message::text(payload(2))).expect("the server takes it");
            let frame = closed_by_server(&mut client).expect("a close frame");
            assert_eq!(frame.code, code, "{}", frame.reason);
            assert!(frame.reason.contains(part), "{part}: {}", frame.reason);
        }
        neighbour.send(Message::text(payload(3))).expect("the server takes it");
        close(&mut neighbour);
        let counts = Counts { mode: Mode::Ingest, messages: 1, failed: 5, connections: 6 };
        assert_eq!(server.stop(Signal::TERM), counts);
    });
}

/// 1 MiB is parsed, one byte more is not.
pub fn a_message_that_is_too_long_is_not_taken(binary: &str, arguments: &[&str]) {
    let server = Server::start(binary, Mode::Ingest, None, arguments);
    let connect = Connect::to(server.address(), None);
    let longest = {
        let message = payload(1);
        let rest = "x".repeat(Mode::Ingest.message_bytes_max() - PAYLOAD_BYTES);
        message.replacen("\"note\":\"", &format!("\"note\":\"{rest}"), 1)
    };
    let mut client = connect.client();
    client.send(Message::text(longest.clone())).expect("the server takes it");
    close(&mut client);
    let mut client = connect.client();
    // The server may be gone before all of it is sent.
    let _ = client.send(Message::text(longest + " "));
    closed_by_server(&mut client);
    // A server that waits for the client's end has it, and need not wait for its deadline.
    drop(client);
    assert_eq!(server.stop(Signal::TERM).messages, 1);
}

/// Each step of both handshakes finds too few bytes at first.
pub fn handshakes_may_come_in_pieces(binary: &str, arguments: &[&str]) {
    both_ways(|certificate| {
        let server = Server::start(binary, Mode::Echo, certificate, arguments);
        let mut client = Connect::to(server.address(), certificate).in_pieces_of(7).client();
        round_trip(&mut client, &Message::text(payload(1)));
        close(&mut client);
        assert_eq!(server.stop(Signal::TERM).connections, 1);
    });
}

/// TLS 1.2 beside 1.3; `http/1.1` is agreed on in both.
pub fn tls_12_and_alpn(binary: &str, arguments: &[&str]) {
    let certificate = Certificate::new();
    let server = Server::start(binary, Mode::Echo, Some(&certificate), arguments);
    let connect = || Connect::to(server.address(), Some(&certificate));
    for connect in [connect(), connect().tls_12()] {
        let mut client = connect.client();
        round_trip(&mut client, &Message::text(payload(1)));
        assert_eq!(client.get_ref().alpn(), Some(&b"http/1.1"[..]));
        close(&mut client);
    }
    assert_eq!(server.stop(Signal::TERM).connections, 2);
}

/// Clients that speak something else, or leave in the middle: each loses its connection, the others do not notice.
pub fn a_bad_client_ends_alone(binary: &str, arguments: &[&str]) {
    both_ways(|certificate| {
        let server = Server::start(binary, Mode::Echo, certificate, arguments);
        let connect = Connect::to(server.address(), certificate);
        let mut neighbour = connect.client();
        for bytes in
            [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"SSH-2.0-client\r\n\r\n", &[0xff; 600]]
        {
            let mut tcp = TcpStream::connect(server.address()).expect("the server accepts");
            tcp.set_read_timeout(Some(TIMEOUT)).expect("an open socket");
            tcp.write_all(bytes).expect("a new connection takes it");
            let end = tcp.read_to_end(&mut Vec::new());
            assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it stays open");
        }
        // Before, in the middle of and behind the handshake.
        drop(TcpStream::connect(server.address()).expect("the server accepts"));
        let mut half = connect.stream();
        half.write_all(b"GET / HTTP/1.1\r\nUpgr").expect("the server takes it");
        drop(half);
        drop(connect.client());
        let mut unmasked = connect.client();
        unmasked.get_mut().write_all(b"\x81\x02hi").expect("the server takes it");
        closed_by_server(&mut unmasked);
        drop(unmasked);
        round_trip(&mut neighbour, &Message::text("still here"));
        close(&mut neighbour);
        let counts = Counts { mode: Mode::Echo, messages: 1, failed: 0, connections: 3 };
        assert_eq!(server.stop(Signal::TERM), counts);
    });
}

/// The server has no descriptor left, clients wait; when others leave, it goes on.
pub fn a_lack_of_descriptors_passes(binary: &str, arguments: &[&str]) {
    const DESCRIPTORS: usize = 48;
    let server = Server::start_limited(binary, Mode::Echo, arguments, DESCRIPTORS);
    let connect = Connect::to(server.address(), None);
    let mut first = connect.client();
    let crowd: Vec<_> = (0..DESCRIPTORS + 16).map(|_| connect.stream()).collect();
    let start = Instant::now();
    while server.descriptors() < DESCRIPTORS {
        assert!(start.elapsed() < TIMEOUT, "{} descriptors", server.descriptors());
        thread::yield_now();
    }
    round_trip(&mut first, &Message::text("served while others wait"));
    drop(crowd);
    let mut last = connect.client();
    round_trip(&mut last, &Message::text("served after the others left"));
    close(&mut first);
    close(&mut last);
    assert_eq!(server.stop(Signal::TERM).messages, 2);
}

/// SIGINT as well as SIGTERM, with a client connected and with a handshake that is not finished.
pub fn both_signals_end_it(binary: &str, arguments: &[&str]) {
    let certificate = Certificate::new();
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::start(binary, Mode::Echo, Some(&certificate), arguments);
        let connect = Connect::to(server.address(), Some(&certificate));
        let mut client = connect.client();
        let _silent = TcpStream::connect(server.address()).expect("the server accepts");
        round_trip(&mut client, &Message::text("open"));
        // As a client does that takes part in the closing handshake, if there is one.
        let answers = thread::spawn(move || while client.read().is_ok() {});
        let counts = Counts { mode: Mode::Echo, messages: 1, failed: 0, connections: 1 };
        assert_eq!(server.stop(signal), counts);
        answers.join().expect("reading never panics");
    }
}

/// Exit code 2 for what was typed and for the files, 1 for what the machine refuses; one line on stderr.
pub fn what_is_wrong_is_said_in_one_sentence(binary: &str, arguments: &[&str]) {
    let (pair, other, directory) = (Certificate::new(), Certificate::new(), Directory::new());
    let (cert, key, other_key) = (pair.cert(), pair.key(), other.key());
    let (cert, key, other_key) = (argument(&cert), argument(&key), argument(&other_key));
    let (absent, prose) = (directory.path("absent.pem"), directory.write("prose.pem", "Dear reader,\n"));
    let (absent, prose) = (argument(&absent), argument(&prose));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("a bound socket").to_string();
    let free = "127.0.0.1:0";
    for (line, code, part) in [
        (vec!["--listen", &taken, "--mode", "echo", "--plain"], 1, taken.as_str()),
        (vec!["--listen", free, "--mode", "echo"], 2, "--cert"),
        (vec!["--listen", free, "--mode", "echo", "--cert", cert], 2, "--key"),
        (vec!["--listen", free, "--mode", "echo", "--cert", absent, "--key", key], 2, absent),
        (vec!["--listen", free, "--mode", "echo", "--cert", cert, "--key", absent], 2, absent),
        (vec!["--listen", free, "--mode", "echo", "--cert", prose, "--key", key], 2, prose),
        (vec!["--listen", free, "--mode", "echo", "--cert", cert, "--key", prose], 2, prose),
        (vec!["--listen", free, "--mode", "echo", "--cert", key, "--key", key], 2, key),
        (vec!["--listen", free, "--mode", "echo", "--cert", cert, "--key", other_key], 2, "match"),
        (vec!["--listen", free, "--mode", "echo", "--plain", "--turbo"], 2, "--turbo"),
        (vec!["--listen", free, "--mode", "send", "--plain"], 2, "send"),
        (vec!["--listen", "nowhere", "--mode", "echo", "--plain"], 2, "nowhere"),
        (vec!["--mode", "echo", "--plain"], 2, "--listen"),
    ] {
        let (actual, sentence) = refusal(binary, &[&line, arguments].concat());
        assert_eq!(actual, code, "{line:?}: {sentence}");
        assert!(sentence.contains(part), "{line:?}: {sentence}");
        assert!(!sentence.contains("panicked"), "{line:?}: {sentence}");
    }
}

/// `--help` names every shared option on stdout.
pub fn help_is_given(binary: &str, arguments: &[&str]) {
    let mut command = Command::new(binary);
    let output =
        command.args(arguments).arg("--help").stdin(Stdio::null()).output().expect("the binary was built");
    assert!(output.status.success(), "{}", output.status);
    let help = String::from_utf8(output.stdout).expect("text");
    for option in ["--listen ADDR", "--mode ingest|echo", "--cert F", "--key F", "--plain", "--threads N"] {
        assert!(help.contains(option), "{option}: {help}");
    }
}
