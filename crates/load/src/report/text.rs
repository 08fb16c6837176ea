//! What came of a load, on a terminal of 80 columns.

use std::fmt::Write;

use super::advice;
use super::unit::{Unit, bytes_a_client};
use crate::bench::Probe;
use crate::bench::compressed::{Coded, Compressed};
use crate::bench::counts::{Pair, Reconciled};
use crate::bench::judgement::failures;
use crate::bench::outcome::{Conclusion, Generator, LatencySummary, Messages, Outcome, ServerUse, Verdict};
use crate::bench::timeline::{Sample, threads_of_server};
use crate::histogram::Summary;
use crate::measure::group;
use crate::observe::Phase;
use crate::table::wrap;

/// Threads of a server that are named.
const THREADS_MAX: usize = 3;

/// The outcome for people. Ends with the verdict.
pub fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    connections(&mut text, outcome);
    messages(&mut text, outcome);
    times(&mut text, outcome);
    if let Some(server) = &outcome.server {
        server_use(&mut text, outcome, server);
    }
    usage(&mut text, outcome);
    verdict(&mut text, outcome);
    text
}

/// Writes one line; a `String` takes everything.
macro_rules! line {
    ($text:expr, $($arguments:tt)*) => {{
        let _ = writeln!($text, $($arguments)*);
    }};
}

fn connections(text: &mut String, outcome: &Outcome) {
    let connections = &outcome.connections;
    let (clients, opened, peak) = (connections.clients, connections.opened, connections.peak_open);
    line!(text, "{}", outcome.url);
    line!(text, "clients      {opened} of {clients} connected, at most {peak} at the same time");
    if connections.reconnected > 0 {
        line!(text, "             {} connected again", connections.reconnected);
    }
    if let Some(resumed) = connections.resumed {
        line!(text, "             {resumed} handshakes resumed a TLS session");
        if resumed == 0 {
            line!(
                text,
                "             (the server gives no tickets, or gave them too late: try a slower --ramp)"
            );
        }
    }
}

fn messages(text: &mut String, outcome: &Outcome) {
    let messages = &outcome.messages;
    let seconds = outcome.measured_seconds;
    let (rate, bytes) = outcome.sent_rates();
    let (rate, bytes) = (Unit::PerSecond.format(rate), Unit::Bytes.format(bytes));
    let (sent, offered) = (messages.sent, messages.offered);
    if outcome.probe == Probe::Idle {
        line!(text, "pings        {sent} of {offered} sent in {seconds:.1} s, {rate}; no messages");
    } else {
        let what = format!("{sent} of {offered} sent in {seconds:.1} s, {rate}, {bytes}/s of payload");
        text.push_str(&wrap(&format!("messages     {what}"), "             "));
    }
    if messages.awaited > 0 {
        line!(text, "answers      {} of {} awaited", messages.answered, messages.awaited);
    }
    if outcome.probe == Probe::Echo {
        let Messages { lost, corrupt, reordered, .. } = messages;
        line!(text, "echoes       {lost} lost, {corrupt} corrupt, {reordered} out of order");
    }
    if let Some(compressed) = &outcome.compressed {
        line!(text, "compressed   {}", coded(compressed));
    }
    if let Some(counted) = &outcome.counted {
        let verdict = if counted.agrees { "agrees" } else { "disagrees" };
        let (load, server) = (counts(counted, |pair| pair.load), counts(counted, |pair| pair.server));
        line!(text, "server's own {verdict}: {server}");
        if load != server {
            line!(text, "             the load: {load}");
        }
    }
    if let Some(closed) = &outcome.closed_loop {
        let percent = closed.accounted * 100.0;
        line!(text, "closed loop  Little's law accounts for {percent:.1} % of the clients' time");
    }
}

/// What crossed the wire compressed.
fn coded(compressed: &Compressed) -> String {
    let Compressed { sent, received } = compressed;
    let direction = |coded: &Coded, done: &str| {
        let share = Unit::Processor.format(coded.share()?);
        Some(format!("{} messages {done}, to {share} of their bytes", coded.messages))
    };
    let directions: Vec<String> =
        [direction(sent, "sent"), direction(received, "received")].into_iter().flatten().collect();
    match directions.as_slice() {
        [] => "nothing: the server declined, or all messages were too short".to_owned(),
        directions => directions.join("\n             "),
    }
}

