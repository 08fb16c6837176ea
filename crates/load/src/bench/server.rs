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
        if !self.is_near() {
            return Ok(());
        }
        match find(&Endpoint::new(self)?) {
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
    let mut found = endpoint.addresses().iter().map(|address| listener::holders(*address));
    let first = found.next().unwrap_or(Ok(Vec::new()));
    let pids = found.fold(first, Result::or)?;
    let mut group = Group::with_started(&pids)?;
    // Whoever may see where a socket belongs may not see all the rest.
    let _ = (group.memory(), group.descriptors());
    group.take_lost().map_or(Ok((pids, group)), |error| Err(error.into()))
}
