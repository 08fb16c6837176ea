//! The four parsers take the same messages and refuse the same ones, and say where.

use serde_json::Value;
use workload::{
    PAYLOAD_BYTES,
    parse::{CLOSE_REASON_BYTES_MAX, ParseError, parse_borrowed, parse_fast, parse_fast_owned, parse_owned},
    payload,
};

fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// What each parser says of the text.
fn outcomes(text: &str) -> [Result<Value, ParseError>; 4] {
    let json = |message| serde_json::to_value(message).expect("no map has a key that is not text");
    let borrowed = |message| serde_json::to_value(message).expect("no map has a key that is not text");
    [
        parse_owned(text).map(json),
        parse_borrowed(text).map(borrowed),
        parse_fast(text).map(borrowed),
        parse_fast_owned(text).map(json),
    ]
}

fn errors(text: &str) -> [ParseError; 4] {
    outcomes(text).map(|outcome| outcome.expect_err("this text does not fit"))
}

#[test]
fn nothing_of_a_message_is_lost() {
    for seed in 0..300 {
        let text = payload(seed);
        let whole = value(&text);
        for (parser, outcome) in outcomes(&text).into_iter().enumerate() {
            assert_eq!(outcome.as_ref(), Ok(&whole), "seed {seed}, parser {parser}");
        }
    }
}

#[test]
fn messages_are_varied() {
    let text: String = (0..20).map(payload).collect();
    for part in [
        "°C",
        "\\\"uplink\\\"",
        "\\n",
        "\"heading_deg\":null",
        "\"cell\":{",
        "\"cell\":null",
        "\"severity\":",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn only_text_with_escapes_is_copied() {
    let text = payload(1).replacen("\"note\":\"", "\"note\":\"\\u00e9", 1);
    let message = parse_borrowed(&text).expect("a message");
    assert!(message.note.starts_with('é'));
    assert!(matches!(message.note.0, std::borrow::Cow::Owned(_)));
    for text in [&message.device.id, &message.device.tags[0], &message.readings[5].sensor] {
        assert!(matches!(text.0, std::borrow::Cow::Borrowed(_)), "{text:?}");
    }
    assert!(parse_fast(&text).is_ok_and(|fast| fast == message));
}

/// Each removal, addition or change is refused, and the place lies behind the change.
#[test]
fn a_field_that_does_not_fit_is_named() {
    for (from, to, part) in [
        ("\"schema\":3,", "", "missing field `schema`"),
        ("\"altitude_m\"", "\"altitude\"", "unknown field `altitude`"),
        ("\"satellites\":", "\"satellites\":25", ""),
        ("\"schema\":3", "\"schema\":\"3\"", "invalid type"),
        ("\"cycles\":", "\"cycles\":-", ""),
        ("\"charging\":", "\"charging\":null,\"charging\":", "invalid type"),
        ("\"note\":", "\"extra\":1,\"note\":", "unknown field `extra`"),
        ("\"note\":", "\"schema\":3,\"note\":", "duplicate field `schema`"),
    ] {
        let text = payload(3);
        let at = text.find(from).expect(from);
        let text = text.replacen(from, to, 1);
        for error in errors(&text) {
            let reason = error.reason();
            assert!(reason.contains(part), "{from} → {to}: {reason}");
            assert!(column(reason) > at, "{from} → {to}: {reason}");
        }
    }
}

fn column(reason: &str) -> usize {
    let rest = reason.strip_prefix("line 1, column ").unwrap_or_else(|| panic!("no place in {reason:?}"));
    let (column, _) = rest.split_once(':').expect("a colon behind the place");
    column.parse().expect("a number")
}

#[test]
fn what_is_no_json_is_refused() {
    let whole = payload(5);
    for text in ["", "{", "null", "[]", "\"text\"", &whole[..PAYLOAD_BYTES - 1], &format!("{whole}{{")] {
        for error in errors(text) {
            assert!(error.reason().starts_with("line "), "{text}: {error}");
        }
    }
}

#[test]
fn a_cut_message_is_refused_at_every_length() {
    let whole = payload(6);
    for length in (0..PAYLOAD_BYTES).step_by(37).filter(|length| whole.is_char_boundary(*length)) {
        for error in errors(&whole[..length]) {
            assert!(error.reason().starts_with("line "), "{length} bytes: {error}");
        }
    }
}

#[test]
fn a_reason_fits_a_close_frame() {
    let key = "é".repeat(3000);
    let text = payload(3).replacen("\"note\":", &format!("\"{key}\":1,\"note\":"), 1);
    for error in errors(&text) {
        let reason = error.reason();
        assert!(reason.len() <= CLOSE_REASON_BYTES_MAX && reason.len() > 100, "{reason}");
        assert!(reason.contains("unknown field `éé"), "{reason}");
        assert_eq!(reason, error.to_string());
    }
}
