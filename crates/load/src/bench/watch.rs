//! Looks at the machine, the server's process and the load's own at the moments that matter.

use std::time::{Duration, Instant};

use super::BenchError;
use super::outcome::{Generator, ServerUse};
use super::plan::Plan;
use super::timeline::{GeneratorSample, ServerSample, ThreadShare, busiest};
use crate::measure::group::Group;
use crate::measure::kernel::{MachineCpu, Sockets, listen_overflows};
use crate::measure::process::{Cpu, Memory, ProcessError, Switches, ThreadCpu};

/// Reading a process's memory and descriptors may take one part in so many of the time: it holds up the process a little,
/// and is part of what the load itself costs.
const COSTLY_SHARE_MAX: u32 = 400;

/// A server that was seen so shortly before the end has had all messages, or nearly.
const SEEN_LATELY: Duration = Duration::from_secs(2);

/// Everything at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) at: Instant,
    /// Of all processes that make the load.
    pub(crate) own: Cpu,
    pub(crate) own_memory: Memory,
    pub(crate) machine: MachineCpu,
    pub(crate) sockets: Sockets,
    pub(crate) listen_overflows: u64,
    pub(crate) server: Option<ServerMark>,
    /// Messages sent in all.
    pub(crate) sent: u64,
    /// Connections opened in all.
    pub(crate) opened: u32,
}

/// The server's processes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerMark {
    /// When its CPU time was read.
    pub(crate) at: Instant,
    pub(crate) cpu_ns: u64,
    pub(crate) memory: Memory,
    pub(crate) switches: Switches,
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
}

/// What was taken since the last poll.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) generator: GeneratorSample,
    pub(crate) server: Option<ServerSample>,
    pub(crate) kernel_socket_bytes: Option<u64>,
}

/// CPU time at the last poll.
#[derive(Debug)]
struct Polled {
    own: Cpu,
    server: Option<Cpu>,
}

/// Follows the processes of a load.
#[derive(Debug)]
pub(crate) struct Watch {
    own: Group,
    server: Option<Group>,
    /// How the server was when it was last seen whole.
    seen: Option<ServerMark>,
    peak_pss_bytes: u64,
    polled: Option<Polled>,
    /// What costs more than CPU time is read when this has come.
    costly_next: Instant,
    switches: Option<(Instant, Switches)>,
}

impl Watch {
    /// # Errors
    /// When a process is not there, or may not be read: better now than after the load.
    pub(crate) fn new(server: &[u32], parts: &[u32]) -> Result<Watch, BenchError> {
        let own = [&[std::process::id()], parts].concat();
        let mut seen = None;
        let mut server = if server.is_empty() { None } else { Some(Group::with_started(server)?) };
        if let Some(server) = &mut server {
            seen = server_mark(server);
            server.take_lost().map_or(Ok(()), Err)?;
        }
        Ok(Watch {
            own: Group::open(&own)?,
            server,
            seen,
            peak_pss_bytes: 0,
            polled: None,
            costly_next: Instant::now(),
            switches: None,
        })
    }

    /// Why a process of the server can no longer be measured.
    pub(crate) fn lost(&self) -> Option<&ProcessError> {
        self.server.as_ref()?.lost()
    }

    pub(crate) fn mark(&mut self, sent: u64, opened: u32) -> Result<Mark, BenchError> {
        self.look();
        Ok(Mark {
            at: Instant::now(),
            own: self.own_cpu()?,
            own_memory: self.own.memory().unwrap_or_default(),
            machine: MachineCpu::read()?,
            sockets: Sockets::read()?,
            listen_overflows: listen_overflows()?,
            // Of a server that has ended, what was last seen.
            server: self.seen,
            sent,
            opened,
        })
    }

    /// Reads everything of the server, if it is still there.
    fn look(&mut self) -> Option<ServerMark> {
        let mark = server_mark(self.server.as_mut()?)?;
        self.peak_pss_bytes = self.peak_pss_bytes.max(mark.memory.pss_bytes);
        self.seen = Some(mark);
        Some(mark)
    }

