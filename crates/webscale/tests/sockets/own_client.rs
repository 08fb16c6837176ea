//! A client that ends inside its own handler.

use std::sync::mpsc::{Sender as Channel, channel};
use std::sync::{Arc, Mutex};

use webscale::{Client, Close, Handler, Message, Peer, Target};

use super::support::{PATIENCE, Serving, builder};

#[derive(Default)]
struct Held(Mutex<Option<Client<Ender>>>);

/// Ends the client that it belongs to.
struct Ender {
    client: Arc<Held>,
    shuts_down: bool,
    events: Channel<String>,
}

impl Handler for Ender {
    type Session = ();

    fn opened(&self, _: &mut Peer<'_, ()>) {
        let client = self.client.0.lock().unwrap().take().expect("the test put it there");
        if self.shuts_down {
            client.shutdown().expect("no fault");
        } else {
            drop(client);
        }
        self.events.send("ended".into()).unwrap();
    }

    fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {}

    fn close(&self, (): (), close: Close) {
        self.events.send(format!("{:?} {}", close.cause, close.code.get())).unwrap();
    }
}

#[test]
fn a_client_may_be_dropped_or_shut_down_by_its_own_handler() {
    for shuts_down in [false, true] {
        let (serving, ends) = Serving::obedient(builder());
        let (events, told) = channel();
        let held = Arc::<Held>::default();
        let client = Client::builder().build(Ender { client: held.clone(), shuts_down, events }).unwrap();
        // The handler runs on the client's thread, and finds it there when it looks.
        let mut place = held.0.lock().unwrap();
        let target = Target::from_url(&format!("ws://{}/", serving.address)).unwrap();
        client.connect(&Arc::new(target), None, ()).unwrap();
        *place = Some(client);
        drop(place);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "ended");
        let code = if shuts_down { 1001 } else { 1006 };
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), format!("Shutdown {code}"));
        // The loop is gone, and its handler with it.
        assert!(told.recv_timeout(PATIENCE).is_err_and(|error| error.to_string().contains("closed")));
        assert_eq!(ends.closed().1.code.get(), code);
        serving.shut_down();
    }
}
