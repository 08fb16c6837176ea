//! Looks at limits while a step runs: those of the server's processes and those of the machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use webscale_sys::cgroup::Cgroups;

use super::binding::DESCRIPTORS_SPARE;
use crate::compare::figures::Line;
use crate::doctor::{ProcessLimits, Root};
use crate::measure::family::{PROCESSES_MAX, family};
use crate::measure::kernel::{page_bytes, parse_sockstat};
use crate::measure::process::{kilobytes, value};
use crate::observe::{Observer, Phase, Progress};

/// Memory is exhausted when less than this share of the machine's is available.
const MEMORY_LEFT_MIN: f64 = 0.02;
/// A limit of memory is reached when this share of it is taken: what did not fit is missing.
const LIMIT_REACHED: f64 = 0.8;

/// What was seen of the limits, at its worst.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    root: Root,
    /// The server's processes that were named.
    pids: Vec<u32>,
    /// The same, and all that they have started.
    servers: Vec<Seen>,
    ooms_before: Option<u64>,
    memory_total: Option<u64>,
    memory_available: Option<u64>,
    tcp_limits: Option<Vec<u64>>,
    tcp_bytes: u64,
    tracked: Option<(u64, u64)>,
    interfaces_before: Vec<Interface>,
    growth: Vec<(f64, f64)>,
}

/// One process of the server.
#[derive(Debug, Clone)]
struct Seen {
    pid: u32,
    limits: Option<ProcessLimits>,
    /// The most that was seen.
    descriptors: u64,
    descriptors_least: u64,
    address_space: u64,
    /// Memory of the control group: taken, and the limit.
    group: Option<(u64, u64)>,
    processors: f64,
    /// When its threads were looked at last, and what they had then.
    threads: Option<(Instant, BTreeMap<u32, u64>)>,
    /// The thread that wanted a processor for the greatest share of the time between two looks.
    runnable: f64,
}

/// Descriptors of all processes of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct InAll {
    /// The most that was seen.
    pub(crate) held: u64,
    /// The sum of their soft limits.
    pub(crate) limit: u64,
    pub(crate) processes: u64,
}

/// What an interface has carried so far, and its speed in bytes a second.
#[derive(Debug, Clone)]
struct Interface {
    name: String,
    received: u64,
    sent: u64,
    speed: u64,
}

impl Witness {
    /// Looks for the first time. Without `pids` only the machine is seen. `growth` is what [`Witness::address_space`] was
    /// after earlier loads, with their clients.
    pub(crate) fn new(root: Root, pids: &[u32], growth: &[(f64, f64)]) -> Witness {
        let meminfo = root.text("proc/meminfo").unwrap_or_default();
        let mut witness = Witness {
            pids: pids.to_vec(),
            servers: Vec::new(),
            ooms_before: ooms(&root),
            memory_total: kilobytes(&meminfo, "MemTotal:"),
            memory_available: None,
            tcp_limits: root.numbers("proc/sys/net/ipv4/tcp_mem"),
            tcp_bytes: 0,
            tracked: None,
            interfaces_before: interfaces(&root),
            growth: growth.to_vec(),
            root,
        };
        witness.look();
        witness
    }

    /// The greatest address space of a process of the server, in bytes.
    pub(crate) fn address_space(&self) -> f64 {
        self.servers.iter().map(|server| server.address_space).max().unwrap_or(0) as f64
    }

    /// Looks again; what is worse than before is kept.
    pub(crate) fn look(&mut self) {
        self.look_at_servers();
        let root = &self.root;
        let meminfo = root.text("proc/meminfo").unwrap_or_default();
        if let Some(available) = kilobytes(&meminfo, "MemAvailable:") {
            self.memory_available =
                Some(self.memory_available.map_or(available, |least| least.min(available)));
        }
        let sockets = root.text("proc/net/sockstat").and_then(|text| parse_sockstat(&text, page_bytes()));
        self.tcp_bytes = self.tcp_bytes.max(sockets.map_or(0, |sockets| sockets.buffer_bytes));
        let count = root.number("proc/sys/net/netfilter/nf_conntrack_count");
        if let Some((count, most)) = count.zip(root.number("proc/sys/net/netfilter/nf_conntrack_max")) {
            self.tracked = Some((self.tracked.map_or(count, |(worst, _)| worst.max(count)), most));
        }
    }

    /// Forgets what the server's processes had started and has ended, and looks at the others.
    fn look_at_servers(&mut self) {
        let root = &self.root;
        let family = family(root, &self.pids);
        self.servers.retain(|server| family.contains(&server.pid));
        for pid in family.into_iter().take(PROCESSES_MAX) {
            if !self.servers.iter().any(|server| server.pid == pid) {
                self.servers.push(Seen::new(root, pid));
            }
        }
        self.servers.iter_mut().for_each(|server| server.look(root));
    }

