//! The page of a search: the result, its steps, and latency and CPU over what was tried.

use super::text::{count, load, projected, taken, unbound};
use super::{Capacity, Find, StepReport};
use crate::report::facts::{Fact, fact, host, run};
use crate::report::page::{Figure, Page, Table, Tone};
use crate::report::plot::{Axis, LinePlot, Series};
use crate::report::unit::Unit;

/// One page that needs nothing else.
pub fn html(capacity: &Capacity) -> String {
    let hold = Unit::Seconds.format(capacity.hold_seconds);
    let limit = Unit::Microseconds.format(capacity.latency_limit_seconds * 1e6);
    let below = format!("Held for {hold} with p99 latency below {limit}, nobody disconnected, nothing lost.");
    let mut page = Page::new("WebSocket capacity", &capacity.url, &below);
    verdict(&mut page, capacity);
    page.figures(&figures(capacity));
    if !capacity.steps.is_empty() {
        page.section(
            "Steps",
            "Latency counts from when a message was due. Where a number was tried twice, the last try counts.",
        );
        page.plots(&plots("", &capacity.steps, capacity.find, Some(capacity.latency_limit_seconds)));
        page.table(&steps(capacity));
    }
    page.section("Made with", "");
    page.facts(&facts(capacity));
    page.finish()
}

fn verdict(page: &mut Page, capacity: &Capacity) {
    let unit = capacity.find.unit();
    let evidence = capacity.binding.as_ref().map(|binding| {
        let stopped = format!("Stopped at {} {unit} by {}.", binding.at, binding.resource.words());
        let more = [binding.reservation(), binding.advice].into_iter().flatten().map(str::to_owned);
        [stopped].into_iter().chain(binding.evidence.iter().cloned()).chain(more).collect::<Vec<_>>()
    });
    let (tone, sentence) = match (capacity.found, capacity.confirmed, capacity.at_least) {
        _ if capacity.interrupted => (Tone::Warning, "Interrupted: what was tried until then.".to_owned()),
        (None, ..) => (Tone::Bad, format!("No number of {unit} was held.")),
        (Some(found), false, _) => (Tone::Warning, format!("{found} {unit} were held once, not confirmed.")),
        (Some(found), true, true) => {
            (Tone::Warning, format!("At least {found} {unit} are held; the server may hold more."))
        }
        (Some(found), true, false) => (Tone::Good, format!("{found} {unit} are held.")),
    };
    let unbound = || unbound(capacity).map(|why| format!("Nothing stopped it: {why}.")).into_iter().collect();
    page.verdict(tone, &sentence, &evidence.unwrap_or_else(unbound));
}

fn figures(capacity: &Capacity) -> Vec<Figure> {
    let at_least = if capacity.at_least { "≥ " } else { "" };
    let found = capacity
        .found
        .map_or("–".into(), |found| format!("{at_least}{}", Unit::Count.format(found.into())));
    let mut figures = vec![Figure::new("Capacity", found, capacity.find.unit())];
    if let Some(memory) = &capacity.memory {
        let kernel = format!("in the server, and {} in the kernel", Unit::Bytes.format(memory.kernel_bytes));
        figures.push(Figure::new("Memory a client", Unit::Bytes.format(memory.server_bytes), kernel));
    }
    if let Some(projection) = &capacity.projection {
        let budget = Unit::Bytes.format(projection.budget_bytes as f64);
        let between = match (projection.clients_least, projection.clients_most) {
            (Some(least), Some(most)) => format!(", {} to {} with 95 %", count(least), count(most)),
            _ => String::new(),
        };
        let clients = projection.clients.map_or("–".into(), count);
        let what = format!("clients with {budget}{between}; not measured");
        figures.push(Figure::new("Projected by memory", clients, what));
    }
    figures
}

/// Latency and CPU over what was tried, each title behind `lead`.
pub(crate) fn plots(lead: &str, steps: &[StepReport], find: Find, limit_seconds: Option<f64>) -> [String; 2] {
    let mut sorted: Vec<&StepReport> = steps.iter().collect();
    sorted.sort_by_key(|step| step.value);
    // Of equal numbers the last that was tried.
    let mut last: Vec<&StepReport> = Vec::new();
    for step in sorted {
        match last.last_mut() {
            Some(before) if before.value == step.value => *before = step,
            _ => last.push(step),
        }
    }
    let of = |value: fn(&StepReport) -> Option<f64>| last.iter().map(|step| value(step)).collect::<Vec<_>>();
    let plot = |title: &str, unit, series| LinePlot {
        x_name: find.unit().into(),
        x_unit: Unit::Count,
        x_axis: Axis::FromZero,
        series,
        ..LinePlot::over_time(
            format!("{lead}{title}"),
            of(|step| Some(step.value.into())).into_iter().flatten().collect(),
            unit,
        )
    };
    let latency =
        vec![Series::new("p50", of(|step| step.p50_us)), Series::new("p99", of(|step| step.p99_us))];
    let cpu = vec![
        Series::new("server", of(|step| step.server_cpu)),
        Series::new("its busiest thread", of(|step| step.server_busiest_thread)),
        Series::new("load's busiest thread", of(|step| Some(step.load_busiest_thread))),
    ];
    let latency = LinePlot {
        y_axis: Axis::Log,
        limit: limit_seconds.map(|seconds| (seconds * 1e6, "limit".into())),
        ..plot("Latency", Unit::Microseconds, latency)
    };
    [latency.html(), plot("CPU", Unit::Processor, cpu).html()]
}

