//! Everything that a peer can make grow, and how far.

use std::num::NonZero;
use std::sync::LazyLock;
use std::time::Duration;

use webscale_sys::TcpOptions;
use webscale_sys::limits::{raise_descriptors, reserve_descriptors};

/// What a process holds beside connections: epoll instances, listeners, files of the program.
const OTHER_DESCRIPTORS: usize = 64;

/// What happens to a client that does not read what is sent to it, once [`Limits::egress_bytes`] are queued. A handler may
/// choose for each connection, with [`Accept::slow_consumer`](crate::Accept::slow_consumer).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SlowConsumer {
    /// It is closed with 1008.
    #[default]
    Close,
    /// Messages that do not fit are not sent ([`SendError::Full`](crate::SendError::Full)); the connection lives on.
    DropNewest,
    /// The oldest messages that wait are dropped to make room for a new one: a client that is late sees the latest. Dropped
    /// are whole messages of which no byte was given to TLS or the socket; up to 64 KiB, or one message, are given at a time.
    /// Messages in fragments are not dropped, nor compressed ones where the client agreed on context takeover (so that what
    /// is sent while something waits goes uncompressed there); if they leave no room, [`SendError::Full`](crate::SendError::Full) it is.
    DropOldest,
}

/// The limits of a server or a client, each with its unit. [`Duration::MAX`] switches a time off. The defaults suit
/// telemetry and chat; change what yours needs. docs/limits.md has them as a table, with what counts them:
///
/// ```
/// use webscale::Limits;
/// let limits = Limits { message_bytes: 64 * 1024, ..Limits::default() };
/// ```
#[derive(Clone, Debug)]
pub struct Limits {
    /// HTTP head of the opening handshake, in bytes; then 431. Default 8 KiB.
    pub head_bytes: usize,
    /// Header fields in that head, at most 64; then 431. Default 64.
    pub head_fields: usize,
    /// TLS and HTTP handshake together, from accept or connect. No byte that arrives resets it. Default 10 s.
    pub handshake_time: Duration,
    /// One message, in bytes, counted before it is buffered; then 1009, or chunks where `stream_bytes` allows it.
    /// Default 1 MiB.
    pub message_bytes: usize,
    /// Where this is above `message_bytes`, a message longer than those comes to [`Handler::chunk`](crate::Handler::chunk)
    /// in chunks, up to this many bytes in all; then 1009. Its connection holds no more than `message_bytes` of it,
    /// and about twice that where it is compressed and goes to workers. Default 0: every message comes whole.
    pub stream_bytes: u64,
    /// One message, from the first byte of its TLS record to its last, in chunks or whole; then 1008. If it is over while a worker holds the
    /// message up, it begins anew. Default 60 s.
    pub message_time: Duration,
    /// What may wait for one client's socket, in bytes of frames; also the longest message that can be sent, and the longest
    /// body of an HTTP answer. Default 1 MiB.
    pub egress_bytes: usize,
    /// Above this many waiting bytes the client is not read; below half of it, it is read again. When all of them are gone,
    /// [`Handler::drained`](crate::Handler::drained) is called. Default 256 KiB.
    ///
    /// Where both ends send whether or not they are sent to, both may wait for each other for good: one of them has to go on
    /// reading. `usize::MAX` does.
    pub egress_high_water: usize,
    /// When `egress_bytes` are reached, unless [`Handler::open`](crate::Handler::open) says otherwise. Default: close.
    pub slow_consumer: SlowConsumer,
    /// Bytes for one client that the kernel takes and has not sent yet (TCP_NOTSENT_LOWAT); the others wait in
    /// `egress_bytes`, where they are counted. Bytes under way to the client do not count, so that this slows nobody.
    /// `usize::MAX` leaves it at the socket's send buffer, which grows to megabytes for a client that does not read.
    /// Default 64 KiB.
    pub notsent_bytes: usize,
    /// How long a client's kernel may neither acknowledge what was sent nor take what waits (TCP_USER_TIMEOUT, RFC 5482); then
    /// the connection is ended. It also ends what lingers in the kernel behind a connection that was closed here. A client
    /// that acknowledges but does not read for so long counts as gone, as it does for `pong_time`. Default 60 s.
    pub user_timeout: Duration,
    /// Silence after which a ping is sent, spread by up to an eighth so that many clients do not fall due together.
    /// Default 30 s.
    pub ping_after: Duration,
    /// How long the peer may neither send nor take a byte after that ping; then the connection is ended. While bytes wait for
    /// the peer, taking alone counts, for that silence too: who only sends is closed with 1008. Default 30 s.
    pub pong_time: Duration,
    /// The closing handshake, and then the end of the TCP connection. What is queued then may take until `message_time`
    /// longer, while the peer goes on taking it. Default 5 s.
    pub close_time: Duration,
    /// After a shutdown began, the time until connections still open are dropped. Default 10 s.
    pub shutdown_time: Duration,
    /// Over so much of `shutdown_time` clients are told with 1001 to go, one after the other, so that they do not all knock at
    /// another server at once; until then they are served. Default 0: all at once, so that nobody waits who need not. With
    /// thousands of clients, give each some 0.2 ms, which is what a TLS handshake costs where they go.
    pub shutdown_spread: Duration,
    /// Connections on all loops of this process; further ones are closed as they are accepted. Default: as many as
    /// there are descriptors.
    pub connections: usize,
    /// Connections from one address: further ones are closed as they are accepted. Of IPv6, the first 64 bits are an
    /// address here, since one customer has at least those. Default: off, because a mobile network, a company or a load
    /// balancer may bring any number of clients from one address; without such clients, some hundred is plenty.
    pub connections_per_address: usize,
    /// The same for those among them whose opening handshake, TLS and HTTP, is not done: what is dear to begin and may be
    /// drawn out. Default: off, for the same reason.
    pub handshakes_per_address: usize,
    /// What is held for all clients of this process, in bytes: heads, incomplete messages and TLS records, what waits for a
    /// handler or for a socket, windows of compression. Above it, whoever holds more than its share, which is seven
    /// eighths of it by the number of connections, is closed, the greatest first: with 1013, or without a word where
    /// bytes wait for its socket; no more than a share may be queued for a client that does not keep up; and nobody is
    /// accepted until it is below seven eighths again. It may be exceeded by what one connection brings in a turn, and a
    /// sixteenth. Not among it: what a connection takes at rest (4 KiB with TLS, and as much in the kernel), the threads'
    /// buffers, the mailboxes. Default: a quarter of the memory that the process may use, by the machine or its control
    /// group.
    pub held_bytes: usize,
    /// Bytes that one client may have read and handled before the others get their turn; fewer, down to 17 KiB, where
    /// many have sent at the same time. Default 256 KiB.
    pub turn_bytes: usize,
    /// Frames of one client before the others get their turn. Default 1,024.
    pub turn_frames: u32,
    /// Connections accepted before clients get their turn. Default 16.
    pub turn_accepts: u32,
    /// TLS handshake steps before open clients get their turn: each costs some 100 µs. Of those that wait none is begun when
    /// others have taken a millisecond. Default 4.
    pub turn_handshakes: u32,
    /// Messages that other threads have queued for one loop by [`Sender`](crate::Sender). Default 65,536.
    pub mailbox_items: usize,
    /// The same in bytes. Default 64 MiB.
    pub mailbox_bytes: usize,
    /// Messages that wait for a worker, over all connections; then their clients are not read. Default 1,024.
    pub worker_queue: usize,
    /// How long a loop or a worker may be busy without a pause before it counts as stuck: then
    /// [`Handle::health`](crate::Handle::health) and the log name it, and the end of a server does not wait for it. Longer
    /// than any handler takes. Default 5 s.
    pub stuck_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 8 * 1024,
            head_fields: 64,
            handshake_time: Duration::from_secs(10),
            message_bytes: 1024 * 1024,
            stream_bytes: 0,
            message_time: Duration::from_secs(60),
            egress_bytes: 1024 * 1024,
            egress_high_water: 256 * 1024,
            slow_consumer: SlowConsumer::Close,
            notsent_bytes: 64 * 1024,
            user_timeout: Duration::from_secs(60),
            ping_after: Duration::from_secs(30),
            pong_time: Duration::from_secs(30),
            close_time: Duration::from_secs(5),
            shutdown_time: Duration::from_secs(10),
            shutdown_spread: Duration::ZERO,
            connections: usize::MAX,
            connections_per_address: usize::MAX,
            handshakes_per_address: usize::MAX,
            held_bytes: memory() / 4,
            turn_bytes: 256 * 1024,
            turn_frames: 1024,
            turn_accepts: 16,
            turn_handshakes: 4,
            mailbox_items: 65_536,
            mailbox_bytes: 64 * 1024 * 1024,
            worker_queue: 1024,
            stuck_after: Duration::from_secs(5),
        }
    }
}

