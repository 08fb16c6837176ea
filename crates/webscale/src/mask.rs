//! Masking keys of the client role.

use webscale_proto::{MaskKey, Role};

const BATCH: usize = 1024;

/// Where masking keys come from: the kernel's generator, a batch at a time, as RFC 6455 §10.3 wants them
/// unpredictable. A server masks nothing.
pub(crate) struct MaskSource {
    role: Role,
    bytes: Vec<u8>,
}

impl MaskSource {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, bytes: Vec::new() }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    #[expect(
        clippy::expect_used,
        reason = "the kernel does not stop giving random bytes, and no peer has a part in it"
    )]
    pub(crate) fn next(&mut self) -> Option<MaskKey> {
        if self.role == Role::Server {
            return None;
        }
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH, 0);
            webscale_sys::random(&mut self.bytes).expect("getrandom(2) works once the system is up");
        }
        let (_, &key) = self.bytes.split_last_chunk()?;
        self.bytes.truncate(self.bytes.len() - key.len());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_client_gets_keys_that_differ_and_a_server_none() {
        let mut client = MaskSource::new(Role::Client);
        let keys: HashSet<_> = (0..2 * BATCH).map(|_| client.next().unwrap()).collect();
        assert!(keys.len() > 2 * BATCH - 8);
        assert_eq!(MaskSource::new(Role::Server).next(), None);
    }
}
