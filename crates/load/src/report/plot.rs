//! Lines as parts of a page. Each plot has its figures in a table behind it, and hovering reads from that.
//!
//! The drawing stretches to the page's width while its text does not: the lines are SVG in a box of 1000 by 1000, the
//! labels are HTML beside it.

use std::fmt::Write;

use super::page::{Table, escape};
use super::scale::Scale;
use super::unit::Unit;

/// Colours that the style sheet has for series.
const COLOURS: usize = 7;
/// Both sides of a drawing.
const BOX: f64 = 1000.0;
/// Labels below the drawing, at most.
const X_LABELS_MAX: usize = 9;

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// From the least to the greatest value, evenly.
    Exact,
    /// From zero, evenly.
    FromZero,
    /// Logarithmic; values of zero and below stand at its low end.
    Log,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// One value for each of the plot's places; none where there is none.
    pub values: Vec<Option<f64>>,
    /// Drawn dashed, for what was asked for rather than found.
    pub dashed: bool,
}

impl Series {
    /// A full line.
    pub fn new(name: impl Into<String>, values: Vec<Option<f64>>) -> Series {
        Series { name: name.into(), values, dashed: false }
    }

    /// A dashed line.
    #[must_use]
    pub(crate) fn dashed(self) -> Series {
        Series { dashed: true, ..self }
    }
}

/// A part of the width that is set off.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// What it is, for the legend.
    pub name: String,
    /// Something is wrong there.
    pub alarming: bool,
}

/// Lines over one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LinePlot {
    /// What it shows.
    pub title: String,
    /// What a reader should know; may be empty.
    pub description: String,
    /// What the places along the width are.
    pub x_name: String,
    /// In what.
    pub x_unit: Unit,
    /// How they are spread.
    pub x_axis: Axis,
    /// How the places are labelled, where not by `x_unit`: position and text.
    pub x_labels: Vec<(f64, String)>,
    /// The places, from left to right.
    pub x: Vec<f64>,
    /// What the places are called in the table, where not by `x_unit`; one for each.
    pub x_texts: Vec<String>,
    /// In what the values are.
    pub y_unit: Unit,
    /// How they are spread.
    pub y_axis: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// A line across with its name, which should not be passed.
    pub limit: Option<(f64, String)>,
    /// Parts that are set off.
    pub bands: Vec<Band>,
    /// As wide as the page.
    pub wide: bool,
}

impl LinePlot {
    /// Values over time in seconds, from zero.
    pub(crate) fn over_time(title: impl Into<String>, seconds: Vec<f64>, y_unit: Unit) -> LinePlot {
        LinePlot {
            title: title.into(),
            description: String::new(),
            x_name: "time".into(),
            x_unit: Unit::Seconds,
            x_axis: Axis::Exact,
            x_labels: Vec::new(),
            x: seconds,
            x_texts: Vec::new(),
            y_unit,
            y_axis: Axis::FromZero,
            series: Vec::new(),
            limit: None,
            bands: Vec::new(),
            wide: false,
        }
    }

    /// The figure as HTML.
    pub fn html(&self) -> String {
        let (x, y) = (self.x_scale(), self.y_scale());
        let class = if self.wide { "wide" } else { "" };
        let (title, description) = (escape(&self.title), escape(&self.description));
        let mut html = format!("<figure data-plot class=\"{class}\"><figcaption><h3>{title}</h3>");
        if !description.is_empty() {
            let _ = write!(html, "<p>{description}</p>");
        }
        html.push_str("</figcaption>");
        html.push_str(&self.legend(&y));
        if !self.series.iter().any(|series| series.values.iter().any(Option::is_some)) {
            html.push_str("<p class=\"note\">Nothing was measured.</p></figure>\n");
            return html;
        }
        // There is no half client.
        let is_one = |tick: &f64| self.y_unit != Unit::Count || tick.fract().abs() < 1e-9;
        let ticks: Vec<f64> = y.ticks().into_iter().filter(is_one).collect();
        let more = self.y_unit.digits_apart(&ticks);
        let ticks: Vec<(f64, String)> =
            ticks.into_iter().map(|tick| (y.at(tick), self.y_unit.precise(tick, more))).collect();
        let _ = write!(
            html,
            "<div class=\"frame\"><div class=\"ylabels\" aria-hidden=\"true\">{}</div><div class=\"canvas\">{}</div>\
             <div class=\"xlabels\" aria-hidden=\"true\">{}</div></div>",
            y_labels(&ticks),
            self.svg(&x, &y, &ticks),
            self.x_labels_html(&x)
        );
        let _ = writeln!(
            html,
            "<details><summary>Table</summary><div class=\"scroll\">{}</div></details></figure>",
            self.table(more).html(|at| format!(" data-x=\"{:.1}\"", x.at(self.x[at]) * BOX))
        );
        html
    }

