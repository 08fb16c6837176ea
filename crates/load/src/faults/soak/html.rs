//! The page of a soak: what it came to, what was seen over its time, and all figures.

use super::super::html::{meters, tone};
use super::super::verdict::Verdict;
use super::{Sample, Slope, SoakReport};
use crate::report::facts::{Fact, fact, host, processors, run};
use crate::report::page::{Figure, Page};
use crate::report::plot::{Axis, Band, LinePlot, Series};
use crate::report::unit::Unit;

/// Points of a line over time: more cannot be told apart.
const POINTS_MAX: usize = 240;
/// Causes that have a line of their own: with one more there would be two of a colour.
const CAUSES_MAX: usize = 6;

/// One page that needs nothing else.
pub fn html(report: &SoakReport) -> String {
    let time = Unit::Seconds.format(report.duration_seconds);
    let below = format!(
        "{time} of all kinds of use and abuse; 100 honest clients over TLS, each sending 10 kB a second, are served beside."
    );
    let mut page = Page::new("WebSocket server, soaked", "webscale", &below);
    verdict(&mut page, report);
    page.figures(&figures(report));
    let samples = thinned(&report.samples);
    page.section("What it holds", "");
    page.plots(&held(report, &samples));
    page.section("What was done to it", "Honest and hostile clients, and the questions for its counts.");
    page.plots(&used(report, &samples));
    if !report.figures.is_empty() {
        page.section("Figures", "");
        page.meters(&meters(&report.figures));
    }
    page.section("Made with", "");
    page.facts(&facts(report));
    page.finish()
}

fn verdict(page: &mut Page, report: &SoakReport) {
    let sentence = match &report.verdict {
        Some(Verdict::Passed) => "Passed: every figure is inside its bar.",
        Some(Verdict::Failed(_)) => "FAILED.",
        Some(_) => "Disturbed: it says nothing of the server.",
        None => "Interrupted: what was seen until then is not judged.",
    };
    let why = report.verdict.iter().flat_map(|verdict| verdict.why().to_vec());
    let reasons: Vec<String> = why.chain(report.unjudged()).collect();
    page.verdict(tone(report.verdict.as_ref()), sentence, &reasons);
}

fn figures(report: &SoakReport) -> Vec<Figure> {
    let mut figures = Vec::new();
    // Over less time it is noise, which should not be what is seen first.
    if let Some(slope) = report.memory_slope.filter(|_| report.judges_slope()) {
        let error = format!("± {} an hour", Unit::Bytes.format(slope.error));
        figures.push(Figure::new("Memory slope", Unit::Bytes.format(slope.per_hour), error));
    }
    if let Some(last) = report.samples.last() {
        let all = |of: fn(&Sample) -> u64| report.samples.iter().map(of).sum::<u64>() as f64;
        let count = |count: f64| Unit::Count.format(count);
        let memory = Unit::Bytes.format(last.pss_bytes as f64);
        figures.push(Figure::new("Memory", memory, "in the end (PSS)"));
        figures.push(Figure::new("Connections", count(last.accepted as f64), "accepted in all"));
        figures.push(Figure::new("Honest messages", count(all(|it| it.honest_answered)), "answered"));
        let lost = count(all(|it| it.honest_disconnected));
        figures.push(Figure::new("Honest clients", lost, "disconnected"));
    }
    figures
}

/// At most about [`POINTS_MAX`] samples over the same time. What stands and what adds up is as of the end; of latency, the
/// worst is kept, of shares the mean.
fn thinned(samples: &[Sample]) -> Vec<Sample> {
    let each = samples.len().div_ceil(POINTS_MAX).max(1);
    let join = |group: &[Sample]| {
        let mean = |of: fn(&Sample) -> f64| group.iter().map(of).sum::<f64>() / group.len() as f64;
        let worst = group.iter().filter_map(|sample| sample.honest_p99_seconds).reduce(f64::max);
        Some(Sample {
            server_cpu: mean(|sample| sample.server_cpu),
            server_waited: mean(|sample| sample.server_waited),
            stolen: mean(|sample| sample.stolen),
            clients_cpu: mean(|sample| sample.clients_cpu),
            honest_p99_seconds: worst,
            ..group.last()?.clone()
        })
    };
    samples.chunks(each).filter_map(join).collect()
}

