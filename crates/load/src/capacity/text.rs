//! What a search found, for people.

use std::fmt::Write;

use comfy_table::CellAlignment;

use super::{Capacity, StepReport};
use crate::report::unit::Unit;
use crate::table::Look;

/// A line that explains less of the spread is no basis for a projection.
const STRAIGHT: f64 = 0.95;

/// The steps as a table, then the result with what stopped more.
pub fn text(capacity: &Capacity, look: Look) -> String {
    let mut text = format!("{}\n\n{}\n\n", capacity.url, table(capacity, look));
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    line(result(capacity));
    if let Some(binding) = &capacity.binding {
        line(format!(
            "stopped by   {}, at {} {}",
            binding.resource.words(),
            binding.at,
            capacity.find.unit()
        ));
        binding.evidence.iter().for_each(|evidence| line(format!("             {evidence}")));
    }
    if let Some(memory) = &capacity.memory {
        let (server, kernel) = (memory.server_bytes / 1e3, memory.kernel_bytes / 1e3);
        let base = memory.base_bytes / 1e6;
        line(format!(
            "memory       {server:.1} kB a client in the server, {kernel:.1} kB in the kernel; {base:.1} MB besides"
        ));
    }
    if let Some(memory) = capacity.memory.filter(|memory| memory.r_squared < STRAIGHT) {
        let share = memory.r_squared * 100.0;
        line(format!("             a poor line: it explains {share:.0} % of the spread; try more clients"));
    }
    if let Some(projection) = &capacity.projection {
        let (clients, budget) = (projection.clients, projection.budget_bytes as f64 / 1e9);
        line(format!(
            "projected    {clients} clients would fit into {budget:.2} GB by memory alone; not measured"
        ));
    }
    text
}

fn result(capacity: &Capacity) -> String {
    let unit = capacity.find.unit();
    let hold = Unit::Seconds.format(capacity.hold_seconds);
    let limit = Unit::Microseconds.format(capacity.latency_limit_seconds * 1e6);
    let Some(found) = capacity.found else { return format!("capacity     no number of {unit} was held") };
    let at_least = if capacity.at_least { "at least " } else { "" };
    let how = match (capacity.interrupted, capacity.confirmed) {
        (true, _) => "interrupted before it was confirmed".to_owned(),
        (false, true) => format!("held for {hold} and confirmed"),
        (false, false) => "held once, not confirmed".to_owned(),
    };
    format!("capacity     {at_least}{found} {unit}, {how}; p99 below {limit}")
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
