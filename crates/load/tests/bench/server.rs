//! Servers of which each behaves, or misbehaves, in its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use webscale::{Accept, CloseCode, Handle, Handler, Message, Peer, Reject, Request, Server, Tls};
use webscale_load::bench::outcome::Outcome;
use webscale_load::bench::payload::{Kind, Payload};
use webscale_load::bench::{Plan, run};
use webscale_load::observe::Unobserved;

/// What the server does with each message.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Behaviour {
    Consume,
    Echo,
    /// Changes the last byte of every message whose number is divisible by 4.
    Corrupt,
    /// Sends every second message before the one that came first.
    Swap,
    /// Sends every message back but for each fourth.
    Lose,
    /// Says something after each so many messages.
    Acknowledge(u32),
    /// Says something when a client connects, and of its own accord before the echo of each so many-th message.
    Talk(u32),
    /// Closes with 1008 at the third message.
    TurnAway,
    /// Lets everybody in, and out again.
    Revolve,
    /// Stops everything for this long, once.
    Pause(Duration),
    /// Echoes, and stops everything for this long at the first message.
    Dawdle(Duration),
}

struct Behaving {
    behaviour: Behaviour,
    messages: Arc<AtomicU64>,
}

#[derive(Default)]
struct Session {
    count: u32,
    held_back: Option<Vec<u8>>,
}

impl Handler for Behaving {
    type Session = Session;

    fn open(&self, _: &Request<'_>) -> Result<Accept<Session>, Reject> {
        Ok(Session::default().into())
    }

    fn opened(&self, peer: &mut Peer<'_, Session>) {
        match self.behaviour {
            Behaviour::Talk(_) => peer.send(Message::Text("welcome")).unwrap(),
            Behaviour::Revolve => peer.close(CloseCode::TRY_AGAIN_LATER, "full"),
            _ => {}
        }
    }

    fn message(&self, peer: &mut Peer<'_, Session>, message: Message<'_>) {
        let before = self.messages.fetch_add(1, Ordering::Relaxed);
        peer.session().count += 1;
        let count = peer.session().count;
        match self.behaviour {
            Behaviour::Consume | Behaviour::Revolve => {}
            Behaviour::Echo => peer.send(message).unwrap(),
            Behaviour::Corrupt => {
                let mut bytes = message.as_bytes().to_vec();
                if count.is_multiple_of(4) {
                    *bytes.last_mut().unwrap() ^= 1;
                }
                peer.send(Message::Binary(&bytes)).unwrap();
            }
            Behaviour::Swap => match peer.session().held_back.take() {
                None => peer.session().held_back = Some(message.as_bytes().to_vec()),
                Some(first) => {
                    peer.send(message).unwrap();
                    peer.send(Message::Binary(&first)).unwrap();
                }
            },
            Behaviour::Lose if count.is_multiple_of(4) => {}
            Behaviour::Lose => peer.send(message).unwrap(),
            Behaviour::Acknowledge(every) if count.is_multiple_of(every) => {
                peer.send(Message::Text("so far")).unwrap();
            }
            Behaviour::Acknowledge(_) => {}
            Behaviour::Talk(every) => {
                if count.is_multiple_of(every) {
                    peer.send(Message::Text("news")).unwrap();
                }
                peer.send(message).unwrap();
            }
            Behaviour::TurnAway if count == 3 => peer.close(CloseCode::POLICY, "enough"),
            Behaviour::TurnAway => {}
            Behaviour::Pause(time) if before == 40 => thread::sleep(time),
            Behaviour::Pause(_) => {}
            Behaviour::Dawdle(time) => {
                if before == 0 {
                    thread::sleep(time);
                }
                peer.send(message).unwrap();
            }
        }
    }
}

pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) messages: Arc<AtomicU64>,
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(behaviour: Behaviour, tls: Option<Tls>) -> Running {
        let messages = Arc::new(AtomicU64::new(0));
        let scheme = if tls.is_some() { "wss" } else { "ws" };
        let builder = Server::builder().listen("127.0.0.1:0").threads(1);
        let builder = match tls {
            Some(tls) => builder.tls(tls),
            None => builder,
        };
        let server = builder.build(Behaving { behaviour, messages: messages.clone() }).unwrap();
        let url = format!("{scheme}://{}/", server.local_addr());
        let handle = server.handle();
        let thread = Some(thread::spawn(move || server.run().unwrap()));
        Running { url, messages, handle, thread }
    }

    pub(crate) fn load(behaviour: Behaviour, change: impl FnOnce(&mut Plan)) -> Outcome {
        let server = Running::start(behaviour, None);
        let mut plan = server.plan();
        change(&mut plan);
        run(&plan, &mut Unobserved).unwrap()
    }

    /// 20 clients, a message each 50 ms. Nothing here depends on how fast the machine is: the limit is generous.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            clients: 20,
            interval: Duration::from_millis(50),
            payload: Payload::filler(200, Kind::Text),
            settle: Duration::ZERO,
            warmup: Duration::from_millis(100),
            duration: Duration::from_millis(600),
            latency_limit: Duration::from_secs(60),
            ..Plan::new(self.url.clone())
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
