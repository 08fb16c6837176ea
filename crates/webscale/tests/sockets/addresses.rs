//! Hosts with several addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use webscale::{CloseCode, Target};

use super::support::{CERTIFICATE, Serving, builder, client, client_tls, failure};

/// An address of this machine on which nobody listens at this port, and one on which the server does.
fn addresses(serving: &Serving) -> [SocketAddr; 2] {
    [SocketAddr::new([127, 0, 0, 99].into(), serving.address.port()), serving.address]
}

#[test]
fn an_address_that_refuses_gives_way_to_the_next() {
    for tls in [None, Some(CERTIFICATE.0.clone())] {
        let is_secure = tls.is_some();
        let builder = builder();
        let (serving, _events) = Serving::obedient(match tls {
            Some(tls) => builder.tls(tls),
            None => builder,
        });
        let target = if is_secure {
            Target::with_tls(&serving.secure_url(), client_tls())
        } else {
            Target::from_url(&serving.url())
        };
        let [silent, good] = addresses(&serving);
        let target = Arc::new(target.unwrap().with_addresses([silent, silent, good]));
        let (client, events) = client();
        client.connect(&target, None, 1).unwrap();
        let (_, sender) = events.opened();
        sender.send(webscale::Message::Text("hello")).unwrap();
        assert_eq!(events.text(), (1, "hello".into()));
        sender.close(CloseCode::NORMAL, "").unwrap();
        events.closed();
        assert_eq!(client.handle().metrics().connected, 1, "it is one connection");
        client.shutdown().unwrap();
        serving.shut_down();
    }
}

#[test]
fn when_all_refuse_the_last_error_is_told() {
    let (serving, _events) = Serving::obedient(builder());
    let [silent, _] = addresses(&serving);
    let target = Target::from_url(&serving.url()).unwrap();
    let words = failure(target.clone().with_addresses([silent, silent]));
    assert!(words.starts_with("no connection: ") && words.contains("refused"), "{words}");
    assert!(failure(target.with_addresses([])).starts_with("no connection: "));
    serving.shut_down();
}
