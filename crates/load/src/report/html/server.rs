//! What the page of a load says of the server beside it.

use super::{over_time, series};
use crate::bench::outcome::{Outcome, ServerUse};
use crate::bench::timeline::{Sample, ThreadShare, threads_of_server};
use crate::measure::group;
use crate::report::page::{Page, Table};
use crate::report::plot::{LinePlot, Series};
use crate::report::unit::{Unit, bytes_a_client};

/// Threads of the server that have a line of their own.
const THREADS_MAX: usize = 6;

/// Its processor, its memory, and the table of both.
pub(super) fn section(page: &mut Page, outcome: &Outcome, samples: &[Sample]) {
    let Some(server) = &outcome.server else {
        page.section(
            "Server",
            "Its processes were not measured: they are not on this machine, or were not to be.",
        );
        return;
    };
    page.section("Server", &format!("{}, measured from outside.", processes(server)));
    page.plots(&[
        LinePlot {
            description: "Of one processor, by thread; the busiest have a line.".into(),
            ..over_time("Server CPU", samples, Unit::Processor, cpu_lines(samples))
        }
        .html(),
        LinePlot {
            description:
                "PSS of the server's processes, and what all sockets of the machine take in the kernel."
                    .into(),
            ..over_time("Memory", samples, Unit::Bytes, memory_lines(samples))
        }
        .html(),
    ]);
    page.table(&server_table(outcome, server));
}

fn processes(server: &ServerUse) -> String {
    let of = if server.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", server.threads) };
    format!("The server is {} with {of}", group::names(&server.pids))
}

/// All threads together, and the busiest ones.
fn cpu_lines(samples: &[Sample]) -> Vec<Series> {
    let busiest = threads_of_server(samples.iter());
    let all = series("all threads", samples, |sample| Some(sample.server.as_ref()?.cpu_share));
    let of = |tid: u32| {
        move |sample: &Sample| {
            let threads = &sample.server.as_ref()?.threads;
            Some(threads.iter().find(|thread| thread.tid == tid).map_or(0.0, |thread| thread.share))
        }
    };
    let one =
        |thread: &ThreadShare| series(format!("{} ({})", thread.name, thread.tid), samples, of(thread.tid));
    let lines =
        if busiest.len() > 1 { busiest.iter().take(THREADS_MAX).map(one).collect() } else { Vec::new() };
    [all].into_iter().chain(lines).collect()
}

/// Memory is read less often than once a second where that takes long: a line goes on as it was last known, until the
/// server is gone.
pub(super) fn memory_lines(samples: &[Sample]) -> Vec<Series> {
    let line = |name, bytes: fn(&Sample) -> Option<u64>, is_there: fn(&Sample) -> bool| {
        let mut known = None;
        let values = samples.iter().map(|sample| {
            known = bytes(sample).or(known).filter(|_| is_there(sample));
            known.map(|bytes| bytes as f64)
        });
        Series::new(name, values.collect())
    };
    vec![
        line("server", |sample| sample.server.as_ref()?.pss_bytes, |sample| sample.server.is_some()),
        line("kernel, sockets", |sample| sample.kernel_socket_bytes, |_| true),
    ]
}

fn server_table(outcome: &Outcome, server: &ServerUse) -> Table {
    let bytes = |bytes: u64| Unit::Bytes.format(bytes as f64);
    let each_client = |after, before| {
        bytes_a_client(after, before, outcome.connections.opened).unwrap_or_else(|| "–".into())
    };
    let (idle, kernel) = (server.memory_idle.pss_bytes, &outcome.kernel);
    let mut table = Table::new("", &["", "in all", "a client", &format!("a {}", outcome.sent_noun())]);
    let mut row = |cells: [String; 4]| table.row(cells);
    let none = String::new;
    row([
        "CPU time, measured part".into(),
        Unit::Seconds.format(server.cpu_seconds),
        none(),
        server.cpu_us_per_message.map_or_else(none, |us| Unit::Microseconds.format(us)),
    ]);
    let handshake = server.handshake_cpu_us.map_or_else(none, |us| Unit::Microseconds.format(us));
    row(["CPU time, opening handshakes".into(), none(), handshake, none()]);
    row(["memory, idle".into(), bytes(idle), none(), none()]);
    let connected = server.memory_connected.pss_bytes;
    row(["memory, connected".into(), bytes(connected), each_client(connected, idle), none()]);
    let loaded = server.memory_loaded.pss_bytes;
    row(["memory, loaded".into(), bytes(loaded), each_client(loaded, idle), none()]);
    row([
        "memory, at most".into(),
        bytes(server.peak_pss_bytes),
        each_client(server.peak_pss_bytes, idle),
        none(),
    ]);
    let (before, after) = (kernel.idle.total_bytes(), kernel.loaded.total_bytes());
    row(["kernel, all sockets, loaded".into(), bytes(after), each_client(after, before), none()]);
    row(["descriptors".into(), Unit::Count.format(server.descriptors as f64), none(), none()]);
    row([
        "context switches".into(),
        Unit::Count.format(server.switches.all() as f64),
        none(),
        server.switches_per_message.map_or_else(none, |switches| Unit::Count.format(switches)),
    ]);
    table
}
