//! `webscale doctor`: the machine's limits against a number of clients; and the same before a load.

use std::io::{self, Write};

use webscale_load::bench::Plan;
use webscale_load::doctor::{self, Need, Root, Verdict};
use webscale_load::observe::Observer;

use crate::args::DoctorArgs;
use crate::output;

/// That many clients do not fit; the table has said why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DoNotFit(String);

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let mut need = args.need()?;
    output::prepare_json(args.json.as_deref())?;
    if let Some(plan) = args.plan().filter(|_| need.role.serves() && args.processes.is_none())
        && let Err(why) = need.find_server(&plan)
    {
        note(&format!("{why}; the limits are those of a server that is started from here"));
    }
    let diagnosis = doctor::examine(&Root::default(), &need);
    output::report(args.json.as_deref(), &diagnosis, || doctor::text(&diagnosis, output::look()))?;
    if diagnosis.fits {
        return Ok(());
    }
    let short: Vec<&str> = diagnosis.with(Verdict::Short).map(|check| check.name).collect();
    Err(DoNotFit(format!("{} clients do not fit: too little of {}", need.clients, short.join("; "))).into())
}

fn note(text: &str) {
    // Who closed stderr does not want to know.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Looks whether the machine bears the load of `plan`, before it is begun; says what is tight.
///
/// # Errors
/// What is short, with what mends it.
pub(crate) fn before_load(plan: &Plan, observer: &mut dyn Observer) -> anyhow::Result<()> {
    // What is wrong with the URL is said by the load itself.
    let Ok(need) = Need::of_plan(plan) else { return Ok(()) };
    let diagnosis = doctor::before_load(&Root::default(), &need);
    if let Some(short) = diagnosis.with(Verdict::Short).next() {
        let (clients, sentence) = (need.clients, short.sentence());
        return Err(DoNotFit(format!("{clients} clients do not fit on this machine: {sentence}")).into());
    }
    for tight in diagnosis.with(Verdict::Tight) {
        observer.note(&format!("tight: {}", tight.sentence()));
    }
    Ok(())
}
