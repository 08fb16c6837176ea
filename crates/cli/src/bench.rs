//! `webscale bench`: a load, and what came of it as text or JSON.

use webscale_load::bench::{self, BenchError};
use webscale_load::report;

use crate::args::BenchArgs;
use crate::exit::Usage;
use crate::output;
use crate::progress::Stderr;

/// The load was made, and the outcome is not what it should be; the text has said so already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotHeld(String);

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let mut plan = args.plan()?;
    args.output.prepare_with([("--csv", args.csv.as_deref())])?;
    let mut stderr = Stderr::new()?;
    crate::doctor::before_load(&plan, &mut stderr)?;
    args.machine.find_server(&mut plan, &mut stderr).map_err(failed)?;
    let outcome = bench::run(&plan, &mut stderr);
    stderr.finish();
    let outcome = outcome.map_err(failed)?;
    output::all([
        output::write_file(args.output.html.as_deref(), || report::html::html(&outcome)),
        output::write_file(args.csv.as_deref(), || report::csv::csv(&outcome)),
        output::report(args.output.json.as_deref(), &outcome, || report::text::text(&outcome)),
    ])?;
    let verdict = &outcome.verdict;
    if let Some(why) = &verdict.stopped {
        return Err(NotHeld(format!("ended early: {why}")).into());
    }
    if let Some(why) = &verdict.broken {
        return Err(NotHeld(format!("{why}; the figures are of what was counted until then")).into());
    }
    match (&verdict.saturated, verdict.problems.first()) {
        _ if verdict.interrupted => {
            Err(NotHeld("interrupted: the figures are of what was done until then".into()).into())
        }
        (Some(why), _) => Err(NotHeld(format!("the load generator was saturated: {why}")).into()),
        (None, Some(problem)) => Err(NotHeld(format!("the load was not borne: {problem}")).into()),
        (None, None) => Ok(()),
    }
}

/// Tells what was typed wrong from what went wrong.
pub(crate) fn failed(error: BenchError) -> anyhow::Error {
    match error {
        BenchError::Target(_)
        | BenchError::Url(_)
        | BenchError::Tls(_)
        | BenchError::SourceFamily { .. }
        | BenchError::Processor { .. } => anyhow::Error::new(Usage(error.to_string())),
        other => other.into(),
    }
}

/// A process of a load that several make.
pub(crate) fn run_part() -> anyhow::Result<()> {
    let input = std::io::BufReader::new(std::io::stdin());
    Ok(bench::run_part(input, std::io::stdout())?)
}
