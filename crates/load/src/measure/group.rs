//! Several processes measured as one: a server that forked, or a load that is made by several.

use std::time::Instant;

use super::process::{Cpu, Memory, Process, ProcessError, Switches};

/// Processes whose figures are summed. One that ends keeps its part of the CPU time.
#[derive(Debug)]
pub struct Group {
    members: Vec<Member>,
    lost: Option<ProcessError>,
}

#[derive(Debug)]
struct Member {
    process: Process,
    cpu_ns: u64,
    alive: bool,
}

impl Group {
    /// Measures these processes.
    pub fn new(processes: Vec<Process>) -> Group {
        let member = |process| Member { process, cpu_ns: 0, alive: true };
        Group { members: processes.into_iter().map(member).collect(), lost: None }
    }

    /// Measures the processes with these ids.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn open(pids: &[u32]) -> Result<Group, ProcessError> {
        Ok(Group::new(pids.iter().copied().map(Process::open).collect::<Result<_, _>>()?))
    }

    /// Measures one more.
    pub fn push(&mut self, process: Process) {
        self.members.push(Member { process, cpu_ns: 0, alive: true });
    }

    /// The processes that were named, also those that ended.
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
            member.cpu_ns = cpu.total_ns;
            sum.threads.extend(cpu.threads);
            Ok(())
        });
        sum.total_ns = self.members.iter().map(|member| member.cpu_ns).sum();
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

    /// Context switches of all. `None` when all are lost.
    pub fn switches(&mut self) -> Option<Switches> {
        let mut sum = Switches::default();
        self.each(|member| {
            let switches = member.process.switches()?;
            sum.voluntary += switches.voluntary;
            sum.involuntary += switches.involuntary;
            Ok(())
        });
        self.is_alive().then_some(sum)
    }

    fn sum(&mut self, count: impl Fn(&Process) -> Result<usize, ProcessError>) -> Option<usize> {
        let mut sum = 0;
        self.each(|member| count(&member.process).map(|more| sum += more));
        self.is_alive().then_some(sum)
    }

    /// Reads something of every process that is still measured, and drops those which cannot be read.
    fn each(&mut self, mut read: impl FnMut(&mut Member) -> Result<(), ProcessError>) {
        for member in self.members.iter_mut().filter(|member| member.alive) {
            if let Err(error) = read(member) {
                member.alive = false;
                self.lost.get_or_insert(error);
            }
        }
    }
}

/// These processes, for people.
pub fn names(pids: &[u32]) -> String {
    let numbers: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let noun = if pids.len() == 1 { "process" } else { "processes" };
    format!("{noun} {}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

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
    fn an_ended_process_keeps_its_cpu_time() {
        let mut child = sleeper();
        let mut group = Group::open(&[std::process::id(), child.id()]).unwrap();
        let before = group.cpu().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(group.cpu().unwrap().total_ns >= before.total_ns);
    }
}