    /// The figures that are drawn, with as many `more` digits as it takes to tell them apart.
    fn table(&self, more: usize) -> Table {
        let names = self.series.iter().map(|series| series.name.as_str());
        let columns: Vec<&str> = [self.x_name.as_str()].into_iter().chain(names).collect();
        let mut table = Table::new("", &columns);
        for (at, x) in self.x.iter().enumerate() {
            let value = |series: &Series| {
                let value = series.values.get(at).copied().flatten();
                value.map_or_else(String::new, |value| self.y_unit.precise(value, more))
            };
            let place = self.x_texts.get(at).cloned().unwrap_or_else(|| self.x_unit.format(*x));
            table.row([place].into_iter().chain(self.series.iter().map(value)));
        }
        table
    }

    fn x_scale(&self) -> Scale {
        scale(self.x_axis, self.x.iter().copied().chain(self.bands.iter().map(|band| band.from)))
    }

    fn y_scale(&self) -> Scale {
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let greatest = values.clone().fold(0.0, f64::max);
        // A limit far away would press the lines to the ground.
        let limit = self.limit.iter().map(|(limit, _)| *limit).filter(|limit| *limit < greatest * 4.0);
        scale(self.y_axis, values.chain(limit))
    }

    fn legend(&self, y: &Scale) -> String {
        let mut html = String::from("<ul class=\"legend\">");
        for (at, series) in self.series.iter().enumerate() {
            let class = if series.dashed { "dashed" } else { "" };
            let (colour, name) = (colour(at), escape(&series.name));
            let _ = write!(
                html,
                "<li data-line=\"{at}\"><i class=\"{class}\" style=\"--c:{colour}\"></i>{name}</li>"
            );
        }
        if let Some((limit, name)) = &self.limit {
            let name = escape(name);
            let _ = match y.holds(*limit) {
                true => write!(html, "<li><i class=\"dashed\" style=\"--c:var(--bad)\"></i>{name}</li>"),
                false => write!(html, "<li>{name}: {}, far above</li>", self.y_unit.format(*limit)),
            };
        }
        let mut named: Vec<&str> = Vec::new();
        for band in &self.bands {
            if !named.contains(&band.name.as_str()) {
                named.push(&band.name);
                let colour = if band.alarming { "var(--bad)" } else { "var(--line)" };
                let name = escape(&band.name);
                let _ = write!(html, "<li><i class=\"block\" style=\"--c:{colour}\"></i>{name}</li>");
            }
        }
        html.push_str("</ul>");
        html
    }

