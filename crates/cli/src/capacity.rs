//! `webscale capacity`: the search, its table and its JSON.

use webscale_load::capacity::{self, Capacity, Settings, html, text};
use webscale_load::observe::Observer;

use crate::args::CapacityArgs;
use crate::bench::failed;
use crate::exit::Usage;
use crate::output;
use crate::progress::Stderr;

/// Nothing that was found can be relied on; the text has said why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotFound(String);

pub(crate) fn run(args: &CapacityArgs) -> anyhow::Result<()> {
    let mut settings = args.settings()?;
    args.output.prepare()?;
    let mut stderr = Stderr::with_notes_alone()?;
    args.machine.find_server(&mut settings.plan, &mut stderr).map_err(failed)?;
    check_seen(&settings, &mut stderr)?;
    let capacity = capacity::run(&settings, &mut stderr);
    stderr.finish();
    let capacity = capacity.map_err(failed)?;
    output::all([
        output::write_file(args.output.html.as_deref(), || html::html(&capacity)),
        output::report(args.output.json.as_deref(), &capacity, || text(&capacity, output::look())),
    ])?;
    match shortcoming(&capacity) {
        Some(why) => Err(NotFound(why).into()),
        None => Ok(()),
    }
}

/// Says what cannot be seen of a server whose process is not known.
///
/// # Errors
/// When that is what was asked for.
fn check_seen(settings: &Settings, observer: &mut dyn Observer) -> anyhow::Result<()> {
    if !settings.plan.pids.is_empty() {
        return Ok(());
    }
    let is_near = settings.plan.is_near();
    if settings.memory.is_some() {
        let mend = match is_near {
            true => "name its process by --pid, and run as its owner or as root",
            false => "run this on its machine",
        };
        return Err(Usage(format!("--memory is projected from the server's memory: {mend}")).into());
    }
    if !is_near {
        observer.note("the server is on another machine: what it has too little of is not seen from here");
    }
    Ok(())
}

/// Why the result is none, if so.
fn shortcoming(capacity: &Capacity) -> Option<String> {
    let stopped = capacity.binding.as_ref().map(|binding| binding.sentence()).unwrap_or_default();
    match (capacity.found, capacity.confirmed) {
        _ if capacity.interrupted => Some("interrupted: the result is of what was tried until then".into()),
        (None, _) => Some(format!("nothing was held: {stopped}")),
        (Some(found), false) => Some(format!("{found} were held, but could not be confirmed: {stopped}")),
        (Some(_), true) => None,
    }
}
