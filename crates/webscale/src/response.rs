//! What a handler answers to a request.

use crate::limits::SlowConsumer;

/// A connection accepted by [`Handler::open`](crate::Handler::open). `Ok(session.into())` is enough where there is nothing to
/// add.
#[derive(Clone, Debug)]
pub struct Accept<S> {
    pub(crate) session: S,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) slow_consumer: Option<SlowConsumer>,
}

impl<S> Accept<S> {
    /// Accepts, without a subprotocol.
    #[must_use]
    pub fn new(session: S) -> Self {
        Self { session, protocol: None, headers: Vec::new(), slow_consumer: None }
    }

    /// Chooses one of the subprotocols that the client offered, as [`Request::select`](crate::Request::select) finds it. One
    /// that it did not offer fails the handshake with 500, and the session is closed with
    /// [`CloseCause::Upgrade`](crate::CloseCause::Upgrade).
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocol = Some(protocol.into());
        self
    }

    /// What becomes of this connection when it does not read what is sent to it, in place of
    /// [`Limits::slow_consumer`](crate::Limits::slow_consumer).
    ///
    /// ```
    /// use webscale::{Accept, SlowConsumer};
    /// // Prices: who is late wants the latest.
    /// let accept = Accept::new(()).slow_consumer(SlowConsumer::DropOldest);
    /// ```
    #[must_use]
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.slow_consumer = Some(policy);
        self
    }

    /// Adds a header field to the answer. A name or value that would break the head fails the handshake like a wrong
    /// subprotocol.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl<S> From<S> for Accept<S> {
    fn from(session: S) -> Self {
        Self::new(session)
    }
}

/// An HTTP answer, behind which the connection closes: from [`Handler::http`](crate::Handler::http), or as a [`Reject`].
///
/// What the status demands is added: `Allow` to 405, `Upgrade` and `Sec-WebSocket-Version` to 426. `Connection`,
/// `Content-Length` and `Transfer-Encoding` are the library's. An answer that cannot be written (a name or value that would
/// break the head, a field of the library's, a status outside 200 to 599, a body where none may be or one longer than
/// [`Limits::egress_bytes`](crate::Limits::egress_bytes)) becomes a 500, and the log says why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// This status, 200 to 599, and a body: text in UTF-8, unless a `Content-Type` is added.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Adds a header field, such as `Content-Type`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// An HTTP answer in place of a connection: any [`Response`], or one made here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reject(pub(crate) Response);

impl Reject {
    /// Answers with this status, 400 to 599 as a rule, and a text for people.
    #[must_use]
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self(Response::new(status, body.into()))
    }

    /// Adds a header field, such as `WWW-Authenticate`.
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self(self.0.header(name, value))
    }
}

impl From<Response> for Reject {
    fn from(response: Response) -> Self {
        Self(response)
    }
}