    /// Whether a process of the server that was named has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.pids.iter().any(|pid| {
            // A process that ended and was not waited for still has a directory, but no memory.
            let memory = self.root.text(&format!("proc/{pid}/statm"));
            memory.is_none_or(|text| text.starts_with("0 "))
        })
    }

    /// Descriptors and their limit of the process that is closest to its own.
    pub(super) fn descriptors(&self) -> Option<(u64, u64)> {
        let fullest = |server: &Seen| Some((server.descriptors, server.limits?.files_soft));
        self.servers.iter().filter_map(fullest).min_by_key(|(used, limit)| limit.saturating_sub(*used))
    }

    /// What all processes of the server hold and may hold; none where that is not known of each.
    pub(super) fn descriptors_in_all(&self) -> Option<InAll> {
        in_all(self.servers.iter(), |server| server.descriptors)
    }

    /// What the processes that have taken clients since the first look hold without them, and may hold; none where none has,
    /// or that is not known of each.
    pub(crate) fn descriptors_without_clients(&self) -> Option<InAll> {
        let takes = |server: &&Seen| server.descriptors > server.descriptors_least + DESCRIPTORS_SPARE;
        in_all(self.servers.iter().filter(takes), |server| server.descriptors_least)
    }

    pub(super) fn tracked(&self) -> Option<(u64, u64)> {
        self.tracked
    }

    /// Why a server that ended with `clients` did so for want of memory, if that can be seen.
    pub(super) fn memory_limit(&self, clients: u32) -> Option<String> {
        if let Some((before, now)) =
            self.ooms_before.zip(ooms(&self.root)).filter(|(before, now)| now > before)
        {
            return Some(format!("the kernel killed {} process(es) for want of memory", now - before));
        }
        let limit = self.servers.iter().filter_map(|server| Some(server.limits?.address_space)).min()?;
        // It grew until it ended, and was seen once a second: the loads before tell how far.
        let by_growth =
            Line::through(&self.growth).map_or(0.0, |line| line.intercept + line.slope * f64::from(clients));
        let had = self.address_space().max(by_growth);
        let text = || format!("it had about {:.0} of {:.0} MB (RLIMIT_AS)", had / 1e6, limit as f64 / 1e6);
        reached(had, limit).then(text)
    }

    /// What says that there is no memory left while the server lives.
    pub(super) fn memory_exhausted(&self) -> Option<String> {
        let mb = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
        if let Some((used, limit)) = self
            .servers
            .iter()
            .filter_map(|server| server.group)
            .find(|(used, limit)| reached(*used as f64, *limit))
        {
            return Some(format!("its cgroup has {} of {}", mb(used), mb(limit)));
        }
        let (available, total) = self.memory_available.zip(self.memory_total)?;
        let exhausted = (available as f64) < total as f64 * MEMORY_LEFT_MIN;
        exhausted.then(|| format!("{} of {} were available", mb(available), mb(total)))
    }

    /// What says that the kernel shrank TCP's windows for want of memory.
    pub(super) fn tcp_memory_pressed(&self) -> Option<String> {
        let pressure = self.tcp_limits.as_ref()?.get(1)? * page_bytes();
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let text = || {
            format!("sockets held {:.0} MB, pressure begins at {:.0} MB", mb(self.tcp_bytes), mb(pressure))
        };
        (self.tcp_bytes >= pressure).then(text)
    }

    /// The greatest share of the time, after connecting, for which a thread of the server ran or waited for a processor.
    pub(super) fn runnable(&self) -> f64 {
        self.servers.iter().map(|server| server.runnable).fold(0.0, f64::max)
    }

    /// Forgets what threads did until now: the server was busy with handshakes.
    fn begin_again(&mut self) {
        self.servers.iter_mut().for_each(|server| server.threads = None);
    }

    /// Processors that the server may use; those of the machine if it is not known.
    pub(super) fn processors(&self) -> f64 {
        let most = self.servers.iter().map(|server| server.processors).fold(0.0, f64::max);
        if most > 0.0 { most } else { 1.0 }
    }

    /// The interface that carried the greatest share of its speed, over `seconds`.
    pub(super) fn interface(&self, seconds: f64) -> Option<(String, f64)> {
        let share = |now: &Interface| {
            let before = self.interfaces_before.iter().find(|before| before.name == now.name)?;
            let carried =
                (now.received - before.received.min(now.received)).max(now.sent - before.sent.min(now.sent));
            Some((now.name.clone(), carried as f64 / seconds / now.speed as f64))
        };
        interfaces(&self.root).iter().filter_map(share).max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

fn in_all<'a>(mut servers: impl Iterator<Item = &'a Seen>, held: fn(&Seen) -> u64) -> Option<InAll> {
    let add = |all: InAll, server: &Seen| {
        Some(InAll {
            held: all.held + held(server),
            limit: all.limit.saturating_add(server.limits?.files_soft),
            processes: all.processes + 1,
        })
    };
    let all = servers.try_fold(InAll::default(), add)?;
    (all.processes > 0).then_some(all)
}

