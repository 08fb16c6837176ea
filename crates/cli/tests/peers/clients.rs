//! Clients of other makes against our server.

use serde_json::{Value, json};
use webscale::{CloseCause, Deflate, Origins, Server};

use crate::host::Host;
use crate::parameters::Parameters;
use crate::puppet::{Peer, exported};

crate::tests!(node: Peer::Node, python: Peer::Python => [
    messages, without_tls, fragments, our_fragments, pings, compression, parameters, closing, refusals, origins
]);
crate::tests!(chromium: Peer::Chromium => [
    messages, our_fragments, pings, compression, closing, refusals, origins
]);

/// One connection of a client: where to, with what, and what it does there.
struct Scene {
    path: &'static str,
    protocols: &'static [&'static str],
    /// Of the client's permessage-deflate, in its own words; a browser has none to choose.
    deflate: Option<Parameters>,
    /// The page that connects: a browser shows it, other clients name it. By default the host's own, or none.
    page: Option<String>,
    steps: Value,
}

impl Scene {
    fn new(path: &'static str, steps: Value) -> Self {
        Self { path, protocols: &[], deflate: None, page: None, steps }
    }

    fn for_peer(&self, peer: Peer, host: &Host) -> Value {
        let scheme = if host.certificate.is_some() { "wss" } else { "ws" };
        let mut scene = json!({
            "url": format!("{scheme}://{}{}", host.address, self.path),
            "protocols": self.protocols,
            "steps": self.steps,
        });
        let deflate = self.deflate.map(|deflate| deflate.options(peer));
        match peer {
            Peer::Node => {
                let deflate = deflate.unwrap_or(false.into());
                scene["options"] = json!({ "perMessageDeflate": deflate });
                if let Some(page) = &self.page {
                    scene["options"]["origin"] = page.as_str().into();
                }
            }
            Peer::Python => {
                scene["options"] = deflate.into();
                scene["origin"] = self.page.clone().into();
            }
            Peer::Chromium => {
                let own = || format!("https://{}", host.address);
                scene["page"] = self.page.clone().unwrap_or_else(own).into();
            }
        }
        scene
    }
}

/// Has `peer` play the scenes on `host`, one after another. Gives their reports.
fn play(peer: Peer, host: &Host, scenes: &[Scene]) -> Vec<Value> {
    let scenes: Vec<_> = scenes.iter().map(|scene| scene.for_peer(peer, host)).collect();
    let mut wanted = json!({ "scenes": scenes });
    if let Some(certificate) = &host.certificate {
        wanted["ca"] = certificate.files.ca_cert.to_str().into();
        if peer == Peer::Chromium {
            wanted["certificate"] = certificate.files.cert.to_str().into();
            wanted["profile"] = certificate.directory.file("profile").into();
            wanted["browser"] = exported("WEBSCALE_CHROMIUM").to_str().into();
        }
    }
    let Value::Array(reports) = peer.client().ask_at_last(&wanted) else { panic!("no list of reports") };
    assert_eq!(reports.len(), scenes.len());
    reports
}

/// Asserts that every step went well.
#[track_caller]
fn assert_went_well(report: &Value) {
    let steps = report["steps"].as_array().unwrap_or_else(|| panic!("{report}"));
    assert!(!steps.is_empty() && steps.iter().all(|step| step == true), "{report}");
}

/// Asserts how the client saw the connection end, in order.
#[track_caller]
fn assert_closed(report: &Value, code: u16, reason: &str) {
    assert_eq!(report["close"], json!({ "code": code, "reason": reason, "clean": true }), "{report}");
}

/// Sizes on both sides of every border in the frame's header, up to the host's limit; then a close.
fn every_size() -> Value {
    let sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20];
    let echo = |size| ["text", "binary"].map(|kind| json!({ "echo": { "kind": kind, "size": size } }));
    sizes.into_iter().flat_map(echo).chain([json!({ "close": [1000, ""] })]).collect()
}

fn messages(peer: Peer) {
    let host = Host::secure(Server::builder());
    let many = json!([{ "many": { "count": 2000, "size": 300 } }, { "close": [1000, ""] }]);
    for report in play(peer, &host, &[Scene::new("/echo", every_size()), Scene::new("/echo", many)]) {
        assert_went_well(&report);
        assert_closed(&report, 1000, "");
        assert_eq!(report["opened"], json!({ "protocol": "", "extensions": "" }));
        assert!(matches!(host.closed().cause, CloseCause::Peer));
    }
}

