//! The page of the rows: what they came to, the figures that can be compared, and each row with all of its own.

use super::figure::{Bar as Edge, Figure};
use super::report::{Report, RowReport, Tally};
use super::trial::{HONEST_P99, HONEST_P99_BEFORE, MEMORY_BEFORE, PEAK_MEMORY, PEAK_MEMORY_BY_BYTES};
use super::verdict::Verdict;
use crate::report::bars::{Bar, BarPlot, Meter};
use crate::report::facts::{Fact, fact, host, processors, run};
use crate::report::page::{self, Fold, Page, Tone};
use crate::report::unit::Unit;

/// One page that needs nothing else.
pub fn html(report: &Report) -> String {
    let mut page = Page::new("What a WebSocket server survives", &title(report), &scale(report));
    verdict(&mut page, report);
    page.figures(&counts(report));
    if report.rows.iter().any(|row| !row.figures.is_empty()) {
        page.section("Rows beside each other", "");
        page.plots(&[latency(report), memory(report)]);
    }
    page.section("Rows", "Each had a server of its own. A line unfolds.");
    report.rows.iter().for_each(|row| one(&mut page, row));
    page.section("Made with", "");
    page.facts(&facts(report));
    page.finish()
}

fn title(report: &Report) -> String {
    format!("{}, attacked row by row", report.server)
}

fn scale(report: &Report) -> String {
    let times = if report.timed { "" } else { " How long things took is told and not judged." };
    format!(
        "100 honest clients over TLS, each sending 10 kB a second, are served while others attack at {} scale.{times}",
        report.scale.either("full", "a tenth of the")
    )
}

fn verdict(page: &mut Page, report: &Report) {
    let tried = report.rows.len();
    let Tally { passed, failed, disturbed, .. } = report.tally();
    let (tone, sentence) = match () {
        () if failed > 0 => (Tone::Bad, format!("{failed} of {tried} rows failed.")),
        () if report.interrupted => (Tone::Warning, "Interrupted: what was tried until then.".to_owned()),
        () if disturbed > 0 => {
            (Tone::Warning, format!("No row failed; {disturbed} of {tried} were disturbed and say nothing."))
        }
        () if passed == 0 => (Tone::Warning, "No row could be tried.".to_owned()),
        () => (Tone::Good, format!("{passed} of {tried} rows passed, and none failed.")),
    };
    let why =
        |row: &RowReport| format!("{} {}: {}", row.number, row.verdict.word(), row.verdict.why().join("; "));
    let reasons = report.rows.iter().filter(|row| !row.verdict.why().is_empty()).map(why);
    page.verdict(tone, &sentence, &reasons.collect::<Vec<_>>());
}

fn counts(report: &Report) -> Vec<page::Figure> {
    let Tally { passed, failed, disturbed, skipped } = report.tally();
    let counts = [
        ("passed", passed, "every figure is inside its bar"),
        ("FAILED", failed, "the server did wrong, or was too slow"),
        ("disturbed", disturbed, "the machine or the attack was not as it should be"),
        ("skipped", skipped, "could not be tried"),
    ];
    counts.map(|(word, count, note)| page::Figure::new(word, count.to_string(), note)).to_vec()
}

/// The tone of a row or a soak; without a verdict it was interrupted.
pub(super) fn tone(verdict: Option<&Verdict>) -> Tone {
    match verdict {
        Some(Verdict::Passed) => Tone::Good,
        Some(Verdict::Failed(_)) => Tone::Bad,
        Some(Verdict::Disturbed(_)) | None => Tone::Warning,
        Some(Verdict::Skipped(_)) => Tone::Silent,
    }
}

/// A figure of a row, and the closest bar that it has there.
fn tightest<'a>(row: &'a RowReport, names: &[&str]) -> Option<&'a Figure> {
    let edge = |figure: &&Figure| figure.bar.map_or(f64::INFINITY, Edge::edge);
    let named = row.figures.iter().filter(|figure| names.contains(&figure.name.as_str()));
    named.min_by(|one, other| edge(one).total_cmp(&edge(other)))
}

