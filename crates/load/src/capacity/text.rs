//! What a search found, for people.

use std::fmt::Write;

use comfy_table::CellAlignment;

use super::{Capacity, ClientMemory, Load, Projection, StepReport};
use crate::bench::Probe;
use crate::bench::payload::Kind;
use crate::report::unit::Unit;
use crate::table::{Look, wrap};

/// The steps as a table, then the result with what stopped more.
pub fn text(capacity: &Capacity, look: Look) -> String {
    let mut text = format!("{}\n\n", capacity.url);
    if !capacity.steps.is_empty() {
        let _ = writeln!(text, "{}\n", table(capacity, look));
    }
    let mut line = |name: &str, line: &str| {
        text += &wrap(&format!("{name:<13}{line}"), "             ");
    };
    line("load", &load(capacity));
    line("capacity", &result(capacity));
    for (nth, sentence) in stopped(capacity).iter().enumerate() {
        line(if nth == 0 { "stopped by" } else { "" }, sentence);
    }
    if let Some(memory) = &capacity.memory {
        line("memory", &taken(memory));
    }
    if let Some(projection) = &capacity.projection {
        line("projected", &projected(projection, capacity.memory.as_ref()));
    }
    text
}

/// What every client did.
pub(super) fn load(capacity: &Capacity) -> String {
    let Load { message_bytes, message_kind, interval_seconds, clients, probe } = &capacity.load;
    let who = match (clients, interval_seconds) {
        (Some(1), _) => "by one client".to_owned(),
        (Some(clients), _) => format!("by {clients} clients"),
        (None, seconds) => {
            format!("by each client every {}", Unit::Microseconds.format(seconds.unwrap_or_default() * 1e6))
        }
    };
    let bytes = Unit::Count.format(*message_bytes as f64);
    let kind = match message_kind {
        Kind::Text => "text",
        Kind::Binary => "binary",
    };
    let answers = match probe {
        Probe::Idle => return format!("a ping {who}, no messages; latency until the pong"),
        Probe::Ping => "latency by pings behind them".to_owned(),
        Probe::Echo => "latency by their echoes".to_owned(),
        Probe::Ack { every } => format!("latency by the answer to each {every}th"),
        Probe::Sink => "latency not measured".to_owned(),
    };
    format!("a {kind} message of {bytes} bytes {who}; {answers}")
}

/// What stopped more, one sentence each.
fn stopped(capacity: &Capacity) -> Vec<String> {
    let Some(binding) = &capacity.binding else {
        return unbound(capacity).map(|why| format!("nothing: {why}")).into_iter().collect();
    };
    let what = format!("{}, at {} {}", binding.resource.words(), binding.at, capacity.find.unit());
    let more = [binding.reservation(), binding.advice].into_iter().flatten().map(str::to_owned);
    [what].into_iter().chain(binding.evidence.iter().cloned()).chain(more).collect()
}

/// Why a search went no further that nothing stopped, if it came to its end.
pub(super) fn unbound(capacity: &Capacity) -> Option<&'static str> {
    let is_whole = capacity.binding.is_none() && capacity.found.is_some() && !capacity.interrupted;
    is_whole.then_some(match capacity.hurried {
        true => "for more there was no time (--within)",
        false => "more was not to be tried (--most)",
    })
}

/// What a client takes, and by what that is known.
pub(super) fn taken(memory: &ClientMemory) -> String {
    let kb = |bytes: f64| format!("{:.1}", bytes / 1e3);
    let error = memory.server_bytes_error.map(|error| format!(" ± {}", kb(error))).unwrap_or_default();
    let kernel = match memory.kernel_measured {
        true => format!("({} to {})", kb(memory.kernel_bytes_least), kb(memory.kernel_bytes_most)),
        false => "(not measured: that takes root and a quiet machine)".to_owned(),
    };
    let ClientMemory { steps, clients_least, clients_most, .. } = memory;
    format!(
        "{}{error} kB a client in the server, by the slope over {steps} steps of {clients_least} to {clients_most} \
         clients; {} kB {kernel} in the kernel; {:.1} MB besides",
        kb(memory.server_bytes),
        kb(memory.kernel_bytes),
        memory.base_bytes / 1e6
    )
}

/// How many clients another machine would hold, and how far that may be off.
pub(super) fn projected(projection: &Projection, memory: Option<&ClientMemory>) -> String {
    let budget = Unit::Bytes.format(projection.budget_bytes as f64);
    let clients = match (projection.clients, memory) {
        (Some(clients), _) => clients,
        (None, Some(_)) => {
            return format!(
                "nothing for {budget}: the server's memory did not grow with the clients; try more"
            );
        }
        (None, None) => {
            return format!(
                "nothing for {budget}: that takes the server's memory with two different numbers of clients that were \
                 held; try fewer first (--from), or more (--most)"
            );
        }
    };
    let between = match (projection.clients_least, projection.clients_most) {
        (Some(least), Some(most)) => format!("{} to {} with 95 %", count(least), count(most)),
        (Some(least), None) => format!("{} or more with 95 %: the slope is uncertain", count(least)),
        (None, _) => "how far that may be off cannot be told of two steps".into(),
    };
    let most = memory.map_or(0, |memory| memory.clients_most).max(1);
    let beyond = match clients as f64 / f64::from(most) {
        times if times >= 2.0 => format!(", {} times what was measured", Unit::Count.format(times.round())),
        _ => String::new(),
    };
    format!(
        "about {} clients would fit into {budget} by memory alone ({between}){beyond}; not measured",
        count(clients)
    )
}

/// A projected number, to three digits: it is not known any better.
pub(super) fn count(clients: u64) -> String {
    let mut scale = 1;
    while clients / scale >= 1000 {
        scale *= 10;
    }
    Unit::Count.format((clients.saturating_add(scale / 2) / scale * scale) as f64)
}