fn without_tls(peer: Peer) {
    let host = Host::plain(Server::builder());
    let report = &play(peer, &host, &[Scene::new("/echo", every_size())])[0];
    assert_went_well(report);
    assert_closed(report, 1000, "");
}

fn fragments(peer: Peer) {
    for deflate in [None, Some(Parameters::default())] {
        let host = Host::secure(Server::builder().deflate(Deflate::default()));
        let fragments = |kind, sizes: &[usize]| json!({ "fragments": { "kind": kind, "sizes": sizes } });
        let steps = json!([
            fragments("text", &[1, 1, 1]),
            fragments("binary", &[70_000, 1, 200_000]),
            fragments("text", &[100; 1000]),
            fragments("text", &[1000, 0, 125, 126, 65_536]),
            { "close": [1000, ""] },
        ]);
        let report = &play(peer, &host, &[Scene { deflate, ..Scene::new("/echo", steps) }])[0];
        assert_went_well(report);
        assert_closed(report, 1000, "");
    }
}

/// What our server sends in fragments comes whole, where a pong was awaited between two of them; with and without
/// compression of the messages around them.
fn our_fragments(peer: Peer) {
    let takeover = Deflate::default().threshold(0).own_context_takeover(true).peer_context_takeover(true);
    for deflate in [None, Some(takeover)] {
        let builder = Server::builder();
        let host = Host::secure(match deflate {
            Some(deflate) => builder.deflate(deflate),
            None => builder,
        });
        let (text, all) = ("größer 🦀🦀", "that was all");
        let short = json!([{ "say": text }, { "hear": true }, { "hear": true }, { "close": [1000, ""] }]);
        let echo = |kind| json!({ "echo": { "kind": kind, "size": 300_000 } });
        let hear = json!({ "hear": true });
        let long =
            json!([echo("text"), hear, echo("binary"), hear, echo("text"), hear, { "close": [1000, ""] }]);
        let cases = [
            ("/fragments/5", short, json!([true, text, all, true])),
            ("/fragments/70000", long, json!([true, all, true, all, true, all, true])),
        ];
        for (path, steps, outcome) in cases {
            let offer = deflate.map(|_| Parameters::default());
            let report = &play(peer, &host, &[Scene { deflate: offer, ..Scene::new(path, steps) }])[0];
            assert_eq!(report["steps"], outcome, "{report}");
            assert_closed(report, 1000, "");
            let answer = report["opened"]["extensions"].as_str().expect("text");
            assert_eq!(answer.starts_with("permessage-deflate"), deflate.is_some(), "{answer:?}");
        }
    }
}

fn pings(peer: Peer) {
    let host = Host::secure(Server::builder());
    let asked = Scene::new("/ping", json!([{ "hear": true }, { "close": [1000, ""] }]));
    let ask = Scene::new("/echo", json!([{ "ping": "here?" }, { "ping": "" }, { "close": [1000, ""] }]));
    // A script in a browser cannot ping.
    let scenes = if peer == Peer::Chromium { vec![asked] } else { vec![asked, ask] };
    let reports = play(peer, &host, &scenes);
    assert_eq!(reports[0]["steps"], json!(["pong are you there", true]));
    for report in &reports[1..] {
        assert_went_well(report);
    }
}

/// The extension is agreed on, and what compresses well really crosses the wire in fewer bytes, both ways.
fn compression(peer: Peer) {
    let raw = 3 << 20;
    let texts = |size: usize| json!({ "echo": { "kind": "text", "size": size } });
    let steps = json!([texts(1 << 20), texts(1 << 20), texts(1 << 20), { "close": [1000, ""] }]);
    for deflate in [
        None,
        Some(Deflate::default()),
        Some(Deflate::default().own_context_takeover(true).peer_context_takeover(true)),
    ] {
        let builder = Server::builder();
        let host = Host::secure(match deflate {
            Some(deflate) => builder.deflate(deflate),
            None => builder,
        });
        let scene = Scene { deflate: Some(Parameters::default()), ..Scene::new("/echo", steps.clone()) };
        let report = &play(peer, &host, &[scene])[0];
        assert_went_well(report);
        let answer = report["opened"]["extensions"].as_str().expect("text");
        assert_eq!(answer.starts_with("permessage-deflate"), deflate.is_some(), "{answer:?}");
        let metrics = host.handle.metrics();
        for bytes in [metrics.bytes_in, metrics.bytes_out] {
            assert_eq!(bytes < raw / 3, deflate.is_some(), "{bytes} bytes with {answer:?}");
            assert_eq!(bytes > raw, deflate.is_none(), "{bytes} bytes with {answer:?}");
        }
    }
}

