//! A figure and the bar that it is held against.

use std::fmt;

use serde::Serialize;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// A share of one processor, from 0.0.
    Share,
}

/// Where a figure has to lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
    /// Just there.
    Exactly(f64),
}

impl Bar {
    /// The value that must not be passed, or be reached.
    pub(crate) fn edge(self) -> f64 {
        match self {
            Bar::AtMost(edge) | Bar::AtLeast(edge) | Bar::Exactly(edge) => edge,
        }
    }

    fn admits(self, value: f64) -> bool {
        match self {
            Bar::AtMost(most) => value <= most,
            Bar::AtLeast(least) => value >= least,
            Bar::Exactly(wanted) => (value - wanted).abs() < 0.5,
        }
    }
}

/// What a figure that misses its bar says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The server did wrong, whatever else the machine was doing.
    Conduct,
    /// The server was slow, or somebody else was in its way.
    Time,
    /// The attack was not the one that was planned.
    Attack,
}

/// Something that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What.
    pub name: String,
    /// How much, in `unit`.
    pub value: f64,
    /// What it counts.
    pub unit: Unit,
    /// Where it has to lie, if anywhere.
    #[serde(flatten)]
    pub bar: Option<Bar>,
    /// Whether it does.
    pub holds: bool,
    #[serde(skip)]
    pub(crate) meaning: Meaning,
}

impl Figure {
    /// Of the server's conduct.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: Unit, bar: Bar) -> Figure {
        let holds = bar.admits(value);
        Figure { name: name.into(), value, unit, bar: Some(bar), holds, meaning: Meaning::Conduct }
    }

    /// Without a bar: to be known.
    pub(crate) fn noted(name: impl Into<String>, value: f64, unit: Unit) -> Figure {
        Figure { name: name.into(), value, unit, bar: None, holds: true, meaning: Meaning::Conduct }
    }

    /// How many.
    pub(crate) fn count(name: impl Into<String>, value: u64, bar: Bar) -> Figure {
        Figure::new(name, value as f64, Unit::Count, bar)
    }

    /// A busy machine may be what makes it miss its bar.
    pub(crate) fn of_time(self) -> Figure {
        Figure { meaning: Meaning::Time, ..self }
    }

    /// Without its bar, if a busy machine may be what makes it miss that.
    pub(crate) fn untimed(self) -> Figure {
        match self.meaning {
            Meaning::Time => Figure { bar: None, holds: true, ..self },
            Meaning::Conduct | Meaning::Attack => self,
        }
    }

    /// How much, with its unit.
    pub(crate) fn value_text(&self) -> String {
        shown(self.value, self.unit)
    }

    /// Where it has to lie, if anywhere.
    pub(crate) fn bar_text(&self) -> Option<String> {
        let (words, edge) = match self.bar? {
            Bar::AtMost(most) => ("at most", most),
            Bar::AtLeast(least) => ("at least", least),
            Bar::Exactly(wanted) => ("wanted", wanted),
        };
        Some(format!("{words} {}", shown(edge, self.unit)))
    }

    /// Of the attack, not of the server.
    pub(crate) fn of_attack(self) -> Figure {
        Figure { meaning: Meaning::Attack, ..self }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value_text())?;
        self.bar_text().map_or(Ok(()), |bar| write!(f, " ({bar})"))
    }
}

fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => format!("{value:.0}"),
        Unit::Bytes if value.abs() >= 1e5 => format!("{:.1} MB", value / 1e6),
        Unit::Bytes => format!("{value:.0} B"),
        Unit::Seconds if value < 1.0 => format!("{:.2} ms", value * 1e3),
        Unit::Seconds => format!("{value:.1} s"),
        Unit::Share => format!("{:.1} %", value * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_include_their_edge() {
        let holds = |value, bar| Figure::new("x", value, Unit::Count, bar).holds;
        assert!(holds(5.0, Bar::AtMost(5.0)) && !holds(5.1, Bar::AtMost(5.0)));
        assert!(holds(5.0, Bar::AtLeast(5.0)) && !holds(4.9, Bar::AtLeast(5.0)));
        assert!(
            holds(5.0, Bar::Exactly(5.0)) && !holds(6.0, Bar::Exactly(5.0)) && !holds(4.0, Bar::Exactly(5.0))
        );
        assert!(Figure::noted("x", f64::MAX, Unit::Bytes).holds);
    }

    #[test]
    fn only_time_loses_its_bar_where_time_is_not_judged() {
        let missed = Figure::count("n", 3, Bar::AtMost(2.0));
        assert_eq!(missed.clone().untimed(), missed);
        assert_eq!(missed.clone().of_attack().untimed(), missed.clone().of_attack());
        let told = missed.of_time().untimed();
        assert!(told.holds && told.bar.is_none());
        assert_eq!(told.to_string(), "n 3");
    }

    #[test]
    fn figures_say_their_bar_in_their_unit() {
        let text = |value, unit, bar| Figure::new("it took", value, unit, bar).to_string();
        assert_eq!(text(0.0123, Unit::Seconds, Bar::AtMost(1.5)), "it took 12.30 ms (at most 1.5 s)");
        assert_eq!(text(2.5e6, Unit::Bytes, Bar::AtMost(900.0)), "it took 2.5 MB (at most 900 B)");
        assert_eq!(text(7.0, Unit::Count, Bar::Exactly(7.0)), "it took 7 (wanted 7)");
        assert_eq!(text(0.01, Unit::Share, Bar::AtLeast(0.5)), "it took 1.0 % (at least 50.0 %)");
        assert_eq!(Figure::noted("n", 3.0, Unit::Count).to_string(), "n 3");
    }

    #[test]
    fn json_names_the_bar() {
        let json = serde_json::to_value(Figure::count("n", 3, Bar::AtMost(2.0))).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "name": "n", "value": 3.0, "unit": "count", "at_most": 2.0, "holds": false
            })
        );
        let json = serde_json::to_value(Figure::noted("n", 3.0, Unit::Count)).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 4);
    }
}
