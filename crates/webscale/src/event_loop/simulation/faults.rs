//! Faults of the system, one at a time, in the middle of clients who have their due.

use std::time::Duration;

use super::script::{Act, Opening, Script};
use super::system::Strike;
use super::world::{Setting, World};
use crate::close::{Close, CloseCause};
use crate::limits::{Limits, SlowConsumer};

const SECOND: Duration = Duration::from_secs(1);

fn setting(secure: bool) -> Setting {
    // More than its socket takes may wait for a client that does not read.
    let limits =
        Limits { slow_consumer: SlowConsumer::DropNewest, egress_bytes: 40_000, ..Limits::default() };
    Setting { loops: 2, secure, deflates: false, workers: false, proxied: false, limits }
}

/// A kernel that does nothing odd of its own.
fn world(setting: Setting) -> World {
    let mut world = World::new(1, setting);
    world.calm_down();
    world
}

/// Acts of a peer that opens, does that, and stays.
fn stays(acts: impl IntoIterator<Item = Act>) -> Script {
    Script {
        opening: Opening::Upgrade,
        is_honest: false,
        acts: acts.into_iter().collect(),
        piece: 600,
        window: 4000,
    }
}

fn word(word: &str) -> Act {
    Act::Word(word.into())
}

impl World {
    /// Peers of that script, at the point where it leaves them.
    fn bring(&mut self, count: usize, script: impl Fn() -> Script) -> Vec<usize> {
        let peers = (0..count).map(|_| self.connect(script())).collect();
        self.settle();
        peers
    }

    fn reset(&mut self, peers: &[usize]) {
        let mut system = self.machine.system();
        for &peer in peers {
            self.peers[peer].reset(&mut system);
        }
    }

    fn opens(&self, peers: &[usize]) -> usize {
        let mut records = self.ledger.records();
        peers.iter().map(|&peer| records.record(peer).opens).sum()
    }
}

/// A reset of many at once where `script` leaves them: their connections are gone at once, and nobody else notices.
fn reset_in_phase(setting: Setting, script: impl Fn() -> Script) {
    let mut world = world(setting);
    let bystanders: Vec<_> = (0..10).map(|_| world.connect(Script::honest(40, 4000))).collect();
    let victims: Vec<_> = (0..20).map(|_| world.connect(script())).collect();
    for _ in 0..6 {
        for index in 0..world.loops.len() {
            world.run_if_awake(index);
        }
        for &peer in bystanders.iter().chain(&victims) {
            world.peer_acts(peer);
        }
    }
    world.begin_work();
    world.reset(&victims);
    world.settle();
    assert_eq!(world.metrics().connections, 0, "a reset is no reason to wait");
    world.check_honest();
    world.check_empty();
}

#[test]
fn a_reset_in_any_phase_ends_that_connection_and_no_other() {
    let half_a_message = || stays([Act::Raw(vec![0x81, 0xfe, 1, 0, 0, 0, 0, 0, b'a'])]);
    for secure in [false, true] {
        let phases: [(&str, &dyn Fn() -> Script); 7] = [
            ("before a byte", &|| Script { opening: Opening::Silence, ..stays([]) }),
            ("in the head", &|| Script { opening: Opening::Cut, ..stays([]) }),
            ("open", &|| stays([])),
            ("in a message", &half_a_message),
            ("not reading", &|| stays([Act::Deafen, word("flood 30")])),
            ("asked to close", &|| stays([word("close now"), Act::Sleep])),
            ("told to go", &|| stays([Act::Raw(vec![0x83, 0x80, 0, 0, 0, 0]), Act::Sleep])),
        ];
        for (phase, script) in phases {
            println!("{phase}");
            reset_in_phase(setting(secure), script);
        }
    }
}

#[test]
fn a_reset_before_accept_and_while_a_worker_has_the_session_is_routine() {
    let mut world = world(setting(false));
    let early: Vec<_> = (0..20).map(|_| world.connect(stays([]))).collect();
    world.reset(&early);
    world.settle();
    assert_eq!((world.metrics().connections, world.metrics().accepted), (0, 20));
    let say = || stays([Act::Say { length: 10, form: super::script::Form::Whole }]);
    reset_in_phase(Setting { workers: true, ..setting(false) }, say);
}