/// Every parameter that a client can offer, against hosts that want as little, as much and as small as they can.
fn parameters(peer: Peer) {
    let takeover = Deflate::default().threshold(0).own_context_takeover(true).peer_context_takeover(true);
    let hosts = [
        (Deflate::default().threshold(0), 15, true),
        (takeover, 15, false),
        (takeover.own_window_bits(9).peer_window_bits(9), 9, false),
    ];
    let steps = json!([
        { "echo": { "kind": "text", "size": 100 } },
        { "echo": { "kind": "text", "size": 70_000 } },
        { "echo": { "kind": "binary", "size": 3000 } },
        { "echo": { "kind": "text", "size": 70_000 } },
        { "close": [1000, ""] },
    ]);
    for (deflate, bits, no_takeover) in hosts {
        let host = Host::plain(Server::builder().deflate(deflate));
        let offers: Vec<_> = Parameters::all().collect();
        let scene =
            |offer: &Parameters| Scene { deflate: Some(*offer), ..Scene::new("/echo", steps.clone()) };
        let scenes: Vec<_> = offers.iter().map(scene).collect();
        for (report, offer) in play(peer, &host, &scenes).iter().zip(offers) {
            assert_went_well(report);
            assert_closed(report, 1000, "");
            let expected = Parameters {
                server_no_context_takeover: offer.server_no_context_takeover || no_takeover,
                client_no_context_takeover: offer.client_no_context_takeover || no_takeover,
                server_max_window_bits: offer.server_max_window_bits.min(bits),
                client_max_window_bits: offer.client_max_window_bits.min(bits),
            };
            let answer = report["opened"]["extensions"].as_str().expect("text");
            assert_eq!(Parameters::from_header(answer), expected, "{offer:?}: {answer}");
        }
        let (metrics, raw) = (host.handle.metrics(), 28 * 143_100);
        assert!(metrics.bytes_in < raw / 2 && metrics.bytes_out < raw / 2, "{metrics:?}");
    }
}

fn closing(peer: Peer) {
    let host = Host::secure(Server::builder());
    by_the_host(peer, &host);
    by_the_client(peer, &host);
    // In a browser, the page that all this happens on is the host's: it ends last.
    let report =
        &play(peer, &host, &[Scene::new("/shutdown", json!([{ "say": "now" }, { "hear": true }]))])[0];
    assert_closed(report, 1001, "shutting down");
    assert!(matches!(host.closed().cause, CloseCause::Shutdown));
}

/// Codes and reasons of ours, as the client's `onclose` shows them.
fn by_the_host(peer: Peer, host: &Host) {
    let longest = "x".repeat(123);
    let paths = [
        ("/close/1000", 1000, ""),
        ("/close/1001", 1001, "going"),
        ("/close/1008", 1008, "größer 🦀"),
        ("/close/1013", 1013, "later"),
        ("/close/3000", 3000, "registered"),
        ("/close/4999", 4999, longest.as_str()),
    ];
    let scene = |&(path, _, reason): &(_, _, &str)| Scene::new(path, json!([{ "say": reason }]));
    let scenes: Vec<_> = paths.iter().map(scene).collect();
    for (report, (path, code, reason)) in play(peer, host, &scenes).iter().zip(paths) {
        assert_closed(report, code, reason);
        let close = host.closed();
        assert!(matches!(close.cause, CloseCause::Local), "{path}: {close}");
        assert_eq!((close.code.get(), close.reason.as_str()), (code, reason));
    }
    let size = (1 << 20) + 1;
    let faults = [
        Scene::new("/panic", json!([{ "say": "now" }])),
        Scene::new("/echo", json!([{ "flood": { "size": size } }])),
    ];
    let reports = play(peer, host, &faults);
    assert_eq!(reports[0]["close"]["code"], 1011, "{}", reports[0]);
    assert!(matches!(host.closed().cause, CloseCause::Panic));
    assert_eq!(reports[1]["close"]["code"], 1009, "{}", reports[1]);
    assert!(matches!(host.closed().cause, CloseCause::Protocol(_)));
}

