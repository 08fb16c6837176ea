//! Whether a load counts: what went wrong, and whether that was the generator's own fault.

use std::time::Duration;

use super::outcome::{Connections, Failure, Outcome, ServerUse, Verdict};
use super::plan::Probe;
use super::timeline::Sample;
use crate::measure::group;

/// Schedule lag above this share of the latency limit: the generator was late, not the server.
pub(crate) const LAG_SHARE_MAX: f64 = 0.10;
/// A generator's core above this share has no room to be on time.
pub(crate) const CORE_SHARE_MAX: f64 = 0.80;
/// Sent below this share of what was due: the load was not the one that was asked for.
const SENT_SHARE_MIN: f64 = 0.999;

/// Fewer messages may have been sent before the measurement of the server began, and served after it ended.
const SENT_MIN: u64 = 10;

/// Little's law off by more than this: the generator lost time or answers.
const LITTLE_ERROR_MAX: f64 = 0.05;

/// Of a run that was cut shorter, the shares say nothing: it may be microseconds.
const SHARES_FROM_SECONDS: f64 = 1.0;

/// Judges an outcome of whose verdict it is known only why it ended, and what is tolerated.
pub(crate) fn judge(outcome: &Outcome, latency_limit: Duration) -> Verdict {
    let is_short = outcome.verdict.is_cut() && outcome.measured_seconds < SHARES_FROM_SECONDS;
    let saturated = if is_short { None } else { saturation(outcome, latency_limit) };
    Verdict { saturated, problems: problems(outcome, latency_limit), ..outcome.verdict.clone() }
}

/// Whether the generator was too late or too busy in this second.
pub(crate) fn is_saturated(sample: &Sample, latency_limit: Duration) -> bool {
    let lag_max_us = latency_limit.as_secs_f64() * LAG_SHARE_MAX * 1e6;
    sample.lag_p99_us.is_some_and(|lag| lag > lag_max_us)
        || (sample.sent > 0 && sample.generator.busiest_thread > CORE_SHARE_MAX)
}

fn saturation(outcome: &Outcome, latency_limit: Duration) -> Option<String> {
    let lag_max = Duration::from_secs_f64(latency_limit.as_secs_f64() * LAG_SHARE_MAX);
    if let Some(lag) = outcome.schedule_lag_us.filter(|lag| lag.p99 > lag_max.as_secs_f64() * 1e6) {
        let (late, most) = (lag.p99 / 1e3, lag_max.as_secs_f64() * 1e3);
        return Some(format!("messages were sent up to {late:.1} ms late (p99), more than {most:.1} ms"));
    }
    let busiest = outcome.generator.busiest_thread;
    let opened = outcome.connections.opened;
    let disconnected = outcome.connections.disconnected_count();
    // When nobody is left the load ends, perhaps after microseconds, of which a share says nothing.
    if busiest > CORE_SHARE_MAX && disconnected < u64::from(opened) {
        return Some(format!("its busiest thread used {:.0} % of a processor", busiest * 100.0));
    }
    // Threads of several processes may share a processor, each with little.
    if let Some(share) = outcome
        .generator
        .pinned_share
        .filter(|share| *share > CORE_SHARE_MAX && outcome.generator.processes > 1)
    {
        return Some(format!("it used {:.0} % of the processors to which it is pinned", share * 100.0));
    }
    let messages = &outcome.messages;
    if let Some(closed) = outcome.closed_loop.filter(|_| disconnected == 0 && messages.unanswered == 0)
        // With few cycles the cut ones at both ends weigh more than that.
        && closed.cycles * LITTLE_ERROR_MAX >= 1.0
        && (closed.accounted - 1.0).abs() > LITTLE_ERROR_MAX
    {
        let (percent, law) = (closed.accounted * 100.0, "Little's law");
        return Some(format!(
            "{law} accounts for {percent:.0} % of the clients' time: it was late, or lost count"
        ));
    }
    // Who cuts a load short does not wait for the last messages to be sent either.
    let explained = messages.refused > 0 || !all_stayed(&outcome.connections) || outcome.verdict.is_cut();
    if !explained && (messages.sent as f64) < messages.offered as f64 * SENT_SHARE_MIN {
        return Some(format!("it sent {} of the {} messages that were due", messages.sent, messages.offered));
    }
    None
}

