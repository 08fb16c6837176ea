//! Prints `FILE:LINE` for each `async` keyword in the Rust files that it is given.
//!
//! Built by `check-no-async` with bare `rustc`. Comments, strings, characters, lifetimes and raw
//! identifiers are passed over; the tokens of macros are not.
//! Exit code: 0, or 1 where a file could not be read.

use std::process::ExitCode;

const KEYWORD: &[u8] = b"async";

fn main() -> ExitCode {
    for path in std::env::args_os().skip(1) {
        let source = match std::fs::read(&path) {
            Ok(source) => source,
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        };
        for line in lines_with_keyword(&source) {
            println!("{}:{line}", path.display());
        }
    }
    ExitCode::SUCCESS
}

fn lines_with_keyword(source: &[u8]) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let end = token_end(source, at);
        if &source[at..end] == KEYWORD {
            lines.push(1 + source[..at].iter().filter(|&&byte| byte == b'\n').count());
        }
        at = end;
    }
    lines
}

/// Where the token that starts at `at` ends: always behind `at`, and never behind the source.
fn token_end(source: &[u8], at: usize) -> usize {
    let rest = &source[at..];
    let length = match rest {
        [b'/', b'/', ..] => position(rest, b"\n"),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => string(rest),
        [b'\'', ..] => quote(rest),
        [first, ..] if is_word(*first) => word(rest),
        _ => 1,
    };
    at + length.min(rest.len())
}

/// A block comment, in which others may be nested.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// A string with escapes.
fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// A character, or a lifetime.
fn quote(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return 3 + position(rest.get(3..).unwrap_or_default(), b"'") + 1;
    }
    let name = 1 + word_bytes(&rest[1..]);
    match (name, rest.get(name)) {
        (1, _) => 1 + position(&rest[1..], b"'") + 1,
        (_, Some(b'\'')) => name + 1,
        _ => name,
    }
}

/// A word; with what it is the prefix of, where that is a raw string or a raw identifier.
fn word(rest: &[u8]) -> usize {
    let length = word_bytes(rest);
    if !matches!(&rest[..length], b"r" | b"br" | b"cr") {
        return length;
    }
    let hashes = rest[length..].iter().take_while(|&&byte| byte == b'#').count();
    let open = length + hashes;
    if rest.get(open) == Some(&b'"') {
        let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
        return open + 1 + position(&rest[open + 1..], &close) + close.len();
    }
    if hashes == 1 { open + word_bytes(&rest[open..]) } else { length }
}

fn word_bytes(rest: &[u8]) -> usize {
    rest.iter().take_while(|&&byte| is_word(byte)).count()
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// Where `what` starts in `rest`; its end where it does not occur.
fn position(rest: &[u8], what: &[u8]) -> usize {
    rest.windows(what.len()).position(|window| window == what).unwrap_or(rest.len())
}
