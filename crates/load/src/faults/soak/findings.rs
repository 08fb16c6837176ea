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
    let made: u64 = churns.iter().map(|churn| churn.toll.made()).sum();
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
    figures.extend(by_cause(churns, counts));
    for (result, asked_for) in [("changed", reloads.good), ("refused", reloads.bad)] {
        let counted = counts.get(&format!("certificate_reloads_total/{result}"));
        let name = format!("certificate reloads, {result}");
        figures.push(Figure::count(name, counted, Bar::Exactly(f64::from(asked_for))));
    }
    figures
}

/// For each reason, how many connections were made to end by it. Where a habit may end by either of two, they are counted
/// together, and each is at least what the habits make that end by it alone.
fn by_cause(churns: &[Account], counts: &Counts) -> Vec<Figure> {
    let mut figures = Vec::new();
    for class in classes(churns.iter().map(|churn| churn.habit.causes)) {
        let of_class = churns.iter().filter(|churn| class.contains(&churn.habit.causes[0]));
        let wanted: u64 = of_class.map(|churn| churn.toll.made()).sum();
        let counted = class.iter().map(|cause| counts.closed(cause)).sum();
        let name = format!("of them closed as {}", class.join(" or "));
        figures.push(Figure::count(name, counted, Bar::Exactly(wanted as f64)).of_time());
        if class.len() > 1 {
            figures.extend(class.iter().map(|cause| alone(cause, churns, counts)));
        }
    }
    figures
}

/// Of several causes, this one.
fn alone(cause: &str, churns: &[Account], counts: &Counts) -> Figure {
    let (name, counted) = (format!("of them closed as {cause}"), counts.closed(cause));
    let by_it_alone = churns.iter().filter(|churn| churn.habit.causes == [cause]);
    match by_it_alone.map(|churn| churn.toll.made()).sum::<u64>() {
        0 => Figure::noted(name, counted as f64, Unit::Count),
        least => Figure::count(name, counted, Bar::AtLeast(least as f64)).of_time(),
    }
}

/// The causes, those together between which a habit leaves the choice.
fn classes<'a>(habits: impl Iterator<Item = &'a [&'a str]>) -> Vec<Vec<&'a str>> {
    let mut classes: Vec<Vec<&str>> = Vec::new();
    for causes in habits {
        let (joined, apart): (Vec<_>, Vec<_>) =
            classes.into_iter().partition(|class| class.iter().any(|cause| causes.contains(cause)));
        let mut class = [joined.concat(), causes.to_vec()].concat();
        class.sort_unstable();
        class.dedup();
        classes = apart;
        classes.push(class);
    }
    classes.sort_unstable();
    classes
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

#[cfg(test)]
mod tests {
    use super::super::super::attacker::Toll;
    use super::super::churn::HABITS;
    use super::*;

    #[test]
    fn causes_between_which_the_clock_decides_are_counted_together() {
        let habits: [&[&str]; 5] = [&["b"], &["a"], &["b", "c"], &["d"], &["c", "a"]];
        assert_eq!(classes(habits.into_iter()), [vec!["a", "b", "c"], vec!["d"]]);
        let of_all = classes(HABITS.iter().map(|habit| habit.causes));
        assert!(of_all.contains(&vec!["slow_consumer", "timeout"]), "{of_all:?}");
        assert_eq!(of_all.iter().filter(|class| class.len() > 1).count(), 1);
    }

    #[test]
    fn each_cause_has_what_was_made_of_it() {
        let account = |name: &str, begun| {
            let habit = HABITS.iter().find(|habit| habit.name == name).unwrap();
            Account { habit, toll: Toll { begun, ..Toll::default() } }
        };
        let churns = [account("messages that trickle", 5), account("those who send and do not read", 3)];
        let judge = |timeout: u64, slow: u64| {
            let page = format!(
                "webscale_connections_closed_total{{cause=\"timeout\"}} {timeout}\n\
                 webscale_connections_closed_total{{cause=\"slow_consumer\"}} {slow}\n"
            );
            by_cause(&churns, &Counts::parse(&page)).iter().all(|figure| figure.holds)
        };
        assert!(judge(8, 0) && judge(6, 2) && judge(5, 3));
        assert!(!judge(4, 4) && !judge(8, 1) && !judge(7, 0));
    }
}
