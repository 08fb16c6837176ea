//! The same bytes into tungstenite and into the decoder: the same messages, or both refuse.
//!
//! Where the two differ on purpose:
//! - tungstenite accepts lengths that are not in their shortest form (§5.2 forbids them), and so control frames
//!   with a long form of a short length;
//! - it answers a close code that may not be sent with 1002, and gives that as the event;
//! - it does not know 1014, which IANA has registered;
//! - it refuses a frame once that is whole, the decoder at the first byte that shows the fault.

use std::fmt;
use std::io::{self, Read, Write};

use tungstenite::protocol::{Role as OracleRole, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};
use webscale_proto::{DecoderConfig, ProtocolError, Role};

use crate::support::{Event, events, pieces};

const MAX_MESSAGE: usize = 300;

/// A stream that reads pieces and forgets what is written.
struct Pieces<'a>(std::vec::IntoIter<&'a [u8]>);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.0.as_mut_slice().first_mut() {
            match piece.read(into)? {
                0 => drop(self.0.next()),
                count => return Ok(count),
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
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
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

/// Written out only where something is wrong.
struct Context<'a>(Role, &'a [u8]);

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:02x?}", self.0, self.1)
    }
}

/// What the oracle makes of an invalid close code.
fn refused_code() -> Event {
    Event::Close(Some((1002, "Protocol violation".to_owned())))
}

/// Both read `input`, cut at places taken modulo its length.
pub(crate) fn compare(role: Role, input: &[u8], cuts: &[usize]) {
    let config = DecoderConfig { max_message: MAX_MESSAGE, ..DecoderConfig::new(role) };
    let mut ours = events(config, pieces(input, cuts));
    ours.retain(|event| *event != Event::Fragment);
    let (theirs, end) = oracle(role, pieces(input, cuts));
    let context = Context(role, input);
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
        ProtocolError::NonMinimalLength | ProtocolError::ControlTooLong => {
            assert!(theirs.starts_with(&ours), "{context}");
        }
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
