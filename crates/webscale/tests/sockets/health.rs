//! Handlers that do not return: who is named, who goes on, and how a server ends all the same.

use std::io;
use std::time::Duration;

use tungstenite::Message as Frame;
use webscale::{Health, Limits, ServerBuilder, ServerThread, Stuck};

use super::shutdown::Gated;
use super::support::{PATIENCE, Serving, builder, hear, limits, other, say, until};

const SOON: Duration = Duration::from_millis(20);

fn impatient() -> ServerBuilder {
    builder().limits(Limits { stuck_after: SOON, shutdown_time: SOON, worker_queue: 1, ..limits() })
}

/// What is stuck, once something is.
fn stuck(serving: &Serving) -> Vec<Stuck> {
    let mut found = Vec::new();
    until("a thread that is stuck", || match serving.handle.health() {
        Health::Stuck(threads) => {
            found = threads;
            true
        }
        _ => false,
    });
    found
}

#[test]
fn a_loop_that_waits_is_never_stuck() {
    let limits = Limits { stuck_after: Duration::from_nanos(1), ..limits() };
    let (serving, events) = Serving::obedient(builder().limits(limits).threads(2).workers(2));
    let _idle = other(serving.address);
    events.opened();
    // Whoever is busy at all is stuck here; and so, sooner or later, nobody is.
    until("rest", || serving.handle.health() == Health::Healthy);
    serving.handle.shutdown();
    assert!(!serving.handle.health().is_healthy());
    drop(serving);
}

#[test]
fn a_handler_that_blocks_its_loop_is_named_and_forgotten_when_it_goes_on() {
    let gated = Gated::serving(impatient().threads(1));
    let mut socket = gated.connect("/blocks");
    assert_eq!(gated.serving.handle.health(), Health::Healthy);
    say(&mut socket, "first");
    gated.entries.recv_timeout(PATIENCE).unwrap();
    let threads = stuck(&gated.serving);
    let [Stuck { thread: ServerThread::Loop(0), lasting, connection: Some(id) }] = threads[..] else {
        panic!("{threads:?}");
    };
    assert!(lasting >= SOON && id.to_string().starts_with("0-"), "{lasting:?}, {id}");
    gated.let_go.send(()).unwrap();
    assert_eq!(hear(&mut socket), "first");
    until("health", || gated.serving.handle.health() == Health::Healthy);
    gated.serving.shut_down();
}

#[test]
fn workers_that_block_are_named_and_pongs_come_all_the_same() {
    let gated = Gated::serving(impatient().workers(1));
    let mut sockets: Vec<_> = (0..4).map(|n| gated.connect(&format!("/{n}"))).collect();
    // One is with the worker, one in the queue, and two wait in their connections.
    sockets.iter_mut().for_each(|socket| say(socket, "blocks"));
    assert_eq!(gated.entries.recv_timeout(PATIENCE).unwrap().len(), 2);
    let threads = stuck(&gated.serving);
    let [Stuck { thread: ServerThread::Worker(0), connection: Some(_), .. }] = threads[..] else {
        panic!("{threads:?}");
    };
    let mut idle = gated.connect("/idle");
    idle.send(Frame::Ping("alive?".into())).unwrap();
    assert_eq!(idle.read().unwrap(), Frame::Pong("alive?".into()));
    sockets.iter().for_each(|_| gated.let_go.send(()).unwrap());
    for socket in &mut sockets {
        assert_eq!(hear(socket), "blocks");
    }
    until("health", || gated.serving.handle.health() == Health::Healthy);
    gated.serving.shut_down();
}

/// What `run` ends with while a handler does not return.
fn end_without(gated: &mut Gated) -> String {
    let _socket = gated.begin("/blocks");
    gated.serving.handle.shutdown();
    let error = gated.serving.join().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(gated.closes.try_recv().is_err(), "its session is not there to be closed");
    assert!(gated.entries.try_recv().is_err());
    error.to_string()
}

#[test]
fn a_shutdown_leaves_a_worker_behind_that_does_not_return() {
    let mut gated = Gated::serving(impatient().threads(2).workers(2));
    let words = end_without(&mut gated);
    assert!(words.contains("worker-0 is busy for") || words.contains("worker-1 is busy for"), "{words}");
    assert!(words.contains(", now with connection "), "{words}");
    let _ = gated.let_go.send(());
}

#[test]
fn a_shutdown_leaves_a_loop_behind_that_does_not_return() {
    let mut gated = Gated::serving(impatient().threads(2));
    let words = end_without(&mut gated);
    assert!(words.contains("loop-0 is busy for") || words.contains("loop-1 is busy for"), "{words}");
    let _ = gated.let_go.send(());
}
