//! Message limits, counted from headers before a payload byte is kept.

use webscale_proto::{Decoder, DecoderConfig, ProtocolError, Step};

use crate::support::{
    BINARY, CONTINUATION, Event, FIN, PING, ROLES, TEXT, events, events_at_every_split, peer_mask, sent_to,
};

const TOO_BIG: Event = Event::Failed(ProtocolError::MessageTooBig);

#[test]
fn a_message_of_the_limit_passes_and_one_more_byte_does_not() {
    for role in ROLES {
        for limit in [0, 1, 2, 125, 126, 400] {
            let config = DecoderConfig { max_message: limit, ..DecoderConfig::new(role) };
            let payload = vec![b'x'; limit + 1];
            for opcode in [TEXT, BINARY] {
                let fits = events_at_every_split(config, &sent_to(role, FIN | opcode, &payload[..limit]));
                assert!(matches!(&fits[..], [Event::Text(_) | Event::Binary(_)]), "limit {limit}: {fits:?}");
                let over = events_at_every_split(config, &sent_to(role, FIN | opcode, &payload));
                assert_eq!(over, [TOO_BIG], "limit {limit}");
            }
        }
    }
}

#[test]
fn the_limit_counts_over_fragments() {
    for role in ROLES {
        let config = DecoderConfig { max_message: 10, ..DecoderConfig::new(role) };
        let begun = [
            sent_to(role, BINARY, b"1234"),
            sent_to(role, FIN | PING, &[0; 125]),
            sent_to(role, CONTINUATION, b"5678"),
        ]
        .concat();
        let fits = [&begun[..], &sent_to(role, FIN | CONTINUATION, b"90")].concat();
        let found = events_at_every_split(config, &fits);
        assert_eq!(found.last(), Some(&Event::Binary(b"1234567890".to_vec())));

        let over = [&begun[..], &sent_to(role, FIN | CONTINUATION, b"90x")].concat();
        assert_eq!(events_at_every_split(config, &over).last(), Some(&TOO_BIG));

        // The next message counts from zero.
        let next = [&fits[..], &sent_to(role, FIN | BINARY, b"1234567890")].concat();
        assert_eq!(events(config, [&next[..]]).last(), Some(&Event::Binary(b"1234567890".to_vec())));
    }
}

#[test]
fn the_default_limit_is_one_mebibyte() {
    for role in ROLES {
        let config = DecoderConfig::new(role);
        assert_eq!(config.max_message, 1_048_576);
        let payload = vec![0; 1_048_577];
        let fits = events(config, [&sent_to(role, FIN | BINARY, &payload[1..])[..]]);
        assert_eq!(fits, [Event::Binary(payload[1..].to_vec())]);
        let over = sent_to(role, FIN | BINARY, &payload);
        // The header alone tells.
        assert_eq!(events(config, [&over[..if peer_mask(role).is_some() { 14 } else { 10 }]]), [TOO_BIG]);
    }
}

#[test]
fn a_declared_length_allocates_nothing() {
    for role in ROLES {
        let mut header = vec![FIN | BINARY, 127];
        header.extend((1u64 << 62).to_be_bytes());
        if let Some(key) = peer_mask(role) {
            header[1] |= 0x80;
            header.extend(key);
        }
        assert_eq!(events_at_every_split(DecoderConfig::new(role), &header), [TOO_BIG]);

        let config = DecoderConfig { max_message: usize::MAX, ..DecoderConfig::new(role) };
        let (mut decoder, mut scratch) = (Decoder::new(), Vec::new());
        let used = header.len();
        assert_eq!(decoder.decode(&config, &header, &mut scratch), Ok((used, Step::NeedMore)));
        assert_eq!((decoder.buffered(), scratch.capacity()), (0, 0));
        assert_eq!(decoder.decode(&config, b"1234", &mut scratch), Ok((4, Step::NeedMore)));
        assert!(decoder.buffered() <= 16);
        assert_eq!(scratch.capacity(), 0);
        assert!(decoder.is_mid_message());
    }
}

#[test]
fn lengths_that_would_overflow_the_running_total_are_too_big() {
    for role in ROLES {
        let config = DecoderConfig { max_message: 100, ..DecoderConfig::new(role) };
        let mut input = sent_to(role, BINARY, b"1234");
        input.extend([FIN | CONTINUATION, if peer_mask(role).is_some() { 0xff } else { 0x7f }]);
        input.extend((u64::MAX >> 1).to_be_bytes());
        input.extend(peer_mask(role).unwrap_or_default());
        assert_eq!(events(config, [&input[..]]), [Event::Fragment, TOO_BIG]);
    }
}

#[test]
fn control_frames_are_not_counted() {
    for role in ROLES {
        let config = DecoderConfig { max_message: 0, ..DecoderConfig::new(role) };
        let found = events_at_every_split(config, &sent_to(role, FIN | PING, &[1; 125]));
        assert_eq!(found, [Event::Ping(vec![1; 125])]);
    }
}