    fn svg(&self, x: &Scale, y: &Scale, ticks: &[(f64, String)]) -> String {
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        let mut svg = format!(
            "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\"><title>{}</title><desc>{} over {}. \
             The table below has the figures.</desc>",
            escape(&self.title),
            escape(&names.join(", ")),
            escape(&self.x_name)
        );
        for band in &self.bands {
            let (from, to) = (x.at(band.from) * BOX, x.at(band.to) * BOX);
            let class = if band.alarming { "band hot" } else { "band" };
            let width = (to - from).max(1.0);
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{from:.1}\" y=\"0\" width=\"{width:.1}\" height=\"1000\"/>"
            );
        }
        for (at, _) in ticks {
            let _ = write!(svg, "<path class=\"grid\" d=\"M0 {0:.1}H1000\"/>", (1.0 - at) * BOX);
        }
        if let Some((limit, _)) = &self.limit
            && y.holds(*limit)
        {
            let _ = write!(svg, "<path class=\"limit\" d=\"M0 {:.1}H1000\"/>", (1.0 - y.at(*limit)) * BOX);
        }
        for (at, series) in self.series.iter().enumerate() {
            svg.push_str(&self.line(at, series, x, y));
        }
        svg.push_str("</svg>");
        svg
    }

    /// The line of one series, in as many pieces as it has gaps; a lonely point becomes a dot.
    fn line(&self, at: usize, series: &Series, x: &Scale, y: &Scale) -> String {
        let (mut line, mut area) = (String::new(), String::new());
        let values = self.x.iter().zip(&series.values);
        let points: Vec<Option<(f64, f64)>> = values
            .map(|(place, value)| {
                let value = value.filter(|value| value.is_finite())?;
                Some((x.at(*place) * BOX, (1.0 - y.at(value)) * BOX))
            })
            .collect();
        for piece in points.split(Option::is_none).filter(|piece| !piece.is_empty()) {
            let piece: Vec<String> = piece.iter().flatten().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let path = piece.join("L");
            let ends = |at: usize| piece[at].split(' ').next().unwrap_or("0").to_owned();
            let (first, last) = (ends(0), ends(piece.len() - 1));
            let dot = if piece.len() == 1 { "h.1" } else { "" };
            let _ = write!(line, "M{path}{dot}");
            let _ = write!(area, "M{first} 1000L{path}L{last} 1000Z");
        }
        let colour = colour(at);
        let class = if series.dashed { "line dashed" } else { "line" };
        // One line alone is filled below; several would hide each other.
        let area = if self.series.len() == 1 && self.y_axis == Axis::FromZero {
            format!("<path class=\"area\" style=\"--c:{colour}\" d=\"{area}\"/>")
        } else {
            String::new()
        };
        format!("{area}<path class=\"{class}\" data-line=\"{at}\" style=\"--c:{colour}\" d=\"{line}\"/>")
    }

    fn x_labels_html(&self, x: &Scale) -> String {
        let own = |tick| (tick, self.x_unit.format(tick));
        let mut labels: Vec<(f64, String)> = match self.x_unit {
            _ if !self.x_labels.is_empty() => self.x_labels.clone(),
            Unit::Seconds => x.time_ticks(),
            _ => x.ticks().into_iter().map(own).collect(),
        };
        keep_apart(&mut labels, |place| x.at(place));
        let each = labels.len().div_ceil(X_LABELS_MAX).max(1);
        let mut html = String::new();
        for (at, (place, text)) in labels.iter().step_by(each).enumerate() {
            let at_share = x.at(*place);
            let mut class = if at % 2 == 1 { "minor" } else { "" }.to_owned();
            class += match at_share {
                share if share < 0.02 => " first",
                share if share > 0.95 => " last",
                _ => "",
            };
            let _ = write!(
                html,
                "<span class=\"{}\" style=\"left:{:.1}%\">{}</span>",
                class.trim(),
                at_share * 100.0,
                escape(text)
            );
        }
        html
    }
}

fn scale(axis: Axis, values: impl Iterator<Item = f64>) -> Scale {
    match axis {
        Axis::Exact => Scale::exact(values),
        Axis::FromZero => Scale::from_zero(values),
        Axis::Log => Scale::log(values),
    }
}

/// Leaves out labels that would stand upon the one before in a plot as narrow as half a page.
fn keep_apart(labels: &mut Vec<(f64, String)>, at: impl Fn(f64) -> f64) {
    /// Of the plot's width.
    const CHARACTER: f64 = 0.02;
    let mut free_from = f64::NEG_INFINITY;
    labels.retain(|(place, text)| {
        let half = (text.chars().count() as f64 / 2.0 + 0.5) * CHARACTER;
        let fits = at(*place) - half >= free_from;
        if fits {
            free_from = at(*place) + half;
        }
        fits
    });
}

/// The hidden ones make the column as wide as the widest label.
fn y_labels(ticks: &[(f64, String)]) -> String {
    let widths = ticks.iter().map(|(_, text)| format!("<b>{}</b>", escape(text)));
    let labels = ticks
        .iter()
        .map(|(at, text)| format!("<span style=\"top:{:.1}%\">{}</span>", (1.0 - at) * 100.0, escape(text)));
    widths.chain(labels).collect()
}

