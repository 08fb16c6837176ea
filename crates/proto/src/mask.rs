//! Masking (RFC 6455 §5.3).

use crate::frame::MaskKey;

/// Bytes in one step of the wide loop: two SSE registers, or one of AVX.
const WIDE: usize = 32;

/// Masks or unmasks `data` in place: the two are the same operation.
///
/// `offset` is the position of `data[0]` in the payload, so a payload may be unmasked in pieces.
pub fn apply(data: &mut [u8], key: MaskKey, offset: usize) {
    let key = rotated(key, offset);
    let mut pattern = [0; WIDE];
    for (at, byte) in pattern.iter_mut().enumerate() {
        *byte = key[at % 4];
    }
    let (wide, rest) = data.as_chunks_mut::<WIDE>();
    for chunk in wide {
        for (byte, key) in chunk.iter_mut().zip(pattern) {
            *byte ^= key;
        }
    }
    for (byte, key) in rest.iter_mut().zip(pattern) {
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
