//! What is asked of every row: a server that did all right, and what each wrong alone makes of it.

use std::path::PathBuf;

use super::*;
use crate::cert::Files;
use crate::compare::contestant::Contestant;
use crate::faults::ROWS;

/// All that was seen of a server in a row.
struct Seen {
    before: Before,
    during: During,
    after: After,
    heard: Heard,
    death: Option<ServerError>,
}

/// Something that a server did wrong.
type Wrong = fn(&mut Seen);

fn window() -> Window {
    Window {
        p99: Some(Duration::from_millis(2)),
        lag_p99: Duration::ZERO,
        answered: 500,
        waiting: 0,
        lost: 0,
        corrupt: 0,
        disconnected: 0,
        going_away: 0,
    }
}

/// Of a server that did all right.
fn seen() -> Seen {
    let memory = Holding { pss_bytes: 10 << 20, virtual_bytes: 100 << 20 };
    let gauge = Gauge { memory, descriptors: 110 };
    let findings = Findings { connections: 100, sent_bytes: 1000, ..Findings::default() };
    Seen {
        before: Before { window: window(), gauge, account: None },
        during: During { window: window(), peak: memory, shares: Shares::default(), findings, finale: false },
        after: After { gauge, took: Duration::ZERO, idle_cpu: 0.001, window: window(), account: None },
        heard: Heard::default(),
        death: None,
    }
}

/// The verdict on such a server, when `change` was seen of it too.
fn judged(timed: bool, change: impl FnOnce(&mut Seen)) -> RowReport {
    judged_in(&ROWS[0], timed, change)
}

fn judged_in(row: &'static Row, timed: bool, change: impl FnOnce(&mut Seen)) -> RowReport {
    let none = PathBuf::new;
    let stage = Stage {
        binary: none(),
        certificate: Files { ca_cert: none(), ca_key: none(), cert: none(), key: none() },
        apart: None,
        server: Contestant::Webscale,
        flags: Vec::new(),
    };
    let trial = Trial { row, stage: &stage, scale: Scale::Full, timed, descriptors: 1024 };
    let mut seen = seen();
    change(&mut seen);
    let Seen { before, during, after, heard, death } = seen;
    trial.judged(&before, during, &after, death, &heard)
}

fn slow(seen: &mut Seen) {
    seen.during.window.p99 = Some(Duration::from_millis(8));
}

#[test]
fn a_server_that_does_all_right_passes() {
    assert_eq!(judged(true, |_| {}).verdict, Verdict::Passed);
    assert_eq!(
        judged(true, |seen| seen.during.window.p99 = Some(Duration::from_millis(7))).verdict,
        Verdict::Passed
    );
}

#[test]
fn each_wrong_alone_fails_the_row_and_is_named() {
    let wrongs: [(&str, Wrong); 17] = [
        ("honest clients disconnected 1", |seen| seen.during.window.disconnected = 1),
        ("honest clients disconnected 1", |seen| seen.before.window.disconnected = 1),
        ("honest clients disconnected 1", |seen| seen.after.window.disconnected = 1),
        ("honest messages lost 2", |seen| seen.during.window.lost = 2),
        ("honest messages lost 1", |seen| seen.after.window.waiting = 1),
        ("honest echoes corrupt 1", |seen| seen.during.window.corrupt = 1),
        ("answered after five seconds or more 3", |seen| seen.during.window.waiting = 3),
        ("honest p99 8.00 ms (at most 7.00 ms)", slow),
        ("honest p99", |seen| seen.during.window.p99 = None),
        ("peak memory by what was sent", |seen| seen.during.peak.pss_bytes = 20 << 20),
        ("descriptors left 111 (wanted 110)", |seen| seen.after.gauge.descriptors = 111),
        ("memory left behind", |seen| seen.after.gauge.memory.pss_bytes = 19 << 20),
        ("idle CPU 2.0 %", |seen| seen.after.idle_cpu = 0.02),
        ("panics 1", |seen| seen.heard.panics = 1),
        ("log lines in a second 11", |seen| seen.heard.lines_a_second = 11),
        ("said nothing", |seen| seen.death = Some(ServerError::Silent)),
        ("what the row itself asks 1", |seen| {
            seen.during.findings.figures.push(Figure::count(
                "what the row itself asks",
                1,
                Bar::Exactly(0.0),
            ));
        }),
    ];
    for (named, wrong) in wrongs {
        let Verdict::Failed(why) = judged(true, wrong).verdict else { panic!("{named}") };
        assert!(matches!(&why[..], [why] if why.contains(named)), "{named}: {why:?}");
    }
}

