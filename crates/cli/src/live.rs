//! What a person sees of a load on a terminal: a few lines that are drawn over again each second.

use std::collections::VecDeque;
use std::fmt::Write;

use webscale_load::bench::timeline::Sample;
use webscale_load::observe::Progress;
use webscale_load::report::unit::Unit;

use crate::plain::Errors;

/// Seconds that the small curves show.
const HISTORY: usize = 60;
/// The text's part of a line; behind it stands a curve where there is room.
const TEXT_COLUMNS: usize = 46;
/// No line is longer, however wide the terminal is.
const COLUMNS_MAX: usize = TEXT_COLUMNS + 1 + HISTORY;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// A line, and whether something is wrong that it tells of.
struct Line {
    text: String,
    alarming: bool,
}

impl From<String> for Line {
    fn from(text: String) -> Line {
        Line { text, alarming: false }
    }
}

/// The block of lines, and what it has to remember.
#[derive(Debug, Default)]
pub(crate) struct Live {
    colours: bool,
    last_minute: VecDeque<Sample>,
    errors: Errors,
    /// Lengths of the lines that stand on the terminal.
    drawn: Vec<usize>,
}

impl Live {
    pub(crate) fn new(colours: bool) -> Live {
        Live { colours, ..Live::default() }
    }

    /// What is to be written to a terminal, so that it shows `progress` in place of what was drawn.
    pub(crate) fn draw(&mut self, progress: &Progress, terminal: Terminal) -> String {
        self.remember(&progress.sample);
        let width = terminal.columns.saturating_sub(1).clamp(1, COLUMNS_MAX);
        let mut text = self.erase(terminal);
        // What has scrolled away could not be erased; the cursor's own row is one, too.
        for line in self.lines(progress, width).into_iter().take(terminal.rows.saturating_sub(1).max(1)) {
            let shown = cut(&line.text, width);
            self.drawn.push(shown.chars().count());
            let (on, off) = if line.alarming && self.colours { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
            let _ = writeln!(text, "{on}{shown}{off}");
        }
        text
    }

    /// What takes the lines away. Where the terminal became narrower, each stands on several rows by now.
    pub(crate) fn erase(&mut self, terminal: Terminal) -> String {
        let columns = terminal.columns.max(1);
        let rows: usize = self.drawn.drain(..).map(|length| length.div_ceil(columns).max(1)).sum();
        if rows == 0 {
            return String::new();
        }
        // The terminal echoes what is typed, as ^C, below the block. Row by row: it may keep what is cleared all at once,
        // and that would come back when the window grows.
        format!("\r\x1b[2K{}", "\x1b[1A\x1b[2K".repeat(rows.min(terminal.rows)))
    }

    /// The lines stay as they are; what follows stands below.
    pub(crate) fn leave(&mut self) {
        self.drawn.clear();
    }

    fn remember(&mut self, sample: &Sample) {
        if self.last_minute.back().is_some_and(|last| sample.at_seconds < last.at_seconds) {
            // Another load has begun.
            (self.errors, self.last_minute) = (Errors::default(), VecDeque::new());
        }
        self.errors.add(sample);
        self.last_minute.push_back(sample.clone());
        if self.last_minute.len() > HISTORY {
            self.last_minute.pop_front();
        }
    }

    fn lines(&self, progress: &Progress, width: usize) -> Vec<Line> {
        let sample = &progress.sample;
        let clients = &sample.clients;
        let mut lines: Vec<Line> = vec![
            phase(progress, width).into(),
            format!("clients    {} of {} open{}", clients.open, progress.clients, also(progress)).into(),
            self.with_curve(
                format!(
                    "rate       due {}  sent {}",
                    Unit::PerSecond.format(sample.offered_rate()),
                    Unit::PerSecond.format(sample.sent_rate())
                ),
                width,
                |sample| Some(sample.sent_rate()),
            ),
        ];
        let latency = sample.latency_us.map_or_else(
            || "–".to_owned(),
            |latency| {
                let us = |us| Unit::Microseconds.format(us);
                format!("p50 {}  p99 {}", us(latency.corrected.p50), us(latency.corrected.p99))
            },
        );
        lines.push(self.with_curve(format!("latency    {latency}"), width, |sample| {
            Some(sample.latency_us.as_ref()?.corrected.p99)
        }));
        if let Some(server) = &sample.server {
            let known = self.last_minute.iter().rev().find_map(|sample| sample.server.as_ref()?.pss_bytes);
            let memory =
                known.map_or_else(String::new, |bytes| format!("  {}", Unit::Bytes.format(bytes as f64)));
            let cpu = Unit::Processor.format(server.cpu_share);
            lines.push(self.with_curve(format!("server     CPU {cpu}{memory}"), width, |sample| {
                Some(sample.server.as_ref()?.cpu_share)
            }));
        }
        lines.push(generator(sample).into());
        lines.extend(self.saturation(sample));
        lines.extend(self.errors(width));
        lines
    }

    /// Every kind, on as many lines as that takes.
    fn errors(&self, width: usize) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for kind in self.errors.kinds() {
            match lines.last_mut() {
                Some(Line { text, .. }) if text.chars().count() + 2 + kind.chars().count() <= width => {
                    text.push_str(", ");
                    text.push_str(&kind);
                }
                last => {
                    let name = if last.is_none() { "errors" } else { "" };
                    lines.push(Line { text: format!("{name:<11}{kind}"), alarming: true });
                }
            }
        }
        lines
    }