fn problems(outcome: &Outcome, latency_limit: Duration) -> Vec<String> {
    let mut problems = if outcome.verdict.tolerated { Vec::new() } else { failures(outcome) };
    // Who took time for the handshakes is the server: on a machine that is all taken, what it did for the messages of a
    // short load may have been seen too late.
    let is_idle = |server: &&ServerUse| {
        server.cpu_us_per_message == Some(0.0) && server.handshake_cpu_us.is_none_or(|us| us == 0.0)
    };
    if let Some(server) =
        outcome.server.as_ref().filter(|_| outcome.messages.sent >= SENT_MIN).filter(is_idle)
    {
        let which = group::names(&server.pids);
        problems.push(format!("{which} took no CPU time under the load: it is not the server"));
    }
    let limit_us = latency_limit.as_secs_f64() * 1e6;
    if let Some(latency) = outcome.latency_us.filter(|latency| latency.corrected.p99 > limit_us) {
        let (p99, limit) = (latency.corrected.p99 / 1e3, limit_us / 1e3);
        problems.push(format!("p99 latency was {p99:.1} ms, above the limit of {limit:.0} ms"));
    }
    problems
}

/// Connections and messages that failed, whether or not that is tolerated.
pub(crate) fn failures(outcome: &Outcome) -> Vec<String> {
    let Outcome { connections, messages, .. } = outcome;
    let mut problems = Vec::new();
    let opened = u64::from(connections.opened) + u64::from(connections.reconnected);
    let attempts = opened + connections.failed_count();
    for (kind, Failure { count, example }) in &connections.failed {
        problems.push(format!("{count} of {attempts} attempts to connect failed ({kind}: {example})"));
    }
    if let (false, dropped @ 1..) = (connections.failed.is_empty(), outcome.kernel.listen_overflows) {
        problems
            .push(format!("the kernel dropped {dropped} connections: the backlog of a listener was full"));
    }
    for (code, failure) in &connections.disconnected {
        problems.push(format!("{} connections ended with {code} ({})", failure.count, failure.example));
    }
    // Who cuts a load short does not wait for the last answers.
    let (unanswered, lost) = match outcome.probe {
        _ if outcome.verdict.is_cut() => (0, 0),
        Probe::Echo => (0, messages.lost),
        _ => (messages.unanswered, 0),
    };
    let is_silent = messages.answered == 0;
    let not_answered = match outcome.probe {
        Probe::Ping if is_silent => {
            "messages were not answered: where a server answers no pings, --probe echo or --ack-every time what it does answer"
        }
        _ => "messages were not answered",
    };
    let not_echoed = match is_silent {
        true => "echoes were lost: a server that sends nothing back is timed by --probe ping",
        false => "echoes were lost",
    };
    let counts = [
        (missed(outcome), "messages that were due were not sent: their clients were not connected"),
        (messages.refused, "messages could not be sent: the server did not read"),
        (unanswered, not_answered),
        (lost, not_echoed),
        (messages.reordered, "echoes came out of order"),
        (messages.corrupt, "messages came that are no echo of what was sent"),
    ];
    problems
        .extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    problems
}

/// Messages of clients without a connection: no latency tells of them. When a load is cut short, others are not sent either.
fn missed(outcome: &Outcome) -> u64 {
    let Outcome { connections, messages, .. } = outcome;
    match all_stayed(connections) || outcome.verdict.is_cut() {
        true => 0,
        false => messages.offered.saturating_sub(messages.sent + messages.refused),
    }
}

