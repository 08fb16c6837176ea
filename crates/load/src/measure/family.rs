//! What processes have started: a server's workers, which need not hold its listening socket (proc_pid_stat(5)).

use std::collections::{BTreeMap, BTreeSet};

use super::process::{Stat, parse_stat};
use crate::doctor::Root;

/// A server of more processes is not measured whole.
pub const PROCESSES_MAX: usize = 1024;

/// No process has more ancestors; while they are read, processes come and go.
const ANCESTORS_MAX: usize = 256;

/// `pids` and all that they have started and what those have, as far as it lives, in order of the ids; also what has lost
/// its parent and stands in a process group that one of them leads.
///
/// This process and what it has started are left out, and so is what its ancestors have started: init, a session's manager
/// or the runner of a test may hold a server's socket, and has started much that is no server.
pub(crate) fn family(root: &Root, pids: &[u32]) -> BTreeSet<u32> {
    let own = std::process::id();
    Tree::read(root).family(pids, own)
}

/// What is known of each process that lives, by its id.
struct Tree(BTreeMap<u32, Stat>);

impl Tree {
    fn read(root: &Root) -> Tree {
        let living = |pid: u32| {
            let stat = parse_stat(&root.text(&format!("proc/{pid}/stat"))?)?;
            stat.lives.then_some((pid, stat))
        };
        Tree(root.list("proc").into_iter().filter_map(living).collect())
    }

    fn ancestors(&self, pid: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(pid), |pid| Some(self.0.get(pid)?.parent)).skip(1).take(ANCESTORS_MAX)
    }

    fn family(&self, pids: &[u32], own: u32) -> BTreeSet<u32> {
        let above: BTreeSet<u32> = self.ancestors(own).chain([own]).collect();
        let starts = |pid: &u32| pids.contains(pid) && !above.contains(pid);
        let is_started = |(pid, stat): &(&u32, &Stat)| {
            // Below this process before below a member: it is ours, whoever has started us.
            let mut started_by = self.ancestors(**pid).take_while(|ancestor| *ancestor != own);
            let is_stray = || !self.ancestors(**pid).any(|ancestor| ancestor == own) && starts(&stat.group);
            **pid != own && (started_by.any(|pid| starts(&pid)) || is_stray())
        };
        let started = self.0.iter().filter(is_started).map(|(pid, _)| *pid);
        started.chain(pids.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::machine::Machine;

    /// 1 ── 10 ── 11 ── 12    (a server, its worker, and what that started)
    ///  │          └─── 13    (ended, not waited for)
    ///  └── 20 ── 21 ── 22    (a shell, this process, and what it started)
    ///       └─── 23         (of the server's group)
    fn tree(name: &str) -> (Machine, Tree) {
        let machine = Machine::new(&format!("family-{name}"), &[("proc/self/stat", "no number")]);
        for (pid, parent, state) in [
            (1, 0, 'S'),
            (10, 1, 'S'),
            (11, 10, 'R'),
            (12, 11, 'D'),
            (13, 10, 'Z'),
            (20, 1, 'S'),
            (21, 20, 'R'),
            (22, 21, 'S'),
            (23, 20, 'S'),
        ] {
            let group = if pid == 23 { 10 } else { 1 };
            let stat =
                format!("{pid} (a) b) {state} {parent} {group} 1 0 -1 0 0 0 0 0 7 5 0 0 20 0 1 0 99 1");
            machine.write(&format!("proc/{pid}/stat"), &stat);
        }
        let tree = Tree::read(&machine.root());
        (machine, tree)
    }

    #[test]
    fn whatever_a_server_started_is_its_own() {
        let (_machine, tree) = tree("server");
        let family = |pids: &[u32]| tree.family(pids, 21).into_iter().collect::<Vec<_>>();
        assert_eq!(family(&[10]), [10, 11, 12, 23]);
        assert_eq!(family(&[11, 22]), [11, 12, 22]);
        assert_eq!(family(&[99]), [99]);
        assert_eq!(family(&[]), [0; 0]);
    }

    #[test]
    fn nobody_who_started_us_brings_his_other_children() {
        let (_machine, tree) = tree("ancestors");
        let family = |pids: &[u32], own| tree.family(pids, own).into_iter().collect::<Vec<_>>();
        assert_eq!(family(&[1], 21), [1]);
        assert_eq!(family(&[20, 21], 21), [20, 21]);
        // Who started the server measures it.
        assert_eq!(family(&[21], 20), [21, 22]);
        assert_eq!(family(&[10], 11), [10]);
    }
}