    fn own_cpu(&mut self) -> Result<Cpu, ProcessError> {
        match self.own.cpu() {
            Some(cpu) => Ok(cpu),
            None => Err(self.own.take_lost().unwrap_or(ProcessError::Gone { pid: std::process::id() })),
        }
    }

    /// What was taken since the last poll; nothing yet at the first. What costs the processes something is read less
    /// often where it takes long.
    pub(crate) fn poll(&mut self) -> Usage {
        let Ok(own) = self.own_cpu() else { return Usage::default() };
        let server = self.server.as_mut().and_then(Group::cpu);
        if let (Some(seen), Some(cpu)) = (&mut self.seen, &server) {
            (seen.at, seen.cpu_ns) = (cpu.at, cpu.total_ns);
        }
        let now = Polled { own, server };
        let mut usage = self.polled.as_ref().map_or_else(Usage::default, |last| now.since(last));
        self.polled = Some(now);
        let begun = Instant::now();
        if begun >= self.costly_next {
            self.poll_costly(&mut usage);
            self.costly_next = begun + (begun.elapsed() * COSTLY_SHARE_MAX).max(Duration::from_millis(200));
        }
        usage
    }

    fn poll_costly(&mut self, usage: &mut Usage) {
        usage.kernel_socket_bytes = Sockets::read().ok().map(|sockets| sockets.total_bytes());
        let Some(mark) = self.look() else { return };
        let Some(server) = &mut usage.server else { return };
        (server.pss_bytes, server.descriptors) = (Some(mark.memory.pss_bytes), Some(mark.descriptors));
        let now = Instant::now();
        if let Some((at, before)) = self.switches.replace((now, mark.switches)) {
            let seconds = (now - at).as_secs_f64();
            let switches = mark.switches.all().saturating_sub(before.all());
            server.switches_per_second = Some(switches as f64 / seconds);
        }
    }

    /// What the server took, from the marks before connecting, after it, and around the measured part.
    pub(crate) fn server_use(&self, marks: &Marks) -> Option<ServerUse> {
        let [idle, connected, begin, end] =
            [&marks.idle, &marks.connected, &marks.begin, &marks.end].map(|mark| mark.server);
        let (idle, connected, begin, end) = (idle?, connected?, begin?, end?);
        let seconds = |ns: u64| ns as f64 / 1e9;
        let cpu_seconds = seconds(end.cpu_ns.saturating_sub(begin.cpu_ns));
        let handshakes_us = seconds(connected.cpu_ns.saturating_sub(idle.cpu_ns)) * 1e6;
        let sent = marks.end.sent.saturating_sub(marks.begin.sent);
        let lived = end.at.saturating_duration_since(begin.at).max(Duration::from_micros(1));
        // What was sent after it had ended cost it nothing, and of one that ended before nothing is known.
        let had_all = begin != end && marks.end.at.saturating_duration_since(end.at) < SEEN_LATELY;
        let a_message = |taken: f64| (sent > 0 && had_all).then(|| taken / sent as f64);
        let switches = Switches {
            voluntary: end.switches.voluntary.saturating_sub(begin.switches.voluntary),
            involuntary: end.switches.involuntary.saturating_sub(begin.switches.involuntary),
        };
        let opened = marks.connected.opened.saturating_sub(marks.idle.opened);
        Some(ServerUse {
            pids: self.server.as_ref().map(Group::pids).unwrap_or_default(),
            memory_idle: idle.memory,
            memory_connected: connected.memory,
            memory_loaded: end.memory,
            peak_pss_bytes: self.peak_pss_bytes,
            handshake_cpu_us: (opened > 0).then(|| handshakes_us / f64::from(opened)),
            cpu_seconds,
            cpu_share: cpu_seconds / lived.as_secs_f64(),
            cpu_us_per_message: a_message(cpu_seconds * 1e6),
            threads: end.threads,
            descriptors: end.descriptors,
            switches,
            switches_per_message: a_message(switches.all() as f64),
        })
    }
}

