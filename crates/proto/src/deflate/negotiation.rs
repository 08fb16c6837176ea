//! Offers and answers (RFC 7692 §5, §7.1), as the text of Sec-WebSocket-Extensions has them.

use core::fmt;

use super::{Deflate, NAME};
use crate::handshake::split_quoted;
use crate::role::Role;

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// How one end's messages are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Direction {
    /// Whether a message may refer to earlier ones (§7.1.1).
    pub context_takeover: bool,
    /// How far back, as a power of two in bytes: 8 to 15 (§7.1.2).
    pub window_bits: u8,
}

/// What both ends agreed on. As text, with `Display`, it is a server's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    /// `None`: not spoken of, which means 15.
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
}

impl Agreed {
    /// How the end of this role compresses.
    #[must_use]
    pub fn direction(&self, role: Role) -> Direction {
        let (no_takeover, bits) = match role {
            Role::Server => (self.server_no_context_takeover, self.server_max_window_bits),
            Role::Client => (self.client_no_context_takeover, self.client_max_window_bits),
        };
        let window_bits = bits.unwrap_or(Deflate::MAX_WINDOW_BITS);
        Direction { context_takeover: !no_takeover, window_bits }
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        write_flag(f, SERVER_NO_CONTEXT_TAKEOVER, self.server_no_context_takeover)?;
        write_flag(f, CLIENT_NO_CONTEXT_TAKEOVER, self.client_no_context_takeover)?;
        write_bits(f, SERVER_MAX_WINDOW_BITS, self.server_max_window_bits)?;
        write_bits(f, CLIENT_MAX_WINDOW_BITS, self.client_max_window_bits)
    }
}

/// What a client offers, as text with `Display`.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a>(&'a Deflate);

impl fmt::Display for Offer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Deflate { own, peer, .. } = self.0;
        let restricted = |bits| Some(bits).filter(|&bits| bits < Deflate::MAX_WINDOW_BITS);
        f.write_str(NAME)?;
        write_flag(f, SERVER_NO_CONTEXT_TAKEOVER, !peer.context_takeover)?;
        write_flag(f, CLIENT_NO_CONTEXT_TAKEOVER, !own.context_takeover)?;
        write_bits(f, SERVER_MAX_WINDOW_BITS, restricted(peer.window_bits))?;
        match restricted(own.window_bits) {
            // Without a value: the server may restrict us.
            None => write_flag(f, CLIENT_MAX_WINDOW_BITS, true),
            bits => write_bits(f, CLIENT_MAX_WINDOW_BITS, bits),
        }
    }
}

fn write_flag(f: &mut fmt::Formatter<'_>, name: &str, is_set: bool) -> fmt::Result {
    if is_set { write!(f, "; {name}") } else { Ok(()) }
}

fn write_bits(f: &mut fmt::Formatter<'_>, name: &str, bits: Option<u8>) -> fmt::Result {
    bits.map_or(Ok(()), |bits| write!(f, "; {name}={bits}"))
}

