//! Answers other than 101 (RFC 9110 §15, RFC 9112 §6).

use core::fmt;
use std::io::Write;

use super::head::{InvalidHeader, check_fields, push_field, push_fields};

/// An answer that opens no WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<'a> {
    /// 200 to 599.
    pub status: u16,
    /// Fields besides Connection and Content-Length, and those that the status demands: Allow for 405, Upgrade and
    /// Sec-WebSocket-Version for 426.
    pub headers: &'a [(&'a str, &'a str)],
    /// Text in UTF-8, unless `headers` give a Content-Type.
    pub body: &'a [u8],
}

/// Appends an answer, with what its status demands. The connection closes behind it. `is_head`: it answers a HEAD, so
/// that the body is left out and its length told (RFC 9110 §9.3.2).
///
/// # Errors
///
/// A status that cannot be answered so, or a header that is not valid or is one that is written anyway.
pub fn respond(out: &mut Vec<u8>, answer: &Answer<'_>, is_head: bool) -> Result<(), InvalidHeader> {
    const OWNED: &[&str] = &["connection", "content-length", "transfer-encoding"];
    let Answer { status, headers, body } = *answer;
    if !(200..=599).contains(&status) || (has_no_body(status) && !body.is_empty()) {
        return Err(InvalidHeader::Status);
    }
    check_fields(headers, OWNED)?;
    let is_demanded = |name: &str| demanded(status).iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    if headers.iter().any(|(name, _)| is_demanded(name)) {
        return Err(InvalidHeader::Owned);
    }
    write(out, answer, is_head);
    Ok(())
}

/// The same where nothing can be wrong.
pub(super) fn write(out: &mut Vec<u8>, answer: &Answer<'_>, is_head: bool) {
    let Answer { status, headers, body } = *answer;
    push_display(out, format_args!("HTTP/1.1 {status} {}\r\n", phrase(status)));
    push_fields(out, demanded(status));
    if !body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        push_field(out, "Content-Type", b"text/plain; charset=utf-8");
    }
    push_fields(out, headers);
    // RFC 9110 §8.6: none in a 204; in a 304 it would be another answer's.
    if !matches!(status, 204 | 304) {
        push_display(out, format_args!("Content-Length: {}\r\n", body.len()));
    }
    out.extend_from_slice(b"\r\n");
    if !is_head {
        out.extend_from_slice(body);
    }
}

/// RFC 9110 §15.3.5, §15.3.6, §15.4.5.
const fn has_no_body(status: u16) -> bool {
    matches!(status, 204 | 205 | 304)
}

pub(super) fn push_display(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // A Vec takes every write.
    let _ = out.write_fmt(text);
}

/// The fields that every answer with this status has.
fn demanded(status: u16) -> &'static [(&'static str, &'static str)] {
    match status {
        405 => &[("Connection", "close"), ("Allow", "GET, HEAD")],
        426 => &[
            // Upgrade is hop-by-hop, so Connection names it (RFC 9110 §7.8).
            ("Connection", "close, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
        ],
        _ => &[("Connection", "close")],
    }
}

/// The reason phrase of the statuses that servers of WebSockets use (RFC 9110 §15); others go without.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
