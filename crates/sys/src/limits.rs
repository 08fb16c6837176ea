//! Limits of the process: getrlimit(2).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many descriptors this process may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptors {
    /// In force now.
    pub soft: u64,
    /// As far as the process may raise it by itself.
    pub hard: u64,
}

/// RLIMIT_NOFILE of this process.
#[must_use]
pub fn descriptors() -> Descriptors {
    let limit = getrlimit(Resource::Nofile);
    Descriptors { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
}

/// Raises the soft limit of descriptors to the hard one, and says what is in force then.
///
/// # Errors
/// EPERM, where a sandbox forbids it; the old limit stays.
pub fn raise_descriptors() -> io::Result<Descriptors> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(descriptors())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_brings_soft_to_hard() {
        let raised = raise_descriptors().unwrap();
        assert_eq!(raised.soft, raised.hard);
        assert_eq!(descriptors(), raised);
    }
}
