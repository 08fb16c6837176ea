//! UTF-8 against the standard library, at every split, and the first byte that cannot be valid.

use webscale_proto::{DecoderConfig, ProtocolError, Utf8Validator};

use crate::support::{CONTINUATION, Driver, Event, FIN, ROLES, TEXT, events_at_every_split, sent_to};

/// What the standard library says about a prefix: `None` where it can still become valid.
fn is_hopeless(prefix: &[u8]) -> bool {
    std::str::from_utf8(prefix).is_err_and(|error| error.error_len().is_some())
}

/// The number of bytes after which `bytes` cannot become valid any more.
fn hopeless_after(bytes: &[u8]) -> Option<usize> {
    (1..=bytes.len()).find(|&len| is_hopeless(&bytes[..len]))
}

fn check(bytes: &[u8]) {
    let mut by_byte = Utf8Validator::new();
    let failed_after = bytes.iter().position(|&byte| by_byte.push(&[byte]).is_err()).map(|at| at + 1);
    assert_eq!(failed_after, hopeless_after(bytes), "{bytes:02x?} by byte");
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let mut validator = Utf8Validator::new();
        let pushed = validator.push(first);
        assert_eq!(pushed.is_err(), is_hopeless(first), "{bytes:02x?} up to {cut}");
        if pushed.is_err() {
            continue;
        }
        let pushed = validator.push(second);
        assert_eq!(pushed.is_err(), is_hopeless(bytes), "{bytes:02x?} cut at {cut}");
        if pushed.is_ok() {
            assert_eq!(validator.is_complete(), std::str::from_utf8(bytes).is_ok(), "{bytes:02x?} at {cut}");
            assert_eq!(validator.finish().is_ok(), validator.is_complete());
        }
    }
}

#[test]
fn every_sequence_of_two_bytes() {
    for bytes in 0..=u16::MAX {
        check(&bytes.to_be_bytes());
    }
}

/// Bytes on both sides of every border in the table of RFC 3629 §4.
const BORDERS: [u8; 22] = [
    0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
    0xf0, 0xf1, 0xf4, 0xf5, 0xff,
];

#[test]
fn every_sequence_of_four_border_bytes() {
    for a in BORDERS {
        for b in BORDERS {
            for c in BORDERS {
                for d in BORDERS {
                    check(&[a, b, c, d]);
                }
            }
        }
    }
}

#[test]
fn every_character() {
    let mut validator = Utf8Validator::new();
    for character in '\0'..=char::MAX {
        let mut bytes = [0; 4];
        for byte in character.encode_utf8(&mut bytes).bytes() {
            validator.push(&[byte]).unwrap();
        }
        assert!(validator.is_complete());
    }
}

/// The sequences of the Autobahn suite's chapter 6, and others that trip validators.
const SEQUENCES: &[&[u8]] = &[
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65\x64\x69\x74\x65\x64",
    b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xef\xbf\xbf",
    b"\xf4\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xfb\xbf\xbf\xbf\xbf",
    b"\xfd\xbf\xbf\xbf\xbf\xbf",
    b"\x80",
    b"\xbf",
    b"\x80\xbf\x80\xbf\x80\xbf\x80",
    b"\xc0\x20\xc1\x20\xc2\x20\xc3\x20",
    b"\xe0\x20\xe1\x20",
    b"\xf0\x20\xf1\x20",
    b"\xfe\xfe\xff\xff",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xed\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xee\x80\x80",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xf0\x9f\x98\x80",
    b"\xf0\x9f\x98",
    b"\xe2\x82",
    b"\xc3",
    b"0123456789012345678901234567890123456789012345678901234567890123456789\xf0\x9f\x98\x80",
    b"0123456789012345678901234567890123456789012345678901234567890123456789\xf0\x9f\x98",
    b"0123456789012345678901234567890123456789\xed\xa0\x800123456789012345678901234567890",
];

#[test]
fn known_sequences_in_the_validator() {
    for bytes in SEQUENCES {
        check(bytes);
    }
}

#[test]
fn known_sequences_in_whole_messages() {
    for role in ROLES {
        for bytes in SEQUENCES {
            let expected = match std::str::from_utf8(bytes) {
                Ok(text) => Event::text(text),
                Err(_) => Event::Failed(ProtocolError::InvalidUtf8),
            };
            let input = sent_to(role, FIN | TEXT, bytes);
            assert_eq!(events_at_every_split(DecoderConfig::new(role), &input), [expected], "{bytes:02x?}");
        }
    }
}

#[test]
fn known_sequences_cut_into_two_fragments_anywhere() {
    for role in ROLES {
        for bytes in SEQUENCES {
            for cut in 0..=bytes.len() {
                let (first, second) = bytes.split_at(cut);
                let input = [sent_to(role, TEXT, first), sent_to(role, FIN | CONTINUATION, second)].concat();
                let failed = Event::Failed(ProtocolError::InvalidUtf8);
                let expected = match std::str::from_utf8(bytes) {
                    _ if is_hopeless(first) => vec![failed],
                    Ok(text) => vec![Event::Fragment, Event::text(text)],
                    Err(_) => vec![Event::Fragment, failed],
                };
                let found = crate::support::events(DecoderConfig::new(role), [&input[..]]);
                assert_eq!(found, expected, "{bytes:02x?} cut at {cut}");
            }
        }
    }
}

/// A frame that announces more than it sends fails at the byte that shows it.
#[test]
fn text_fails_at_the_first_byte_that_cannot_be_valid() {
    for role in ROLES {
        for bytes in SEQUENCES {
            let whole = sent_to(role, FIN | TEXT, &[bytes, &b"and some more text behind"[..]].concat());
            let header_len = whole.len() - bytes.len() - 25;
            let failed_after = (1..=bytes.len()).find(|&len| {
                let mut driver = Driver::new(DecoderConfig::new(role));
                driver.feed(&whole[..header_len + len]);
                driver.events == [Event::Failed(ProtocolError::InvalidUtf8)]
            });
            assert_eq!(failed_after, hopeless_after(bytes), "{bytes:02x?}");
        }
    }
}