/// The colour of series `at`.
pub(super) fn colour(at: usize) -> String {
    format!("var(--s{})", at % COLOURS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(x: Vec<f64>, series: Vec<Series>) -> LinePlot {
        LinePlot { series, ..LinePlot::over_time("Latency", x, Unit::Microseconds) }
    }

    /// The paths of the series in a plot's HTML.
    fn lines(html: &str) -> Vec<&str> {
        let parts = html.split("<path class=\"line").skip(1);
        parts.map(|part| part.split("d=\"").nth(1).unwrap().split('"').next().unwrap()).collect()
    }

    #[test]
    fn lines_have_gaps_where_nothing_was_measured() {
        let values = vec![Some(0.0), Some(50.0), None, Some(100.0)];
        let html = plot(vec![0.0, 1.0, 2.0, 4.0], vec![Series::new("p99", values)]).html();
        assert_eq!(lines(&html), ["M0.0 1000.0L250.0 500.0M1000.0 0.0h.1"]);
        assert!(html.contains("<path class=\"area\""));
        assert!(html.contains("<tr data-x=\"500.0\"><th scope=\"row\">2 s</th><td></td></tr>"), "{html}");
        assert!(html.contains("role=\"img\"><title>Latency</title><desc>p99 over time."));
    }

    #[test]
    fn nothing_and_one_point_and_huge_numbers_can_be_drawn() {
        assert!(plot(Vec::new(), Vec::new()).html().contains("Nothing was measured"));
        let gap = plot(vec![3.0], vec![Series::new("a", vec![None])]);
        assert!(gap.html().contains("Nothing was measured"));
        let one = plot(vec![3.0], vec![Series::new("a", vec![Some(7.0)])]).html();
        assert_eq!(lines(&one).len(), 1);
        for axis in [Axis::Exact, Axis::FromZero, Axis::Log] {
            let values = vec![Some(1e300), Some(0.0), Some(1e-300), Some(f64::NAN)];
            let html =
                LinePlot { y_axis: axis, ..plot(vec![0.0, 1.0, 2.0, 3.0], vec![Series::new("a", values)]) }
                    .html();
            assert!(!lines(&html)[0].contains("inf"), "{html}");
        }
    }

    #[test]
    fn labels_do_not_stand_upon_each_other() {
        let kept = |places: &[f64]| {
            let mut labels: Vec<_> = places.iter().map(|place| (*place, "p99.9".to_owned())).collect();
            keep_apart(&mut labels, |place| place);
            labels.into_iter().map(|(place, _)| place).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[0.0, 0.05, 0.13, 0.2, 0.9]), [0.0, 0.13, 0.9]);
        assert!(kept(&[]).is_empty());
    }

    #[test]
    fn values_close_together_are_labelled_apart() {
        let series = vec![Series::new("a", vec![Some(123_401_000.0), Some(123_449_000.0)])];
        let plot = LinePlot {
            y_axis: Axis::Exact,
            series,
            ..LinePlot::over_time("Memory", vec![0.0, 1.0], Unit::Bytes)
        };
        let html = plot.html();
        assert!(html.contains(">123.41 MB</span>") && html.contains(">123.42 MB</span>"), "{html}");
        assert!(html.contains("<td>123.449 MB</td>") || html.contains("<td>123.45 MB</td>"), "{html}");
    }

    #[test]
    fn clients_are_counted_in_whole_numbers() {
        let of = |unit| {
            let series = vec![Series::new("a", vec![Some(1.0), Some(0.0)])];
            LinePlot { series, ..LinePlot::over_time("A", vec![0.0, 1.0], unit) }.html()
        };
        assert!(
            !of(Unit::Count).contains(">0.2<")
                && of(Unit::Count).contains("<span style=\"top:0.0%\">1</span>")
        );
        assert!(of(Unit::PerSecond).contains(">0.2/s<"));
    }

    #[test]
    fn a_limit_is_drawn_where_it_says_something() {
        let with = |limit| LinePlot {
            limit: Some((limit, "limit".into())),
            ..plot(vec![0.0, 1.0], vec![Series::new("a", vec![Some(10.0), Some(80.0)])])
        };
        assert!(with(100.0).html().contains("class=\"limit\""));
        let far = with(10_000.0).html();
        assert!(
            !far.contains("class=\"limit\"") && far.contains("<li>limit: 10 ms, far above</li>"),
            "{far}"
        );
    }
}