    /// On a line of its own, so that it is not what is cut off.
    fn saturation(&self, sample: &Sample) -> Option<Line> {
        let what = match sample.generator.saturated {
            true => "these figures are not the server's",
            false if self.last_minute.iter().any(|sample| sample.generator.saturated) => {
                "within the last minute"
            }
            false => return None,
        };
        Some(Line { text: format!("           SATURATED: {what}"), alarming: true })
    }

    fn with_curve(&self, text: String, width: usize, figure: impl Fn(&Sample) -> Option<f64>) -> Line {
        let room = width.saturating_sub(TEXT_COLUMNS + 1).min(HISTORY);
        let values: Vec<Option<f64>> = self.last_minute.iter().map(figure).collect();
        let curve = curve(&values[values.len().saturating_sub(room)..]);
        let line = if room < 8 { text } else { format!("{text:<TEXT_COLUMNS$} {curve}") };
        line.into()
    }
}

fn generator(sample: &Sample) -> String {
    let mut text = format!("generator  CPU {}", Unit::Processor.format(sample.generator.busiest_thread));
    if let Some(lag) = sample.lag_p99_us {
        let _ = write!(text, "  late by {}", Unit::Microseconds.format(lag));
    }
    text
}

fn phase(progress: &Progress, width: usize) -> String {
    let (name, elapsed) = (progress.phase.name(), progress.elapsed.as_secs_f64());
    let planned = match progress.planned {
        None => return format!("{name}  {elapsed:.0} s"),
        // Over before it is read.
        Some(planned) if planned.as_secs() == 0 => return name.to_owned(),
        Some(planned) => planned,
    };
    let planned = planned.as_secs_f64();
    let times =
        format!("{} of {}", Unit::Seconds.format(elapsed.floor()), Unit::Seconds.format(planned.round()));
    let room = width.saturating_sub(name.len() + times.chars().count() + 4).min(40);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of `room`, which is small"
    )]
    let done = ((elapsed / planned).clamp(0.0, 1.0) * room as f64) as usize;
    format!("{name}  {}{}  {times}", "█".repeat(done), "░".repeat(room - done))
}

fn also(progress: &Progress) -> String {
    let mut text = String::new();
    if progress.sample.clients.connecting > 0 {
        let _ = write!(text, ", {} connecting", progress.sample.clients.connecting);
    }
    if progress.failed > 0 {
        let _ = write!(text, ", {} failed", progress.failed);
    }
    text
}

/// From zero to the greatest value; a gap where there is none.
fn curve(values: &[Option<f64>]) -> String {
    let most = values.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let bar = |value: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the bars there are"
        )]
        let step = (value / most * BARS.len() as f64).clamp(0.0, 7.0) as usize;
        BARS[step]
    };
    values.iter().map(|value| value.filter(|_| most > 0.0).map_or(' ', bar)).collect()
}

