//! Where a head ends.

use webscale_proto::handshake::{HeadLimits, UpgradeError, head_end, parse_request};

use crate::{REQUEST, request_and};

#[test]
fn the_end_is_found_wherever_the_head_is_cut() {
    let with_rest = format!("{REQUEST}rest\r\n\r\n");
    for buf in [REQUEST, &with_rest] {
        for cut in 0..REQUEST.len() {
            assert_eq!(head_end(&buf.as_bytes()[..cut], 0), None, "nothing before {cut}");
            assert_eq!(head_end(buf.as_bytes(), cut), Some(REQUEST.len()), "scanned {cut} before");
        }
    }
}

#[test]
fn the_end_is_found_byte_by_byte() {
    let buf = REQUEST.as_bytes();
    for len in 1..buf.len() {
        assert_eq!(head_end(&buf[..len], len - 1), None);
    }
    assert_eq!(head_end(buf, buf.len() - 1), Some(buf.len()));
}

#[test]
fn only_the_blank_line_ends_a_head() {
    for buf in [&b""[..], b"\r\n", b"\r\n\r", b"a\n\nb", b"a\r\n\n", b"a\n\r\n", b"a\r\r\n\nb"] {
        assert_eq!(head_end(buf, 0), None, "{buf:?}");
        assert_eq!(head_end(buf, buf.len()), None);
        assert_eq!(head_end(buf, buf.len() + 100), None, "more than there is");
    }
    assert_eq!(head_end(b"\r\n\r\n", 0), Some(4));
    assert_eq!(head_end(b"\r\n\r\n\r\n", 0), Some(4), "the first one");
}

#[test]
fn bytes_are_limited_exactly() {
    let limits = |bytes| HeadLimits { bytes, ..HeadLimits::default() };
    let head = REQUEST.as_bytes();
    assert!(parse_request(head, &limits(head.len())).is_ok());
    assert_eq!(parse_request(head, &limits(head.len() - 1)).unwrap_err(), UpgradeError::HeadTooLong);

    let padding = "x".repeat(8192 - REQUEST.len() - "X-Pad: \r\n".len());
    let full = request_and(&format!("X-Pad: {padding}"));
    assert_eq!(full.len(), 8192);
    assert!(parse_request(full.as_bytes(), &HeadLimits::default()).is_ok());
    let over = request_and(&format!("X-Pad: {padding}x"));
    assert_eq!(
        parse_request(over.as_bytes(), &HeadLimits::default()).unwrap_err(),
        UpgradeError::HeadTooLong
    );
}

#[test]
fn fields_are_limited_exactly() {
    // The request itself has seven.
    let with = |more: usize| {
        let fields: Vec<String> = (0..more).map(|n| format!("X-{n}: v")).collect();
        request_and(&fields.join("\r\n"))
    };
    let parse = |head: &str, headers| {
        let limits = HeadLimits { headers, ..HeadLimits::default() };
        parse_request(head.as_bytes(), &limits).map(|request| request.headers().count())
    };
    assert_eq!(parse(&with(57), 64), Ok(64));
    assert_eq!(parse(&with(58), 64), Err(UpgradeError::TooManyHeaders));
    assert_eq!(parse(&with(58), 1000), Err(UpgradeError::TooManyHeaders), "no limit above what is stored");
    assert_eq!(parse(REQUEST, 7), Ok(7));
    assert_eq!(parse(REQUEST, 6), Err(UpgradeError::TooManyHeaders));
    assert_eq!(parse(REQUEST, 0), Err(UpgradeError::TooManyHeaders));
}
