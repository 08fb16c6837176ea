//! Offers and answers (RFC 7692 §5, §7.1).

use webscale_proto::handshake::client::{ClientRequest, ResponseError, key, verify_response, write_request};
use webscale_proto::handshake::{HeadLimits, accept, parse_request};
use webscale_proto::{Agreed, Deflate, Role};

fn takeover() -> Deflate {
    Deflate::default().own_context_takeover(true).peer_context_takeover(true)
}

/// A request with these Sec-WebSocket-Extensions, each in a field of its own.
fn request(fields: &[&str]) -> Vec<u8> {
    let mut head = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        .to_owned();
    for field in fields {
        head += &format!("Sec-WebSocket-Extensions: {field}\r\n");
    }
    (head + "\r\n").into_bytes()
}

/// What a server answers to these fields; empty where it declines.
fn answer(server: &Deflate, fields: &[&str]) -> String {
    let head = request(fields);
    let request = parse_request(&head, &HeadLimits::default()).unwrap();
    server.answer(request.extensions()).map_or_else(String::new, |agreed| agreed.to_string())
}

const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn a_server_by_default_takes_no_context_over() {
    let server = Deflate::default();
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate;client_max_window_bits=15",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate ; client_no_context_takeover; server_no_context_takeover",
    ] {
        assert_eq!(answer(&server, &[offer]), PLAIN, "{offer}");
    }
}

#[test]
fn windows_are_answered_with_the_lesser() {
    let cases = [
        (Deflate::default(), "server_max_window_bits=15", "; server_max_window_bits=15"),
        (Deflate::default(), "server_max_window_bits=9", "; server_max_window_bits=9"),
        (Deflate::default(), "server_max_window_bits=\"10\"", "; server_max_window_bits=10"),
        (Deflate::default(), "server_max_window_bits = 10", "; server_max_window_bits=10"),
        (Deflate::default().own_window_bits(11), "server_max_window_bits=12", "; server_max_window_bits=11"),
        (Deflate::default().own_window_bits(12), "server_max_window_bits=11", "; server_max_window_bits=11"),
        (Deflate::default().own_window_bits(12), "client_max_window_bits", "; server_max_window_bits=12"),
        (Deflate::default(), "client_max_window_bits=8", "; client_max_window_bits=8"),
        (Deflate::default(), "client_max_window_bits=10", "; client_max_window_bits=10"),
        (Deflate::default().peer_window_bits(10), "client_max_window_bits", "; client_max_window_bits=10"),
        (Deflate::default().peer_window_bits(10), "client_max_window_bits=9", "; client_max_window_bits=9"),
        // A client that does not offer it may not be asked.
        (Deflate::default().peer_window_bits(10), "client_no_context_takeover", ""),
    ];
    for (server, parameters, expected) in cases {
        let offer = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(&server, &[&offer]), format!("{PLAIN}{expected}"), "{offer}");
    }
}

#[test]
fn context_is_taken_over_where_both_want_it() {
    let both = takeover();
    let name = "permessage-deflate";
    assert_eq!(answer(&both, &[name]), name);
    for flag in ["server_no_context_takeover", "client_no_context_takeover"] {
        assert_eq!(answer(&both, &[&format!("{name}; {flag}")]), format!("{name}; {flag}"));
    }
    let own = Deflate::default().own_context_takeover(true);
    assert_eq!(answer(&own, &[name]), format!("{name}; client_no_context_takeover"));
    let peer = Deflate::default().peer_context_takeover(true);
    assert_eq!(answer(&peer, &[name]), format!("{name}; server_no_context_takeover"));
    let agreed = peer.answer([name]).unwrap();
    assert!(!agreed.direction(Role::Server).context_takeover);
    assert!(agreed.direction(Role::Client).context_takeover);
}

const BAD_OFFERS: &[&str] = &[
    "permessage-deflate; unknown",
    "permessage-deflate; unknown=1",
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
    "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
    "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; client_no_context_takeover=\"\"",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; server_max_window_bits=",
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_max_window_bits=08",
    "permessage-deflate; server_max_window_bits=010",
    "permessage-deflate; server_max_window_bits=+9",
    "permessage-deflate; server_max_window_bits=1e1",
    "permessage-deflate; server_max_window_bits=\"10",
    "permessage-deflate; client_max_window_bits=7",
    "permessage-deflate; client_max_window_bits=16",
    "permessage-deflate; client_max_window_bits=x",
    "permessage-deflate; client_max_window_bits=",
    // zlib has no window of 8 bits to compress with.
    "permessage-deflate; server_max_window_bits=8",
    "permessage-deflate;",
    "permessage-deflate; ; client_max_window_bits",
    "x-webkit-deflate-frame",
    "permessage-deflate2",
    "permessage-bzip2",
    "foo; bar=\"x, permessage-deflate\"",
    "foo; bar=\"\\\", permessage-deflate\"",
];

