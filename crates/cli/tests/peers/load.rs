//! `webscale bench` against servers of other makes.

use serde_json::Value;

use crate::common::webscale;
use crate::parameters::Parameters;
use crate::puppet::Peer;
use crate::servers::Servers;

crate::tests!(node: Peer::Node => [counts_agree, counts_agree_over_tls, counts_are_compared, faults_are_found]);
crate::tests!(python: Peer::Python => [counts_agree, counts_agree_over_tls, counts_are_compared]);

/// Clients of a load, and messages that each of them sends while it is measured.
const CLIENTS: u64 = 10;
const MESSAGES: u64 = 20;

/// The outcome of a short load with these arguments, and whether it held.
fn bench(url: &str, probe: &str, latency_limit: &str, more: &[&str]) -> (Value, bool) {
    let load =
        ["--interval", "50ms", "--warmup", "100ms", "--duration", "1s", "--latency-limit", latency_limit];
    let what = ["bench", url, "--clients", "10", "--size", "300", "--probe", probe, "--json"];
    let output = webscale(&[&what[..], &load[..], more].concat());
    let outcome = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (outcome, output.status.success())
}

/// What the server counted is what was sent, and every message is answered.
fn counts_agree(peer: Peer) {
    let mut servers = Servers::plain(peer, &[None]);
    let loads = [("/echo", "echo"), ("/sink", "ping"), ("/sink", "none"), ("/fragments", "echo")];
    assert_counts_agree(&mut servers, &loads, &[]);
}

/// The same with TLS and compression.
fn counts_agree_over_tls(peer: Peer) {
    let mut servers = Servers::secure(peer, &[Some(Parameters::default())]);
    let certificate = servers.certificate.as_ref().expect("made with it");
    let ca = certificate.files.ca_cert.to_str().expect("UTF-8").to_owned();
    let more = ["--ca", &ca, "--deflate=threshold=0,takeover"];
    let loads = [("/echo", "echo"), ("/sink", "ping"), ("/fragments", "echo")];
    assert_counts_agree(&mut servers, &loads, &more);
    assert_eq!(servers.extended(), 3 * CLIENTS);
}

/// Asserts it of loads on these paths, with these probes, one after another.
fn assert_counts_agree(servers: &mut Servers, loads: &[(&str, &str)], more: &[&str]) {
    let (mut before, mut ended) = (0, 0);
    for (path, probe) in loads {
        let (outcome, held) = bench(&servers.url(0, path), probe, "60s", more);
        assert!(held, "{path}, {probe}: {}", outcome["verdict"]);
        let messages = &outcome["messages"];
        assert_eq!(messages["sent"], CLIENTS * MESSAGES, "{messages}");
        for fault in ["corrupt", "reordered", "unanswered"] {
            assert_eq!(messages[fault], 0, "{messages}");
        }
        ended += CLIENTS;
        servers.last_close(ended);
        let counted = servers.messages();
        assert_eq!(messages["sent_in_all"], counted - before, "{path}, {probe}");
        before = counted;
    }
}

/// What the server tells Prometheus, by its own names, is held against the load.
fn counts_are_compared(peer: Peer) {
    let servers = Servers::plain(peer, &[None]);
    let page = servers.url(0, "/metrics").replace("ws:", "http:");
    let names = ["--counts-opened", "ws_opened_total", "--counts-open", "ws_open", "--counts-messages"];
    let counts = |messages| [&["--counts", &page][..], &names, &[messages]].concat();
    let (outcome, held) =
        bench(&servers.url(0, "/echo"), "echo", "60s", &counts("ws_messages_total{kind=\"data\"}"));
    assert!(held, "{}", outcome["verdict"]);
    let counted = &outcome["counted"];
    for (what, count) in [("handshakes", CLIENTS), ("open", CLIENTS), ("messages", CLIENTS * (MESSAGES + 2))]
    {
        assert_eq!(counted[what], serde_json::json!({ "load": count, "server": count }), "{counted}");
    }
    let (outcome, held) = bench(&servers.url(0, "/sink"), "none", "60s", &counts("ws_open"));
    assert!(!held && outcome["counted"]["agrees"] == false, "{outcome}");
}

/// A server that loses, changes or exchanges every tenth echo is found out, by the count that is right.
fn faults_are_found(peer: Peer) {
    let servers = Servers::plain(peer, &[None]);
    // The limit is also how long an echo that is lost is waited for.
    for (path, found) in [("/lose/10", "unanswered"), ("/corrupt/10", "corrupt"), ("/swap/10", "reordered")] {
        let (outcome, held) = bench(&servers.url(0, path), "echo", "5s", &[]);
        assert!(!held, "{path}: {outcome}");
        let faults = &outcome["messages"][found];
        assert_eq!(faults, &(CLIENTS * MESSAGES / 10), "{path}: {}", outcome["messages"]);
    }
}