fn series(name: &str, samples: &[Sample], of: impl Fn(&Sample) -> Option<f64>) -> Series {
    Series::new(name, samples.iter().map(of).collect())
}

/// A plot over the soak's time, with the warm-up set off.
fn over_time(
    report: &SoakReport,
    title: &str,
    samples: &[Sample],
    unit: Unit,
    series: Vec<Series>,
) -> LinePlot {
    let seconds: Vec<f64> = samples.iter().map(|sample| sample.seconds).collect();
    let to = report.warmup_seconds.min(seconds.last().copied().unwrap_or(0.0));
    let warmup = Band { from: 0.0, to, name: "warm-up".into(), alarming: false };
    LinePlot { series, bands: vec![warmup], ..LinePlot::over_time(title, seconds, unit) }
}

fn held(report: &SoakReport, samples: &[Sample]) -> Vec<String> {
    let plot = |title: &str, unit, of: fn(&Sample) -> u64| {
        let line = series(title, samples, |sample| Some(of(sample) as f64));
        over_time(report, title, samples, unit, vec![line])
    };
    let memory = LinePlot {
        description: "PSS of the server's process.".into(),
        ..plot("Memory", Unit::Bytes, |sample| sample.pss_bytes)
    };
    let fitted = report.memory_slope.as_ref().map(|slope| growth(slope, samples, report.warmup_seconds));
    let rest = [
        plot("Descriptors", Unit::Count, |sample| sample.descriptors).html(),
        plot("Connections open", Unit::Count, |sample| sample.open).html(),
    ];
    [memory.html()].into_iter().chain(fitted).chain(rest).collect()
}

/// Memory after the warm-up, and the line through it with its bounds.
fn growth(slope: &Slope, samples: &[Sample], warmup_seconds: f64) -> String {
    let settled: Vec<Sample> = samples.iter().filter(|it| it.seconds >= warmup_seconds).cloned().collect();
    let line = |name, more| series(name, &settled, move |sample| Some(slope.at(sample.seconds, more)));
    let [grows, error] = [slope.per_hour, slope.error].map(|bytes| Unit::Bytes.format(bytes));
    let lines = vec![
        series("memory", &settled, |sample| Some(sample.pss_bytes as f64)),
        line("fitted", 0.0),
        line("at most", slope.error).dashed(),
        line("at least", -slope.error).dashed(),
    ];
    LinePlot {
        description: format!(
            "{grows} an hour, ± {error} (two standard errors). The axis does not begin at zero."
        ),
        y_axis: Axis::Exact,
        series: lines,
        ..LinePlot::over_time(
            "Memory after the warm-up",
            settled.iter().map(|sample| sample.seconds).collect(),
            Unit::Bytes,
        )
    }
    .html()
}

fn used(report: &SoakReport, samples: &[Sample]) -> Vec<String> {
    let plot = |title: &str, unit, series| over_time(report, title, samples, unit, series);
    let accepted = [series_of_rate("accepted", samples, &|sample| sample.accepted)];
    let closed = causes(samples).into_iter().map(|cause| {
        let name = format!("closed: {cause}");
        series_of_rate(&name, samples, &|sample| sample.closed.get(cause).copied().unwrap_or(0))
    });
    let shares = vec![
        series("server", samples, |sample| Some(sample.server_cpu)),
        series("all clients", samples, |sample| Some(sample.clients_cpu)),
        series("server waited for others", samples, |sample| Some(sample.server_waited)).dashed(),
        series("taken by the machine's host", samples, |sample| Some(sample.stolen)).dashed(),
    ];
    let p99 = series("p99", samples, |sample| Some(sample.honest_p99_seconds? * 1e6));
    vec![
        LinePlot {
            wide: true,
            description: "As the server counted them; of causes, the most frequent.".into(),
            ..plot("Connections a second", Unit::PerSecond, accepted.into_iter().chain(closed).collect())
        }
        .html(),
        LinePlot { description: "Of one processor.".into(), ..plot("CPU", Unit::Processor, shares) }.html(),
        LinePlot {
            description: "From when a message was due to its echo; logarithmic.".into(),
            y_axis: Axis::Log,
            ..plot("Honest p99", Unit::Microseconds, vec![p99])
        }
        .html(),
    ]
}

