//! Headers of the PROXY protocol: what any cut shows, and what is written is read back.

use std::net::{IpAddr, SocketAddr};

use arbitrary::{Arbitrary, Unstructured};
use webscale_proto::proxy::{MAX_LEN, parse};

/// What a proxy could say of a client.
#[derive(Arbitrary, Debug)]
struct Said {
    client: SocketAddr,
    server: SocketAddr,
    /// What stands behind the addresses, and behind the header.
    values: Vec<u8>,
    behind: Vec<u8>,
}

/// Runs the target. The first byte says what the others are: `r` for a header as it came, anything else for one that is
/// written here.
///
/// # Panics
///
/// There is a fault in the parser.
pub fn run(data: &[u8]) {
    match data {
        [b'r', bytes @ ..] => read(bytes),
        [_, rest @ ..] => {
            if let Ok(said) = Said::arbitrary_take_rest(Unstructured::new(rest)) {
                write(&said);
            }
        }
        [] => {}
    }
}

/// A header or a fault shows at one byte, and stays whatever comes behind it.
fn read(bytes: &[u8]) {
    let whole = parse(bytes);
    let first =
        (0..=bytes.len()).map(|end| (end, parse(&bytes[..end]))).find(|(_, parsed)| *parsed != Ok(None));
    let Some((end, parsed)) = first else {
        assert_eq!(whole, Ok(None));
        assert!(bytes.len() < MAX_LEN);
        return;
    };
    assert_eq!(whole, parsed);
    for longer in end..=bytes.len() {
        assert_eq!(parse(&bytes[..longer]), parsed);
    }
    if let Ok(Some(header)) = parsed {
        assert_eq!(header.len, end);
        assert!(header.len <= MAX_LEN);
    }
}

fn write(said: &Said) {
    let Said { client, server, values, behind } = said;
    let headers = match (client.ip(), server.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            [line("TCP4", client, server), block(0x11, &from.octets(), &to.octets(), client, server, values)]
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            [line("TCP6", client, server), block(0x21, &from.octets(), &to.octets(), client, server, values)]
        }
        _ => return,
    };
    for header in headers {
        let bytes = [&header[..], behind].concat();
        if header.len() > MAX_LEN {
            assert!(parse(&bytes).is_err());
            continue;
        }
        let parsed = parse(&bytes).expect("a header of ours").expect("it is whole");
        assert_eq!(parsed.len, header.len());
        assert_eq!(parsed.client, Some(SocketAddr::new(client.ip(), client.port())));
        read(&bytes);
    }
}

fn line(family: &str, client: &SocketAddr, server: &SocketAddr) -> Vec<u8> {
    let (from, to) = (client.ip(), server.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), server.port()).into_bytes()
}

fn block(
    family: u8,
    from: &[u8],
    to: &[u8],
    client: &SocketAddr,
    server: &SocketAddr,
    values: &[u8],
) -> Vec<u8> {
    let values = &values[..values.len().min(60_000)];
    let ports = [client.port().to_be_bytes(), server.port().to_be_bytes()].concat();
    let len = u16::try_from(from.len() + to.len() + ports.len() + values.len()).expect("cut above");
    let fixed = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21, family], &len.to_be_bytes()].concat();
    [&fixed, from, to, &ports, values].concat()
}