#[test]
fn without_descriptors_accepting_rests_and_goes_on_within_a_second_of_their_return() {
    let mut world = world(setting(false));
    let first = world.bring(10, || stays([]));
    assert_eq!(world.opens(&first), 10);
    let held = world.system().descriptors();
    world.system().mood.descriptors_max = held;
    let waiting = world.bring(60, || stays([]));
    let turns = world.turns;
    world.settle_for(SECOND);
    // Each of two loops tries again every 100 ms, and lets one client go that it cannot serve.
    let turns = world.turns - turns;
    assert!(turns <= 50, "{turns} turns of two loops that have nothing to do");
    assert_eq!(world.opens(&waiting), 0);
    let told = waiting.iter().filter(|&&peer| world.peers[peer].ended.is_some()).count();
    assert!((10..=30).contains(&told), "{told}");
    world.reset(&first);
    world.system().mood.descriptors_max = usize::MAX;
    let late = world.bring(10, || Script::honest(3, 4000));
    world.settle_for(SECOND);
    assert_eq!(world.opens(&waiting), 60 - told, "who was left in the backlog is served");
    assert_eq!(world.opens(&late), 10);
    world.come_to_an_end();
}

#[test]
fn accept_that_fails_for_want_of_anything_is_tried_again() {
    let mut world = world(setting(false));
    world.system().mood.accept_fails = 1;
    let peers = world.bring(10, || Script::honest(3, 4000));
    let turns = world.turns;
    world.settle_for(10 * SECOND);
    assert!(world.turns - turns <= 500, "{}", world.turns - turns);
    assert_eq!(world.opens(&peers), 0);
    world.calm_down();
    world.settle_for(SECOND);
    assert_eq!(world.opens(&peers), 10);
    world.come_to_an_end();
}

#[test]
fn a_jump_of_the_clock_fires_what_is_due_once_and_keeps_who_answers() {
    for hours in [1, 78, 1000] {
        let mut world = world(setting(false));
        let peers = world.bring(20, || stays([word("timer 5000")]));
        world.pass(hours * 3600 * SECOND);
        let turns = world.turns;
        world.settle();
        // A timer far away passes from one level of the wheel to the next.
        assert!(world.turns - turns < 200, "{}", world.turns - turns);
        world.settle_for(20 * SECOND);
        assert!(peers.iter().all(|&peer| world.peers[peer].ticks == 1));
        assert_eq!(world.metrics().connections, 20, "they answered the ping");
        world.come_to_an_end();
    }
}

/// A client whose server panics in its `call`th system call for it, between others; whether its life had so many, and how
/// its connection was counted.
fn strike(setting: Setting, call: usize) -> Option<&'static str> {
    let mut world = world(setting);
    let bystanders: Vec<_> = (0..3).map(|_| world.connect(Script::honest(5, 4000))).collect();
    let victim = world.connect(Script::honest(3, 4000));
    let line = world.peers[victim].line;
    world.system().lines[line].strike = Strike::After(call);
    world.settle();
    let metrics = world.metrics();
    assert_eq!(metrics.connections, 0, "all are done, or dropped at once");
    assert!(bystanders.iter().all(|&peer| world.peers[peer].is_content()));
    world.check_honest();
    world.check_empty();
    let was_struck = world.was_struck(victim);
    let ends = metrics.closes().filter(|&(_, count)| count > 0);
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends.contains(&("fault", 1)), was_struck, "{ends:?}");
    let phase = {
        let mut records = world.ledger.records();
        let record = records.record(victim);
        match &record.end {
            _ if !was_struck => None,
            None => Some("opening"),
            Some((Close { cause: CloseCause::Fault, .. }, _)) => Some("open"),
            Some(_) => Some("closing"),
        }
    };
    world.come_to_an_end();
    phase
}

#[test]
fn a_panic_in_any_call_of_a_life_ends_that_connection_and_no_other() {
    for (secure, workers) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut setting = Setting { workers, ..setting(secure) };
        setting.limits.connections_per_address = 100;
        let phases: Vec<_> = (0..).map_while(|call| strike(setting.clone(), call)).collect();
        println!("secure {secure}, workers {workers}: {phases:?}");
        for phase in ["opening", "open", "closing"] {
            assert!(phases.contains(&phase), "{phase}");
        }
        // In the middle of the TLS handshake, too.
        assert!(!secure || phases.iter().filter(|&&phase| phase == "opening").count() > 2);
    }
}
