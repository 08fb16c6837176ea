//! Every close code there can be, and the closing handshake.

use webscale_proto::{CloseCode, DecoderConfig, ProtocolError};

use crate::support::{CLOSE, Event, FIN, ROLES, events, sent_to};

/// RFC 6455 §7.4.1 and §7.4.2 as a list: what is defined and may be sent, plus the registered and private
/// ranges.
fn may_be_sent(code: u16) -> bool {
    let defined = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    defined.contains(&code) || (code / 1000 == 3) || (code / 1000 == 4)
}

#[test]
fn every_code_from_the_wire() {
    for role in ROLES {
        for code in 0..=u16::MAX {
            let input = sent_to(role, FIN | CLOSE, &code.to_be_bytes());
            let expected = if may_be_sent(code) {
                Event::Close(Some((code, String::new())))
            } else {
                Event::Failed(ProtocolError::InvalidCloseCode)
            };
            assert_eq!(events(DecoderConfig::new(role), [&input[..]]), [expected]);
        }
    }
}

#[test]
fn every_code_by_number() {
    for code in 0..=u16::MAX {
        let found = CloseCode::new(code);
        assert_eq!(found.is_some(), may_be_sent(code), "{code}");
        assert!(found.is_none_or(|found| found.get() == code && found.may_be_sent()));
    }
    for never_sent in [CloseCode::NO_STATUS, CloseCode::ABNORMAL, CloseCode::TLS_HANDSHAKE] {
        assert!(!never_sent.may_be_sent());
    }
}

#[test]
fn codes_say_what_they_mean() {
    assert_eq!(CloseCode::TOO_BIG.to_string(), "1009 (message too big)");
    assert_eq!(CloseCode::ABNORMAL.to_string(), "1006 (abnormal closure)");
    assert_eq!(CloseCode::new(3000).unwrap().to_string(), "3000 (registered)");
    assert_eq!(CloseCode::new(4999).unwrap().to_string(), "4999 (private)");
}
