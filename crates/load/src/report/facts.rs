//! What a reader needs to do the same again, as it stands at the end of every page.

use super::unit::Unit;
use crate::bench::provenance::Provenance;
use crate::compare::machine::Apart;
use crate::measure::host::Host;

/// A name, and what belongs to it.
pub(crate) type Fact = (String, String);

pub(crate) fn fact(name: &str, value: impl Into<String>) -> Fact {
    (name.to_owned(), value.into())
}

/// What was run, and when.
pub(crate) fn run(made: &Provenance) -> Vec<Fact> {
    vec![
        fact("command", &made.command),
        fact("version", format!("webscale {}", made.version)),
        fact("began", &made.began),
    ]
}

/// Where server and load ran, if each had a processor of its own.
pub(crate) fn processors(apart: Option<Apart>) -> Fact {
    let text = match apart {
        Some(Apart { server, load }) => format!("the server on {server}, the clients on {load}"),
        None => "server and clients shared the only one".to_owned(),
    };
    fact("processors", text)
}

/// The machine.
pub(crate) fn host(host: &Host) -> Vec<Fact> {
    let aes = if host.aes { "AES instructions" } else { "no AES instructions" };
    let kind = if host.virtual_machine { "virtual machine" } else { "no hypervisor" };
    vec![
        fact("processor", format!("{}; {} logical processors, {aes}, {kind}", host.cpu, host.cpus)),
        fact("memory", Unit::Bytes.format(host.memory_bytes as f64)),
        fact("kernel", format!("Linux {}", host.kernel)),
    ]
}