impl Deflate {
    /// A server's answer to a client's offers, each an element of Sec-WebSocket-Extensions: takes the first
    /// that it can, and gives `None` where it can take none. An offer is declined for a parameter that is
    /// unknown, repeated, without the value that it needs or with one that it may not have (§7.1), and for a
    /// server's window of 8 bits, which zlib does not have.
    pub fn answer<'a>(&self, offers: impl IntoIterator<Item = &'a str>) -> Option<Agreed> {
        offers.into_iter().find_map(|offer| self.answer_one(&Parameters::parse(offer)?))
    }

    fn answer_one(&self, offer: &Parameters) -> Option<Agreed> {
        let server_max_window_bits = match offer.server_max_window_bits {
            Some(Some(bits)) if bits < Self::MIN_WINDOW_BITS => return None,
            Some(Some(bits)) => Some(bits.min(self.own.window_bits)),
            Some(None) => return None,
            None => Some(self.own.window_bits).filter(|&bits| bits < Self::MAX_WINDOW_BITS),
        };
        // May stand in an answer only where the offer had it (§7.1.2.2).
        let client_max_window_bits = offer.client_max_window_bits.and_then(|offered| {
            let bits = offered.unwrap_or(Self::MAX_WINDOW_BITS).min(self.peer.window_bits);
            Some(bits).filter(|&bits| bits < Self::MAX_WINDOW_BITS)
        });
        Some(Agreed {
            server_no_context_takeover: offer.server_no_context_takeover || !self.own.context_takeover,
            client_no_context_takeover: offer.client_no_context_takeover || !self.peer.context_takeover,
            server_max_window_bits,
            client_max_window_bits,
        })
    }

    /// What a client offers.
    #[must_use]
    pub fn offer(&self) -> Offer<'_> {
        Offer(self)
    }

    /// What a client makes of the elements of the answer's Sec-WebSocket-Extensions: `Ok(None)` without any,
    /// as the server declined. `Err`: the connection must fail, because the answer is another extension, is
    /// malformed (§7.1), or does not accept what was [offered](Self::offer).
    #[expect(clippy::result_unit_err, reason = "the handshake has one error for all of these")]
    pub fn confirm<'a>(&self, answer: impl IntoIterator<Item = &'a str>) -> Result<Option<Agreed>, ()> {
        let mut elements = answer.into_iter();
        let Some(element) = elements.next() else { return Ok(None) };
        if elements.next().is_some() {
            return Err(());
        }
        Parameters::parse(element).and_then(|answer| self.confirm_one(&answer)).map(Some).ok_or(())
    }

    fn confirm_one(&self, answer: &Parameters) -> Option<Agreed> {
        let server_max_window_bits = match answer.server_max_window_bits {
            Some(bits) => Some(bits.filter(|&bits| bits <= self.peer.window_bits)?),
            None if self.peer.window_bits < Self::MAX_WINDOW_BITS => return None,
            None => None,
        };
        let client_max_window_bits = match answer.client_max_window_bits {
            Some(bits) => {
                let allowed = Self::MIN_WINDOW_BITS..=self.own.window_bits;
                Some(bits.filter(|bits| allowed.contains(bits))?)
            }
            None => Some(self.own.window_bits).filter(|&bits| bits < Self::MAX_WINDOW_BITS),
        };
        if !answer.server_no_context_takeover && !self.peer.context_takeover {
            return None;
        }
        Some(Agreed {
            server_no_context_takeover: answer.server_no_context_takeover,
            // What we do not want to do we need not do.
            client_no_context_takeover: answer.client_no_context_takeover || !self.own.context_takeover,
            server_max_window_bits,
            client_max_window_bits,
        })
    }
}

/// The parameters of one element. The outer `Option` says whether it is there, the inner one is its value.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<Option<u8>>,
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// `None` for another extension, and for parameters that are not as §7.1 has them.
    fn parse(element: &str) -> Option<Self> {
        let mut parts = split_quoted(element, b';');
        if parts.next()? != NAME {
            return None;
        }
        let mut parameters = Self::default();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_ascii(), Some(value.trim_ascii())),
                None => (part, None),
            };
            parameters.set(name, value)?;
        }
        Some(parameters)
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Option<()> {
        match name {
            SERVER_NO_CONTEXT_TAKEOVER => set_flag(&mut self.server_no_context_takeover, value),
            CLIENT_NO_CONTEXT_TAKEOVER => set_flag(&mut self.client_no_context_takeover, value),
            SERVER_MAX_WINDOW_BITS => set_bits(&mut self.server_max_window_bits, value),
            CLIENT_MAX_WINDOW_BITS => set_bits(&mut self.client_max_window_bits, value),
            _ => None,
        }
    }
}

fn set_flag(flag: &mut bool, value: Option<&str>) -> Option<()> {
    (!std::mem::replace(flag, true) && value.is_none()).then_some(())
}

fn set_bits(bits: &mut Option<Option<u8>>, value: Option<&str>) -> Option<()> {
    let value = value.map(|text| window_bits(text).ok_or(())).transpose().ok()?;
    bits.replace(value).is_none().then_some(())
}

/// A decimal number from 8 to 15 without leading zeros (§7.1.2), quoted or not (RFC 6455 §9.1).
fn window_bits(text: &str) -> Option<u8> {
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    match unquoted.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}
