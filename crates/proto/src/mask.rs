//! Masking (RFC 6455 §5.3).

use crate::frame::MaskKey;

/// Bytes in one step of the wide loop: as many as half of the SSE registers hold.
const WIDE: usize = 128;

/// Masks or unmasks `data` in place: the two are the same operation.
///
/// `offset` is the position of `data[0]` in the payload, so a payload may be unmasked in pieces.
pub fn apply(data: &mut [u8], key: MaskKey, offset: usize) {
    let key = rotated(key, offset);
    let (wide, rest) = data.as_chunks_mut::<WIDE>();
    for chunk in wide {
        apply_words(chunk, key);
    }
    apply_words(rest, key);
}

/// Puts `data` masked or unmasked into `out`, in place of what is there: a copy and [`apply`] in one pass.
pub(crate) fn copy(out: &mut Vec<u8>, data: &[u8], key: MaskKey) {
    out.resize(data.len(), 0);
    copy_words(out, data, key);
}

/// Appends `data` masked or unmasked.
pub(crate) fn extend(out: &mut Vec<u8>, data: &[u8], key: MaskKey) {
    let start = out.len();
    out.resize(start + data.len(), 0);
    copy_words(out.get_mut(start..).unwrap_or_default(), data, key);
}

/// Both have the same length.
fn copy_words(out: &mut [u8], data: &[u8], key: MaskKey) {
    let (wide, rest) = data.as_chunks::<WIDE>();
    let (out_wide, out_rest) = out.as_chunks_mut::<WIDE>();
    for (out, chunk) in out_wide.iter_mut().zip(wide) {
        let mut chunk = *chunk;
        apply_words(&mut chunk, key);
        *out = chunk;
    }
    out_rest.copy_from_slice(rest);
    apply_words(out_rest, key);
}

/// By words, which the compiler gathers into the widest registers there are.
#[inline]
fn apply_words(data: &mut [u8], key: MaskKey) {
    let (words, rest) = data.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// The key as it stands after `offset` bytes of the payload.
pub(crate) fn rotated(mut key: MaskKey, offset: usize) -> MaskKey {
    key.rotate_left(offset % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition in the RFC: octet i is exclusive-ored with octet i MOD 4 of the key.
    fn by_definition(data: &[u8], key: MaskKey, offset: usize) -> Vec<u8> {
        data.iter().enumerate().map(|(i, byte)| byte ^ key[(i + offset) % 4]).collect()
    }

    #[test]
    fn agrees_with_the_definition_at_every_length_and_offset() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * WIDE + 5).collect();
        for len in 0..bytes.len() {
            for offset in 0..9 {
                let mut data = bytes[..len].to_vec();
                apply(&mut data, key, offset);
                assert_eq!(data, by_definition(&bytes[..len], key, offset), "len {len}, offset {offset}");
            }
        }
    }

    #[test]
    fn a_masked_copy_goes_behind_what_is_there_or_in_its_place() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * WIDE + 5).collect();
        for len in 0..bytes.len() {
            let mut out = b"before".to_vec();
            extend(&mut out, &bytes[..len], key);
            let masked = by_definition(&bytes[..len], key, 0);
            assert_eq!(out, [b"before", &masked[..]].concat(), "len {len}");
            copy(&mut out, &bytes[..len], key);
            assert_eq!(out, masked, "len {len}");
        }
    }

    #[test]
    fn agrees_with_the_definition_at_every_alignment() {
        let key = [1, 2, 3, 4];
        let bytes: Vec<u8> = (0..200).collect();
        for start in 0..WIDE {
            let mut data = bytes.clone();
            apply(&mut data[start..], key, 0);
            assert_eq!(data[..start], bytes[..start]);
            assert_eq!(data[start..], by_definition(&bytes[start..], key, 0));
        }
    }

    #[test]
    fn masking_in_pieces_is_masking_at_once() {
        let key = [0xde, 0xad, 0xbe, 0xef];
        let bytes: Vec<u8> = (0..100).collect();
        for cut in 0..=bytes.len() {
            let mut pieces = bytes.clone();
            let (first, second) = pieces.split_at_mut(cut);
            apply(first, key, 0);
            apply(second, key, cut);
            assert_eq!(pieces, by_definition(&bytes, key, 0));
        }
    }

    #[test]
    fn an_offset_near_the_end_of_the_address_space_does_not_overflow() {
        let mut data = [0; 5];
        apply(&mut data, [1, 2, 3, 4], usize::MAX);
        assert_eq!(data, [4, 1, 2, 3, 4]);
    }
}
