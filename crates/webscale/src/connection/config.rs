//! What all connections of a server or client have in common.

use std::sync::OnceLock;

use webscale_proto::{DecoderConfig, Deflate, Reserved, Role, handshake::HeadLimits};

use crate::limits::Limits;
use crate::network::Network;
use crate::origin::Origins;
use crate::server::Handle;

pub(crate) struct Config {
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    pub(crate) decoder: DecoderConfig,
    /// For connections that agreed on permessage-deflate.
    pub(crate) deflate_decoder: DecoderConfig,
    /// What a server takes up; a client's target says what it offers.
    pub(crate) deflate: Option<Deflate>,
    pub(crate) head: HeadLimits,
    pub(crate) origins: Origins,
    /// Where connections come from that begin with a header of the PROXY protocol.
    pub(crate) proxies: Vec<Network>,
    /// Set once all loops are made.
    pub(crate) handle: OnceLock<Handle>,
}

impl Config {
    pub(crate) fn new(role: Role, limits: Limits, deflate: Option<Deflate>) -> Self {
        let (max_message, max_streamed) = (limits.message_bytes, limits.stream_bytes);
        let decoder = DecoderConfig { max_message, max_streamed, ..DecoderConfig::new(role) };
        let deflate_decoder = DecoderConfig { reserved: Reserved::RSV1, ..decoder };
        let head = HeadLimits { bytes: limits.head_bytes, headers: limits.head_fields };
        Self {
            role,
            limits,
            decoder,
            deflate_decoder,
            deflate,
            head,
            origins: Origins::default(),
            proxies: Vec::new(),
            handle: OnceLock::new(),
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.handle.get_or_init(|| Handle::of_nobody(&self.limits))
    }
}