fn result(capacity: &Capacity) -> String {
    let unit = capacity.find.unit();
    let hold = Unit::Seconds.format(capacity.hold_seconds);
    let limit = Unit::Microseconds.format(capacity.latency_limit_seconds * 1e6);
    let found = match capacity.found {
        Some(found) => found,
        None if capacity.interrupted => return "not known: interrupted before any number was held".into(),
        None => return format!("no number of {unit} was held"),
    };
    let at_least = if capacity.at_least { "at least " } else { "" };
    let how = match (capacity.interrupted, capacity.confirmed) {
        (true, _) => "interrupted before it was confirmed".to_owned(),
        (false, true) => format!("held for {hold} and confirmed"),
        (false, false) => "held once, not confirmed".to_owned(),
    };
    let latency =
        if capacity.load.probe == Probe::Sink { String::new() } else { format!("; p99 below {limit}") };
    format!("{at_least}{found} {unit}, {how}{latency}")
}

fn table(capacity: &Capacity, look: Look) -> comfy_table::Table {
    let mut table = look.table();
    table.set_header([capacity.find.unit(), "for", "held", "p50", "p99", "server CPU", "busiest", "PSS"]);
    for step in &capacity.steps {
        table.add_row(cells(step));
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(step: &StepReport) -> [String; 8] {
    let some = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    let ms = |us: Option<f64>| some(us.map(|us| format!("{:.1} ms", us / 1e3)));
    let percent = |share: Option<f64>| some(share.map(|share| format!("{:.0} %", share * 100.0)));
    [
        step.value.to_string(),
        Unit::Seconds.format(step.measured_seconds),
        if step.held { "yes" } else { "no" }.to_owned(),
        ms(step.p50_us),
        ms(step.p99_us),
        percent(step.server_cpu),
        percent(step.server_busiest_thread),
        some(step.server_pss_bytes.map(|bytes| format!("{:.0} MB", bytes as f64 / 1e6))),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::binding::{Binding, End, Resource};
    use super::super::html::tests::{capacity, step};
    use super::*;

    fn lines(capacity: &Capacity) -> String {
        let text = text(capacity, Look::Plain);
        let is_aligned = |line: &&str| line.starts_with(' ') == line.starts_with("             ");
        assert!(text.lines().all(|line| is_aligned(&line)), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn whose_end_it_was_is_said() {
        let mut capacity = capacity(Some(1000), vec![step(1000, true), step(2000, false)]);
        let text = lines(&capacity);
        assert!(
            text.contains("capacity 1000 clients, held for 60 s and confirmed; p99 below 100 ms"),
            "{text}"
        );
        assert!(text.contains("stopped by slow answers, at 2000 clients p99 <script>"), "{text}");
        assert!(
            text.contains("a text message of 10,240 bytes by each client every 1 s; latency by pings"),
            "{text}"
        );
        assert!(!text.contains("may hold more"), "{text}");
        capacity.binding = Some(Binding::new(Resource::Generator, 2000, "it was late"));
        let text = lines(&capacity);
        assert!(
            text.contains("it was on the load's side: the server may hold more more load: --threads"),
            "{text}"
        );
        capacity.binding = Some(Binding { end: End::Both, ..Binding::new(Resource::Memory, 2000, "64 MB") });
        assert!(lines(&capacity).contains("64 MB server and load share it"));
        capacity.binding = None;
        assert!(lines(&capacity).contains("nothing: more was not to be tried (--most)"));
        capacity.hurried = true;
        assert!(lines(&capacity).contains("no time (--within)"));
        (capacity.interrupted, capacity.found) = (true, None);
        assert!(
            lines(&capacity).contains("not known: interrupted") && !lines(&capacity).contains("stopped by")
        );
    }

    #[test]
    fn a_projection_says_by_what_and_how_far_it_may_be_off() {
        let memory = ClientMemory {
            server_bytes: 4_000.0,
            server_bytes_error: Some(120.0),
            kernel_bytes: 3_900.0,
            kernel_bytes_least: 3_800.0,
            kernel_bytes_most: 4_100.0,
            kernel_measured: true,
            base_bytes: 3e6,
            r_squared: 0.999,
            steps: 4,
            clients_least: 1_000,
            clients_most: 8_000,
        };
        let mut capacity = capacity(Some(8000), vec![step(8000, true)]);
        let with = |capacity: &mut Capacity, memory: ClientMemory| {
            capacity.projection = Some(memory.project(4_000_000_000));
            capacity.memory = Some(memory);
            lines(capacity)
        };
        let text = with(&mut capacity, memory);
        assert!(
            text.contains("4.0 ± 0.1 kB a client in the server, by the slope over 4 steps of 1000 to 8000"),
            "{text}"
        );
        let projected = "projected about 506,000 clients would fit into 4 GB by memory alone (486,000 to 520,000 with 95 %), \
                         63 times what was measured; not measured";
        assert!(text.contains(projected), "{text}");
        let text =
            with(&mut capacity, ClientMemory { server_bytes_error: None, kernel_measured: false, ..memory });
        assert!(text.contains("cannot be told of two steps") && text.contains("takes root and"), "{text}");
        let text = with(&mut capacity, ClientMemory { server_bytes: -1.0, ..memory });
        assert!(text.contains("projected nothing for 4 GB: the server's memory did not grow"), "{text}");
        (capacity.memory, capacity.projection) = (None, Some(Projection::unknown(4_000_000_000)));
        let text = lines(&capacity);
        assert!(
            text.contains("projected nothing for 4 GB: that takes the server's memory with two"),
            "{text}"
        );
    }
}
