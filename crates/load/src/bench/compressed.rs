//! What crossed the wire compressed (RFC 7692), of the whole load.

use serde::{Deserialize, Serialize};
use webscale::Snapshot;

/// Messages that were compressed, warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compressed {
    /// By the load.
    pub sent: Coded,
    /// By the server.
    pub received: Coded,
}

/// Messages of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coded {
    /// How many.
    pub messages: u64,
    /// Bytes of their payload.
    pub bytes: u64,
    /// The same as they crossed the wire.
    pub compressed_bytes: u64,
}

impl From<&Snapshot> for Compressed {
    fn from(metrics: &Snapshot) -> Compressed {
        let sent = Coded {
            messages: metrics.deflated_messages,
            bytes: metrics.deflated_from_bytes,
            compressed_bytes: metrics.deflated_to_bytes,
        };
        let received = Coded {
            messages: metrics.inflated_messages,
            bytes: metrics.inflated_to_bytes,
            compressed_bytes: metrics.inflated_from_bytes,
        };
        Compressed { sent, received }
    }
}

impl Compressed {
    pub(crate) fn add(&mut self, other: Compressed) {
        self.sent.add(other.sent);
        self.received.add(other.received);
    }
}

impl Coded {
    fn add(&mut self, other: Coded) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.compressed_bytes += other.compressed_bytes;
    }

    /// What is left of the bytes; none where nothing was compressed.
    pub fn share(self) -> Option<f64> {
        (self.bytes > 0).then(|| self.compressed_bytes as f64 / self.bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_added() {
        let mut metrics = Snapshot::default();
        (metrics.deflated_messages, metrics.inflated_messages) = (1, 2);
        (metrics.deflated_from_bytes, metrics.deflated_to_bytes) = (100, 30);
        (metrics.inflated_from_bytes, metrics.inflated_to_bytes) = (60, 200);
        let mut sum = Compressed::from(&metrics);
        sum.add(sum);
        assert_eq!(sum.sent, Coded { messages: 2, bytes: 200, compressed_bytes: 60 });
        assert_eq!(sum.received, Coded { messages: 4, bytes: 400, compressed_bytes: 120 });
        assert_eq!((sum.sent.share(), Coded::default().share()), (Some(0.3), None));
    }
}