/// Whether every client was connected at the first attempt, and to the end.
fn all_stayed(Connections { clients, opened, failed, disconnected, .. }: &Connections) -> bool {
    opened == clients && failed.is_empty() && disconnected.is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{good, idle_server, summary};
    use super::super::outcome::{ClosedLoop, Conclusion, Generator, LatencySummary};
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    #[test]
    fn a_good_load_counts() {
        let verdict = judge(&good(), LIMIT);
        assert_eq!(verdict, Verdict::default());
        assert!(verdict.held());
    }

    #[test]
    fn a_late_generator_is_saturated() {
        let late = Outcome { schedule_lag_us: Some(summary(10_001.0)), ..good() };
        let verdict = judge(&late, LIMIT);
        assert!(verdict.saturated.as_ref().is_some_and(|why| why.contains("late")), "{verdict:?}");
        assert!(!verdict.held() && verdict.problems.is_empty());
        // A tenth of the limit, whatever the limit.
        assert!(judge(&late, LIMIT * 2).held());
    }

    #[test]
    fn a_busy_generator_is_saturated() {
        let busy =
            Outcome { generator: Generator { busiest_thread: 0.81, ..Generator::default() }, ..good() };
        assert!(judge(&busy, LIMIT).saturated.unwrap().contains("81 %"));
        let crowded =
            Generator { processes: 3, busiest_thread: 0.3, pinned_share: Some(0.9), ..Generator::default() };
        assert!(judge(&Outcome { generator: crowded, ..good() }, LIMIT).saturated.unwrap().contains("90 %"));
        let mut deserted = busy;
        deserted.connections.disconnected.insert(1003, Failure { count: 100, example: "text".into() });
        let verdict = judge(&deserted, LIMIT);
        assert!(verdict.saturated.is_none() && verdict.problems[0].contains("1003"), "{verdict:?}");
    }

    #[test]
    fn unsent_messages_are_the_generators_fault_only_if_nothing_else_explains_them() {
        let mut outcome = good();
        outcome.messages.sent = 998;
        assert!(judge(&outcome, LIMIT).saturated.unwrap().contains("998 of the 1000"));
        outcome.messages.refused = 2;
        let verdict = judge(&outcome, LIMIT);
        assert_eq!(verdict.saturated, None);
        assert_eq!(verdict.problems, ["2 messages could not be sent: the server did not read"]);
    }

    #[test]
    fn each_failure_of_the_server_is_named() {
        let mut outcome = good();
        outcome
            .connections
            .failed
            .insert("refused".into(), Failure { count: 3, example: "connection refused".into() });
        outcome.connections.disconnected.insert(1006, Failure { count: 2, example: "lost".into() });
        outcome.kernel.listen_overflows = 7;
        outcome.messages.unanswered = 4;
        outcome.messages.reordered = 5;
        outcome.messages.corrupt = 6;
        outcome.latency_us = Some(LatencySummary { corrected: summary(100_001.0), uncorrected: None });
        let problems = judge(&outcome, LIMIT).problems.join("\n");
        for part in [
            "3 of 103",
            "refused",
            "2 connections ended",
            "1006",
            "4 messages",
            "dropped 7",
            "5 echoes",
            "6 messages came",
            "100.0 ms",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }

    #[test]
    fn messages_of_clients_that_were_gone_are_missed() {
        let mut outcome = good();
        (outcome.messages.sent, outcome.messages.refused) = (690, 10);
        let told = |outcome: &Outcome| {
            failures(outcome).iter().any(|words| words.starts_with("300 messages that were due"))
        };
        assert!(!told(&outcome), "the load sent too few");
        assert!(judge(&outcome, LIMIT).saturated.is_none(), "it was refused some");
        // They came at a later attempt.
        outcome.messages.refused = 0;
        outcome.messages.offered = 990;
        outcome.connections.failed.insert("refused".into(), Failure { count: 30, example: "refused".into() });
        assert!(told(&outcome) && judge(&outcome, LIMIT).saturated.is_none());
        outcome.connections.failed.clear();
        outcome.connections.disconnected.insert(1006, Failure { count: 30, example: "lost".into() });
        assert!(told(&outcome));
        outcome.verdict.interrupted = true;
        assert!(!told(&outcome));
    }

    #[test]
    fn a_server_that_takes_no_time_is_none_unless_next_to_nothing_was_sent() {
        let server = ServerUse { cpu_us_per_message: Some(0.0), ..idle_server() };
        let mut outcome = Outcome { server: Some(server), ..good() };
        assert!(judge(&outcome, LIMIT).problems[0].contains("process 7 took no CPU time"));
        outcome.server.as_mut().unwrap().handshake_cpu_us = Some(90.0);
        assert!(judge(&outcome, LIMIT).held());
        outcome.server.as_mut().unwrap().handshake_cpu_us = Some(0.0);
        assert!(judge(&outcome, LIMIT).problems[0].contains("process 7 took no CPU time"));
        (outcome.messages.sent, outcome.messages.offered) = (9, 9);
        assert!(judge(&outcome, LIMIT).held());
    }

    #[test]
    fn who_never_answers_may_have_been_asked_in_the_wrong_way() {
        let mut outcome = good();
        (outcome.messages.answered, outcome.messages.unanswered) = (0, 1000);
        assert!(judge(&outcome, LIMIT).problems[0].contains("--probe echo or --ack-every"));
        (outcome.probe, outcome.messages.lost) = (Probe::Echo, 1000);
        assert!(judge(&outcome, LIMIT).problems[0].contains("--probe ping"));
    }

    #[test]
    fn a_closed_loop_obeys_littles_law() {
        let closed = |cycles, accounted| {
            let closed_loop =
                Some(ClosedLoop { cycles, clients_by_littles_law: 100.0 * accounted, accounted });
            judge(&Outcome { closed_loop, ..good() }, LIMIT)
        };
        assert!(closed(1000.0, 0.96).held() && closed(1000.0, 1.04).held());
        for accounted in [0.94, 1.06] {
            assert!(closed(1000.0, accounted).saturated.unwrap().contains("Little's law"));
            assert!(closed(10.0, accounted).held());
        }
    }

    #[test]
    fn what_is_tolerated_is_no_problem_and_a_limit_that_was_passed_is_one() {
        let mut outcome = good();
        (outcome.probe, outcome.messages.lost) = (Probe::Echo, 7);
        assert_eq!(judge(&outcome, LIMIT).problems, ["7 echoes were lost"]);
        outcome.verdict.tolerated = true;
        assert!(judge(&outcome, LIMIT).held());
        assert_eq!(judge(&outcome, LIMIT).conclusion(), Conclusion::Held);
        outcome.verdict.stopped = Some("11 of 1000 messages failed, more than 1 %".into());
        let verdict = judge(&outcome, LIMIT);
        assert!(!verdict.held() && verdict.problems.is_empty());
        assert_eq!(verdict.conclusion(), Conclusion::Failed);
    }

    #[test]
    fn an_interrupted_load_did_not_hold() {
        let mut outcome = good();
        outcome.verdict.interrupted = true;
        outcome.messages.sent = 10;
        outcome.messages.unanswered = 1;
        let verdict = judge(&outcome, LIMIT);
        assert!(verdict.saturated.is_none() && verdict.problems.is_empty() && !verdict.held());
        assert_eq!(verdict.conclusion(), Conclusion::Interrupted);
    }

    #[test]
    fn a_load_that_was_cut_short_is_saturated_if_it_was_long_enough_to_tell() {
        for is_user in [true, false] {
            let mut outcome = good();
            outcome.generator.busiest_thread = 0.98;
            outcome.verdict.interrupted = is_user;
            outcome.verdict.stopped = (!is_user).then(|| "p99 latency was 9 ms".into());
            assert!(judge(&outcome, LIMIT).saturated.is_some(), "interrupted: {is_user}");
            outcome.measured_seconds = 0.9;
            assert_eq!(judge(&outcome, LIMIT).saturated, None, "interrupted: {is_user}");
        }
    }
}