#[test]
fn bad_offers_are_declined() {
    for offer in BAD_OFFERS {
        assert_eq!(answer(&takeover(), &[offer]), "", "{offer}");
    }
    assert_eq!(answer(&takeover(), &[]), "");
}

#[test]
fn the_first_offer_that_can_be_taken_is_taken() {
    for bad in BAD_OFFERS.iter().filter(|bad| !bad.ends_with("\"10")) {
        let good = "permessage-deflate; server_max_window_bits=12";
        let expected = format!("{PLAIN}; server_max_window_bits=12");
        assert_eq!(answer(&Deflate::default(), &[&format!("{bad}, {good}, permessage-deflate")]), expected);
        assert_eq!(answer(&Deflate::default(), &[bad, good]), expected);
    }
}

/// What a client makes of an answer with these fields.
fn confirm(client: Option<&Deflate>, fields: &[&str]) -> Result<Option<Agreed>, ResponseError> {
    let mut head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        .to_owned();
    for field in fields {
        head += &format!("Sec-WebSocket-Extensions: {field}\r\n");
    }
    head += "\r\n";
    verify_response(head.as_bytes(), "dGhlIHNhbXBsZSBub25jZQ==", &[], client)
        .map(|response| response.deflate())
}

#[test]
fn a_client_says_what_it_wants() {
    let offer = |client: Deflate| client.offer().to_string();
    assert_eq!(offer(Deflate::default()), format!("{PLAIN}; client_max_window_bits"));
    assert_eq!(offer(takeover()), "permessage-deflate; client_max_window_bits");
    assert_eq!(
        offer(takeover().own_window_bits(10).peer_window_bits(11)),
        "permessage-deflate; server_max_window_bits=11; client_max_window_bits=10"
    );
}

#[test]
fn a_client_refuses_what_it_did_not_offer() {
    assert_eq!(confirm(None, &[]), Ok(None));
    assert_eq!(confirm(None, &["permessage-deflate"]), Err(ResponseError::Extension));
    let client = takeover().own_window_bits(12).peer_window_bits(12);
    let fine = "permessage-deflate; server_max_window_bits=12";
    assert!(matches!(confirm(Some(&client), &[fine]), Ok(Some(_))));
    let bad = [
        "permessage-deflate",
        "permessage-deflate; server_max_window_bits=13",
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=13",
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=12, permessage-deflate; server_max_window_bits=12",
        "foo",
        "foo, permessage-deflate; server_max_window_bits=12",
    ];
    for answer in bad.iter().chain(BAD_OFFERS.iter().filter(|bad| !bad.ends_with("=8"))) {
        assert_eq!(confirm(Some(&client), &[answer]), Err(ResponseError::Extension), "{answer}");
    }
    assert_eq!(confirm(Some(&client), &[fine, fine]), Err(ResponseError::Extension));
    assert_eq!(confirm(Some(&client), &[]), Ok(None));
    // It asked the server to remember nothing.
    let plain = Deflate::default();
    assert_eq!(confirm(Some(&plain), &["permessage-deflate"]), Err(ResponseError::Extension));
}

#[test]
fn every_client_and_server_agree_on_the_same() {
    let every = || {
        let flags = [false, true].into_iter().flat_map(|own| [(own, false), (own, true)]);
        flags.flat_map(|(own, peer)| {
            [(15, 15), (9, 15), (15, 9), (12, 10)].map(|(own_bits, peer_bits)| {
                let deflate = Deflate::default().own_context_takeover(own).peer_context_takeover(peer);
                deflate.own_window_bits(own_bits).peer_window_bits(peer_bits)
            })
        })
    };
    for (client, server) in every().flat_map(|client| every().map(move |server| (client, server))) {
        let key = key([7; 16]);
        let asked = ClientRequest {
            host: "a",
            target: "/",
            key: &key,
            protocols: &[],
            deflate: Some(&client),
            headers: &[],
        };
        let (mut sent, mut answered) = (Vec::new(), Vec::new());
        write_request(&mut sent, &asked).unwrap();
        let request = parse_request(&sent, &HeadLimits::default()).unwrap();
        let agreed = server.answer(request.extensions());
        accept(&mut answered, &request, None, agreed.as_ref(), &[]).unwrap();
        let response = verify_response(&answered, &key, &[], Some(&client)).unwrap();
        let (there, here) = (response.deflate().unwrap(), agreed.unwrap());
        for role in [Role::Server, Role::Client] {
            let (there, here) = (there.direction(role), here.direction(role));
            // An end may do less than it may do.
            assert!(there.window_bits <= here.window_bits || role == Role::Server);
            assert!(!there.context_takeover || here.context_takeover);
            assert!(role == Role::Client || there == here, "{client:?} {server:?}");
        }
    }
}