/// The moments of a load.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// Before the first connection.
    pub(crate) idle: Mark,
    /// All connections are settled, nothing was sent.
    pub(crate) connected: Mark,
    /// The measured part begins.
    pub(crate) begin: Mark,
    /// The measured part ends.
    pub(crate) end: Mark,
}

impl Marks {
    /// How long it was from the begin of the measured part to its end; at least a microsecond.
    fn measured(&self) -> Duration {
        self.end.at.saturating_duration_since(self.begin.at).max(Duration::from_micros(1))
    }

    /// What neither the server nor the load took, in processors; none without a server's process.
    pub(crate) fn other_programs(&self) -> Option<f64> {
        let server_ns = self.end.server?.cpu_ns.saturating_sub(self.begin.server?.cpu_ns);
        let own_ns = self.end.own.total_ns.saturating_sub(self.begin.own.total_ns);
        let machine = self.end.machine.since(&self.begin.machine);
        let programs = (machine.busy - machine.interrupts) * f64::from(self.end.machine.processors);
        let known = (server_ns + own_ns) as f64 / self.measured().as_nanos() as f64;
        Some((programs - known).max(0.0))
    }

    /// What the load of `plan` itself took, in `processes`, with `opened` clients.
    pub(crate) fn generator(&self, plan: &Plan, processes: usize, opened: u32) -> Generator {
        let (begin, end) = (&self.begin.own, &self.end.own);
        let measured_ns = self.measured().as_nanos() as f64;
        let busiest = end.threads.iter().map(|(tid, thread)| {
            let before = begin.threads.get(tid).map_or(0, |thread| thread.ns);
            thread.ns.saturating_sub(before)
        });
        let cpu_seconds = end.total_ns.saturating_sub(begin.total_ns) as f64 / 1e9;
        let sent = self.end.sent.saturating_sub(self.begin.sent);
        let [memory_idle, memory_connected, memory_loaded] =
            [&self.idle, &self.connected, &self.end].map(|mark| mark.own_memory);
        // A load of few clients may give back more than they take.
        let grown = memory_loaded.pss_bytes.saturating_sub(memory_idle.pss_bytes) as f64;
        Generator {
            processes,
            // Each process has one at least.
            loops: plan.loops.len().max(processes),
            cpu_seconds,
            cpu_share: cpu_seconds * 1e9 / measured_ns,
            cpu_us_per_message: (sent > 0).then(|| cpu_seconds * 1e6 / sent as f64),
            busiest_thread: busiest.max().unwrap_or(0) as f64 / measured_ns,
            pinned_share: plan.pinned_to().map(|count| cpu_seconds * 1e9 / measured_ns / count as f64),
            memory_idle,
            memory_connected,
            memory_loaded,
            pss_bytes_per_client: (opened > 0).then(|| grown / f64::from(opened)),
        }
    }
}

impl Polled {
    fn since(&self, last: &Polled) -> Usage {
        let (cpu_share, threads) = shares(&self.own, &last.own);
        let busiest_thread = threads.iter().map(|thread| thread.share).fold(0.0, f64::max);
        let server = self.server.as_ref().zip(last.server.as_ref()).map(|(now, last)| {
            let (cpu_share, threads) = shares(now, last);
            ServerSample { cpu_share, threads: busiest(threads), ..ServerSample::default() }
        });
        Usage {
            generator: GeneratorSample { cpu_share, busiest_thread, saturated: false },
            server,
            kernel_socket_bytes: None,
        }
    }
}

