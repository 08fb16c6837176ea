//! Looks at limits while a step runs: those of the server's processes and those of the machine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use webscale_sys::cgroup::Cgroups;

use super::binding::{DESCRIPTORS_SPARE, End};
use super::traffic::Traffic;
use crate::compare::figures::Line;
use crate::doctor::{ProcessLimits, Root};
use crate::measure::family::{PROCESSES_MAX, family};
use crate::measure::kernel::{page_bytes, parse_sockstat};
use crate::measure::process::{kilobytes, value};
use crate::observe::{Observer, Phase, Progress};

/// Memory is exhausted when less than this share of the machine's is available.
const MEMORY_LEFT_MIN: f64 = 0.02;
/// Who lives has reached a limit of memory when this share of it is taken.
const LIMIT_REACHED: f64 = 0.95;
/// Who has died had reached it with less: what did not fit is missing, and it was seen once a second.
const LIMIT_REACHED_IN_DEATH: f64 = 0.8;

/// What was seen of the limits, at its worst.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    root: Root,
    /// Whether the server is on this machine.
    is_near: bool,
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
    traffic: Traffic,
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

impl Witness {
    /// Looks for the first time. Without `pids` only the machine is seen, on which the server `is_near`, or is not. `growth`
    /// is what [`Witness::address_space`] was after earlier loads, with their clients.
    pub(crate) fn new(root: Root, pids: &[u32], growth: &[(f64, f64)], is_near: bool) -> Witness {
        let meminfo = root.text("proc/meminfo").unwrap_or_default();
        let mut witness = Witness {
            is_near,
            pids: pids.to_vec(),
            servers: Vec::new(),
            ooms_before: ooms(&root),
            memory_total: kilobytes(&meminfo, "MemTotal:"),
            memory_available: None,
            tcp_limits: root.numbers("proc/sys/net/ipv4/tcp_mem"),
            tcp_bytes: 0,
            tracked: None,
            traffic: Traffic::new(&root),
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
        self.traffic.look(root);
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

    /// Whether the server is on this machine.
    pub(super) fn is_near(&self) -> bool {
        self.is_near
    }

    /// Which ends share what this machine has.
    pub(super) fn machine(&self) -> End {
        if self.is_near { End::Both } else { End::Load }
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

    /// Whether the server's processes may be those that hold so many clients: each is a descriptor in one of them. True also
    /// where that is not known.
    pub(super) fn may_hold(&self, clients: u32) -> bool {
        let is_known = self.servers.iter().any(|server| server.descriptors > 0);
        let more = self
            .servers
            .iter()
            .map(|server| server.descriptors.saturating_sub(server.descriptors_least))
            .sum::<u64>();
        // Some of its own may have been closed meanwhile, and of clients that were gone at once none was seen.
        !is_known || more * 2 >= u64::from(clients) || self.is_gone()
    }

    pub(super) fn tracked(&self) -> Option<(u64, u64)> {
        self.tracked
    }

    /// Why a server that ended with `clients` did so for want of memory, if that can be seen.
    pub(super) fn memory_limit(&self, clients: u32) -> Option<String> {
        if let Some((before, now)) =
            self.ooms_before.zip(ooms(&self.root)).filter(|(before, now)| now > before)
        {
            let killed = format!("the kernel killed {} process(es) for want of memory", now - before);
            let group = self.fullest_group().map(|group| format!("; {}", group_text(group)));
            return Some(killed + &group.unwrap_or_default());
        }
        let limit = self.servers.iter().filter_map(|server| Some(server.limits?.address_space)).min()?;
        // It grew until it ended, and was seen once a second: the loads before tell how far.
        let by_growth =
            Line::through(&self.growth).map_or(0.0, |line| line.intercept + line.slope * f64::from(clients));
        let had = self.address_space().max(by_growth);
        let text = || format!("it had about {} of {} (RLIMIT_AS)", mb(had), mb(limit as f64));
        reached(had, limit, LIMIT_REACHED_IN_DEATH).then(text)
    }

    /// What says that there is no memory left while the server lives, and whose that was.
    pub(super) fn memory_exhausted(&self) -> Option<(End, String)> {
        let is_full = |(used, limit): &(u64, u64)| reached(*used as f64, *limit, LIMIT_REACHED);
        if let Some(group) = self.fullest_group().filter(is_full) {
            return Some((End::Server, group_text(group)));
        }
        let (available, total) = self.memory_available.zip(self.memory_total)?;
        let exhausted = (available as f64) < total as f64 * MEMORY_LEFT_MIN;
        let text = || format!("{} of {} were available", mb(available as f64), mb(total as f64));
        exhausted.then(|| (self.machine(), text()))
    }

    /// Memory taken in the control group that is closest to its limit, and the limit.
    fn fullest_group(&self) -> Option<(u64, u64)> {
        let groups = self.servers.iter().filter_map(|server| server.group);
        groups.min_by_key(|(used, limit)| limit.saturating_sub(*used))
    }

    /// What says that the kernel shrank TCP's windows for want of memory.
    pub(super) fn tcp_memory_pressed(&self) -> Option<String> {
        let pressure = self.tcp_limits.as_ref()?.get(1)? * page_bytes();
        let (held, from) = (mb(self.tcp_bytes as f64), mb(pressure as f64));
        let text = || format!("sockets held {held}, pressure begins at {from} (net.ipv4.tcp_mem)");
        (self.tcp_bytes >= pressure).then(text)
    }

    /// The greatest share of the time, after connecting, for which a thread of the server ran or waited for a processor.
    pub(super) fn runnable(&self) -> f64 {
        self.servers.iter().map(|server| server.runnable).fold(0.0, f64::max).min(1.0)
    }

    /// Forgets what threads and the network did before the phase that follows: the server was busy with handshakes.
    fn forget(&mut self, phase: Phase) {
        if phase == Phase::Connecting {
            self.servers.iter_mut().for_each(|server| server.threads = None);
        }
        if matches!(phase, Phase::Connecting | Phase::Resting | Phase::WarmingUp) {
            self.traffic = Traffic::new(&self.root);
        }
    }

    /// Processors that the server may use; those of the machine if it is not known.
    pub(super) fn processors(&self) -> f64 {
        let most = self.servers.iter().map(|server| server.processors).fold(0.0, f64::max);
        if most > 0.0 { most } else { 1.0 }
    }

    /// What says that the network between load and server carries no more, while it was measured.
    pub(super) fn network_exhausted(&self) -> Option<String> {
        // Nothing is lost on loopback, and the machine's other connections are not of this load.
        let lost = || self.traffic.segments_lost().filter(|_| !self.is_near);
        self.traffic.interface_full().or_else(lost)
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

fn reached(used: f64, limit: u64, share: f64) -> bool {
    limit < u64::MAX && used >= limit as f64 * share
}

fn group_text((used, limit): (u64, u64)) -> String {
    format!("its cgroup has {} of {}", mb(used as f64), mb(limit as f64))
}

fn mb(bytes: f64) -> String {
    format!("{:.0} MB", bytes / 1e6)
}

/// How often the kernel has killed for want of memory.
fn ooms(root: &Root) -> Option<u64> {
    value(&root.text("proc/vmstat")?, "oom_kill ")?.trim().parse().ok()
}

/// How many processors a process may use: those of its affinity, as far as its control group lets it.
fn processors(root: &Root, pid: u32) -> f64 {
    let status = root.text(&format!("proc/{pid}/status")).unwrap_or_default();
    let list = value(&status, "Cpus_allowed_list:").unwrap_or("").trim();
    let count = |part: &str| match part.split_once('-') {
        Some((first, last)) => Some(last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)? + 1),
        None => part.parse::<u32>().ok().map(|_| 1),
    };
    let allowed = f64::from(list.split(',').filter_map(count).sum::<u32>());
    let quota = Cgroups::of(root.directory(), &pid.to_string()).and_then(|groups| groups.processors());
    quota.map_or(allowed, |quota| quota.min(allowed))
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
        self.witness.forget(progress.phase);
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
        Witness::new(machine.root(), &[7], growth, true)
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
        let witness = Witness::new(machine.root(), &[7], &[], true);
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
        assert!(witness.may_hold(40) && witness.may_hold(80) && !witness.may_hold(81));
        assert!(Witness::new(machine.root(), &[], &[], true).may_hold(81));
        // Of a process whose limit is not known nothing can be said.
        assert_eq!(Witness::new(machine.root(), &[7, 9], &[], true).descriptors_in_all(), None);
        assert_eq!(Witness::new(machine.root(), &[], &[], true).descriptors_in_all(), None);
    }

    #[test]
    fn a_death_for_want_of_memory() {
        let machine = machine("death");
        let limits = "Max open files 100 100 files\nMax address space 400000000 400000000 bytes\n";
        machine.write("proc/7/limits", limits);
        let witness = witness(&machine, &[(100.0, 120e6), (200.0, 220e6)]);
        // It had grown by a megabyte a client.
        assert!(witness.memory_limit(360).is_some_and(|text| text.contains("380 MB of 400 MB")));
        assert_eq!(witness.memory_limit(210), None);
        machine.write("proc/vmstat", "oom_kill 4\n");
        // Of its group the last look is known.
        machine.write("proc/7/cgroup", "4:memory:/a\n");
        machine.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "100000000\n");
        machine.write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "90000000\n");
        let mut witness = witness;
        witness.look();
        assert!(
            witness
                .memory_limit(210)
                .is_some_and(|text| text.contains("killed 1 process") && text.ends_with("90 MB of 100 MB"))
        );
        machine.remove("proc/7/statm");
        assert!(witness.is_gone());
    }
}
