//! Headers of the PROXY protocol: which are taken, which are not, and at which byte that is told.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use webscale_proto::proxy::{Header, MAX_LEN, ProxyError, parse};

#[path = "../../../fuzz/src/proxy.rs"]
pub mod target;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &len, block].concat()
}

fn ipv4() -> Vec<u8> {
    vec![192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb]
}

fn ipv6() -> Vec<u8> {
    let mut block = vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    block.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    block.extend([0x12, 0x67, 0x01, 0xbb]);
    block
}

/// It is whole with its last byte and not before, whatever follows.
fn check(bytes: &[u8], client: Option<&str>) {
    let client = client.map(|address| address.parse::<SocketAddr>().unwrap());
    let header = Header { len: bytes.len(), client };
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(None), "{end} of {}", bytes.escape_ascii());
    }
    for behind in [&b""[..], b"\r\n", b"\x16\x03\x01", b"PROXY "] {
        assert_eq!(parse(&[bytes, behind].concat()), Ok(Some(header)), "{}", bytes.escape_ascii());
    }
}

/// The fault shows with the byte at `at`, and not before.
fn check_fault(bytes: &[u8], at: usize, error: ProxyError) {
    for end in 0..=bytes.len() {
        let expected = if end > at { Err(error) } else { Ok(None) };
        assert_eq!(parse(&bytes[..end]), expected, "{end} of {}", bytes.escape_ascii());
    }
}

#[test]
fn lines() {
    check(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", Some("192.0.2.7:4711"));
    check(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535"));
    check(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Some("0.0.0.0:0"));
    check(b"PROXY TCP6 2001:DB8::9 ::1 4711 443\r\n", Some("[2001:db8::9]:4711"));
    check(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 443\r\n", Some("[::ffff:192.0.2.7]:4711"));
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    check(format!("PROXY TCP6 {full} {full} 65535 65535\r\n").as_bytes(), Some(&format!("[{full}]:65535")));
    check(b"PROXY UNKNOWN\r\n", None);
    let longest = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
    assert_eq!(longest.len(), 107);
    check(longest.as_bytes(), None);
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 192.0.2.7 nowhere 4711 443\r\n",
        "PROXY TCP4 ::1 ::1 4711 443\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 4711 443\r\n",
        "PROXY TCP6 ::1%lo ::1 4711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +4711 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 \r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 4711 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
    ] {
        check_fault(line.as_bytes(), line.len() - 1, ProxyError::Line);
    }
    check_fault(b"PROXY UNKNOWN\n", 13, ProxyError::Line);
    check_fault(b"PROXY UNKNOWN\rx", 14, ProxyError::Line);
    check_fault(b"PROXY UNKNOWN \xff\r\n", 16, ProxyError::Line);
    check_fault(format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).as_bytes(), 106, ProxyError::LineTooLong);
    let cut = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(cut.len(), 108);
    check_fault(cut.as_bytes(), 106, ProxyError::LineTooLong);
}

#[test]
fn what_is_no_header_is_known_by_its_first_wrong_byte() {
    check_fault(b"GET / HTTP/1.1\r\n", 0, ProxyError::NoHeader);
    check_fault(b"\x16\x03\x01\x02\x00", 0, ProxyError::NoHeader);
    check_fault(b"PROXX", 4, ProxyError::NoHeader);
    check_fault(b"PROXY\r\n", 5, ProxyError::NoHeader);
    check_fault(b"\r\n\r\n\0\r\nQUIT\r\n", 11, ProxyError::NoHeader);
}

#[test]
fn blocks() {
    check(&binary(0x21, 0x11, &ipv4()), Some("192.0.2.7:4711"));
    check(&binary(0x21, 0x21, &ipv6()), Some("[2001:db8::9]:4711"));
    // With a checksum and padding, which are skipped.
    let values = [&[3, 0, 4, 1, 2, 3, 4][..], &[4, 0, 2, 0, 0]].concat();
    check(&binary(0x21, 0x11, &[ipv4(), values.clone()].concat()), Some("192.0.2.7:4711"));
    check(&binary(0x21, 0x21, &[ipv6(), values].concat()), Some("[2001:db8::9]:4711"));
    // What is told of no client: health checks, and families that are no TCP over IP.
    for (command, family) in
        [(0x20, 0x00), (0x20, 0x11), (0x20, 0xff), (0x21, 0x00), (0x21, 0x12), (0x21, 0x31)]
    {
        check(&binary(command, family, b""), None);
        check(&binary(command, family, &[9; 216]), None);
    }
    check(&binary(0x21, 0x11, &[ipv4(), vec![0; MAX_LEN - 16 - 12]].concat()), Some("192.0.2.7:4711"));
}

#[test]
fn blocks_that_are_none() {
    check_fault(&binary(0x11, 0x11, &ipv4()), 12, ProxyError::Command);
    check_fault(&binary(0x22, 0x11, &ipv4()), 12, ProxyError::Command);
    check_fault(&binary(0x21, 0x41, &ipv4()), 13, ProxyError::Family);
    check_fault(&binary(0x21, 0x13, &ipv4()), 13, ProxyError::Family);
    check_fault(&binary(0x21, 0x11, &ipv4()[..11]), 15, ProxyError::TooShort);
    check_fault(&binary(0x21, 0x21, &ipv6()[..35]), 15, ProxyError::TooShort);
    check_fault(&binary(0x21, 0x11, &vec![0; MAX_LEN - 15]), 15, ProxyError::TooLong);
    check_fault(&binary(0x20, 0x00, &[0; 65_535]), 15, ProxyError::TooLong);
}

/// What the fuzz target begins with, so far that the rest is looked at.
const STARTS: [&[u8]; 8] = [
    b"r",
    b"rPROXY ",
    b"rPROXY UNKNOWN",
    b"rPROXY TCP4 192.0.2.7 198.51.100.1 4711 4",
    b"r\r\n\r\n\0\r\nQUIT\n",
    b"r\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
    b"r\r\n\r\n\0\r\nQUIT\n\x21\x21\0",
    b"w",
];

proptest! {
    #[test]
    fn whatever_comes(start in select(&STARTS[..]), rest in vec(any::<u8>(), 0..300)) {
        target::run(&[start, &rest].concat());
    }

    #[test]
    fn whatever_looks_like_a_line(rest in "[ 0-9a-fTCP:.\r\n]{0,110}") {
        target::run(&[b"rPROXY TCP", rest.as_bytes()].concat());
    }
}
