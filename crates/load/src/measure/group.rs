//! Several processes measured as one: a server that forked, or a load that is made by several.

use std::ops::AddAssign;
use std::time::Instant;

use super::family::{PROCESSES_MAX, family};
use super::process::{Cpu, Memory, Process, ProcessError, Switches};
use crate::doctor::Root;

/// Processes whose figures are summed. What one that ends has taken stays in the sum.
#[derive(Debug, Default)]
pub struct Group {
    members: Vec<Member>,
    /// What they start is measured, too.
    follows: bool,
    /// What those had taken that they had started, and that have ended.
    past: Taken,
    lost: Option<ProcessError>,
}

#[derive(Debug)]
struct Member {
    process: Process,
    /// When it was last read.
    taken: Taken,
    alive: bool,
    /// It was started by another member, and may end when its work is done.
    started: bool,
}

/// What a process has taken since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    cpu_ns: u64,
    switches: Switches,
}

impl AddAssign for Taken {
    fn add_assign(&mut self, more: Taken) {
        self.cpu_ns += more.cpu_ns;
        self.switches += more.switches;
    }
}

impl Member {
    fn open(pid: u32, started: bool) -> Result<Member, ProcessError> {
        Ok(Member { process: Process::open(pid)?, taken: Taken::default(), alive: true, started })
    }
}

impl Group {
    /// Measures the processes with these ids.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn open(pids: &[u32]) -> Result<Group, ProcessError> {
        let members = pids.iter().map(|pid| Member::open(*pid, false)).collect::<Result<_, _>>()?;
        Ok(Group { members, ..Group::default() })
    }

    /// Measures the processes with these ids and all that they have started. What they start later is found by
    /// [`Group::look`].
    ///
    /// # Errors
    /// When one of them is not there.
    pub(crate) fn with_started(pids: &[u32]) -> Result<Group, ProcessError> {
        let mut group = Group { follows: true, ..Group::open(pids)? };
        group.look();
        Ok(group)
    }

    /// Looks for processes that the members have started, if that is wanted.
    pub fn look(&mut self) {
        if !self.follows {
            return;
        }
        let living = self.members.iter().filter(|member| member.alive);
        let pids: Vec<u32> = living.map(|member| member.process.pid()).collect();
        for pid in family(&Root::default(), &pids) {
            if self.members.iter().any(|member| member.process.pid() == pid) {
                continue;
            }
            if self.members.len() >= PROCESSES_MAX {
                self.lost.get_or_insert(ProcessError::TooMany { most: PROCESSES_MAX });
                return;
            }
            // One that has ended by now is nothing to measure.
            self.members.extend(Member::open(pid, true));
        }
    }

    /// The processes that were named, also those that ended, and what they have started that lives, as far as is known.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.process.pid()).collect()
    }

    /// Why the first process that was lost can no longer be measured.
    pub fn lost(&self) -> Option<&ProcessError> {
        self.lost.as_ref()
    }

    /// The same, once.
    pub(crate) fn take_lost(&mut self) -> Option<ProcessError> {
        self.lost.take()
    }

    /// Whether at least one is still measured.
    pub fn is_alive(&self) -> bool {
        self.members.iter().any(|member| member.alive)
    }

    /// CPU time of all, ended ones included; the threads are those that are alive. `None` when all are lost.
    pub fn cpu(&mut self) -> Option<Cpu> {
        let mut sum = Cpu { at: Instant::now(), total_ns: 0, threads: Default::default() };
        self.each(|member| {
            let cpu = member.process.cpu()?;
            member.taken.cpu_ns = cpu.total_ns;
            sum.threads.extend(cpu.threads);
            Ok(())
        });
        sum.total_ns = self.taken().cpu_ns;
        self.is_alive().then_some(sum)
    }

    /// Memory of all. `None` when all are lost.
    pub fn memory(&mut self) -> Option<Memory> {
        let mut sum = Memory { pss_bytes: 0, rss_bytes: 0 };
        self.each(|member| {
            let memory = member.process.memory()?;
            sum.pss_bytes += memory.pss_bytes;
            sum.rss_bytes += memory.rss_bytes;
            Ok(())
        });
        self.is_alive().then_some(sum)
    }

    /// Open descriptors of all. `None` when all are lost.
    pub fn descriptors(&mut self) -> Option<usize> {
        self.sum(|process| process.descriptors())
    }

    /// Threads of all. `None` when all are lost.
    pub fn threads(&mut self) -> Option<usize> {
        self.sum(|process| process.threads())
    }

    /// Context switches of all, ended ones included. `None` when all are lost.
    pub fn switches(&mut self) -> Option<Switches> {
        self.each(|member| {
            member.taken.switches = member.process.switches()?;
            Ok(())
        });
        self.is_alive().then_some(self.taken().switches)
    }

    /// What all have taken, as they were last read.
    fn taken(&self) -> Taken {
        let mut sum = self.past;
        self.members.iter().for_each(|member| sum += member.taken);
        sum
    }

    fn sum(&mut self, count: impl Fn(&Process) -> Result<usize, ProcessError>) -> Option<usize> {
        let mut sum = 0;
        self.each(|member| count(&member.process).map(|more| sum += more));
        self.is_alive().then_some(sum)
    }

    /// Reads something of every process that is still measured. One that cannot be read any more is lost, but keeps its
    /// place: it may live, and would be found again.
    fn each(&mut self, mut read: impl FnMut(&mut Member) -> Result<(), ProcessError>) {
        let Group { members, past, lost, .. } = self;
        members.retain_mut(|member| {
            let Some(error) = member.alive.then(|| read(member).err()).flatten() else { return true };
            member.alive = false;
            if member.started && matches!(error, ProcessError::Gone { .. }) {
                *past += member.taken;
                return false;
            }
            lost.get_or_insert(error);
            true
        });
    }
}