/// Codes and reasons of the client, as our handler gets them.
fn by_the_client(peer: Peer, host: &Host) {
    let longest = "é".repeat(61);
    let mut closes = vec![(json!([1000, ""]), 1000, ""), (json!([3000, "größer 🦀"]), 3000, "größer 🦀")];
    closes.push((json!([4999, longest]), 4999, &longest));
    if peer != Peer::Python {
        // `close()` of `websockets` has 1000 as its default.
        closes.push((json!([]), 1005, ""));
    }
    let scene = |(close, ..): &(Value, _, _)| Scene::new("/echo", json!([{ "close": close }]));
    let scenes: Vec<_> = closes.iter().map(scene).collect();
    for (report, (_, code, reason)) in play(peer, host, &scenes).iter().zip(closes) {
        // Our answer has the code alone.
        assert_closed(report, code, "");
        let close = host.closed();
        assert!(matches!(close.cause, CloseCause::Peer), "{close}");
        assert_eq!((close.code.get(), close.reason.as_str()), (code, reason));
    }
}

/// What is not opened, and what is agreed on where it is.
fn refusals(peer: Peer) {
    let host = Host::secure(Server::builder());
    let bye = json!([{ "close": [1000, ""] }]);
    let chosen = Scene { protocols: &["chat.v1", "chat.v2"], ..Scene::new("/echo", bye.clone()) };
    let report = &play(peer, &host, &[chosen])[0];
    assert_eq!(report["opened"]["protocol"], "chat.v2");
    let report = &play(peer, &host, &[Scene::new("/nowhere", bye)])[0];
    match peer {
        Peer::Chromium => assert_eq!(report["close"], json!({ "code": 1006, "reason": "", "clean": false })),
        _ => assert!(report["failed"].as_str().is_some_and(|why| why.contains("404")), "{report}"),
    }
}

/// Pages of the host itself may connect; others may not, unless that was said.
fn origins(peer: Peer) {
    let host = Host::secure(Server::builder());
    assert_opens(peer, &host, &format!("https://{}", host.address));
    let mut strangers = vec![format!("https://localhost:{}", host.address.port())];
    if peer != Peer::Chromium {
        let made_up =
            ["null", "http://HOST", "https://HOST.example", "https://127.0.0.1", "https://127.0.0.1:1"];
        strangers.extend(made_up.map(|origin| origin.replace("HOST", &host.address.to_string())));
    }
    for stranger in &strangers {
        assert_refused(peer, &host, stranger);
    }
    // By the host, and not by the browser.
    assert_eq!(host.handle.metrics().rejected, strangers.len() as u64);

    let host = Host::secure(Server::builder().origins(Origins::any()));
    assert_opens(peer, &host, &format!("https://localhost:{}", host.address.port()));
    let host = Host::secure(Server::builder().origins(Origins::list(["https://listed.example"])));
    assert_refused(peer, &host, &format!("https://{}", host.address));
    if peer != Peer::Chromium {
        assert_opens(peer, &host, "https://listed.example");
    }
}

/// What becomes of a connection from this page.
fn visit(peer: Peer, host: &Host, page: &str) -> Value {
    let steps = json!([{ "echo": { "kind": "text", "size": 10 } }, { "close": [1000, ""] }]);
    let scene = Scene { page: Some(page.to_owned()), ..Scene::new("/echo", steps) };
    play(peer, host, &[scene]).remove(0)
}

#[track_caller]
fn assert_opens(peer: Peer, host: &Host, page: &str) {
    let report = visit(peer, host, page);
    assert_went_well(&report);
    assert_closed(&report, 1000, "");
}

#[track_caller]
fn assert_refused(peer: Peer, host: &Host, page: &str) {
    let report = visit(peer, host, page);
    let is_refused = match peer {
        // A script is not told why.
        Peer::Chromium => report["close"] == json!({ "code": 1006, "reason": "", "clean": false }),
        _ => report["failed"].as_str().is_some_and(|why| why.contains("403")),
    };
    assert!(is_refused, "{page}: {report}");
}
