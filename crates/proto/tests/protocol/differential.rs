//! The same bytes into tungstenite and into the decoder: the same messages, or both refuse.
//!
//! Where the two differ on purpose:
//! - tungstenite accepts lengths that are not in their shortest form (§5.2 forbids them);
//! - it answers a close code that may not be sent with 1002, and gives that as the event;
//! - it does not know 1014, which IANA has registered;
//! - it refuses a frame once that is whole, the decoder at the first byte that shows the fault.

use std::io::{self, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use tungstenite::protocol::{Role as OracleRole, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};
use webscale_proto::{CloseCode, DecoderConfig, ProtocolError, Role};

use crate::properties::{Wire, pieces, role, traffic};
use crate::support::{Event, events};

const MAX_MESSAGE: usize = 300;

/// A stream that reads pieces and forgets what is written.
struct Pieces<'a>(std::vec::IntoIter<&'a [u8]>);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        for piece in self.0.by_ref() {
            if !piece.is_empty() {
                into[..piece.len()].copy_from_slice(piece);
                return Ok(piece.len());
            }
        }
        Ok(0)
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(PartialEq, Eq, Debug)]
enum End {
    /// The input ended, perhaps inside a message.
    Input,
    Refused,
}

fn oracle(role: Role, input: Vec<&[u8]>) -> (Vec<Event>, End) {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let role = match role {
        Role::Server => OracleRole::Server,
        Role::Client => OracleRole::Client,
    };
    let mut socket = WebSocket::from_raw_socket(Pieces(input.into_iter()), role, Some(config));
    let mut events = Vec::new();
    loop {
        events.push(match socket.read() {
            Ok(Message::Text(text)) => Event::text(&text),
            Ok(Message::Binary(bytes)) => Event::Binary(bytes.to_vec()),
            Ok(Message::Ping(payload)) => Event::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Event::Pong(payload.to_vec()),
            Ok(Message::Close(frame)) => {
                let frame = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                events.push(Event::Close(frame));
                // What stands behind a close frame is ignored.
                return (events, End::Input);
            }
            Ok(Message::Frame(_)) => unreachable!("read gives no raw frames"),
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, End::Input);
            }
            Err(Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_)) => return (events, End::Refused),
            Err(error) => panic!("{error}"),
        });
    }
}

/// What the oracle makes of an invalid close code.
fn refused_code() -> Event {
    Event::Close(Some((1002, "Protocol violation".to_owned())))
}

fn compare(role: Role, input: &[u8], cuts: &[usize]) {
    let config = DecoderConfig { max_message: MAX_MESSAGE, ..DecoderConfig::new(role) };
    let mut ours = events(config, pieces(input, cuts));
    ours.retain(|event| *event != Event::Fragment);
    let (theirs, end) = oracle(role, pieces(input, cuts));
    let context = format!("{role:?} {input:02x?}");
    let Some(Event::Failed(error)) = ours.last().cloned() else {
        if let (Some(Event::Close(Some((1014, _)))), Some(last)) = (ours.last(), theirs.last()) {
            assert_eq!((&ours[..ours.len() - 1], &refused_code()), (&theirs[..theirs.len() - 1], last));
            return;
        }
        assert_eq!((&ours, End::Input), (&theirs, end), "{context}");
        return;
    };
    ours.pop();
    match error {
        ProtocolError::NonMinimalLength => assert!(theirs.starts_with(&ours), "{context}"),
        ProtocolError::InvalidCloseCode if end == End::Input => {
            ours.push(refused_code());
            assert_eq!(ours, theirs, "{context}");
        }
        _ if end == End::Refused => assert_eq!(ours, theirs, "{context}"),
        _ => {
            // The oracle waits for the rest of the frame: let it come.
            let rest = [0; MAX_MESSAGE + 14];
            let (theirs, end) = oracle(role, vec![input, &rest]);
            assert_eq!((&ours, End::Refused), (&theirs, end), "{context} {error:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn good_traffic(
        role in role(),
        key in any::<u32>(),
        traffic in traffic(),
        code in proptest::option::of(1000..5000u16),
        cuts in vec(any::<usize>(), 0..10),
    ) {
        let mut wire = Wire::new(role, key);
        wire.send_all(&traffic, true);
        if let Some(code) = code.and_then(CloseCode::new) {
            wire.close(Some(code), "bye");
        }
        compare(role, &wire.bytes, &cuts);
    }

    #[test]
    fn damaged_traffic(
        role in role(),
        key in any::<u32>(),
        traffic in traffic(),
        damage in vec((any::<usize>(), any::<u8>()), 1..4),
        cuts in vec(any::<usize>(), 0..10),
    ) {
        let mut wire = Wire::new(role, key);
        wire.send_all(&traffic, true);
        let len = wire.bytes.len();
        for (at, byte) in damage.into_iter().filter(|_| len > 0) {
            wire.bytes[at % len] = byte;
        }
        compare(role, &wire.bytes, &cuts);
    }

    /// Frames with every first byte and short payloads, so that the rules of order are hit often.
    #[test]
    fn frames_in_any_order(
        role in role(),
        frames in vec((any::<u8>(), vec(any::<u8>(), 0..6), any::<bool>()), 0..8),
        cuts in vec(any::<usize>(), 0..10),
    ) {
        let mut input = Vec::new();
        for (first, payload, tame) in frames {
            // Mostly no reserved bits, and only known opcodes.
            let first = if tame { first & 0x8b } else { first };
            input.extend(crate::support::sent_to(role, first, &payload));
        }
        compare(role, &input, &cuts);
    }

    #[test]
    fn noise(role in role(), input in vec(any::<u8>(), 0..60), cuts in vec(any::<usize>(), 0..4)) {
        compare(role, &input, &cuts);
    }
}
