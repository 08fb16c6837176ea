//! `webscale bench` against servers of other makes.

use serde_json::Value;

use crate::common::webscale;
use crate::puppet::Peer;
use crate::servers::Servers;

crate::tests!(node, Peer::Node, counts_agree, faults_are_found);
crate::tests!(python, Peer::Python, counts_agree);

/// Clients of a load, and messages that each of them sends while it is measured.
const CLIENTS: u64 = 10;
const MESSAGES: u64 = 20;

/// The outcome of a short load, and whether it held.
fn bench(url: &str, probe: &str, latency_limit: &str) -> (Value, bool) {
    let load =
        ["--interval", "50ms", "--warmup", "100ms", "--duration", "1s", "--latency-limit", latency_limit];
    let what = ["bench", url, "--clients", "10", "--size", "300", "--probe", probe, "--json"];
    let output = webscale(&[&what[..], &load[..]].concat());
    let outcome = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (outcome, output.status.success())
}

/// What the server counted is what was sent, and every message is answered.
fn counts_agree(peer: Peer) {
    let mut servers = Servers::plain(peer, &[None]);
    let mut before = 0;
    for (path, probe) in [("/echo", "echo"), ("/sink", "ping"), ("/sink", "none"), ("/fragments", "echo")] {
        let (outcome, held) = bench(&servers.url(0, path), probe, "60s");
        assert!(held, "{path}, {probe}: {}", outcome["verdict"]);
        let messages = &outcome["messages"];
        assert_eq!(messages["sent"], CLIENTS * MESSAGES, "{messages}");
        assert_eq!(
            (&messages["corrupt"], &messages["reordered"], &messages["unanswered"]),
            (&0.into(), &0.into(), &0.into())
        );
        let counted = servers.messages();
        assert_eq!(messages["sent_in_all"], counted - before, "{path}, {probe}");
        before = counted;
    }
}

/// A server that loses, changes or exchanges every tenth echo is found out, by the count that is right.
fn faults_are_found(peer: Peer) {
    let servers = Servers::plain(peer, &[None]);
    // The limit is also how long an echo that is lost is waited for.
    for (path, found) in [("/lose/10", "unanswered"), ("/corrupt/10", "corrupt"), ("/swap/10", "reordered")] {
        let (outcome, held) = bench(&servers.url(0, path), "echo", "5s");
        assert!(!held, "{path}: {outcome}");
        let faults = &outcome["messages"][found];
        assert_eq!(faults, &(CLIENTS * MESSAGES / 10), "{path}: {}", outcome["messages"]);
    }
}
