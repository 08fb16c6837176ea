//! Bars as parts of a page: values beside each other, and figures beside what they are held against.

use std::fmt::Write;

use super::page::escape;
use super::plot::colour;
use super::unit::Unit;

/// Where the edge of a figure's bar stands in its cell: what is beyond has room.
const EDGE_AT: f64 = 2.0 / 3.0;
/// An edge that is so many times the greatest value is not drawn: it would press the bars to the side.
const EDGE_MAX: f64 = 4.0;

/// Names of more characters are long.
const NAME_LONG: usize = 24;

/// One bar.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Its length; none if it is not known.
    pub value: Option<f64>,
    /// The least and the greatest that were measured, drawn as a line over it.
    pub range: Option<(f64, f64)>,
    /// What it was before, drawn as a mark.
    pub before: Option<f64>,
    /// What it should not pass, drawn as a mark.
    pub limit: Option<f64>,
    /// It is not as it should be.
    pub missed: bool,
    /// Which of the colours it has, from 0.
    pub colour: usize,
}

/// Bars from zero, one below the other, their values beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct BarPlot {
    /// What it shows.
    pub title: String,
    /// What a reader should know; may be empty.
    pub description: String,
    /// In what the values are.
    pub unit: Unit,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

impl BarPlot {
    /// The figure as HTML: a table whose cells hold the bars.
    pub fn html(&self) -> String {
        let longest = self.longest();
        let rows: String = self.bars.iter().map(|bar| self.row(bar, longest)).collect();
        let title = escape(&self.title);
        // Long names have the room of the bars.
        let is_long = self.bars.iter().any(|bar| bar.name.chars().count() > NAME_LONG);
        let class = if is_long { "bars long" } else { "bars" };
        let description = match self.description.as_str() {
            "" => String::new(),
            text => format!("<p>{}</p>", escape(text)),
        };
        format!(
            "<figure><figcaption><h3>{title}</h3>{description}</figcaption>{}<table class=\"{class}\"><tbody>{rows}</tbody>\
             </table></figure>\n",
            self.legend(longest)
        )
    }

    fn longest(&self) -> f64 {
        let greatest = |values: &mut dyn Iterator<Item = f64>| {
            let longest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
            if longest > 0.0 { longest } else { 1.0 }
        };
        let reach = |bar: &Bar| [bar.value, bar.range.map(|(_, high)| high), bar.before];
        let value = greatest(&mut self.bars.iter().flat_map(reach).flatten());
        let limits = self.bars.iter().filter_map(|bar| bar.limit).filter(|limit| *limit < value * EDGE_MAX);
        greatest(&mut limits.chain([value]))
    }

    /// Of the marks that are drawn.
    fn legend(&self, longest: f64) -> String {
        let drawn =
            |mark: fn(&Bar) -> Option<f64>| self.bars.iter().filter_map(mark).any(|mark| mark <= longest);
        let entry = |class, name| format!("<li><i class=\"tick {class}\"></i>{name}</li>");
        let before = drawn(|bar| bar.before).then(|| entry("before", "before"));
        let limit = drawn(|bar| bar.limit).then(|| entry("edge", "bar"));
        match before.into_iter().chain(limit).collect::<String>() {
            entries if entries.is_empty() => entries,
            entries => format!("<ul class=\"legend\">{entries}</ul>"),
        }
    }

    fn row(&self, bar: &Bar, longest: f64) -> String {
        let share = |value: f64| value / longest;
        let colour = if bar.missed { "var(--bad)".to_owned() } else { colour(bar.colour) };
        let mut track = bar.value.map_or_else(String::new, |value| fill(&colour, share(value)));
        if let Some((low, high)) = bar.range {
            let (low, high) = (percent(share(low)), percent(share(high)));
            let _ = write!(
                track,
                "<div class=\"range\" style=\"left:{low:.1}%;width:{:.1}%\"></div>",
                (high - low).max(0.0)
            );
        }
        for (class, mark) in [("before", bar.before), ("edge", bar.limit)] {
            track += &mark.map_or_else(String::new, |mark| tick(class, share(mark)));
        }
        let value = bar.value.map_or_else(|| "–".to_owned(), |value| self.unit.format(value));
        format!(
            "<tr><th scope=\"row\">{}</th>{}<td>{value}</td></tr>",
            name(&bar.name, bar.missed),
            cell(&track)
        )
    }
}

/// A figure, and what it is held against.
#[derive(Debug, Clone, PartialEq)]
pub struct Meter {
    /// What was measured.
    pub name: String,
    /// How much, with its unit.
    pub value: String,
    /// Where it has to lie, in words; may be empty.
    pub bar: String,
    /// The value as a share of the edge of its bar; none if that says nothing.
    pub share: Option<f64>,
    /// It is not where it has to lie.
    pub missed: bool,
}