/// What comes from a server may hold anything: no control character reaches the terminal.
fn cut(line: &str, width: usize) -> String {
    line.chars().filter(|c| !c.is_control()).take(width).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use webscale_load::bench::timeline::{ClientCounts, Points, SampleLatency, ServerSample};
    use webscale_load::observe::Phase;

    use super::*;

    fn terminal(columns: usize) -> Terminal {
        Terminal { columns, rows: 24 }
    }

    fn progress() -> Progress {
        let points = Points { p50: 250.0, p90: 500.0, p99: 1234.0, max: 2000.0 };
        let sample = Sample {
            length_seconds: 1.0,
            phase: Phase::Measuring,
            clients: ClientCounts { open: 98, ..ClientCounts::default() },
            offered: 100,
            sent: 99,
            errors: BTreeMap::from([("closed: 1006".to_owned(), 2)]),
            latency_us: Some(SampleLatency { corrected: points, uncorrected: Some(points) }),
            server: Some(ServerSample {
                cpu_share: 0.25,
                pss_bytes: Some(8_200_000),
                ..ServerSample::default()
            }),
            ..Sample::default()
        };
        Progress {
            phase: Phase::Measuring,
            elapsed: Duration::from_secs(15),
            planned: Some(Duration::from_secs(30)),
            clients: 100,
            sample,
            failed: 0,
            sent: 99,
            latency: None,
        }
    }

    #[test]
    fn a_block_says_what_is_known() {
        let text = Live::new(false).draw(&progress(), terminal(80));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(
            lines[0].starts_with("measuring  ████████████████████░░░") && lines[0].ends_with("15 s of 30 s")
        );
        assert_eq!(lines[1], "clients    98 of 100 open");
        assert_eq!(lines[2], format!("{:<46} █", "rate       due 100/s  sent 99/s"));
        assert!(lines[3].starts_with("latency    p50 250 µs  p99 1.23 ms"));
        assert!(lines[4].starts_with("server     CPU 25 %  8.2 MB"));
        assert_eq!((lines[5], lines[6]), ("generator  CPU 0 %", "errors     2 closed: 1006"));
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn it_is_drawn_in_place_also_after_the_terminal_became_narrower() {
        let mut live = Live::new(false);
        live.draw(&progress(), terminal(80));
        assert_eq!(live.draw(&progress(), terminal(80)).matches("\x1b[1A\x1b[2K").count(), 7);
        let rows: usize = live.drawn.iter().map(|length| length.div_ceil(30)).sum();
        assert!(rows > 7);
        assert_eq!(live.draw(&progress(), terminal(30)).matches("\x1b[1A\x1b[2K").count(), rows);
        live.leave();
        assert_eq!(live.erase(terminal(30)), "");
    }

    #[test]
    fn what_was_typed_is_erased_too_and_nothing_that_has_scrolled_away() {
        let mut live = Live::new(false);
        let low = Terminal { columns: 80, rows: 4 };
        assert_eq!(live.draw(&progress(), low).lines().count(), 3);
        let text = live.draw(&progress(), low);
        assert!(text.starts_with("\r\x1b[2K\x1b[1A") && text.matches("\x1b[1A").count() == 3, "{text:?}");
        live.draw(&progress(), terminal(80));
        assert_eq!(live.erase(low).matches("\x1b[1A").count(), 4);
    }

    #[test]
    fn no_kind_of_error_is_cut_off() {
        let mut bad = progress();
        bad.sample.errors = (1..=6).map(|code| (format!("closed: 400{code}"), code)).collect();
        let text = Live::new(true).draw(&bad, terminal(60));
        let lines: Vec<&str> = text.lines().skip_while(|line| !line.contains("errors")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("\x1b[31merrors     1 closed: 4001, 2 closed: 4002"), "{text}");
        assert!(lines[1].starts_with("\x1b[31m           ") && lines[1].contains("6 closed: 4006"), "{text}");
        assert!((1..=6).all(|code| text.contains(&format!("{code} closed: 400{code}"))), "{text}");
    }

    #[test]
    fn another_load_begins_with_nothing() {
        let mut live = Live::new(false);
        let mut hot = progress();
        (hot.sample.at_seconds, hot.sample.generator.saturated) = (9.0, true);
        live.draw(&hot, terminal(80));
        let mut next = progress();
        next.sample.errors.clear();
        next.sample.at_seconds = 1.0;
        let text = live.draw(&next, terminal(80));
        assert!(!text.contains("errors") && !text.contains("SATURATED"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in [1, 2, 10, 40, 80, 300] {
            let mut live = Live::new(false);
            (0..70).for_each(|_| drop(live.draw(&progress(), terminal(columns))));
            assert!(live.drawn.iter().all(|length| *length < columns.max(2)), "{columns}: {:?}", live.drawn);
        }
    }

    #[test]
    fn saturation_and_errors_are_red_where_colours_are_wanted() {
        let mut hot = progress();
        hot.sample.generator.saturated = true;
        hot.sample.errors.insert("evil \x1b[2J".into(), 1);
        let text = Live::new(true).draw(&hot, terminal(100));
        assert!(text.contains("\x1b[31m           SATURATED: these") && text.contains("\x1b[31merrors"));
        assert!(!text.contains("\x1b[2J"));
        assert!(Live::new(false).draw(&hot, terminal(100)).contains("SATURATED"));
    }

    #[test]
    fn a_phase_has_a_bar_where_it_lasts() {
        let mut short = progress();
        assert!(phase(&short, 60).contains('█'));
        short.planned = Some(Duration::from_millis(200));
        assert_eq!(phase(&short, 60), "measuring");
        short.planned = None;
        assert_eq!(phase(&short, 60), "measuring  15 s");
    }

    #[test]
    fn curves_have_gaps_and_need_no_values() {
        assert_eq!(curve(&[Some(0.0), None, Some(5.0), Some(10.0)]), "▁ ▅█");
        assert_eq!(curve(&[Some(0.0), Some(f64::NAN)]), "  ");
        assert_eq!(curve(&[]), "");
    }
}
