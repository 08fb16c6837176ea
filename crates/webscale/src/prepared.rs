//! Messages for many.

use std::fmt;
use std::sync::{Arc, OnceLock};

use webscale_proto::{Deflate, Message};

use crate::deflate::{Compressors, Settings};
use crate::panics::Panicked;
use crate::sender::OwnedMessage;

/// The windows that may be agreed on, 9 to 15 bits.
const WINDOWS: usize = (Deflate::MAX_WINDOW_BITS - Deflate::MIN_WINDOW_BITS) as usize + 1;

/// A message for many connections: made once, compressed once, cheap to clone and to send from any thread
/// ([`Peer::send_prepared`](crate::Peer::send_prepared), [`Sender::send_prepared`](crate::Sender::send_prepared)).
///
/// It is compressed when it first goes to a connection that agreed on permessage-deflate, at that connection's level, and
/// once for each window that is in use (a server uses two at most). A connection that agreed on context takeover for what we
/// send gets it uncompressed: its compressor's memory is its own, so each would have to compress for itself, which is what
/// this is to save.
///
/// ```
/// use webscale::{Message, Prepared};
/// let news = Prepared::new(Message::Text("{\"price\": 42}"));
/// assert_eq!(news.message(), Message::Text("{\"price\": 42}"));
/// ```
#[derive(Clone)]
pub struct Prepared(Arc<Inner>);

struct Inner {
    message: OwnedMessage,
    /// By window; `None` inside where it would not become shorter.
    compressed: [OnceLock<Option<Box<[u8]>>>; WINDOWS],
}

impl Prepared {
    /// Takes a copy of `message`.
    #[must_use]
    pub fn new(message: Message<'_>) -> Self {
        Self(Arc::new(Inner { message: message.into(), compressed: [const { OnceLock::new() }; WINDOWS] }))
    }

    /// What was prepared.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        self.0.message.borrowed()
    }

    /// The compressed payload, made now if it was not made before; `None` where it should go as it is.
    pub(crate) fn compressed(
        &self,
        compressors: &mut Compressors,
        settings: Settings,
    ) -> Result<Option<&[u8]>, Panicked> {
        let payload = self.message().as_bytes();
        let index = usize::from(settings.window_bits.saturating_sub(Deflate::MIN_WINDOW_BITS));
        let Some(slot) = self.0.compressed.get(index).filter(|_| settings.wants(payload.len())) else {
            return Ok(None);
        };
        let mut panicked = false;
        let compressed = slot.get_or_init(|| match compressors.compress_alone(payload, settings) {
            Ok(compressed) => {
                let own = compressed.map(Box::from);
                compressors.shrink();
                own
            }
            Err(Panicked) => {
                panicked = true;
                None
            }
        });
        if panicked { Err(Panicked) } else { Ok(compressed.as_deref()) }
    }

    /// This handle's share of the message's memory, in bytes.
    pub(crate) fn share(&self) -> usize {
        self.message().len() / Arc::strong_count(&self.0).max(1)
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.message().is_text() { "text" } else { "binary" };
        write!(f, "Prepared({kind}, {} bytes)", self.message().len())
    }
}