/// Of several processes, so many are named.
const NAMED_MAX: usize = 3;

/// These processes, for people.
pub fn names(pids: &[u32]) -> String {
    let numbers: Vec<String> = pids.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let noun = if pids.len() == 1 { "process" } else { "processes" };
    let more = match pids.len() - numbers.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{noun} {}{more}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn several_processes_are_summed() {
        let (mut one, mut other) = (sleeper(), sleeper());
        let mut group = Group::open(&[one.id(), other.id()]).unwrap();
        assert_eq!(group.pids(), [one.id(), other.id()]);
        assert_eq!((group.threads(), group.cpu().unwrap().threads.len()), (Some(2), 2));
        assert!(group.memory().unwrap().pss_bytes > 0 && group.descriptors().unwrap() >= 2);
        one.kill().unwrap();
        one.wait().unwrap();
        assert_eq!(group.threads(), Some(1));
        assert!(matches!(group.lost(), Some(ProcessError::Gone { pid }) if *pid == one.id()));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!((group.cpu(), group.is_alive()), (None, false));
    }

    #[test]
    fn what_a_process_starts_is_measured_while_it_lives_and_counted_for_ever() {
        let script = "read go; sleep 600 & echo $!; read go; kill $!; wait; echo ended; read go";
        let mut shell = Command::new("sh");
        let mut shell =
            shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut stdin = shell.stdin.take().unwrap();
        let mut go = || {
            writeln!(stdin).unwrap();
            lines.next().unwrap().unwrap()
        };
        let pid = shell.id();
        let mut group = Group::with_started(&[pid]).unwrap();
        assert_eq!(group.pids(), [pid]);
        let started: u32 = go().parse().unwrap();
        group.look();
        assert_eq!(group.pids(), [pid, started]);
        // It gives its processor up before long.
        while group.members[1].taken.switches.all() == 0 {
            assert!(group.switches().is_some());
        }
        let during = group.cpu().unwrap();
        let total_ns = during.total_ns;
        let taken = group.members[1].taken;
        assert_eq!(during.threads.into_keys().collect::<BTreeSet<_>>(), BTreeSet::from([pid, started]));
        assert_eq!(go(), "ended");
        assert!(group.memory().is_some());
        group.look();
        assert_eq!((group.pids(), group.past), (vec![pid], taken));
        assert!(group.cpu().unwrap().total_ns >= total_ns && group.lost().is_none());
        // Who was named is missed.
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert!(group.cpu().is_none() && group.lost().is_some());
    }

    #[test]
    fn a_process_that_cannot_be_read_is_counted_once() {
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", "sleep 600 & echo $!; read go; kill $!"]).stdin(Stdio::piped());
        let mut shell = shell.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut group = Group::with_started(&[shell.id()]).unwrap();
        let pids = [shell.id(), line.trim().parse().unwrap()];
        assert_eq!(group.pids(), pids);
        assert!(group.cpu().is_some());
        let read = group.members[1].taken;
        group.each(|member| match member.started {
            true => Err(ProcessError::Format { pid: member.process.pid(), file: "statm".into() }),
            false => Ok(()),
        });
        assert!(matches!(group.lost(), Some(ProcessError::Format { .. })));
        group.look();
        assert!(group.cpu().is_some());
        assert_eq!((group.pids(), group.past), (pids.to_vec(), Taken::default()));
        assert_eq!(group.members[1].taken, read);
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }

    #[test]
    fn an_ended_process_keeps_its_cpu_time() {
        let mut child = sleeper();
        let mut group = Group::open(&[std::process::id(), child.id()]).unwrap();
        let before = group.cpu().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(group.cpu().unwrap().total_ns >= before.total_ns);
    }
}
