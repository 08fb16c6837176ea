//! A command and all that it starts, as one: a process group of its own (setpgid(2)), which ends with its leader.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// A running command. Dropped, it is killed with all that it has started, but for what made a group of its own.
///
/// Ctrl-C on the terminal does not reach it: it is ended when what was needed of it is done.
#[derive(Debug)]
pub(super) struct Job {
    leader: Child,
    guard: Child,
    ended: Option<ExitStatus>,
}

impl Job {
    /// Starts `command`, on `cpus` only where some are given. It ends with the calling thread at the latest.
    pub(super) fn start(command: &mut Command, cpus: &[usize]) -> io::Result<Job> {
        command.process_group(0);
        let mut leader = webscale_sys::process::spawn_bound(command, cpus)?;
        match guard(leader.id()) {
            Ok(guard) => Ok(Job { leader, guard, ended: None }),
            Err(error) => {
                let _ = leader.kill().and_then(|()| leader.wait());
                Err(error)
            }
        }
    }

    /// The process that was started first, for its pipes.
    pub(super) fn leader(&mut self) -> &mut Child {
        &mut self.leader
    }

    /// Of the leader, and of the group.
    pub(super) fn id(&self) -> u32 {
        self.leader.id()
    }

    /// Asks all its processes to end (SIGTERM).
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Has all its processes read their files again (SIGHUP).
    pub(super) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// How the leader ended, once it has; what it left behind is killed then.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() && self.has_leader_ended()? {
            self.ended = Some(self.kill()?);
        }
        Ok(self.ended)
    }

    fn kill(&mut self) -> io::Result<ExitStatus> {
        // Before the leader is waited for: until then its id, which is the group's, is nobody else's.
        self.signal(Signal::KILL);
        // With its pipe open, so that it ends without a look at the group.
        let _ = self.guard.kill().and_then(|()| self.guard.wait());
        self.leader.wait()
    }

    fn has_leader_ended(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let Some(pid) = self.pid() else { return Ok(true) };
        Ok(rustix::process::waitid(WaitId::Pid(pid), options)?.is_some())
    }

    fn signal(&self, signal: Signal) {
        if let (Some(group), None) = (self.pid(), self.ended) {
            // It fails only when all have ended.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.leader.id()).ok()?)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Nobody is left to be told.
            let _ = self.kill();
        }
    }
}

/// Ends the group when this process is no more, also by a second Ctrl-C or SIGKILL, of which the kernel would tell the leader
/// alone: its pipe ends then.
fn guard(group: u32) -> io::Result<Child> {
    let line = format!("read -r _; kill -KILL -{group}");
    let mut command = Command::new("sh");
    command.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).spawn()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::doctor::Root;
    use crate::measure::family::family;

    /// A shell with two children, of which the second is told by its id.
    fn job(last: &str) -> (Job, BufReader<std::process::ChildStdout>, u32) {
        let script = format!("sleep 600 & sleep 600 & echo $!; {last}");
        let mut job =
            Job::start(Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()), &[]).unwrap();
        let mut stdout = BufReader::new(job.leader().stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        (job, stdout, line.trim().parse().unwrap())
    }

    /// Whether the pipe has ended, which all processes of the job hold.
    fn ends(mut stdout: impl BufRead) -> bool {
        stdout.read_line(&mut String::new()).unwrap() == 0
    }

    #[test]
    fn all_that_was_started_is_one() {
        let (job, stdout, child) = job("wait");
        let pids = family(&Root::default(), &[job.leader.id()]);
        assert!(pids.len() == 3 && pids.contains(&job.leader.id()) && pids.contains(&child));
        drop(job);
        assert!(ends(stdout));
    }

    #[test]
    fn all_end_with_this_process_however_it_ends() {
        let (mut job, stdout, _) = job("wait");
        // As when this process is killed.
        drop(job.guard.stdin.take());
        assert!(ends(stdout));
    }

    #[test]
    fn what_a_leader_leaves_behind_ends_with_it() {
        let (mut job, stdout, _) = job("exit 7");
        let status = loop {
            match job.ended().unwrap() {
                Some(status) => break status,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(status.code(), Some(7));
        assert!(ends(stdout));
        assert_eq!(job.ended().unwrap(), Some(status));
    }

    #[test]
    fn all_are_asked_to_end() {
        let (mut job, stdout, _) = job("wait");
        job.terminate();
        assert!(ends(stdout));
        assert!(!job.leader().wait().unwrap().success());
    }
}