/// A bar for each row that has such a figure; values are multiplied by `factor`.
fn bars(report: &Report, names: &[&str], before: &[&str], factor: f64) -> Vec<Bar> {
    let bar = |row: &RowReport| {
        let figure = tightest(row, names)?;
        Some(Bar {
            name: format!("{} {}", row.number, row.name),
            value: Some(figure.value * factor),
            before: tightest(row, before).map(|figure| figure.value * factor),
            limit: figure.bar.map(|bar| bar.edge() * factor),
            missed: !figure.holds,
            ..Bar::default()
        })
    };
    report.rows.iter().filter_map(bar).collect()
}

fn latency(report: &Report) -> String {
    BarPlot {
        title: "Honest p99".into(),
        description: "Of the honest clients, from when a message was due, while the row went on.".into(),
        unit: Unit::Microseconds,
        bars: bars(report, &[HONEST_P99], &[HONEST_P99_BEFORE], 1e6),
    }
    .html()
}

fn memory(report: &Report) -> String {
    BarPlot {
        title: "Peak memory".into(),
        description: "Of the server (PSS); a bar far away is not drawn.".into(),
        unit: Unit::Bytes,
        bars: bars(report, &[PEAK_MEMORY, PEAK_MEMORY_BY_BYTES], &[MEMORY_BEFORE], 1.0),
    }
    .html()
}

fn one(page: &mut Page, row: &RowReport) {
    let fold = Fold {
        tone: tone(Some(&row.verdict)),
        word: row.verdict.word().into(),
        heading: format!("{} {}", row.number, row.name),
        note: row.expected.into(),
        open: matches!(row.verdict, Verdict::Failed(_) | Verdict::Disturbed(_)),
    };
    page.fold(&fold, |page| {
        if !row.verdict.why().is_empty() {
            page.verdict(fold.tone, row.verdict.word(), row.verdict.why());
        }
        page.list(&row.done);
        if !row.figures.is_empty() {
            page.meters(&meters(&row.figures));
        }
        page.note(&format!("It took {}.", Unit::Seconds.format(row.seconds)));
    });
}

/// Figures as a page shows them.
pub(super) fn meters(figures: &[Figure]) -> Vec<Meter> {
    let meter = |figure: &Figure| Meter {
        name: figure.name.clone(),
        value: figure.value_text(),
        bar: figure.bar_text().unwrap_or_default(),
        share: figure.bar.map(Edge::edge).filter(|edge| *edge > 0.0).map(|edge| figure.value / edge),
        missed: !figure.holds,
    };
    figures.iter().map(meter).collect()
}

fn facts(report: &Report) -> Vec<Fact> {
    let made = &report.provenance;
    let server = vec![fact("server", report.server), processors(report.processors)];
    [run(made), server, host(&made.host)].concat()
}

#[cfg(test)]
mod tests {
    use super::super::figure::Unit as Kind;
    use super::super::settings::{Scale, Settings};
    use super::super::{ROWS, Row};
    use super::*;
    use crate::compare::contestant::Contestant;
    use crate::report::documented::{assert_documented, json};

    const EVIL: &str = "</script><img src=\"http://x\">";

    /// All rows with one verdict, and what reports draw.
    fn report(verdict: &Verdict) -> Report {
        let settings = Settings {
            scale: Scale::Tenth,
            timed: true,
            only: Vec::new(),
            server: Contestant::Webscale,
            program: std::path::PathBuf::new(),
            flags: Vec::new(),
        };
        let mut report = Report::new(&settings);
        report.provenance.command = EVIL.into();
        report.rows = ROWS.iter().map(|row| tried(row, verdict)).collect();
        report
    }