/// Shares of one processor since `last`: of all threads together, and of each.
fn shares(now: &Cpu, last: &Cpu) -> (f64, Vec<ThreadShare>) {
    let wall_ns = now.at.duration_since(last.at).as_nanos().max(1) as f64;
    let thread = |(tid, thread): (&u32, &ThreadCpu)| {
        let before = last.threads.get(tid).map_or(0, |thread| thread.ns);
        let share = thread.ns.saturating_sub(before) as f64 / wall_ns;
        ThreadShare { tid: *tid, name: thread.name.clone(), share }
    };
    let total = now.total_ns.saturating_sub(last.total_ns) as f64 / wall_ns;
    (total, now.threads.iter().map(thread).collect())
}

fn server_mark(server: &mut Group) -> Option<ServerMark> {
    server.look();
    // The CPU time first: reading the rest costs the server some.
    let Cpu { at, total_ns: cpu_ns, .. } = server.cpu()?;
    Some(ServerMark {
        at,
        cpu_ns,
        memory: server.memory()?,
        switches: server.switches()?,
        threads: server.threads()?,
        descriptors: server.descriptors()?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn mark(base: Instant, seconds: u64, own_ns: &[u64], server_ns: u64, sent: u64) -> Mark {
        let thread = |ns: &u64| ThreadCpu { name: String::new(), ns: *ns };
        let threads: BTreeMap<u32, ThreadCpu> = (1..).zip(own_ns.iter().map(thread)).collect();
        let at = base + Duration::from_secs(seconds);
        let memory = Memory { pss_bytes: server_ns, rss_bytes: server_ns };
        Mark {
            at,
            own: Cpu { at, total_ns: own_ns.iter().sum(), threads },
            own_memory: memory,
            // Two processors; the server, the load and somebody else keep half of them busy.
            machine: MachineCpu {
                busy_ticks: seconds * 100,
                interrupt_ticks: 0,
                stolen_ticks: 0,
                total_ticks: seconds * 200,
                processors: 2,
            },
            sockets: Sockets { tcp_in_use: 0, tcp_time_wait: 0, buffer_bytes: 0, slab_bytes: None },
            listen_overflows: 0,
            server: Some(ServerMark {
                at,
                cpu_ns: server_ns,
                memory,
                switches: Switches { voluntary: 3 * sent / 10, involuntary: sent / 10 },
                threads: 1,
                descriptors: 9,
            }),
            sent,
            opened: if server_ns > 1_000_000 { 100 } else { 0 },
        }
    }

    #[test]
    fn shares_come_from_the_differences() {
        let base = Instant::now();
        let marks = Marks {
            idle: mark(base, 0, &[0], 1_000_000, 0),
            connected: mark(base, 1, &[0], 21_000_000, 0),
            begin: mark(base, 2, &[1_000_000_000, 500], 100_000_000, 50),
            end: mark(base, 12, &[1_000_000_100, 4_000_000_500], 1_100_000_000, 10_050),
        };
        let plan = Plan { loops: vec![Some(0), Some(1)], ..Plan::new("ws://127.0.0.1:9") };
        let generator = marks.generator(&plan, 1, 100);
        assert!((generator.pinned_share.unwrap() - 0.2).abs() < 1e-6);
        assert!((generator.cpu_us_per_message.unwrap() - 400.0).abs() < 1e-3);
        assert!((generator.pss_bytes_per_client.unwrap() - 10_990_000.0).abs() < 1e-3);
        assert!((generator.busiest_thread - 0.4).abs() < 1e-9 && (generator.cpu_seconds - 4.0).abs() < 1e-6);
        assert!((generator.cpu_share - 0.4).abs() < 1e-6);
        let server = Watch::new(&[], &[]).unwrap().server_use(&marks).unwrap();
        // Of those that came later no handshake is in that time.
        assert!((server.handshake_cpu_us.unwrap() - 200.0).abs() < 1e-6);
        assert!((server.switches_per_message.unwrap() - 0.4).abs() < 1e-9);
        assert!((server.cpu_us_per_message.unwrap() - 100.0).abs() < 1e-6);
        assert!((server.cpu_share - 0.1).abs() < 1e-9);
        assert_eq!(server.memory_loaded.pss_bytes, 1_100_000_000);
        // One processor was busy, of which the server had 0.1 and the load 0.4.
        assert!((marks.other_programs().unwrap() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_server_that_ended_is_told_of_by_the_time_that_it_had() {
        let base = Instant::now();
        let at = |seconds, server_ns, sent| mark(base, seconds, &[0], server_ns, sent);
        let (begin, last) = (at(2, 100_000_000, 50), at(4, 1_100_000_000, 60));
        let end = Mark { server: last.server, ..at(12, 0, 10_050) };
        let marks = Marks { idle: at(0, 0, 0), connected: at(1, 0, 0), begin: begin.clone(), end };
        let watch = Watch::new(&[], &[]).unwrap();
        let server = watch.server_use(&marks).unwrap();
        assert!((server.cpu_share - 0.5).abs() < 1e-6 && server.cpu_us_per_message.is_none());
        assert_eq!(server.switches_per_message, None);
        let before = Mark { server: marks.connected.server, ..begin };
        let end = Mark { server: marks.connected.server, ..marks.end };
        let server = watch.server_use(&Marks { begin: before, end, ..marks }).unwrap();
        assert_eq!(server.cpu_share, 0.0);
        // It ended a moment before the measured part, which a limit ended soon.
        let begin = Mark { server: last.server, ..at(5, 0, 60) };
        let end = Mark { server: last.server, ..at(5, 0, 80) };
        let server =
            watch.server_use(&Marks { begin, end, idle: at(0, 0, 0), connected: at(1, 0, 0) }).unwrap();
        assert_eq!((server.cpu_us_per_message, server.switches_per_message), (None, None));
    }

    #[test]
    fn nothing_sent_divides_nothing() {
        let base = Instant::now();
        let all = mark(base, 0, &[5], 5, 0);
        let marks = Marks { idle: all.clone(), connected: all.clone(), begin: all.clone(), end: all };
        let server = Watch::new(&[], &[]).unwrap().server_use(&marks).unwrap();
        assert_eq!((server.handshake_cpu_us, server.cpu_us_per_message), (None, None));
        assert!(server.cpu_share.is_finite());
    }

    #[test]
    fn a_server_that_is_gone_is_noticed_once() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut watch = Watch::new(&[child.id()], &[]).unwrap();
        assert!(watch.mark(0, 0).unwrap().server.is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        // What was seen of it stays.
        let seen = watch.seen.unwrap();
        assert!(seen.memory.pss_bytes > 0 && watch.mark(0, 0).unwrap().server == Some(seen));
        assert!(matches!(watch.lost(), Some(ProcessError::Gone { .. })));
        assert_eq!(watch.poll().server, None);
    }

    #[test]
    fn a_poll_tells_what_was_taken_since_the_last() {
        let base = Instant::now();
        let cpu = |seconds: u64, threads: &[(u32, u64)]| Cpu {
            at: base + Duration::from_secs(seconds),
            total_ns: threads.iter().map(|(_, ns)| ns).sum(),
            threads: threads
                .iter()
                .map(|(tid, ns)| (*tid, ThreadCpu { name: "t".into(), ns: *ns }))
                .collect(),
        };
        let last = Polled { own: cpu(0, &[(1, 500), (2, 0)]), server: Some(cpu(0, &[(7, 0)])) };
        let now = Polled {
            own: cpu(2, &[(1, 500), (2, 1_000_000_000)]),
            server: Some(cpu(2, &[(7, 200_000_000), (8, 400_000_000)])),
        };
        let usage = now.since(&last);
        assert!((usage.generator.busiest_thread - 0.5).abs() < 1e-9);
        let server = usage.server.unwrap();
        assert!((server.cpu_share - 0.3).abs() < 1e-9);
        assert_eq!(server.threads.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [8, 7]);
    }
}
