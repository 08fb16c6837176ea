//! The opening handshake, from origin to subprotocol, and a health page on the same port.
//!
//! ```text
//! cargo run -p webscale --example chat_door
//! curl -i http://127.0.0.1:9001/healthz
//! curl -i http://127.0.0.1:9001/chat
//! ```
//!
//! A client opens `ws://127.0.0.1:9001/chat` with `Authorization: Bearer sesame` and the subprotocol `chat.v2` or `chat.v1`.

use std::error::Error;

use webscale::{
    Accept, Close, CloseCode, Handler, Message, Origins, Peer, Reject, Request, Response, SendError, Server,
};

/// As this server prefers them.
const PROTOCOLS: [&str; 2] = ["chat.v2", "chat.v1"];
/// A real server looks the token up, and compares it in constant time.
const TOKEN: &[u8] = b"Bearer sesame";

struct Chat;

impl Handler for Chat {
    /// The subprotocol that was agreed on.
    type Session = &'static str;

    fn open(&self, request: &Request<'_>) -> Result<Accept<Self::Session>, Reject> {
        if request.path() != "/chat" {
            return Err(Reject::new(404, "there is a chat at /chat\n"));
        }
        if request.header("Authorization") != Some(TOKEN) {
            return Err(Reject::new(401, "who are you?\n").header("WWW-Authenticate", "Bearer"));
        }
        let Some(protocol) = request.select(&PROTOCOLS) else {
            return Err(Reject::new(400, "offer the subprotocol chat.v2 or chat.v1\n"));
        };
        Ok(Accept::new(protocol).protocol(protocol).header("X-Served-By", "chat_door"))
    }

    fn http(&self, request: &Request<'_>) -> Response {
        match request.path() {
            "/healthz" => Response::new(200, "ok\n").header("Cache-Control", "no-store"),
            "/chat" => Response::new(426, "open a WebSocket here\n"),
            _ => Response::new(404, "try /healthz\n"),
        }
    }

    fn message(&self, peer: &mut Peer<'_, Self::Session>, message: Message<'_>) {
        let Message::Text(text) = message else {
            return peer.close(CloseCode::UNSUPPORTED, "a chat is text");
        };
        let answer = format!("[{}] {text}", peer.session());
        // A client that does not read its answers is closed by the library.
        let _: Result<(), SendError> = peer.send(Message::Text(&answer));
    }

    fn close(&self, protocol: Self::Session, close: Close) {
        println!("a {protocol} client left: {close}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .listen("127.0.0.1:9001")
        .origins(Origins::list(["https://chat.example", "http://localhost:8080"]))
        .shutdown_on_signals()
        .build(Chat)?;
    println!("listening on ws://{}", server.local_addr());
    Ok(server.run()?)
}