impl Seen {
    fn new(root: &Root, pid: u32) -> Seen {
        Seen {
            pid,
            limits: ProcessLimits::read(root, &pid.to_string()),
            descriptors: 0,
            descriptors_least: u64::MAX,
            address_space: 0,
            group: None,
            processors: processors(root, pid),
            threads: None,
            runnable: 0.0,
        }
    }

    fn look(&mut self, root: &Root) {
        let pid = self.pid.to_string();
        let descriptors = root.list(&format!("proc/{pid}/fd")).len() as u64;
        self.descriptors = self.descriptors.max(descriptors);
        self.descriptors_least = self.descriptors_least.min(descriptors);
        // A server may raise its soft limit after it was first seen.
        self.limits = ProcessLimits::read(root, &pid).or(self.limits);
        let status = root.text(&format!("proc/{pid}/status")).unwrap_or_default();
        self.address_space = self.address_space.max(kilobytes(&status, "VmPeak:").unwrap_or(0));
        self.look_at_threads(root);
        let group = Cgroups::of(root.directory(), &pid).and_then(|groups| groups.memory());
        self.group = group.map(|limit| (limit.used, limit.limit)).or(self.group);
    }
}

/// Threads of more are not looked at: it would cost the server more than it tells.
const THREADS_MAX: usize = 512;
/// Shares over less time are chance.
const THREADS_EVERY: Duration = Duration::from_millis(300);

impl Seen {
    fn look_at_threads(&mut self, root: &Root) {
        let elapsed = self.threads.as_ref().map(|(at, _)| at.elapsed());
        if elapsed.is_some_and(|elapsed| elapsed < THREADS_EVERY) {
            return;
        }
        let tids = root.list(&format!("proc/{}/task", self.pid));
        if tids.len() > THREADS_MAX {
            return;
        }
        let of_thread = |tid: &u32| {
            let schedstat = root.numbers(&format!("proc/{}/task/{tid}/schedstat", self.pid))?;
            // Nanoseconds on a processor, and waiting for one.
            Some((*tid, schedstat.first()? + schedstat.get(1)?))
        };
        let threads: BTreeMap<u32, u64> = tids.iter().filter_map(of_thread).collect();
        let now = Instant::now();
        if let Some((at, before)) = self.threads.replace((now, threads)) {
            let ns = now.duration_since(at).as_nanos().max(1) as f64;
            let threads = self.threads.iter().flat_map(|(_, threads)| threads);
            let share =
                threads.map(|(tid, had)| had.saturating_sub(*before.get(tid).unwrap_or(had)) as f64 / ns);
            self.runnable = share.fold(self.runnable, f64::max);
        }
    }
}

fn reached(used: f64, limit: u64) -> bool {
    limit < u64::MAX && used >= limit as f64 * LIMIT_REACHED
}

/// How often the kernel has killed for want of memory.
fn ooms(root: &Root) -> Option<u64> {
    value(&root.text("proc/vmstat")?, "oom_kill ")?.trim().parse().ok()
}

/// How many processors a process may use.
fn processors(root: &Root, pid: u32) -> f64 {
    let status = root.text(&format!("proc/{pid}/status")).unwrap_or_default();
    let list = value(&status, "Cpus_allowed_list:").unwrap_or("").trim();
    let count = |part: &str| match part.split_once('-') {
        Some((first, last)) => Some(last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)? + 1),
        None => part.parse::<u32>().ok().map(|_| 1),
    };
    f64::from(list.split(',').filter_map(count).sum::<u32>())
}

/// Interfaces that have a speed: not loopback.
fn interfaces(root: &Root) -> Vec<Interface> {
    let text = root.text("proc/net/dev").unwrap_or_default();
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let name = name.trim().to_owned();
        let megabits =
            root.number(&PathBuf::from("sys/class/net").join(&name).join("speed").display().to_string())?;
        let counters: Vec<u64> =
            counters.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        let (received, sent) = (*counters.first()?, *counters.get(8)?);
        (megabits > 0).then_some(Interface { name, received, sent, speed: megabits * 125_000 })
    };
    text.lines().filter_map(interface).collect()
}

/// Passes on what a load says, and looks at the limits once a second.
pub(crate) struct Witnessed<'a> {
    pub(crate) witness: Witness,
    pub(crate) observer: &'a mut dyn Observer,
}

