//! The parameters of permessage-deflate (RFC 7692 §7.1), as each peer calls them.

use serde_json::{Value, json};

use crate::puppet::Peer;

/// What an end asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parameters {
    pub(crate) server_no_context_takeover: bool,
    pub(crate) client_no_context_takeover: bool,
    pub(crate) server_max_window_bits: u8,
    pub(crate) client_max_window_bits: u8,
}

impl Default for Parameters {
    /// What no parameter means.
    fn default() -> Self {
        Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }
    }
}

impl Parameters {
    /// Each way to take the context over or not, with each window, which is another one for the other end.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (9..=15).flat_map(|bits| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(server, client)| Self {
                server_no_context_takeover: server,
                client_no_context_takeover: client,
                server_max_window_bits: bits,
                client_max_window_bits: 24 - bits,
            })
        })
    }

    /// What an answer says that accepts.
    pub(crate) fn from_header(answer: &str) -> Self {
        let mut found = Self::default();
        let (name, parameters) = answer.split_once(';').unwrap_or((answer, ""));
        assert_eq!(name, "permessage-deflate");
        for parameter in parameters.split(';').map(str::trim).filter(|parameter| !parameter.is_empty()) {
            let bits = |value: &str| value.parse().expect("a number");
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("server_no_context_takeover", "") => found.server_no_context_takeover = true,
                ("client_no_context_takeover", "") => found.client_no_context_takeover = true,
                ("server_max_window_bits", value) => found.server_max_window_bits = bits(value),
                ("client_max_window_bits", value) => found.client_max_window_bits = bits(value),
                _ => panic!("{answer}"),
            }
        }
        found
    }

    /// The options of a client or server of this make, which then compresses every message.
    pub(crate) fn options(&self, peer: Peer) -> Value {
        let (server, client) = (self.server_no_context_takeover, self.client_no_context_takeover);
        let (server_bits, client_bits) = (self.server_max_window_bits, self.client_max_window_bits);
        match peer {
            // `false` would refuse an answer that has the flag, and 15 an offer of less.
            Peer::Node => json!({
                "serverNoContextTakeover": server.then_some(true),
                "clientNoContextTakeover": client.then_some(true),
                "serverMaxWindowBits": Some(server_bits).filter(|&bits| bits < 15),
                "clientMaxWindowBits": Some(client_bits).filter(|&bits| bits < 15),
                "threshold": 0,
            }),
            Peer::Python => json!({
                "server_no_context_takeover": server,
                "client_no_context_takeover": client,
                "server_max_window_bits": server_bits,
                "client_max_window_bits": client_bits,
            }),
            // It has its own.
            Peer::Chromium => Value::Null,
        }
    }
}
