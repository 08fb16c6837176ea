//! Child processes that are measured: pinned to processors, and gone when their parent is.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Lets the calling thread run on these processors only.
///
/// # Errors
/// EINVAL when none of them exists or may be used.
pub fn pin_thread(cpus: &[usize]) -> io::Result<()> {
    Ok(sched_setaffinity(None, &cpu_set(cpus)?)?)
}

/// The processors that the calling thread may run on, in ascending order.
///
/// # Errors
/// EINVAL on a machine with more processors than a `CpuSet` holds.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// The longest slice of a processor's time that a thread may ask for, in nanoseconds: sched_setattr(2).
const SLICE_MAX_NS: u64 = 100_000_000;

/// Lets other threads go before the calling one: niceness from 0 to 19, as nice(1) has it. It can be raised only. Since Linux
/// 6.12 a thread that wakes does not wait for the end of the calling one's slice either.
///
/// # Errors
/// EPERM, where a sandbox forbids it.
pub fn give_way(niceness: u8) -> io::Result<()> {
    // Of a thread, on Linux, whatever POSIX says of processes: setpriority(2).
    rustix::process::setpriority_process(None, niceness.into())?;
    let attr = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or_default(),
        sched_policy: libc::SCHED_OTHER.unsigned_abs(),
        sched_flags: 0,
        sched_nice: niceness.into(),
        sched_priority: 0,
        // Who wakes goes before whom has the longer slice; older kernels do not look at it.
        sched_runtime: SLICE_MAX_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: `attr` is as long as it says, and is only read. It changes the calling thread alone. Where it is refused, the
    // niceness has to do.
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    Ok(())
}

/// Starts `command`, on `cpus` only where some are given, to be ended with SIGKILL should the *thread* that called this end before it
/// (prctl(2), PR_SET_PDEATHSIG): call it from a thread that lives as long as the child should.
///
/// # Errors
/// As [`Command::spawn`]; EINVAL when no such processor exists.
pub fn spawn_bound(command: &mut Command, cpus: &[usize]) -> io::Result<Child> {
    let set = if cpus.is_empty() { None } else { Some(cpu_set(cpus)?) };
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes system calls and
    // nothing else: it allocates nothing, takes no lock, and captures only values that are `Copy`.
    unsafe {
        command.pre_exec(move || {
            if let Some(set) = &set {
                sched_setaffinity(None, set)?;
            }
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before the line above.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command.spawn()
}

/// Asks a child of ours to end (SIGTERM).
///
/// # Errors
/// ESRCH when it has ended and was waited for.
pub fn terminate(child: &Child) -> io::Result<()> {
    signal(child, Signal::TERM)
}

/// Sends SIGHUP to a child of ours.
///
/// # Errors
/// ESRCH when it has ended and was waited for.
pub fn hang_up(child: &Child) -> io::Result<()> {
    signal(child, Signal::HUP)
}

fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

fn cpu_set(cpus: &[usize]) -> io::Result<CpuSet> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such processor"));
        }
        set.set(cpu);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_child_is_pinned_and_can_be_ended() {
        let cpu = allowed_cpus().unwrap()[0];
        let output = spawn_bound(
            Command::new("grep")
                .args(["Cpus_allowed_list", "/proc/self/status"])
                .stdout(std::process::Stdio::piped()),
            &[cpu],
        )
        .unwrap()
        .wait_with_output()
        .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.split_whitespace().last(), Some(cpu.to_string().as_str()));

        let mut child = spawn_bound(Command::new("sleep").arg("60"), &[]).unwrap();
        terminate(&child).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }

    #[test]
    fn one_thread_gives_way_alone() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let nice = std::thread::spawn(move || {
            give_way(15).unwrap();
            niceness()
        });
        assert_eq!((nice.join().unwrap(), niceness()), (15, before));
    }

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let thread = std::thread::spawn(|| spawn_bound(Command::new("sleep").arg("60"), &[]).unwrap());
        let mut child = thread.join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn an_impossible_processor_is_refused() {
        assert!(pin_thread(&[usize::MAX]).is_err());
        assert!(spawn_bound(&mut Command::new("true"), &[CpuSet::MAX_CPU - 1]).is_err());
    }
}
