//! Our client against servers of other makes.

use serde_json::{Value, json};
use webscale::{ClientTls, CloseCause, CloseCode, Deflate};

use crate::guest::{Guest, Wish};
use crate::host::Certificate;
use crate::message::Owned;
use crate::parameters::Parameters;
use crate::puppet::{Peer, Puppet};

crate::tests!(node: Peer::Node, python: Peer::Python => [
    messages, without_tls, fragments, pings, compression, parameters, closing, refusals
]);

/// Some servers in one process of another make.
pub(crate) struct Servers {
    puppet: Puppet,
    ports: Vec<u64>,
    pub(crate) certificate: Option<Certificate>,
}

impl Servers {
    /// One without TLS for each of `deflate`, what it accepts of permessage-deflate.
    pub(crate) fn plain(peer: Peer, deflate: &[Option<Parameters>]) -> Self {
        Self::start(peer, deflate, None)
    }

    /// The same with TLS.
    pub(crate) fn secure(peer: Peer, deflate: &[Option<Parameters>]) -> Self {
        Self::start(peer, deflate, Some(Certificate::new()))
    }

    fn start(peer: Peer, deflate: &[Option<Parameters>], certificate: Option<Certificate>) -> Self {
        let declined = if peer == Peer::Node { false.into() } else { Value::Null };
        let options =
            deflate.iter().map(|deflate| deflate.map_or(declined.clone(), |deflate| deflate.options(peer)));
        let tls = certificate.as_ref().map(|certificate| {
            let files = &certificate.files;
            json!({ "cert": files.cert.to_str(), "key": files.key.to_str() })
        });
        let mut puppet = peer.server();
        let ports = puppet.ask(&json!({ "servers": options.collect::<Vec<_>>(), "tls": tls }));
        let ports = ports.as_array().expect("a list").iter().map(|port| port.as_u64().expect("a number"));
        Self { puppet, ports: ports.collect(), certificate }
    }

    pub(crate) fn url(&self, server: usize, path: &str) -> String {
        let scheme = if self.certificate.is_some() { "wss" } else { "ws" };
        format!("{scheme}://127.0.0.1:{}{path}", self.ports[server])
    }

    /// What a client of ours connects with.
    fn wish(&self, deflate: Option<Deflate>) -> Wish {
        let trusted =
            |certificate: &Certificate| ClientTls::from_ca_file(&certificate.files.ca_cert).expect("a CA");
        Wish { tls: self.certificate.as_ref().map(trusted), deflate, ..Wish::default() }
    }

    fn connect(&self, server: usize, path: &str, deflate: Option<Deflate>) -> Guest {
        Guest::connect(&self.url(server, path), &self.wish(deflate))
    }

    /// How many messages all servers have received.
    pub(crate) fn messages(&mut self) -> u64 {
        self.count("messages")
    }

    /// How many connections agreed on an extension.
    pub(crate) fn extended(&mut self) -> u64 {
        self.count("extended")
    }

    fn count(&mut self, of: &str) -> u64 {
        self.puppet.ask(&json!("count"))[of].as_u64().expect("a number")
    }

    /// How the last of so many connections ended: code and reason. They are awaited, as a server counts the end of a
    /// connection, and the messages before it, a moment after our loop has seen it.
    pub(crate) fn last_close(&mut self, ended: u64) -> Value {
        loop {
            let counts = self.puppet.ask(&json!("count"));
            let closes = counts["closes"].as_array().expect("a list");
            let count = closes.len() as u64;
            assert!(count <= ended, "{counts}");
            if count == ended {
                return closes.last().cloned().unwrap_or_default();
            }
            std::thread::yield_now();
        }
    }
}

/// Sizes on both sides of every border in the frame's header, and the longest that both take.
const SIZES: [usize; 9] = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, 16 << 20];

fn echo_every_size(guest: &Guest) {
    for size in SIZES {
        guest.echo(&Owned::text(size));
        guest.echo(&Owned::noise(size));
    }
    guest.echo(&Owned::Text("größer 🦀".into()));
}

/// Closes, and asserts that it was answered.
fn part(guest: &Guest) {
    guest.close(CloseCode::NORMAL, "");
    let close = guest.closed();
    assert!(matches!(close.cause, CloseCause::Local), "{close}");
}

fn messages(peer: Peer) {
    let mut servers = Servers::secure(peer, &[None]);
    let guest = servers.connect(0, "/echo", None);
    echo_every_size(&guest);
    part(&guest);
    let guest = servers.connect(0, "/fragments", None);
    for size in [1, 126, 70_000, 1 << 20] {
        guest.echo(&Owned::text(size));
        guest.echo(&Owned::noise(size));
    }
    part(&guest);
    let guest = servers.connect(0, "/echo", None);
    let many: Vec<_> = (0..2000).map(|i| Owned::Text(format!("message {i:0300}"))).collect();
    many.iter().for_each(|message| guest.send(message));
    assert!(many.iter().all(|message| guest.hear() == *message));
    part(&guest);
    assert_eq!(servers.messages(), 2 * SIZES.len() as u64 + 1 + 8 + 2000);
}

fn without_tls(peer: Peer) {
    let servers = Servers::plain(peer, &[None]);
    let guest = servers.connect(0, "/echo", None);
    echo_every_size(&guest);
    part(&guest);
}

