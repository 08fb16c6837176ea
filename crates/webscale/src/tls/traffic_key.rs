//! One direction's key of TLS 1.3, and the records that it protects (RFC 8446 §5.2).

use aws_lc_rs::aead::{self, AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use aws_lc_rs::error::Unspecified;
use rustls::crypto::cipher::{Iv, Nonce, make_tls13_aad};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved};

use super::record::{HEADER_BYTES, RECORD_PLAINTEXT};
use crate::egress::Sealed;

/// Of every cipher suite of TLS 1.3 that there is here.
const TAG_BYTES: usize = 16;

pub(super) struct TrafficKey {
    key: LessSafeKey,
    iv: Iv,
    /// Of the next record.
    sequence: u64,
}

impl TrafficKey {
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("no key for this cipher suite".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref());
        let key = key.map_err(|_| Error::General("a key of another length than its cipher's".into()))?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// Records that it has protected.
    pub(super) fn records(&self) -> u64 {
        self.sequence
    }

    /// Seals one record behind what is in `out`: at most [`RECORD_PLAINTEXT`] bytes.
    pub(super) fn seal(&mut self, kind: ContentType, content: &[u8], out: &mut Sealed) -> Result<(), Error> {
        let length = content.len() + 1 + TAG_BYTES;
        let header = make_tls13_aad(length);
        let (start, rest) = out.spare(HEADER_BYTES + length).split_at_mut(HEADER_BYTES);
        let (text, rest) = rest.split_at_mut(content.len());
        let (kind_and_tag, _) = rest.split_at_mut(1 + TAG_BYTES);
        start.copy_from_slice(&header);
        let (nonce, kind) = (self.nonce(), [u8::from(kind)]);
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(header), content, text, &kind, kind_and_tag)
            .map_err(|Unspecified| Error::EncryptError)?;
        out.advance(HEADER_BYTES + length);
        self.sequence += 1;
        Ok(())
    }

    /// Opens a whole record in place.
    pub(super) fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<(ContentType, &'r [u8]), Error> {
        let (header, body) = record.split_first_chunk_mut::<HEADER_BYTES>().ok_or(Error::DecryptError)?;
        let (text, tag) = body.split_last_chunk_mut::<TAG_BYTES>().ok_or(Error::DecryptError)?;
        let opened = self.key.open_in_place_separate_tag(self.nonce(), Aad::from(*header), &*tag, text);
        let opened = &*opened.map_err(|Unspecified| Error::DecryptError)?;
        self.sequence += 1;
        // Padding is zeros behind the type (RFC 8446 §5.4).
        let padding = opened.iter().rev().take_while(|byte| **byte == 0).count();
        let unpadded = opened.get(..opened.len() - padding).unwrap_or_default();
        let (kind, content) = unpadded.split_last().ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
        if content.len() > RECORD_PLAINTEXT {
            return Err(Error::PeerSentOversizedRecord);
        }
        Ok((ContentType::from(*kind), content))
    }

    fn nonce(&self) -> aead::Nonce {
        aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, self.sequence).0)
    }
}
