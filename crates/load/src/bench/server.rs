//! The server's processes, found by the address at which they listen.

use std::fs;

use super::endpoint::Endpoint;
use super::{BenchError, Plan};
use crate::measure::group::Group;
use crate::measure::listener::{self, ListenerError};
use crate::measure::process::ProcessError;
use crate::observe::Observer;

/// Why a server on this machine is not measured.
#[derive(Debug, thiserror::Error)]
enum Unmeasured {
    #[error(transparent)]
    Listener(#[from] ListenerError),
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Plan {
    /// Takes the processes that listen at the URL's address for the server, where that is on this machine. Tells the
    /// observer which they are with all that they have started, or why there are none.
    ///
    /// # Errors
    /// When the URL is none, or its host cannot be found.
    pub fn find_server(&mut self, observer: &mut dyn Observer) -> Result<(), BenchError> {
        let endpoint = Endpoint::new(self)?;
        if !endpoint.is_near() {
            return Ok(());
        }
        match find(&endpoint) {
            Ok((pids, all)) => {
                observer.note(&format!("measures the server: {}", named(&all.pids())));
                self.pids = pids;
            }
            Err(why) => observer.note(&format!("the server's process is not measured: {why}")),
        }
        Ok(())
    }
}

/// Those that listen, and all that they have started beside.
fn find(endpoint: &Endpoint) -> Result<(Vec<u32>, Group), Unmeasured> {
    let found = endpoint.addresses().iter().map(|address| listener::holders(*address));
    let pids = first_found(found).unwrap_or(Ok(Vec::new()))?;
    let mut group = Group::with_started(&pids)?;
    // Whoever may see where a socket belongs may not see all the rest.
    let _ = (group.memory(), group.descriptors());
    group.take_lost().map_or(Ok((pids, group)), |error| Err(error.into()))
}

/// Of several processes, so many are named.
const NAMED_MAX: usize = 4;

/// These processes by the names of their programs, so that it shows where a proxy is measured and not what stands behind it.
fn named(pids: &[u32]) -> String {
    let name = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let printable: String = name.chars().filter(|c| !c.is_control()).collect();
        if printable.is_empty() { pid.to_string() } else { format!("{printable} ({pid})") }
    };
    let names: Vec<String> = pids.iter().take(NAMED_MAX).map(name).collect();
    let more = match pids.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.join(", ") + &more
}

/// The first success, behind which nothing is looked at, or else the first failure.
fn first_found<T, E>(mut results: impl Iterator<Item = Result<T, E>>) -> Option<Result<T, E>> {
    let first = results.next()?;
    if first.is_ok() { Some(first) } else { results.find(Result::is_ok).or(Some(first)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_named_by_their_programs() {
        let own = std::process::id();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(named(&[own]), format!("{} ({own})", name.trim_end()));
        // No process has such an id.
        assert_eq!(named(&[u32::MAX; 6]), format!("{} and 2 more", vec![u32::MAX.to_string(); 4].join(", ")));
    }

    #[test]
    fn no_address_is_searched_behind_the_one_at_which_somebody_listens() {
        let find = |results: &[Result<u8, u8>]| {
            let mut searched = 0;
            let found = first_found(results.iter().copied().inspect(|_| searched += 1));
            (found, searched)
        };
        assert_eq!(find(&[Ok(1), Ok(2), Err(3)]), (Some(Ok(1)), 1));
        assert_eq!(find(&[Err(1), Ok(2), Ok(3)]), (Some(Ok(2)), 2));
        assert_eq!(find(&[Err(1), Err(2)]), (Some(Err(1)), 2));
        assert_eq!(find(&[]), (None, 0));
    }
}
