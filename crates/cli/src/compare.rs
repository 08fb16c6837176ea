//! `webscale compare`: the experiment, its table and its JSON.

use webscale_load::compare::html::html;
use webscale_load::compare::settings::Settings;
use webscale_load::compare::table::text;

use crate::args::{CompareArgs, own_program};
use crate::output;
use crate::progress::Stderr;

/// Not everything was measured; the table has what was.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Incomplete(String);

pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let settings = args.settings()?;
    args.output.prepare()?;
    let mut stderr = Stderr::with_notes_alone()?;
    let settings = Settings { program: Some(own_program()?), ..settings };
    let comparison = webscale_load::compare::run(settings, &mut stderr);
    stderr.finish();
    let comparison = comparison?;
    output::all([
        output::write_file(args.output.html.as_deref(), || html(&comparison)),
        output::report(args.output.json.as_deref(), &comparison, || text(&comparison, output::look())),
    ])?;
    if comparison.is_complete() {
        return Ok(());
    }
    if comparison.interrupted {
        return Err(Incomplete("interrupted: the table has what was measured until then".into()).into());
    }
    let missing = comparison.missing().join("; ");
    Err(Incomplete(format!("not all servers could be measured: {missing}")).into())
}