impl Observer for Witnessed<'_> {
    fn note(&mut self, text: &str) {
        self.observer.note(text);
    }

    fn progress(&mut self, progress: &Progress) {
        if progress.phase == Phase::Connecting {
            self.witness.begin_again();
        }
        self.witness.look();
        self.observer.progress(progress);
    }

    fn stopped(&self) -> bool {
        self.observer.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::super::binding::Resource;
    use super::*;
    use crate::doctor::machine::Machine;

    /// A machine with one process, 7.
    fn machine(name: &str) -> Machine {
        const FILES: [(&str, &str); 6] = [
            ("proc/7/statm", "900 800 0 0 0 0 0\n"),
            ("proc/7/status", "Cpus_allowed_list:\t0-2,5\n"),
            ("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 500000 kB\n"),
            ("proc/sys/net/ipv4/tcp_mem", "100 200 300\n"),
            ("proc/net/sockstat", "TCP: inuse 7 orphan 0 tw 3 alloc 9 mem 12\n"),
            ("proc/vmstat", "oom_kill 3\n"),
        ];
        Machine::new(&format!("witness-{name}"), &FILES)
    }

    fn witness(machine: &Machine, growth: &[(f64, f64)]) -> Witness {
        Witness::new(machine.root(), &[7], growth)
    }

    #[test]
    fn nothing_is_wrong_on_a_calm_machine() {
        let machine = machine("calm");
        let witness = witness(&machine, &[]);
        assert!(!witness.is_gone() && witness.processors() == 4.0);
        assert_eq!(
            (witness.memory_exhausted(), witness.tcp_memory_pressed(), witness.tracked()),
            (None, None, None)
        );
    }

    #[test]
    fn the_worst_is_remembered() {
        let machine = machine("worst");
        let mut witness = witness(&machine, &[]);
        machine.write("proc/net/sockstat", "TCP: inuse 7 orphan 0 tw 3 alloc 9 mem 250\n");
        machine.write("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 9000 kB\n");
        witness.look();
        machine.write("proc/net/sockstat", "TCP: inuse 7 orphan 0 tw 3 alloc 9 mem 12\n");
        machine.write("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 500000 kB\n");
        witness.look();
        assert!(witness.tcp_memory_pressed().is_some() && witness.memory_exhausted().is_some());
    }

    #[test]
    fn clients_beyond_the_descriptors_of_all_processes_are_refused() {
        let machine = machine("descriptors");
        for (pid, held, limit) in [(7, 10, 100), (8, 20, 200)] {
            (0..held).for_each(|number| machine.write(&format!("proc/{pid}/fd/{number}"), ""));
            let limits = format!(
                "Max open files {limit} {limit} files\nMax address space unlimited unlimited bytes\n"
            );
            machine.write(&format!("proc/{pid}/limits"), &limits);
        }
        // What a named process has started is of the server.
        machine.write("proc/8/stat", "8 (worker) S 7 7 7 0 -1 0 0 0 0 0 7 5 0 0 20 0 1 0 99 1");
        let witness = Witness::new(machine.root(), &[7], &[]);
        let all = witness.descriptors_in_all().unwrap();
        assert_eq!(all, InAll { held: 30, limit: 300, processes: 2 });
        assert_eq!(all.refuse(270), None);
        let (binding, most) = all.refuse(271).unwrap();
        assert_eq!((binding.resource, most), (Resource::ServerDescriptors, 254));
        assert!(binding.sentence().contains("30 of 300"), "{}", binding.sentence());
        // Only one of them takes clients.
        let mut witness = witness;
        assert_eq!(witness.descriptors_without_clients(), None);
        (20..60).for_each(|number| machine.write(&format!("proc/8/fd/{number}"), ""));
        witness.look();
        let without = witness.descriptors_without_clients().unwrap();
        assert_eq!((without, without.most()), (InAll { held: 20, limit: 200, processes: 1 }, 172));
        // Of a process whose limit is not known nothing can be said.
        assert_eq!(Witness::new(machine.root(), &[7, 9], &[]).descriptors_in_all(), None);
        assert_eq!(Witness::new(machine.root(), &[], &[]).descriptors_in_all(), None);
    }

    #[test]
    fn a_death_for_want_of_memory() {
        let machine = machine("death");
        let limits = "Max open files 100 100 files\nMax address space 400000000 400000000 bytes\n";
        machine.write("proc/7/limits", limits);
        let witness = witness(&machine, &[(100.0, 120e6), (200.0, 220e6)]);
        // It had grown by a megabyte a client.
        assert!(witness.memory_limit(360).is_some_and(|text| text.contains("380 of 400 MB")));
        assert_eq!(witness.memory_limit(210), None);
        machine.write("proc/vmstat", "oom_kill 4\n");
        assert!(witness.memory_limit(210).is_some_and(|text| text.contains("killed 1 process")));
        machine.remove("proc/7/statm");
        assert!(witness.is_gone());
    }
}