/// What one side counted.
fn counts(counted: &Reconciled, side: fn(Pair) -> u64) -> String {
    let handshakes = counted.handshakes.map(|pair| format!("{} connections", side(pair)));
    let open = counted.open.map(|pair| format!("{} at once", side(pair)));
    let messages = counted.messages.map(|pair| format!("{} messages", side(pair)));
    [handshakes, open, messages].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Every distribution of times, one below the other.
fn times(text: &mut String, outcome: &Outcome) {
    let latency = outcome.latency_us;
    let rows = [
        ("latency", latency.map(|latency| latency.corrected)),
        ("uncorrected", latency.and_then(|latency: LatencySummary| latency.uncorrected)),
        ("sent late by", outcome.schedule_lag_us),
        ("handshake", outcome.connections.handshake_us),
    ];
    line!(text, "");
    line!(text, "{:<13}{}", "", cells(["p50", "p90", "p99", "p99.9", "p99.99", "max"].map(String::from)));
    for (name, summary) in rows {
        if let Some(Summary { p50, p90, p99, p999, p9999, max, .. }) = summary {
            let figures = [p50, p90, p99, p999, p9999, max].map(|us| Unit::Microseconds.format(us));
            line!(text, "{name:<13}{}", cells(figures));
        }
    }
    if latency.is_some() {
        let due = outcome.sent_noun();
        line!(text, "latency: from when a {due} was due, uncorrected: from when it was sent;");
        line!(text, "         by {}", probed(outcome));
    }
    line!(text, "");
}

fn cells(cells: [String; 6]) -> String {
    cells.map(|cell| format!("{cell:>11}")).concat()
}

/// What was timed.
fn probed(outcome: &Outcome) -> String {
    match outcome.probe {
        Probe::Ping if outcome.probe_one_in == 1 => "pings behind the messages".to_owned(),
        Probe::Ping => format!("pings behind the messages of one client in {}", outcome.probe_one_in),
        Probe::Idle => "pings".to_owned(),
        Probe::Ack { every } if every.get() == 1 => "the answers to the messages".to_owned(),
        Probe::Ack { every } => format!("the answers, one to every {every} messages of a client"),
        Probe::Echo => "echoes".to_owned(),
        Probe::Sink => "nothing".to_owned(),
    }
}

fn server_use(text: &mut String, outcome: &Outcome, server: &ServerUse) {
    line!(text, "server       {}; {} threads", group::names(&server.pids), server.threads);
    let mut cpu = format!("{} of a core", Unit::Processor.format(server.cpu_share));
    if let Some(us) = server.cpu_us_per_message {
        cpu += &format!(", {} a {}", Unit::Microseconds.format(us), outcome.sent_noun());
    }
    if let Some(us) = server.handshake_cpu_us {
        cpu += &format!(", {} a handshake", Unit::Microseconds.format(us));
    }
    line!(text, "server CPU   {cpu}");
    let measured = |sample: &&Sample| sample.phase == Phase::Measuring;
    for thread in threads_of_server(outcome.timeline.iter().filter(measured)).iter().take(THREADS_MAX) {
        let share = Unit::Processor.format(thread.share);
        line!(text, "             {share:>7} in {} ({})", thread.name, thread.tid);
    }
    let mut held = format!("{} descriptors", server.descriptors);
    if let Some(switches) = server.switches_per_message {
        held += &format!(", {switches:.2} context switches a {}", outcome.sent_noun());
    }
    line!(text, "             {held}");
    let bytes = |bytes: u64| Unit::Bytes.format(bytes as f64);
    line!(
        text,
        "server PSS   {} idle, {} connected, {} loaded, {} at most",
        bytes(server.memory_idle.pss_bytes),
        bytes(server.memory_connected.pss_bytes),
        bytes(server.memory_loaded.pss_bytes),
        bytes(server.peak_pss_bytes)
    );
    if let Some(each) = bytes_a_client(
        server.memory_loaded.pss_bytes,
        server.memory_idle.pss_bytes,
        outcome.connections.opened,
    ) {
        line!(text, "             {each} a client, loaded");
    }
}

fn usage(text: &mut String, outcome: &Outcome) {
    let (machine, kernel) = (&outcome.machine, &outcome.kernel);
    let (before, after) = (kernel.idle.total_bytes(), kernel.loaded.total_bytes());
    if let Some(each) = bytes_a_client(after, before, outcome.connections.opened) {
        let grown = Unit::Bytes.format((after - before) as f64);
        line!(text, "kernel       {grown} more for the sockets of this machine, {each} a client");
    }
    let generator = &outcome.generator;
    let busiest = Unit::Processor.format(generator.busiest_thread);
    line!(text, "generator    {busiest} of a core in its busiest thread");
    let costs = costs(generator, outcome.sent_noun());
    if !costs.is_empty() {
        line!(text, "             {costs}");
    }
    if let Some(share) = outcome.generator_to_server() {
        line!(text, "             {share:.2} of the server's CPU");
    }
    for advice in advice::cheaper(outcome).iter().flatten() {
        line!(text, "             {advice}");
    }
    line!(
        text,
        "machine      {:.1} % busy, {:.1} % in interrupts, {:.1} % stolen",
        machine.busy * 100.0,
        machine.interrupts * 100.0,
        machine.stolen * 100.0
    );
    if let Some(others) = outcome.disturbed() {
        line!(text, "disturbed    other programs took {others:.1} processors");
    }
}

/// What the load cost its maker.
fn costs(generator: &Generator, sent: &str) -> String {
    let message =
        generator.cpu_us_per_message.map(|us| format!("{} a {sent}", Unit::Microseconds.format(us)));
    let client =
        generator.pss_bytes_per_client.map(|bytes| format!("{} a client", Unit::Bytes.format(bytes)));
    let processes = (generator.processes > 1).then(|| format!("{} processes", generator.processes));
    [message, client, processes].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn verdict(text: &mut String, outcome: &Outcome) {
    let Verdict { saturated, problems, stopped, broken, .. } = &outcome.verdict;
    let borne = if outcome.verdict.tolerated { failures(outcome) } else { Vec::new() };
    let all = [
        ("saturated", saturated.iter().collect::<Vec<_>>()),
        ("tolerated", borne.iter().collect()),
        ("problem", problems.iter().collect()),
        ("ended early", stopped.iter().collect()),
        ("broken", broken.iter().collect()),
    ];
    for (name, sentences) in all {
        for sentence in sentences {
            text.push_str(&wrap(&format!("{name:<13}{sentence}"), "             "));
        }
    }
    line!(text, "verdict      {}", word(&outcome.verdict, &borne));
}

fn word(verdict: &Verdict, borne: &[String]) -> &'static str {
    match verdict.conclusion() {
        Conclusion::Held if borne.is_empty() => "held",
        Conclusion::Held => "held; what failed stayed within --max-failures",
        Conclusion::Failed => "not held",
        Conclusion::Saturated => "does not count: the load generator was saturated, not the server",
        Conclusion::Broken => "does not count: a process of the load was lost",
        Conclusion::Interrupted if verdict.saturated.is_some() => {
            "interrupted, and does not count: the load generator was saturated"
        }
        Conclusion::Interrupted => "interrupted: the figures are of what was done until then",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::Failure;
    use crate::bench::outcome::tests::good;
    use crate::bench::timeline::{ServerSample, ThreadShare};
    use crate::measure::process::{Memory, Switches};

    /// A load of the largest figures that can be thought of.
    fn huge() -> Outcome {
        let summary = |us| Summary {
            count: 9,
            min: us,
            mean: us,
            p50: us,
            p90: us,
            p99: us * 2.0,
            p999: us * 3.0,
            p9999: us * 4.0,
            max: 9.9e9,
        };
        let memory = Memory { pss_bytes: 999_999_999_999, rss_bytes: 0 };
        let threads =
            (1..=9).map(|tid| ThreadShare { tid, name: "a-name-of-15-by".into(), share: 0.9 }).collect();
        let sample = |phase, share| Sample {
            phase,
            length_seconds: 1.0,
            server: Some(ServerSample {
                cpu_share: 9.0,
                threads: vec![ThreadShare { tid: 4_194_304, name: "loop".into(), share }],
                ..ServerSample::default()
            }),
            ..Sample::default()
        };
        let mut outcome = good();
        outcome.latency_us =
            Some(LatencySummary { corrected: summary(123_456.0), uncorrected: Some(summary(12.3)) });
        outcome.schedule_lag_us = Some(summary(0.2));
        (outcome.messages.sent, outcome.generator.busiest_thread) = (1_000_000, 0.9);
        outcome.connections.handshake_us = Some(summary(1e6));
        outcome.server = Some(ServerUse {
            pids: (4_194_290..4_194_304).collect(),
            memory_idle: Memory::default(),
            memory_connected: memory,
            memory_loaded: memory,
            peak_pss_bytes: memory.pss_bytes,
            handshake_cpu_us: Some(123_456.0),
            cpu_seconds: 1e6,
            cpu_share: 127.9,
            cpu_us_per_message: Some(123_456.0),
            threads: 12_345,
            descriptors: 1_000_000,
            switches: Switches { voluntary: 200_000, involuntary: 50_000 },
            switches_per_message: Some(0.25),
        });
        outcome.timeline = vec![sample(Phase::Connecting, 0.9), sample(Phase::Measuring, 0.25)];
        outcome.timeline[1].server.as_mut().unwrap().threads.extend::<Vec<ThreadShare>>(threads);
        outcome
    }

    #[test]
    fn percentiles_stand_below_each_other() {
        let text = text(&huge());
        let columns = |name: &str| {
            let line =
                text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            // Where each of the six columns ends, and what stands in it.
            let line: Vec<char> = line.chars().collect();
            (0..6)
                .map(|at| line[13 + at * 11..13 + (at + 1) * 11].iter().collect::<String>())
                .collect::<Vec<_>>()
        };
        let trimmed =
            |name: &str| columns(name).iter().map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(trimmed("             "), ["p50", "p90", "p99", "p99.9", "p99.99", "max"]);
        assert_eq!(trimmed("latency  ")[..3], ["123 ms", "123 ms", "247 ms"]);
        assert_eq!(trimmed("uncorrected  ")[2..4], ["24.6 µs", "36.9 µs"]);
        assert!(
            ["latency  ", "sent late by", "handshake"]
                .iter()
                .all(|name| columns(name).concat().starts_with(' '))
        );
    }

    #[test]
    fn a_server_is_told_by_process_thread_and_client() {
        let text = text(&huge());
        for part in [
            "4194290, 4194291",
            "4194292 and 11 more; 12345 threads",
            "a-name-of-15-by (1)",
            "--tick 1ms saved 40 % of the CPU",
            "10 GB a client",
            "1000000 descriptors, 0.25 context switches a message",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // The busiest three of the measured part, and not of the handshakes.
        assert_eq!(text.lines().filter(|line| line.contains(" % in a-name")).count(), 3, "{text}");
    }

    #[test]
    fn idle_clients_send_pings_not_messages() {
        let text = text(&Outcome { probe: Probe::Idle, ..huge() });
        for part in ["from when a ping was due", "123 ms a ping,", "context switches a ping", "by pings\n"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("a message"), "{text}");
    }

    #[test]
    fn a_load_says_whether_it_was_compressed() {
        let one = Coded { messages: 7, bytes: 1000, compressed_bytes: 250 };
        for (compressed, words) in [
            (Compressed { sent: one, received: Coded::default() }, "compressed   7 messages sent, to 25 %"),
            (Compressed { sent: one, received: one }, "\n             7 messages received, to 25 %"),
            (Compressed::default(), "compressed   nothing: the server declined"),
        ] {
            let text = text(&Outcome { compressed: Some(compressed), ..good() });
            assert!(text.contains(words), "{text}");
        }
        assert!(!text(&good()).contains("compressed"));
    }

    #[test]
    fn nothing_is_wider_than_80_columns() {
        for outcome in [huge(), good()] {
            let text = text(&outcome);
            assert!(text.lines().all(|line| line.chars().count() <= 80 && line.trim_end() == line), "{text}");
        }
    }

    /// The last lines of the text, from the one that begins so.
    fn from(outcome: &Outcome, begin: &str) -> String {
        let text = text(outcome);
        text[text.find(&format!("\n{begin}")).unwrap_or_else(|| panic!("{text}")) + 1..].to_owned()
    }

    #[test]
    fn the_verdict_is_the_last_word() {
        assert!(text(&good()).ends_with("\nverdict      held\n"));
        let mut outcome = good();
        outcome.verdict.problems = vec!["it was slow".into()];
        assert_eq!(from(&outcome, "problem"), "problem      it was slow\nverdict      not held\n");
        outcome.verdict.saturated = Some("it was late".into());
        let saturated = from(&outcome, "saturated");
        assert!(saturated.starts_with("saturated    it was late\nproblem "), "{saturated}");
        assert!(saturated.contains("\nverdict      does not count: the load generator"), "{saturated}");
        outcome.verdict.interrupted = true;
        assert!(from(&outcome, "verdict").starts_with("verdict      interrupted, and does not count"));
        outcome.verdict.interrupted = false;
        outcome.verdict.broken = Some("process 2 ended".into());
        assert!(from(&outcome, "broken").contains("does not count: a process of the load was lost"));
    }

    #[test]
    fn what_is_tolerated_is_told() {
        let mut outcome = good();
        (outcome.verdict.tolerated, outcome.messages.refused) = (true, 7);
        let failure = Failure { count: 3, example: "connection refused by the peer ".repeat(4) };
        outcome.connections.failed.insert("refused".into(), failure);
        let told = from(&outcome, "tolerated");
        assert!(told.starts_with("tolerated    3 of 103 attempts to connect failed (refused: "), "{told}");
        assert!(told.contains("\ntolerated    7 messages could not be sent"), "{told}");
        assert!(told.ends_with("\nverdict      held; what failed stayed within --max-failures\n"), "{told}");
        assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
        outcome.connections.failed.clear();
        outcome.messages.refused = 0;
        assert!(text(&outcome).ends_with("\nverdict      held\n"));
    }
}
