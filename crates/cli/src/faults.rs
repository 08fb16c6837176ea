//! `webscale faults`: the rows as they are tried, their table and their JSON.

use webscale_load::faults::soak::{self, SoakReport, SoakSettings};
use webscale_load::faults::{self, FaultsError, Report, Tally, Verdict, text};

use crate::args::FaultsArgs;
use crate::exit::{Undecided, Usage};
use crate::output;
use crate::progress::Stderr;

/// The server did not survive a row; the table has said which.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DidNotSurvive(String);

pub(crate) fn run(args: &FaultsArgs) -> anyhow::Result<()> {
    if let Some(settings) = args.soak()? {
        return soak(&settings, args);
    }
    let settings = args.settings()?;
    args.output.prepare()?;
    let mut stderr = Stderr::with_notes_alone()?;
    let report = faults::run(&settings, &mut stderr);
    stderr.finish();
    let report = report.map_err(|error| match error {
        FaultsError::Workspace(_) => anyhow::Error::new(Usage(error.to_string())),
        _ => error.into(),
    })?;
    output::all([
        output::write_file(args.output.html.as_deref(), || faults::html::html(&report)),
        output::report(args.output.json.as_deref(), &report, || text::text(&report, output::look())),
    ])?;
    judge(&report)
}

fn soak(settings: &SoakSettings, args: &FaultsArgs) -> anyhow::Result<()> {
    args.output.prepare_with([("--csv", args.csv.as_deref())])?;
    let mut stderr = Stderr::with_notes_alone()?;
    let report = soak::soak(settings, &mut stderr);
    stderr.finish();
    let report: SoakReport = report?;
    output::all([
        output::write_file(args.output.html.as_deref(), || soak::html(&report)),
        output::write_file(args.csv.as_deref(), || soak::csv(&report)),
        output::report(args.output.json.as_deref(), &report, || soak::text(&report)),
    ])?;
    match &report.verdict {
        Some(Verdict::Passed) => Ok(()),
        Some(Verdict::Failed(why)) => {
            Err(DidNotSurvive(format!("the soaked server failed: {}", why.join("; "))).into())
        }
        Some(verdict) => Err(Undecided(verdict.why().join("; ")).into()),
        None => Err(Undecided("interrupted: what was seen until then is not judged".into()).into()),
    }
}

fn judge(report: &Report) -> anyhow::Result<()> {
    let Tally { failed, disturbed, .. } = report.tally();
    if failed > 0 {
        return Err(DidNotSurvive(format!("{failed} of {} rows failed", report.rows.len())).into());
    }
    if report.interrupted {
        return Err(Undecided("interrupted: the table has the rows that were tried until then".into()).into());
    }
    if disturbed > 0 {
        let text =
            format!("{disturbed} of {} rows were disturbed: try them again with --row", report.rows.len());
        return Err(Undecided(text).into());
    }
    Ok(())
}