/// The most frequent causes for which connections were closed.
fn causes(samples: &[Sample]) -> Vec<&str> {
    let closed = samples.last().into_iter().flat_map(|last| &last.closed);
    let mut causes: Vec<(&String, &u64)> = closed.filter(|(_, count)| **count > 0).collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    causes.into_iter().take(CAUSES_MAX).map(|(cause, _)| cause.as_str()).collect()
}

/// How fast a counter grew since the sample before.
fn series_of_rate(name: &str, samples: &[Sample], of: &dyn Fn(&Sample) -> u64) -> Series {
    let grown = samples.windows(2).map(|pair| {
        let seconds = (pair[1].seconds - pair[0].seconds).max(1e-3);
        Some(of(&pair[1]).saturating_sub(of(&pair[0])) as f64 / seconds)
    });
    Series::new(name, samples.first().map(|_| None).into_iter().chain(grown).collect())
}

fn facts(report: &SoakReport) -> Vec<Fact> {
    let made = &report.provenance;
    let seed = vec![fact("seed", report.seed.to_string()), processors(report.processors)];
    [run(made), seed, host(&made.host)].concat()
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::soaked;
    use super::*;

    #[test]
    fn a_soak_is_drawn_with_its_slope_and_bounds() {
        let html = html(&soaked(360));
        assert_eq!(html.matches("<figure data-plot").count(), 7);
        for text in ["Passed: every", "at least</li>", "72 kB an hour, ±", "closed: timeout", "warm-up</li>"]
        {
            assert!(html.contains(text), "{text}");
        }
        for outside in ["http:", "https:", "src=", "href=", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_short_one_says_that_its_slope_is_not_judged() {
        let mut report = soaked(3);
        report.duration_seconds = 60.0;
        report.verdict = Some(Verdict::Failed(vec!["<i>x</i>".into()]));
        let html = html(&report);
        assert!(html.contains("FAILED") && html.contains("&lt;i&gt;x&lt;/i&gt;"));
        assert!(html.contains("slope is judged where 10 minutes") && !html.contains("after the warm-up"));
        assert!(!html.contains("Memory slope") && self::html(&soaked(360)).contains("Memory slope"));
    }

    #[test]
    fn one_that_was_broken_off_shows_what_was_seen_until_then() {
        let mut report = soaked(50);
        report.break_off("connection timed out");
        let html = html(&report);
        assert!(html.contains("Disturbed") && html.contains("broken off: connection timed out"));
        assert!(html.contains("<h3>Memory</h3>") && !html.contains("<h2>Figures</h2>"));
    }

    #[test]
    fn one_that_ended_at_once_has_a_page() {
        let mut report = soaked(0);
        report.verdict = None;
        let html = html(&report);
        assert!(html.contains("Interrupted") && html.contains("Nothing was measured."));
    }

    #[test]
    fn days_are_drawn_with_as_many_points_as_can_be_told_apart() {
        let mut report = soaked(100_000);
        report.samples[50_000].honest_p99_seconds = Some(9.0);
        let samples = thinned(&report.samples);
        assert!((200..=POINTS_MAX).contains(&samples.len()), "{}", samples.len());
        assert_eq!(samples.last().map(|last| last.seconds), report.samples.last().map(|last| last.seconds));
        assert!(samples.iter().any(|sample| sample.honest_p99_seconds == Some(9.0)));
        assert!(html(&report).len() < 1_000_000);
    }
}
