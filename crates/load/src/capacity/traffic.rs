//! What goes over the network of this machine, against what can.

use std::time::{Duration, Instant};

use crate::doctor::Root;
use crate::measure::kernel::parse_netstat;

/// An interface above this share of its speed is full.
const FULL: f64 = 0.9;
/// A way on which more than this share of the segments is lost is full, or broken.
const RESENT_MAX: f64 = 0.01;
/// Fewer that were lost are chance.
const RESENT_MIN: u64 = 10;
/// Shares over less time are chance.
const SHARE_FROM: Duration = Duration::from_millis(300);

/// The traffic since a moment, at its worst.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    since: Instant,
    before: Counters,
    /// The interface that carried the greatest share of its speed.
    fullest: Option<(String, f64)>,
    /// Segments sent, and how many of them again.
    segments: (u64, u64),
}

#[derive(Debug, Clone, Default)]
struct Counters {
    interfaces: Vec<Interface>,
    segments: u64,
    resent: u64,
}

/// What an interface has carried so far, and its speed in bytes a second.
#[derive(Debug, Clone)]
struct Interface {
    name: String,
    received: u64,
    sent: u64,
    speed: u64,
}

impl Traffic {
    /// Counts from now on.
    pub(super) fn new(root: &Root) -> Traffic {
        Traffic { since: Instant::now(), before: Counters::read(root), fullest: None, segments: (0, 0) }
    }

    /// Looks how much it was until now.
    pub(super) fn look(&mut self, root: &Root) {
        let elapsed = self.since.elapsed();
        if elapsed >= SHARE_FROM {
            self.account(&Counters::read(root), elapsed.as_secs_f64());
        }
    }

    fn account(&mut self, now: &Counters, seconds: f64) {
        let share = |now: &Interface| {
            let before = self.before.interfaces.iter().find(|before| before.name == now.name)?;
            let carried =
                now.received.saturating_sub(before.received).max(now.sent.saturating_sub(before.sent));
            Some((now.name.clone(), carried as f64 / seconds / now.speed as f64))
        };
        let shares = now.interfaces.iter().filter_map(share).chain(self.fullest.take());
        self.fullest = shares.max_by(|one, other| one.1.total_cmp(&other.1));
        let since = |now: u64, before: u64| now.saturating_sub(before);
        self.segments = (since(now.segments, self.before.segments), since(now.resent, self.before.resent));
    }

    /// What says that an interface of this machine carries no more.
    pub(super) fn interface_full(&self) -> Option<String> {
        let (name, share) = self.fullest.as_ref().filter(|(_, share)| *share >= FULL)?;
        Some(format!("{name} carried {:.0} % of its speed", share * 100.0))
    }

    /// What says that segments are lost on their way.
    pub(super) fn segments_lost(&self) -> Option<String> {
        let (all, resent) = self.segments;
        let share = resent as f64 / all.max(1) as f64;
        let text =
            || format!("{resent} of {all} TCP segments were lost and sent again ({:.1} %)", share * 100.0);
        (resent >= RESENT_MIN && share >= RESENT_MAX).then(text)
    }
}

impl Counters {
    fn read(root: &Root) -> Counters {
        let snmp = root.text("proc/net/snmp").unwrap_or_default();
        let counter = |name| parse_netstat(&snmp, "Tcp:", name).unwrap_or(0);
        // What is sent again is not in OutSegs.
        let resent = counter("RetransSegs");
        Counters { interfaces: interfaces(root), segments: counter("OutSegs") + resent, resent }
    }
}

/// Interfaces that have a speed: not loopback, and not those of many virtual machines.
fn interfaces(root: &Root) -> Vec<Interface> {
    let text = root.text("proc/net/dev").unwrap_or_default();
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let name = name.trim().to_owned();
        let megabits = root.number(&format!("sys/class/net/{name}/speed"))?;
        let counters: Vec<u64> =
            counters.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        let (received, sent) = (*counters.first()?, *counters.get(8)?);
        (megabits > 0).then_some(Interface { name, received, sent, speed: megabits * 125_000 })
    };
    text.lines().filter_map(interface).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::machine::Machine;

    /// A machine whose only interface with a speed has 100 Mbit/s, after so many bytes and segments.
    fn machine(name: &str, bytes: u64, segments: u64, resent: u64) -> Machine {
        let machine = Machine::new(&format!("traffic-{name}"), &[("sys/class/net/eth0/speed", "100\n")]);
        machine.write("sys/class/net/eth1/speed", "-1\n");
        let line = |name: &str, sent: u64| format!("{name}: 7 1 0 0 0 0 0 0 {sent} 9 0 0 0 0 0 0\n");
        let lines = [line("lo", 9_000_000_000), line("eth0", bytes), line("eth1", 9_000_000_000)].concat();
        machine.write("proc/net/dev", &format!("Inter-|   Receive\n face |bytes\n{lines}"));
        let snmp = format!("Tcp: InSegs OutSegs RetransSegs\nTcp: 1 {segments} {resent}\n");
        machine.write("proc/net/snmp", &snmp);
        machine
    }

    fn after(name: &str, bytes: u64, segments: u64, resent: u64) -> Traffic {
        let mut traffic = Traffic::new(&machine(name, 1_000, 50_000, 900).root());
        let now = machine(name, 1_000 + bytes, 50_000 + segments, 900 + resent);
        traffic.account(&Counters::read(&now.root()), 2.0);
        traffic
    }

    #[test]
    fn a_full_interface_is_named() {
        // 25 MB in two seconds is all of 100 Mbit/s.
        let traffic = after("full", 24_000_000, 0, 0);
        assert_eq!(traffic.interface_full().unwrap(), "eth0 carried 96 % of its speed");
        assert_eq!(after("free", 20_000_000, 0, 0).interface_full(), None);
    }

    #[test]
    fn the_worst_is_remembered() {
        let mut traffic = after("worst", 24_000_000, 0, 0);
        traffic.account(&Counters::read(&machine("worst", 24_001_000, 0, 0).root()), 10.0);
        assert!(traffic.interface_full().is_some());
    }

    #[test]
    fn segments_that_are_sent_again_were_lost() {
        let lost = after("lost", 0, 9_800, 200).segments_lost();
        assert_eq!(lost.unwrap(), "200 of 10000 TCP segments were lost and sent again (2.0 %)");
        assert_eq!(after("few-lost", 0, 9_950, 50).segments_lost(), None);
        assert_eq!(after("few", 0, 91, 9).segments_lost(), None);
    }

    #[test]
    fn nothing_readable_is_nothing_to_say() {
        let root = Root::new("/nonexistent");
        let mut traffic = Traffic::new(&root);
        traffic.account(&Counters::read(&root), 1.0);
        assert_eq!((traffic.interface_full(), traffic.segments_lost()), (None, None));
    }
}
