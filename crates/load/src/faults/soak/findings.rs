//! What a soak comes to, in figures.

use super::super::attacker::End;
use super::super::bystanders::{BYSTANDERS, Window};
use super::super::counts::Counts;
use super::super::figure::{Bar, Figure, Unit};
use super::super::subject::Gauge;
use super::super::trial::log_figures;
use super::churn::Account;
use super::report::SoakReport;
use super::{Reloads, Slope};
use crate::compare::server::Heard;

/// The honest clients, and the question for it.
pub(super) const OPEN_IN_THE_END: u64 = BYSTANDERS as u64 + 1;
/// An hour, in bytes.
const MEMORY_SLOPE_MAX: f64 = 1e6;
/// Of what was begun; the rest is the machine's doing.
const ENTERED_MIN: f64 = 0.999;

/// What was left when the hostile clients had gone.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) churns: Vec<Account>,
    pub(super) window: Window,
    pub(super) counts: Counts,
    pub(super) before: Gauge,
    pub(super) after: Gauge,
    pub(super) asked: u64,
    pub(super) reloads: Reloads,
}

/// Everything that is judged.
pub(super) fn findings(report: &SoakReport, ending: &Ending, heard: &Heard) -> Vec<Figure> {
    let mut figures = growth(report);
    figures.extend(honest(report, &ending.window));
    figures.push(Figure::count(
        "descriptors in the end",
        ending.after.descriptors as u64,
        Bar::AtMost(ending.before.descriptors as f64),
    ));
    figures.extend(reconciled(ending));
    figures.extend(ending.churns.iter().flat_map(conduct));
    figures.extend(log_figures(heard, false));
    figures
}

/// Whether memory and descriptors grow, after the warm-up.
fn growth(report: &SoakReport) -> Vec<Figure> {
    let Some(memory) = report.memory_slope else { return Vec::new() };
    let Slope { per_hour, error, .. } = memory;
    let (slope, known) = ("memory slope, an hour", "known to, either way");
    let mut figures = if report.judges_slope() {
        let slope = Figure::new(slope, per_hour, Unit::Bytes, Bar::AtMost(MEMORY_SLOPE_MAX));
        // What may be noise is no proof.
        let slope = if per_hour - error > MEMORY_SLOPE_MAX { slope } else { slope.of_time() };
        vec![slope, Figure::new(known, error, Unit::Bytes, Bar::AtMost(MEMORY_SLOPE_MAX)).of_attack()]
    } else {
        vec![Figure::noted(slope, per_hour, Unit::Bytes), Figure::noted(known, error, Unit::Bytes)]
    };
    if let Some(slope) = report.descriptor_slope {
        figures.push(Figure::noted("descriptor slope, an hour", slope.per_hour, Unit::Count));
        figures.push(Figure::noted("known to, either way", slope.error, Unit::Count));
    }
    figures
}

fn honest(report: &SoakReport, last: &Window) -> Vec<Figure> {
    let sum = |of: fn(&super::Sample) -> u64| report.samples.iter().map(of).sum::<u64>();
    let mut p99: Vec<f64> = report.samples.iter().filter_map(|sample| sample.honest_p99_seconds).collect();
    p99.sort_by(f64::total_cmp);
    let quantile = |tenths: usize| p99.get(p99.len() * tenths / 10).copied();
    let mut figures = vec![
        Figure::noted(
            "honest messages answered",
            (sum(|sample| sample.honest_answered) + last.answered) as f64,
            Unit::Count,
        ),
        Figure::count(
            "honest clients disconnected",
            sum(|sample| sample.honest_disconnected) + last.disconnected,
            Bar::Exactly(0.0),
        ),
        Figure::count(
            "honest messages lost",
            sum(|sample| sample.honest_lost) + last.lost + last.waiting,
            Bar::Exactly(0.0),
        ),
        Figure::count(
            "honest echoes corrupt",
            sum(|sample| sample.honest_corrupt) + last.corrupt,
            Bar::Exactly(0.0),
        ),
    ];
    for (name, tenths) in [("honest p99, in half of the samples", 5), ("honest p99, in nine of ten", 9)] {
        figures.extend(quantile(tenths).map(|value| Figure::noted(name, value, Unit::Seconds)));
    }
    figures
}

/// What the server counted, against what was done to it.
fn reconciled(ending: &Ending) -> Vec<Figure> {
    let Ending { counts, churns, asked, reloads, .. } = ending;
    let made: u64 = churns.iter().map(|churn| churn.toll.begun - churn.toll.refused).sum();
    let made = made + u64::from(BYSTANDERS) + asked;
    let taken = counts.get("connections_accepted_total") + counts.sum("connections_refused_total");
    let mut figures = vec![
        Figure::count("connections that the server counted", taken, Bar::Exactly(made as f64)),
        Figure::count(
            "of them not closed by any reason",
            counts.open(),
            Bar::Exactly(OPEN_IN_THE_END as f64),
        ),
    ];
    let mut causes: Vec<&str> = churns.iter().map(|churn| churn.habit.cause).collect();
    causes.sort_unstable();
    causes.dedup();
    for cause in causes {
        let of_cause = churns.iter().filter(|churn| churn.habit.cause == cause);
        let wanted: u64 = of_cause.map(|churn| churn.toll.begun - churn.toll.refused).sum();
        let name = format!("of them closed as {cause}");
        figures.push(Figure::count(name, counts.closed(cause), Bar::Exactly(wanted as f64)).of_time());
    }
    for (result, asked_for) in [("changed", reloads.good), ("refused", reloads.bad)] {
        let counted = counts.get(&format!("certificate_reloads_total/{result}"));
        let name = format!("certificate reloads, {result}");
        figures.push(Figure::count(name, counted, Bar::Exactly(f64::from(asked_for))));
    }
    figures
}

/// Whether those of one kind were treated as they should.
fn conduct(churn: &Account) -> [Figure; 2] {
    let Account { habit, toll } = churn;
    // Who was too late is among those that came not so far.
    let other = |end: &End| *end != End::Late && !habit.ends.contains(end);
    let other = toll.ends.iter().filter(|(end, _)| other(end)).map(|(_, count)| count).sum();
    let entered = toll.entered as f64 / (toll.begun as f64).max(1.0);
    [
        Figure::count(format!("{}: ended otherwise than they should", habit.name), other, Bar::Exactly(0.0))
            .of_time(),
        Figure::new(format!("{}: came so far", habit.name), entered, Unit::Share, Bar::AtLeast(ENTERED_MIN))
            .of_attack(),
    ]
}