    fn tried(row: &Row, verdict: &Verdict) -> RowReport {
        let figures = vec![
            Figure::noted(HONEST_P99_BEFORE, 0.002, Kind::Seconds),
            Figure::new(HONEST_P99, 0.003, Kind::Seconds, Edge::AtMost(0.007)),
            Figure::new(PEAK_MEMORY, 9e6, Kind::Bytes, Edge::AtMost(4e6)),
            Figure::new(PEAK_MEMORY_BY_BYTES, 9e6, Kind::Bytes, Edge::AtMost(5e7)),
        ];
        RowReport { done: vec![EVIL.into()], figures, ..RowReport::new(row, verdict.clone()) }
    }

    /// All rows did so.
    fn of_all(what: &str) -> String {
        format!("{0} of {0} {what}", ROWS.len())
    }

    #[test]
    fn every_row_is_there_and_nothing_becomes_markup() {
        let html = html(&report(&Verdict::Failed(vec![EVIL.into()])));
        for row in ROWS {
            let heading = page::escape(&format!("{} {}", row.number, row.name));
            assert_eq!(html.matches(&format!("<b>{heading}</b>")).count(), 1, "{heading}");
            assert!(html.contains(&*page::escape(row.expected)), "{heading}");
        }
        assert_eq!(html.matches("<details class=\"fold bad\" open>").count(), ROWS.len());
        assert!(!html.contains("<img") && html.matches("</script>").count() == 1);
        assert!(html.contains("&lt;img") && html.contains(&of_all("rows failed.")));
    }

    #[test]
    fn every_field_is_documented_and_every_documented_field_is_there() {
        let mut rows = report(&Verdict::Failed(vec!["x".into()]));
        let apart = Some(crate::compare::machine::Apart { server: 0, load: 1 });
        let bars =
            [Edge::AtLeast(1.0), Edge::Exactly(1.0)].map(|bar| Figure::new("x", 1.0, Kind::Count, bar));
        (rows.processors, rows.rows[0].figures) =
            (apart, [rows.rows[0].figures.clone(), bars.to_vec()].concat());
        let soak = super::super::soak::report::tests::soaked(360);
        let page = include_str!("../../../../docs/faults-json.md");
        assert_documented(page, &[json(&rows), json(&soak)], &["host"]);
    }

    #[test]
    fn the_closest_bar_is_drawn() {
        let html = html(&report(&Verdict::Passed));
        let memory = html.split("<h3>Peak memory</h3>").nth(1).unwrap();
        assert!(memory.contains("tick edge\" style=\"left:44.4%\""), "{memory}");
        assert!(html.contains("3.00 ms") && html.contains("at most 7.00 ms"));
    }

    #[test]
    fn the_verdict_is_that_of_the_worst_row() {
        let said = |change: fn(&mut Report)| {
            let mut report = report(&Verdict::Passed);
            change(&mut report);
            let html = html(&report);
            html.split("<section class=\"verdict ")
                .nth(1)
                .unwrap()
                .split("</strong>")
                .next()
                .unwrap()
                .to_owned()
        };
        let why = || vec!["x".to_owned()];
        assert!(said(|_| {}).starts_with("good") && said(|_| {}).contains(&of_all("rows passed")));
        assert!(said(|it| it.interrupted = true).contains("Interrupted"));
        let disturbed = move |it: &mut Report| it.rows[3].verdict = Verdict::Disturbed(vec!["x".into()]);
        assert!(said(disturbed).contains(&format!("1 of {} were disturbed", ROWS.len())));
        let failed: fn(&mut Report) = |it| {
            it.rows[3].verdict = Verdict::Disturbed(vec!["x".into()]);
            it.rows[4].verdict = Verdict::Failed(vec!["x".into()]);
        };
        assert!(
            said(failed).starts_with("bad")
                && said(failed).contains(&format!("1 of {} rows failed.", ROWS.len()))
        );
        let mut skipped = report(&Verdict::Skipped(why()));
        skipped.rows.iter_mut().for_each(|row| row.figures.clear());
        let html = html(&skipped);
        assert!(html.contains("No row could be tried.") && !html.contains("Rows beside each other"));
    }
}