/// The rows that honest clients may come out of so much slower than the 10 ms before.
fn let_through(p99: Duration) -> Vec<u8> {
    let slowed = |row: &&'static Row| {
        judged_in(row, true, |seen| {
            seen.before.window.p99 = Some(Duration::from_millis(10));
            seen.during.window.p99 = Some(p99);
        })
    };
    ROWS.iter().filter(|row| slowed(row).verdict == Verdict::Passed).map(|row| row.number).collect()
}

#[test]
fn only_one_row_may_slow_honest_clients_to_three_times_and_one_has_them_wait() {
    assert_eq!(let_through(Duration::from_millis(25)), [5, 20]);
    assert_eq!(let_through(Duration::from_secs(2)), [20]);
}

#[test]
fn a_rows_own_memory_has_its_own_bar() {
    let with = |limit: fn(&mut Findings), pss_bytes: u64| {
        judged(true, |seen| {
            limit(&mut seen.during.findings);
            seen.during.findings.sent_bytes = 1 << 30;
            seen.during.peak.pss_bytes = pss_bytes;
        })
        .verdict
    };
    let limits: [fn(&mut Findings); 3] = [
        |findings| findings.memory_at_most = Some(15e6),
        |findings| findings.memory_budget = Some(15e6),
        |findings| findings.memory_each_at_most = Some(20e3),
    ];
    for limit in limits {
        assert_eq!(with(limit, 14_000_000), Verdict::Passed);
        assert!(matches!(with(limit, 16_000_000), Verdict::Failed(_)));
    }
    let address_space = |seen: &mut Seen| {
        seen.during.findings.memory_each_at_most = Some(20e3);
        seen.during.peak.virtual_bytes = 1 << 30;
    };
    assert!(matches!(judged(true, address_space).verdict, Verdict::Failed(_)));
}

#[test]
fn what_the_server_did_not_count_fails_the_row() {
    let counted = |closed: u64| {
        let text = format!("webscale_connections_accepted_total {}\n", 101 + closed);
        let ended = format!("webscale_connections_closed_total{{cause=\"timeout\"}} {closed}\n");
        Some(Counts::parse(&(text + &ended)))
    };
    let with = |closed| {
        judged(true, |seen| {
            (seen.before.account, seen.after.account) = (counted(0), counted(closed));
            seen.during.findings.ends = vec![("timeout", 5)];
        })
        .verdict
    };
    assert_eq!(with(5), Verdict::Passed);
    assert!(matches!(with(4), Verdict::Failed(_)));
}

#[test]
fn noise_excuses_slowness_and_nothing_else() {
    let noisy = |change: fn(&mut Seen)| {
        judged(true, |seen| {
            seen.during.shares.waited = 0.5;
            change(seen);
        })
        .verdict
    };
    assert!(matches!(noisy(slow), Verdict::Disturbed(_)));
    assert!(matches!(noisy(|seen| seen.during.window.disconnected = 1), Verdict::Failed(_)));
    let late = |seen: &mut Seen| {
        slow(seen);
        seen.during.window.lag_p99 = Duration::from_millis(4);
    };
    assert!(matches!(judged(true, late).verdict, Verdict::Disturbed(_)));
    let slow_before = |seen: &mut Seen| seen.before.window.p99 = Some(Duration::from_millis(30));
    assert!(matches!(judged(true, slow_before).verdict, Verdict::Disturbed(_)));
}

#[test]
fn time_is_told_where_it_is_not_judged() {
    let report = judged(false, |seen| {
        seen.before.window.p99 = Some(Duration::from_millis(30));
        slow(seen);
    });
    assert_eq!(report.verdict, Verdict::Passed);
    assert!(report.figures.iter().any(|figure| figure.to_string() == "honest p99 8.00 ms"));
}
