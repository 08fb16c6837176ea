//! tungstenite as its documentation uses it: one `WebSocket` over a stream, kept for the whole connection.

use std::hint::black_box;
use std::io::{self, Read, Write};

use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Message, Utf8Bytes};

/// A peer that sends the same frame again and again, each when the one before was read, and takes everything.
struct Peer {
    frame: Vec<u8>,
    at: usize,
}

impl Read for Peer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = (&self.frame[self.at..]).read(into)?;
        self.at = (self.at + count) % self.frame.len();
        Ok(count)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The two sizes of read buffer that its documentation names: the default, and one for many connections.
pub(crate) const BUFFERS: [(&str, usize); 2] =
    [("tungstenite-128k", 128 * 1024), ("tungstenite-4k", 4 * 1024)];

fn socket(frame: &[u8], role: Role, read_buffer: usize) -> WebSocket<Peer> {
    let config = WebSocketConfig::default().read_buffer_size(read_buffer);
    WebSocket::from_raw_socket(Peer { frame: frame.to_vec(), at: 0 }, role, Some(config))
}

/// A server that reads one message.
pub(crate) fn decode(frame: &[u8], read_buffer: usize) -> impl FnMut() + use<> {
    let mut socket = socket(frame, Role::Server, read_buffer);
    move || drop(black_box(socket.read().expect("a message")))
}

/// One end that sends one text: it is made once, and only counted up after that.
pub(crate) fn encode(text: &str, role: Role, read_buffer: usize) -> impl FnMut() + use<> {
    let mut socket = socket(&[], role, read_buffer);
    let text = Utf8Bytes::from(text);
    move || socket.send(Message::Text(text.clone())).expect("a peer that takes everything")
}