/// Figures and their bars as a table, each drawn on a scale of its own.
pub(super) fn meters(meters: &[Meter]) -> String {
    let rows: String = meters.iter().map(meter).collect();
    format!(
        "<table class=\"bars meters\"><thead><tr><th scope=\"col\"></th><th scope=\"col\">measured</th>\
         <th scope=\"col\">bar</th><th aria-hidden=\"true\"></th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

fn meter(meter: &Meter) -> String {
    let colour = if meter.missed { "var(--bad)" } else { "var(--s1)" };
    let track =
        meter.share.map_or_else(String::new, |share| fill(colour, share * EDGE_AT) + &tick("edge", EDGE_AT));
    let class = if meter.missed { " class=\"missed\"" } else { "" };
    format!(
        "<tr{class}><th scope=\"row\">{}</th><td>{}</td><td>{}</td>{}</tr>",
        name(&meter.name, meter.missed),
        escape(&meter.value),
        escape(&meter.bar),
        cell(&track)
    )
}

/// What missed its bar says so in a sign too.
fn name(name: &str, missed: bool) -> String {
    let sign = "<span class=\"sign\" role=\"img\" aria-label=\"misses its bar:\">✕</span> ";
    format!("{}{}", if missed { sign } else { "" }, escape(name))
}

fn cell(track: &str) -> String {
    let track = if track.is_empty() { String::new() } else { format!("<div class=\"track\">{track}</div>") };
    format!("<td class=\"bar\" aria-hidden=\"true\">{track}</td>")
}

fn fill(colour: &str, share: f64) -> String {
    format!("<div class=\"fill\" style=\"--c:{colour};width:{:.1}%\"></div>", percent(share))
}

/// A mark across the bar; none beyond the end.
fn tick(class: &str, share: f64) -> String {
    if !(0.0..=1.0).contains(&share) {
        return String::new();
    }
    format!("<div class=\"tick {class}\" style=\"left:{:.1}%\"></div>", percent(share))
}

fn percent(share: f64) -> f64 {
    (share * 100.0).clamp(0.0, 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(bars: Vec<Bar>) -> String {
        BarPlot { title: "CPU".into(), description: String::new(), unit: Unit::Microseconds, bars }.html()
    }

    fn bar(name: &str, value: f64) -> Bar {
        Bar { name: name.into(), value: Some(value), ..Bar::default() }
    }

    #[test]
    fn bars_are_a_table() {
        let html = plot(vec![
            Bar { range: Some((8.0, 20.0)), ..bar("<a>", 10.0) },
            Bar { value: None, ..bar("b", 0.0) },
        ]);
        assert!(html.contains("width:50.0%") && html.contains("left:40.0%;width:60.0%"), "{html}");
        assert!(html.contains("&lt;a&gt;") && html.contains("<td>10 µs</td>") && html.contains("<td>–</td>"));
        assert!(plot(Vec::new()).contains("<tbody></tbody>"));
        assert!(!html.contains("legend") && html.contains("<table class=\"bars\">"));
        let long = plot(vec![bar("a name that takes more room than the bar", 1.0)]);
        assert!(long.contains("<table class=\"bars long\">"));
    }

    #[test]
    fn marks_are_drawn_where_they_say_something() {
        let with = |before, limit| Bar { before, limit, ..bar("a", 10.0) };
        let html = plot(vec![with(Some(5.0), Some(20.0))]);
        assert!(
            html.contains("tick before\" style=\"left:25.0%")
                && html.contains("tick edge\" style=\"left:100.0%")
        );
        assert!(html.contains("</i>before</li>") && html.contains("</i>bar</li>"));
        let far = plot(vec![with(None, Some(1000.0))]);
        assert!(!far.contains("tick") && far.contains("width:100.0%"), "{far}");
    }

    #[test]
    fn what_missed_its_bar_is_marked_by_more_than_colour() {
        let html = plot(vec![Bar { missed: true, ..bar("a", f64::INFINITY) }]);
        assert!(html.contains("misses its bar") && html.contains("✕") && html.contains("width:100.0%"));
        let of = |share, missed| {
            meters(&[Meter { name: "<n>".into(), value: "1".into(), bar: "at most 2".into(), share, missed }])
        };
        let held = of(Some(0.5), false);
        assert!(held.contains("width:33.3%") && held.contains("left:66.7%") && held.contains("&lt;n&gt;"));
        assert!(!held.contains("✕") && of(Some(9.0), true).contains("✕"));
        assert!(!of(None, false).contains("track"));
    }
}