/// What the process may use, in bytes, looked up once.
fn memory() -> usize {
    static MEMORY: LazyLock<usize> = LazyLock::new(|| {
        usize::try_from(webscale_sys::limits::memory().unwrap_or(u64::MAX)).unwrap_or(usize::MAX)
    });
    *MEMORY
}

/// What a connection takes at most besides [`Limits::held_bytes`]: at rest 4 KiB with TLS and as much in the kernel, and
/// twice that while it shakes hands.
const CONNECTION_BYTES: usize = 16 * 1024;

impl Limits {
    /// Lowers `connections`, `held_bytes` and `mailbox_bytes` so far that a server keeps within so many bytes of memory,
    /// those of the kernel included: half of them for connections, 16 KiB each; a quarter for what is held; a
    /// thirty-second for each loop's mailbox. The rest is for the threads' buffers and what the allocator wastes.
    ///
    /// ```
    /// use webscale::Limits;
    /// let limits = Limits::default().within(512 << 20);
    /// assert_eq!((limits.connections, limits.held_bytes), (16_384, 128 << 20));
    /// ```
    #[must_use]
    pub fn within(self, memory: usize) -> Self {
        Self {
            connections: self.connections.min(memory / 2 / CONNECTION_BYTES),
            held_bytes: self.held_bytes.min(memory / 4),
            mailbox_bytes: self.mailbox_bytes.min(memory / 32),
            ..self
        }
    }