fn steps(capacity: &Capacity) -> Table {
    let unit = capacity.find.unit();
    let mut table =
        Table::new("", &[unit, "for", "held", "p50", "p99", "server CPU", "server PSS", "stopped by"]);
    let some = |unit: Unit, value: Option<f64>| value.map_or("–".into(), |value| unit.format(value));
    for step in &capacity.steps {
        table.row([
            step.value.to_string(),
            Unit::Seconds.format(step.measured_seconds),
            if step.held { "yes" } else { "no" }.to_owned(),
            some(Unit::Microseconds, step.p50_us),
            some(Unit::Microseconds, step.p99_us),
            some(Unit::Processor, step.server_cpu),
            some(Unit::Bytes, step.server_pss_bytes.map(|bytes| bytes as f64)),
            step.binding.as_ref().map_or(String::new(), |binding| binding.resource.words().to_owned()),
        ]);
    }
    table
}

fn facts(capacity: &Capacity) -> Vec<Fact> {
    let resolution = format!("{:.0} % below the boundary at most", capacity.resolution * 100.0);
    let made = &capacity.provenance;
    let memory = capacity.memory.as_ref();
    let taken = memory.map(|memory| fact("memory", taken(memory)));
    let projected = capacity.projection.map(|projection| fact("projected", projected(&projection, memory)));
    let facts = [fact("load", load(capacity)), fact("resolution", resolution)];
    let facts = facts.into_iter().chain(taken).chain(projected).collect();
    [run(made), facts, host(&made.host)].concat()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::binding::{Binding, Resource};
    use super::super::figures::tests::MEMORY;
    use super::*;
    use crate::bench::Probe;
    use crate::bench::payload::Kind;
    use crate::bench::provenance::Provenance;
    use crate::capacity::Load;
    use crate::report::documented::{assert_documented, json};

    pub(crate) fn step(value: u32, held: bool) -> StepReport {
        let binding = || Binding::new(Resource::Latency, value, "p99 <script>");
        StepReport {
            value,
            whole: false,
            held,
            binding: (!held).then(binding),
            clients: value,
            peak_open: value,
            rate: f64::from(value),
            measured_seconds: 15.0,
            p50_us: Some(300.0),
            p99_us: Some(if held { 4_000.0 } else { 900_000.0 }),
            server_cpu: Some(0.5),
            server_busiest_thread: None,
            server_pss_bytes: None,
            load_busiest_thread: 0.2,
        }
    }

    pub(crate) fn capacity(found: Option<u32>, steps: Vec<StepReport>) -> Capacity {
        Capacity {
            url: "wss://host/<b>".into(),
            find: Find::Clients,
            load: Load {
                message_bytes: 10_240,
                message_kind: Kind::Text,
                interval_seconds: Some(1.0),
                clients: None,
                probe: Probe::Ping,
            },
            found,
            confirmed: found.is_some(),
            at_least: false,
            binding: steps.iter().find_map(|step| step.binding.clone()),
            memory: None,
            projection: None,
            latency_limit_seconds: 0.1,
            hold_seconds: 60.0,
            resolution: 0.03,
            steps,
            hurried: false,
            interrupted: false,
            provenance: Provenance::default(),
        }
    }

    #[test]
    fn the_result_stands_first_and_nothing_becomes_markup() {
        let html = html(&capacity(Some(1000), vec![step(1000, true), step(2000, false), step(1000, true)]));
        assert!(
            html.contains("1000 clients are held.")
                && html.contains("Stopped at 2000 clients by slow answers.")
        );
        assert!(!html.contains("<b>") || !html.contains("host/<b>"));
        assert!(html.contains("p99 &lt;script&gt;"));
    }

    #[test]
    fn every_field_is_documented_and_every_documented_field_is_there() {
        let mut capacity = capacity(Some(1000), vec![step(2000, false)]);
        (capacity.memory, capacity.projection) = (Some(MEMORY), Some(MEMORY.project(1)));
        let page = include_str!("../../../../docs/capacity-json.md");
        assert_documented(page, &[json(&capacity)], &["provenance"]);
    }

    #[test]
    fn a_search_that_nothing_stopped_says_why_it_ended() {
        let html = html(&capacity(Some(1000), vec![step(1000, true)]));
        assert!(html.contains("Nothing stopped it: more was not to be tried (--most)."));
    }

    #[test]
    fn a_search_without_steps_has_a_page() {
        let html = html(&capacity(None, Vec::new()));
        assert!(html.contains("No number of clients was held.") && !html.contains("<h2>Steps</h2>"));
    }
}
