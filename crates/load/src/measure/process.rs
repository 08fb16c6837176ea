//! One process seen through `/proc/PID` (proc(5)).
//!
//! CPU time is the sum over `/proc/PID/task/*/schedstat`, in nanoseconds. Two facts shape how it is summed:
//! `/proc/PID/schedstat` speaks for the main thread alone, and a thread that ended leaves `task/`. So the last
//! value of every thread is remembered, and `utime + stime` of `/proc/PID/stat`, which keeps the ended threads but
//! counts in clock ticks (10 ms), tells how much was never seen. The sum never goes back, and misses no nanosecond of
//! the threads that are seen.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

/// Why a process could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The process ended, or another one now has its id.
    #[error("process {pid} is gone")]
    Gone {
        /// The process id.
        pid: u32,
    },
    /// The process belongs to somebody else: memory and descriptors are shown to its owner and to root only.
    #[error("process {pid} may not be read ({file}): run as its owner or as root")]
    Forbidden {
        /// The process id.
        pid: u32,
        /// The file that was refused.
        file: String,
    },
    /// Reading failed otherwise.
    #[error("reading {file} of process {pid}: {source}")]
    Unreadable {
        /// The process id.
        pid: u32,
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// It has started more processes than are measured.
    #[error("the server has more than {most} processes, which cannot all be measured: --no-pid does without")]
    TooMany {
        /// The most that are.
        most: usize,
    },
    /// It has nothing to do with the load.
    #[error("{which} did not hold the clients that were connected: --pid has to name the server")]
    Stranger {
        /// The processes that were taken for the server.
        which: String,
    },
    /// The kernel wrote something that this program does not know.
    #[error("{file} of process {pid} has an unknown format")]
    Format {
        /// The process id.
        pid: u32,
        /// The file.
        file: String,
    },
}

/// CPU time of a process since it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// When it was read.
    pub at: Instant,
    /// Nanoseconds on a CPU, all threads, ended ones included.
    pub total_ns: u64,
    /// The threads that are alive, by thread id.
    pub threads: BTreeMap<u32, ThreadCpu>,
}

/// CPU time of one thread since it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadCpu {
    /// The thread's name, at most 15 bytes.
    pub name: String,
    /// Nanoseconds on a CPU.
    pub ns: u64,
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Memory {
    /// Proportional set size: shared pages are divided among their users.
    pub pss_bytes: u64,
    /// Resident set size: shared pages count in full.
    pub rss_bytes: u64,
}

/// Context switches of a process: of its threads, as they were last seen where they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Switches {
    /// The thread waited for something.
    pub voluntary: u64,
    /// The scheduler took the CPU away.
    pub involuntary: u64,
}

impl Switches {
    /// Both kinds.
    pub fn all(&self) -> u64 {
        self.voluntary + self.involuntary
    }
}

impl AddAssign for Switches {
    fn add_assign(&mut self, more: Switches) {
        self.voluntary += more.voluntary;
        self.involuntary += more.involuntary;
    }
}

/// What threads have taken since they started, when it was last seen: a thread that ends takes its counters with it.
#[derive(Debug, Default)]
struct Seen<T> {
    living: BTreeMap<u32, T>,
    ended: T,
}

impl<T: Copy + Default + AddAssign> Seen<T> {
    /// Those that live have `now` taken so much, by their ids. Gives what all have, ended ones included.
    fn all(&mut self, now: BTreeMap<u32, T>) -> T {
        let before = std::mem::replace(&mut self.living, now);
        let ended = before.into_iter().filter(|(tid, _)| !self.living.contains_key(tid));
        ended.for_each(|(_, taken)| self.ended += taken);
        let mut sum = self.ended;
        self.living.values().for_each(|taken| sum += *taken);
        sum
    }
}

/// A process that is measured; it need not be a child.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    directory: PathBuf,
    started_ticks: u64,
    /// CPU time in nanoseconds.
    seen_ns: Seen<u64>,
    switches: Seen<Switches>,
    /// CPU time that threads had that ended before they were seen, or after they were seen last.
    unseen_ns: u64,
}