    /// The longest message that is let in, whole or in chunks.
    pub(crate) fn longest_message(&self) -> u64 {
        self.stream_bytes.max(self.message_bytes as u64)
    }

    /// Has the process hold as many descriptors as it may, and the kernel make room for those that these limits let in. A
    /// sandbox may forbid it; then things stay as they are.
    pub(crate) fn claim_descriptors(&self) {
        let _ = raise_descriptors();
        let _ = reserve_descriptors(self.connections.saturating_add(OTHER_DESCRIPTORS));
    }

    /// What of it the kernel sees to.
    pub(crate) fn tcp_options(&self) -> TcpOptions {
        // The kernel keeps milliseconds in an int, and takes 0 as its own default.
        let millis = self.user_timeout.as_millis().clamp(1, i32::MAX as u128);
        TcpOptions {
            notsent_lowat: u32::try_from(self.notsent_bytes).ok(),
            user_timeout: if self.user_timeout == Duration::MAX {
                None
            } else {
                u32::try_from(millis).ok().and_then(NonZero::new)
            },
        }
    }

    /// What is wrong with these limits, if anything.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.head_bytes < 256 {
            return Some("head_bytes is below 256: no opening handshake fits");
        }
        if self.head_fields == 0 || self.head_fields > 64 {
            return Some("head_fields must be 1 to 64");
        }
        if self.egress_bytes < 1024 {
            return Some("egress_bytes is below 1024: hardly a message fits");
        }
        if self.egress_high_water > self.egress_bytes && self.egress_high_water != usize::MAX {
            return Some("egress_high_water lies above egress_bytes");
        }
        if self.shutdown_spread > self.shutdown_time {
            return Some(
                "shutdown_spread lies above shutdown_time: clients would be dropped before they are told",
            );
        }
        if self.notsent_bytes == 0 {
            return Some("notsent_bytes is 0: the kernel would take nothing");
        }
        if self.stream_bytes > 0 && self.message_bytes == 0 {
            return Some("stream_bytes needs message_bytes above 0: that is what a chunk holds");
        }
        if self.connections_per_address == 0 || self.handshakes_per_address == 0 {
            return Some("a limit of zero for each address lets nobody in; usize::MAX switches it off");
        }
        if self.held_bytes < self.message_bytes {
            return Some("held_bytes is below message_bytes: one message would be too much");
        }
        let turns = [self.turn_frames, self.turn_accepts, self.turn_handshakes];
        if turns.contains(&0) || self.turn_bytes == 0 || self.mailbox_items == 0 || self.worker_queue == 0 {
            return Some("a budget or queue of zero would stop everything");
        }
        if self.stuck_after.is_zero() {
            return Some("stuck_after is zero: whatever works would count as stuck");
        }
        None
    }
}
