//! The server's processes, found by the address at which they listen.

use super::endpoint::Endpoint;
use super::{BenchError, Plan};
use crate::measure::group::{self, Group};
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
                observer.note(&format!("measures the server: {}", group::names(&all.pids())));
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

/// The first success, behind which nothing is looked at, or else the first failure.
fn first_found<T, E>(mut results: impl Iterator<Item = Result<T, E>>) -> Option<Result<T, E>> {
    let first = results.next()?;
    if first.is_ok() { Some(first) } else { results.find(Result::is_ok).or(Some(first)) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