/// Messages of ours in fragments, each of which but the last was followed by a ping; and messages in one frame behind.
fn fragments(peer: Peer) {
    let mut servers = Servers::secure(peer, &[None, Some(Parameters::default())]);
    let takeover = Deflate::default().threshold(0).own_context_takeover(true).peer_context_takeover(true);
    let cases = [
        (Owned::Text(String::new()), 4),
        (Owned::Text("größer 🦀🦀".into()), 5),
        (Owned::text(300_000), 70_000),
        (Owned::noise(300_000), 70_000),
    ];
    for (server, deflate) in [(0, None), (1, Some(takeover))] {
        for (message, size) in &cases {
            let wish = Wish { pieces: message.clone().pieces(*size), ..servers.wish(deflate) };
            let guest = Guest::connect(&servers.url(server, "/echo"), &wish);
            assert!(guest.hear() == *message, "another message than was sent");
            (0..2).for_each(|_| guest.echo(message));
            part(&guest);
        }
    }
    assert_eq!(servers.messages(), 2 * 3 * cases.len() as u64);
}

fn pings(peer: Peer) {
    let servers = Servers::secure(peer, &[None]);
    let guest = servers.connect(0, "/ping", None);
    assert_eq!(guest.hear(), Owned::Text("pong are you there".into()));
    part(&guest);
}

/// The extension is used where both ends want it, and only there; compressed messages really are shorter.
fn compression(peer: Peer) {
    let servers = Servers::secure(peer, &[None, Some(Parameters::default())]);
    let takeover = Deflate::default().own_context_takeover(true).peer_context_takeover(true);
    let cases =
        [(0, None), (0, Some(takeover)), (1, None), (1, Some(takeover)), (1, Some(Deflate::default()))];
    for (server, deflate) in cases {
        let guest = servers.connect(server, "/echo", deflate);
        let text = Owned::text(1 << 20);
        (0..3).for_each(|_| guest.echo(&text));
        let (received, sent) = guest.bytes();
        for bytes in [received, sent] {
            let is_compressed = bytes < 1 << 20;
            assert_eq!(
                is_compressed,
                server == 1 && deflate.is_some(),
                "{bytes} of {} for {deflate:?}",
                3 << 20
            );
        }
        echo_every_size(&guest);
        part(&guest);
    }
    let guest = servers.connect(1, "/fragments", Some(takeover));
    (0..3).for_each(|_| guest.echo(&Owned::text(100_000)));
    part(&guest);
}

/// Each of our offers to servers that take everything, and servers that choose by themselves.
fn parameters(peer: Peer) {
    let all: Vec<_> = Parameters::all().collect();
    let choices: Vec<_> = [Parameters::default()].into_iter().chain(all.iter().copied()).map(Some).collect();
    let servers = Servers::plain(peer, &choices);
    for wanted in &all {
        let offer = Deflate::default()
            .threshold(0)
            .own_context_takeover(!wanted.client_no_context_takeover)
            .peer_context_takeover(!wanted.server_no_context_takeover)
            .own_window_bits(wanted.client_max_window_bits)
            .peer_window_bits(wanted.server_max_window_bits);
        converse(&servers.connect(0, "/echo", Some(offer)));
    }
    let open = Deflate::default().threshold(0).own_context_takeover(true).peer_context_takeover(true);
    for server in 1..choices.len() {
        converse(&servers.connect(server, "/echo", Some(open)));
    }
}

/// Messages beyond every window, each of which repeats the one before; compressed both ways.
fn converse(guest: &Guest) {
    for size in [100, 70_000, 70_000] {
        guest.echo(&Owned::text(size));
    }
    guest.echo(&Owned::noise(3000));
    guest.echo(&Owned::text(70_000));
    let (received, sent) = guest.bytes();
    assert!(received < 120_000 && sent < 120_000, "{received} and {sent} bytes");
    part(guest);
}

fn closing(peer: Peer) {
    let mut servers = Servers::secure(peer, &[None]);
    let longest = "x".repeat(123);
    let mut ended = 0;
    for (code, reason) in [(1000, ""), (1001, "going"), (1011, "größer"), (3000, "a"), (4999, &longest)] {
        let escaped: String = reason.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let guest = servers.connect(0, &format!("/close/{code}/{escaped}"), None);
        guest.send(&Owned::Text("now".into()));
        let close = guest.closed();
        assert!(matches!(close.cause, CloseCause::Peer), "{close}");
        assert_eq!((close.code.get(), close.reason.as_str()), (code, reason));
        ended += 1;

        let guest = servers.connect(0, "/echo", None);
        guest.close(CloseCode::new(code).expect("a code"), reason);
        let close = guest.closed();
        assert!(matches!(close.cause, CloseCause::Local), "{close}");
        assert_eq!((close.code.get(), close.reason.as_str()), (code, reason));
        ended += 1;
        assert_eq!(servers.last_close(ended), json!([code, reason]));
    }
    let guest = servers.connect(0, "/echo", None);
    guest.send(&Owned::noise((16 << 20) + 1));
    let close = guest.closed();
    assert_eq!(close.code, CloseCode::TOO_BIG, "{close}");
    assert!(matches!(close.cause, CloseCause::Protocol(_)), "{close}");
}

/// A certificate that is not below the CA that is trusted; TLS where there is none.
fn refusals(peer: Peer) {
    let servers = Servers::secure(peer, &[None]);
    let stranger = Certificate::new();
    let tls = ClientTls::from_ca_file(&stranger.files.ca_cert).expect("a CA");
    let wish = Wish { tls: Some(tls), ..Wish::default() };
    let Err(close) = Guest::try_connect(&servers.url(0, "/echo"), &wish) else { panic!("trusted") };
    assert!(matches!(close.cause, CloseCause::Tls(_)), "{close}");
    let without = servers.url(0, "/echo").replace("wss:", "ws:");
    let Err(close) = Guest::try_connect(&without, &Wish::default()) else { panic!("opened without TLS") };
    assert!(matches!(close.cause, CloseCause::Upgrade(_) | CloseCause::Lost(_)), "{close}");
}
