//! Where figures come from.

use std::time::SystemTime;

use serde::Serialize;

use crate::date;
use crate::measure::host::Host;
use crate::report::redact;

/// What made a load, when, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Version of the load generator.
    pub version: &'static str,
    /// What was typed, without its secrets.
    pub command: String,
    /// When the load began, as RFC 3339 writes it.
    pub began: String,
    /// The machine that made the load.
    pub host: Host,
}

impl Provenance {
    /// Of a load that this process begins now.
    pub(crate) fn now() -> Provenance {
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        Provenance {
            version: env!("CARGO_PKG_VERSION"),
            command: redact::command_line(arguments),
            began: date::rfc3339(SystemTime::now()),
            host: Host::read(),
        }
    }
}