impl Process {
    /// Starts to measure the process `pid`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn open(pid: u32) -> Result<Process, ProcessError> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let (seen_ns, switches) = Default::default();
        let mut process = Process { pid, directory, started_ticks: 0, seen_ns, switches, unseen_ns: 0 };
        process.started_ticks = process.stat()?.started_ticks;
        Ok(process)
    }

    /// Starts to measure the process that calls.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn own() -> Result<Process, ProcessError> {
        Process::open(std::process::id())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// CPU time so far. Never less than an earlier answer.
    ///
    /// # Errors
    /// [`ProcessError::Gone`] once the process ended.
    pub fn cpu(&mut self) -> Result<Cpu, ProcessError> {
        let stat = self.stat()?;
        if stat.started_ticks != self.started_ticks {
            return Err(ProcessError::Gone { pid: self.pid });
        }
        let at = Instant::now();
        let threads = self.live_threads()?;
        let seen_ns = self.seen_ns.all(threads.iter().map(|(tid, thread)| (*tid, thread.ns)).collect());
        let ticks_ns = stat.cpu_ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second());
        self.unseen_ns = self.unseen_ns.max(ticks_ns.saturating_sub(seen_ns));
        Ok(Cpu { at, total_ns: seen_ns + self.unseen_ns, threads })
    }

    /// How long the threads that are alive have waited for a processor, since they started, in nanoseconds: what others took
    /// from them.
    ///
    /// # Errors
    /// [`ProcessError::Gone`] once the process ended.
    pub(crate) fn waited_ns(&self) -> Result<u64, ProcessError> {
        Ok(self.of_threads("schedstat", parse_waited)?.into_values().sum())
    }

    /// Memory now. The kernel walks the whole address space for this: seldom, not in a tight loop.
    ///
    /// # Errors
    /// [`ProcessError::Forbidden`] for another user's process.
    pub fn memory(&self) -> Result<Memory, ProcessError> {
        let text = self.read(Path::new("smaps_rollup"))?;
        // A process that ended and was not waited for still has the file, with nothing in it.
        if text.is_empty() {
            return Err(ProcessError::Gone { pid: self.pid });
        }
        parse_rollup(&text).ok_or_else(|| self.format("smaps_rollup"))
    }

    /// Address space in bytes, also what was never written to.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn virtual_bytes(&self) -> Result<u64, ProcessError> {
        let text = self.read(Path::new("statm"))?;
        let pages = text.split_ascii_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
        Ok(pages.ok_or_else(|| self.format("statm"))? * super::kernel::page_bytes())
    }

    /// How many file descriptors are open.
    ///
    /// # Errors
    /// [`ProcessError::Forbidden`] for another user's process.
    pub fn descriptors(&self) -> Result<usize, ProcessError> {
        self.list(Path::new("fd")).map(|entries| entries.len())
    }

    /// How many threads are alive.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn threads(&self) -> Result<usize, ProcessError> {
        self.list(Path::new("task")).map(|entries| entries.len())
    }

    /// Context switches so far; those of threads that have ended as they were when this was last called.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn switches(&mut self) -> Result<Switches, ProcessError> {
        let now = self.of_threads("status", parse_switches)?;
        Ok(self.switches.all(now))
    }

    fn live_threads(&self) -> Result<BTreeMap<u32, ThreadCpu>, ProcessError> {
        let mut threads = BTreeMap::new();
        for (tid, ns) in self.of_threads("schedstat", parse_schedstat)? {
            let Some(name) = self.read_of_thread(tid, "comm")? else { continue };
            threads.insert(tid, ThreadCpu { name: name.trim_end().to_owned(), ns });
        }
        Ok(threads)
    }

    /// What a file says of each thread that is alive.
    fn of_threads<T>(
        &self,
        file: &str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<BTreeMap<u32, T>, ProcessError> {
        let mut threads = BTreeMap::new();
        for tid in self.list(Path::new("task"))? {
            let Some(text) = self.read_of_thread(tid, file)? else { continue };
            let said = parse(&text).ok_or_else(|| self.format(&format!("task/*/{file}")))?;
            threads.insert(tid, said);
        }
        Ok(threads)
    }

    fn stat(&self) -> Result<Stat, ProcessError> {
        let text = self.read(Path::new("stat"))?;
        parse_stat(&text).ok_or_else(|| self.format("stat"))
    }

    /// A file of one thread; `None` when the thread ended since it was listed.
    fn read_of_thread(&self, tid: u32, file: &str) -> Result<Option<String>, ProcessError> {
        match self.read(&Path::new("task").join(tid.to_string()).join(file)) {
            Ok(text) => Ok(Some(text)),
            Err(ProcessError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, file: &Path) -> Result<String, ProcessError> {
        fs::read_to_string(self.directory.join(file)).map_err(|source| self.failed(file, source))
    }

    /// The entries of a directory whose names are numbers.
    fn list(&self, directory: &Path) -> Result<Vec<u32>, ProcessError> {
        let entries = fs::read_dir(self.directory.join(directory)).map_err(|e| self.failed(directory, e))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(names.collect())
    }

    fn failed(&self, file: &Path, source: io::Error) -> ProcessError {
        let (pid, file) = (self.pid, file.display().to_string());
        match source.kind() {
            io::ErrorKind::NotFound => ProcessError::Gone { pid },
            io::ErrorKind::PermissionDenied => ProcessError::Forbidden { pid, file },
            _ if source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                ProcessError::Gone { pid }
            }
            _ => ProcessError::Unreadable { pid, file, source },
        }
    }

    fn format(&self, file: &str) -> ProcessError {
        ProcessError::Format { pid: self.pid, file: file.to_owned() }
    }
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Field 3: it has not ended.
    pub(crate) lives: bool,
    /// Field 4.
    pub(crate) parent: u32,
    /// Field 5: the process group.
    pub(crate) group: u32,
    /// utime + stime: fields 14 and 15.
    cpu_ticks: u64,
    /// starttime: field 22. With the id it names one process for as long as the machine runs.
    started_ticks: u64,
}

pub(crate) fn parse_stat(text: &str) -> Option<Stat> {
    // The name (field 2) stands in parentheses and may itself hold spaces and parentheses.
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        // A zombie, or one that is just being taken away.
        lives: !fields.first()?.starts_with(['Z', 'X']),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        cpu_ticks: field(14)? + field(15)?,
        started_ticks: field(22)?,
    })
}

fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn parse_waited(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn parse_rollup(text: &str) -> Option<Memory> {
    Some(Memory { pss_bytes: kilobytes(text, "Pss:")?, rss_bytes: kilobytes(text, "Rss:")? })
}

fn parse_switches(text: &str) -> Option<Switches> {
    Some(Switches {
        voluntary: value(text, "voluntary_ctxt_switches:")?.trim().parse().ok()?,
        involuntary: value(text, "nonvoluntary_ctxt_switches:")?.trim().parse().ok()?,
    })
}

/// What stands behind `key` on its own line.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

/// A value that the kernel gives in kB (which are KiB), in bytes.
pub(crate) fn kilobytes(text: &str, key: &str) -> Option<u64> {
    value(text, key)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "3866 (a (b) c) S 3850 3850 2592 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 71155 \
                        3133440 394 18446744073709551615 94454130708480 94454130728361 140724984945136 0 0 0 0 0 0 \
                        0 0 0 17 1 0 0 0 0 0 94454130744368 94454130745984 94454594637824 0 0 0 0 0\n";
    const ROLLUP: &str = "55ff48af5000-7ffe67fa6000 ---p 00000000 00:00 0                          [rollup]\n\
                          Rss:                1640 kB\nPss:                 490 kB\nPss_Dirty:           112 kB\n\
                          Pss_Anon:            112 kB\nSwapPss:               0 kB\nLocked:                0 kB\n";

    #[test]
    fn stat_with_parentheses_in_the_name() {
        let stat = Stat { lives: true, parent: 3850, group: 3850, cpu_ticks: 12, started_ticks: 71155 };
        assert_eq!(parse_stat(STAT), Some(stat));
        assert!(!parse_stat(&STAT.replace(" S ", " Z ")).unwrap().lives);
        assert_eq!(parse_stat("3866 (cat) R 1 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn schedstat_is_running_waiting_slices() {
        assert_eq!(parse_schedstat("870404 12 1\n"), Some(870_404));
        assert_eq!(parse_schedstat("\n"), None);
        assert_eq!((parse_waited("870404 12 1\n"), parse_waited("870404\n")), (Some(12), None));
    }

    #[test]
    fn rollup_is_in_kib() {
        let memory = parse_rollup(ROLLUP);
        assert_eq!(memory, Some(Memory { pss_bytes: 490 * 1024, rss_bytes: 1640 * 1024 }));
        assert_eq!(parse_rollup("Rss: 12 MB\nPss: 1 kB\n"), None);
    }

    #[test]
    fn switches_are_told_apart() {
        let status = "Threads:\t1\nvoluntary_ctxt_switches:\t31\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(parse_switches(status), Some(Switches { voluntary: 31, involuntary: 7 }));
    }

    #[test]
    fn what_a_thread_had_taken_stays_when_it_ends() {
        let mut seen = Seen::default();
        let mut all = |threads: &[(u32, u64)]| {
            let switches = |(tid, voluntary): &(u32, u64)| {
                (*tid, Switches { voluntary: *voluntary, involuntary: 2 * voluntary })
            };
            let sum = seen.all(threads.iter().map(switches).collect());
            assert_eq!(sum.involuntary, 2 * sum.voluntary);
            sum.voluntary
        };
        assert_eq!(all(&[(1, 5), (2, 70)]), 75);
        assert_eq!(all(&[(1, 6)]), 76);
        assert_eq!(all(&[(1, 7), (3, 100)]), 177);
        assert_eq!(all(&[]), 177);
    }

    #[test]
    fn own_process_is_read_live() {
        let mut process = Process::own().unwrap();
        let cpu = process.cpu().unwrap();
        assert!(cpu.threads.contains_key(&process.pid()));
        assert_eq!(process.threads().unwrap() > 1, cpu.threads.len() > 1);
        let memory = process.memory().unwrap();
        assert!(memory.rss_bytes >= memory.pss_bytes && memory.pss_bytes > 64 * 1024);
        assert!(process.virtual_bytes().unwrap() >= memory.rss_bytes);
        assert!(process.switches().unwrap().voluntary > 0 && process.waited_ns().unwrap() > 0);
        let before = process.descriptors().unwrap();
        let files: Vec<fs::File> = (0..100).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        // Other tests open and close a few at the same time.
        assert!(process.descriptors().unwrap() + 20 > before + files.len());
    }

    #[test]
    fn resident_pages_show_in_the_memory() {
        const BYTES: usize = 64 << 20;
        let process = Process::own().unwrap();
        let before = process.memory().unwrap().pss_bytes;
        let pages = std::hint::black_box(vec![1_u8; BYTES]);
        let after = process.memory().unwrap().pss_bytes;
        assert!(after > before + 48 * 1024 * 1024, "{before} → {after} with {} more", pages.len());
    }

    /// Burns CPU until the thread itself has had at least `ns`, by its own schedstat.
    fn burn(ns: u64) {
        let used = || parse_schedstat(&fs::read_to_string("/proc/thread-self/schedstat").unwrap()).unwrap();
        while used() < ns {
            std::hint::black_box((0..10_000_u64).sum::<u64>());
        }
    }

    #[test]
    fn an_ended_thread_stays_in_the_sum() {
        const BURNT_NS: u64 = 60_000_000;
        let mut process = Process::own().unwrap();
        let before = process.cpu().unwrap();
        std::thread::Builder::new().name("burner".into()).spawn(|| burn(BURNT_NS)).unwrap().join().unwrap();
        let after = process.cpu().unwrap();
        assert!(after.threads.values().all(|thread| thread.name != "burner"));
        // It lived between two samples: only the ticks know of it, utime and stime to 10 ms each.
        assert!(after.total_ns - before.total_ns >= BURNT_NS - 20_000_000);
    }

    #[test]
    fn a_thread_that_was_never_seen_hides_nothing_of_the_others() {
        std::thread::spawn(|| burn(60_000_000)).join().unwrap();
        let mut process = Process::own().unwrap();
        let before = process.cpu().unwrap();
        // Less than a tick.
        let had = || parse_schedstat(&fs::read_to_string("/proc/thread-self/schedstat").unwrap()).unwrap();
        burn(had() + 1_000_000);
        assert!(process.cpu().unwrap().total_ns - before.total_ns >= 1_000_000);
    }

    #[test]
    fn a_thread_seen_once_is_remembered_to_the_nanosecond() {
        let mut process = Process::own().unwrap();
        let (to_burner, orders) = std::sync::mpsc::channel::<()>();
        let (burnt, seen) = std::sync::mpsc::channel();
        let burner = std::thread::spawn(move || {
            burn(20_000_000);
            burnt.send(()).unwrap();
            orders.recv().unwrap();
        });
        seen.recv().unwrap();
        let during = process.cpu().unwrap();
        to_burner.send(()).unwrap();
        burner.join().unwrap();
        assert!(process.cpu().unwrap().total_ns >= during.total_ns);
        assert!(during.total_ns >= 20_000_000);
    }

    #[test]
    fn a_process_that_ended_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let process = Process::open(pid);
        child.wait().unwrap();
        assert!(matches!(Process::open(pid), Err(ProcessError::Gone { .. })));
        if let Ok(mut process) = process {
            let error = process.cpu().unwrap_err();
            assert_eq!(error.to_string(), format!("process {pid} is gone"));
        }
    }
}
