//! That the rows judge: each with what it sees of a server that does right, and of one that does not.

use std::time::Duration;

use super::super::attacker::{End, Toll};
use super::super::figure::Figure;
use super::super::settings::Scale::Tenth;
use super::super::verdict::judge;
use super::*;

/// What each row makes of connections that ended in one way.
type Judged = fn(&Toll) -> Vec<Figure>;

/// A row, how many connections there are of it, how they should end, and how not.
const ROWS_OF_ONE_END: [(u8, Judged, u64, End, End); 15] = [
    (1, |toll| slowloris::found(Tenth, toll, 0.0).figures, 1_000, End::Dropped, End::Open),
    (2, |toll| slowloris::found_of_heads(Tenth, toll).figures, 1_000, End::Answered(408), End::Answered(101)),
    (3, |toll| trickle::judged(Tenth, toll).figures, 100, End::Closed(1008), End::Closed(1002)),
    (4, |toll| trickle::judged(Tenth, toll).figures, 100, End::Closed(1008), End::Open),
    (6, |toll| flood::found_of_pings(Tenth, toll).figures, 10, End::Dropped, End::Open),
    (7, |toll| length::found_of_fragments(toll).figures, 9, End::Closed(1009), End::Open),
    (
        10,
        |toll| malformed::judged(toll, String::new(), 1002).figures,
        9,
        End::Closed(1002),
        End::Closed(1000),
    ),
    (11, |toll| head::found_of_long(toll).figures, 9, End::Answered(431), End::Dropped),
    (
        12,
        |toll| head::figures_of_smuggling(toll, &Toll::default()).to_vec(),
        9,
        End::Answered(400),
        End::Answered(101),
    ),
    (13, |toll| malformed::judged(toll, String::new(), 1007).figures, 9, End::Closed(1007), End::Open),
    (16, |toll| resets::figures_of_storm(toll).to_vec(), 90, End::Left, End::Refused),
    (19, |toll| wilful::figures_of_panics(toll, toll.in_time()).to_vec(), 9, End::Closed(1011), End::Dropped),
    (20, |toll| wilful::figures_of_blocks(Tenth, toll, SOON, SOON).to_vec(), 4, End::Closed(1000), End::Open),
    (21, |toll| ending::figures_of_end(toll, 1.0).to_vec(), 9, End::Closed(1001), End::Dropped),
    (22, |toll| ending::figures_of_reloads(Tenth, toll, 11, 1).to_vec(), 9, End::Closed(1000), End::Refused),
];

/// A row that asks for all of its attackers.
const ASKS_FOR_ALL: [u8; 5] = [1, 2, 3, 4, 6];

const SOON: Option<Duration> = Some(Duration::from_secs(1));

fn verdict(figures: &[Figure]) -> &'static str {
    judge(figures, Vec::new()).word()
}

#[test]
fn one_connection_that_ends_otherwise_fails_the_row() {
    for (number, judged, count, right, wrong) in ROWS_OF_ONE_END {
        let verdict = |ends: &[(End, u64)]| verdict(&judged(&Toll::made_up(ends)));
        assert_eq!(verdict(&[(right, count)]), "passed", "row {number}");
        assert_eq!(verdict(&[(right, count - 1), (wrong, 1)]), "FAILED", "row {number}");
        assert_eq!(verdict(&[(wrong, count)]), "FAILED", "row {number}");
    }
}

#[test]
fn an_attack_that_was_not_made_says_nothing() {
    for (number, judged, count, right, _) in ROWS_OF_ONE_END {
        if ASKS_FOR_ALL.contains(&number) {
            assert_eq!(verdict(&judged(&Toll::made_up(&[(right, count - 1)]))), "disturbed", "row {number}");
        }
    }
}

#[test]
fn who_comes_too_late_for_the_attack_is_no_fault_of_the_server() {
    for (number, judged, count, right, wrong) in ROWS_OF_ONE_END {
        let verdict = |ends: &[(End, u64)]| {
            let toll = Toll::made_up(ends);
            let figures = [judged(&toll), toll.findings().figures()].concat();
            verdict(&figures)
        };
        let few = [(right, count / 4), (End::Late, count - count / 4)];
        assert_eq!(verdict(&few), "disturbed", "row {number}");
        assert_eq!(verdict(&[(wrong, 1), few[0], few[1]]), "FAILED", "row {number}");
    }
}

#[test]
fn a_server_that_is_late_fails_the_rows_about_deadlines() {
    for (number, judged, count, right, _) in ROWS_OF_ONE_END {
        let longest = Duration::from_secs(11);
        let late = Toll { longest, ..Toll::made_up(&[(right, count)]) };
        let expected = if ASKS_FOR_ALL.contains(&number) { "FAILED" } else { "passed" };
        assert_eq!(verdict(&judged(&late)), expected, "row {number}");
    }
}

#[test]
fn crumbs_are_to_be_taken_to_the_last() {
    let ends = |whole, peace, refused| {
        let ends = [(End::Closed(1003), whole), (End::Closed(1000), peace), (End::Closed(1009), refused)];
        verdict(&length::figures_of_crumbs(&Toll::made_up(&ends)))
    };
    assert_eq!((ends(2, 2, 0), ends(1, 2, 1), ends(2, 1, 1)), ("passed", "FAILED", "FAILED"));
    let late = Toll::made_up(&[(End::Closed(1003), 2), (End::Closed(1000), 1), (End::Late, 1)]);
    assert_eq!(verdict(&length::figures_of_crumbs(&late)), "disturbed");
}

#[test]
fn bombs_are_refused_and_what_is_just_at_the_limit_is_taken() {
    let judged = |too_long, at_the_limit| {
        let toll = |end| Toll::made_up(&[(end, 9)]);
        verdict(&length::figures_of_bombs(&toll(too_long), &toll(at_the_limit)))
    };
    let (refused, taken) = (End::Closed(1009), End::Closed(1003));
    assert_eq!(judged(refused, taken), "passed");
    assert_eq!((judged(taken, taken), judged(refused, refused)), ("FAILED", "FAILED"));
}

#[test]
fn a_flood_has_to_be_one() {
    let judged = |begun: u64| {
        let toll = Toll { seconds: 1.0, ..Toll::made_up(&[(End::Left, 100), (End::Late, begun - 100)]) };
        verdict(&flood::found_of_flood(&toll, 100.0).figures())
    };
    assert_eq!((judged(270), judged(269)), ("passed", "disturbed"));
}

#[test]
fn each_way_to_close_has_its_end() {
    let ends = [End::Closed(1000), End::Closed(1002), End::Dropped, End::Refused, End::Open];
    for race in resets::races() {
        for end in ends {
            let expected = if end == race.end { "passed" } else { "FAILED" };
            assert_eq!(verdict(&[race.figure(&Toll::made_up(&[(race.end, 8), (end, 1)]))]), expected);
        }
    }
}

#[test]
fn heads_for_another_version_are_told_so() {
    let (bad, version) = (End::Answered(400), End::Answered(426));
    let judged = |ambiguous, of_version| {
        let toll = |end| Toll::made_up(&[(end, 9)]);
        verdict(&head::figures_of_smuggling(&toll(ambiguous), &toll(of_version)))
    };
    assert_eq!(
        (judged(bad, version), judged(bad, bad), judged(version, version)),
        ("passed", "FAILED", "FAILED")
    );
}

#[test]
fn strangers_are_told_why() {
    let toll =
        |end, alerts| Toll { received_bytes: alerts * strangers::ALERT_BYTES, ..Toll::made_up(&[(end, 9)]) };
    let old =
        |end, alerts, flood| verdict(&handshake::figures_of_old_tls(&toll(end, alerts), &toll(flood, 0)));
    assert_eq!(old(End::Dropped, 9, End::Dropped), "passed");
    assert_eq!(old(End::Dropped, 8, End::Dropped), "FAILED");
    assert_eq!(old(End::Open, 9, End::Dropped), "FAILED");
    assert_eq!(old(End::Dropped, 9, End::Open), "FAILED");
    let others = |end, alerts, h2| verdict(&strangers::figures_of_others(&toll(end, alerts), &toll(h2, 0)));
    assert_eq!(others(End::Dropped, 9, End::Refused), "passed");
    assert_eq!(others(End::Dropped, 8, End::Refused), "FAILED");
    assert_eq!(others(End::Open, 9, End::Refused), "FAILED");
    assert_eq!(others(End::Dropped, 9, End::Open), "FAILED");
}

#[test]
fn what_the_server_says_of_itself_has_to_agree() {
    let toll = |end| Toll::made_up(&[(end, 9)]);
    assert_eq!(verdict(&wilful::figures_of_panics(&toll(End::Closed(1011)), 8)), "FAILED");
    let health =
        |red, green| verdict(&wilful::figures_of_blocks(Tenth, &toll(End::Closed(1000)), red, green));
    assert_eq!((health(None, SOON), health(SOON, None)), ("FAILED", "FAILED"));
    assert_eq!(health(Some(Duration::from_secs(9)), SOON), "FAILED");
    let reloads = |changed, refused| {
        verdict(&ending::figures_of_reloads(Tenth, &toll(End::Closed(1000)), changed, refused))
    };
    assert_eq!((reloads(10, 1), reloads(11, 0)), ("FAILED", "FAILED"));
    assert_eq!(verdict(&ending::figures_of_end(&toll(End::Closed(1001)), 13.0)), "FAILED");
}

#[test]
fn a_server_that_says_goodbye_for_an_hour_has_to_be_forced() {
    let force = |dropped, told, seconds| {
        let toll = Toll::made_up(&[(End::Dropped, dropped), (End::Closed(1001), told)]);
        verdict(&ending::figures_of_force(&toll, seconds))
    };
    assert_eq!((force(99, 1, 0.1), force(89, 11, 0.1), force(99, 1, 1.1)), ("passed", "FAILED", "FAILED"));
}

#[test]
fn certificates_are_told_apart() {
    let certificates = |expired, valid| {
        let toll = |end| Toll::made_up(&[(end, 9)]);
        verdict(&handshake::figures_of_certificates(&toll(expired), &toll(valid)))
    };
    assert_eq!(certificates(End::Dropped, End::Closed(1000)), "passed");
    assert_eq!(certificates(End::Closed(1000), End::Closed(1000)), "FAILED");
    assert_eq!(certificates(End::Dropped, End::Refused), "FAILED");
}

#[test]
fn messages_wait_and_pings_do_not() {
    let queue = |end, pinged, in_hand| {
        let pinged = Toll { longest: Duration::from_secs(1), ..Toll::made_up(&[(pinged, 1)]) };
        verdict(&wilful::figures_of_queue(&Toll::made_up(&[(end, 1504)]), &pinged, in_hand))
    };
    let well = End::Closed(1000);
    assert_eq!(queue(well, well, 1028), "passed");
    assert_eq!(queue(well, well, 1029), "FAILED");
    assert_eq!(queue(well, well, 1027), "disturbed");
    assert_eq!(queue(well, End::Open, 1028), "FAILED");
    assert_eq!(queue(End::Closed(1013), well, 1028), "FAILED");
}

#[test]
fn who_does_not_read_is_to_be_let_go_in_time() {
    let toll = Toll::made_up(&[(End::Open, 100)]);
    let judged = |held, took| {
        let seen = unread::Seen { held, took, have_come: true, kernel_bytes: 0 };
        let late = unread::Seen { have_come: false, ..seen };
        assert_eq!(held > 0, verdict(&unread::figures(Tenth, &toll, &late)) == "disturbed");
        verdict(&unread::figures(Tenth, &toll, &seen))
    };
    assert_eq!((judged(0, 8.0), judged(1, 8.0), judged(0, 26.0)), ("passed", "FAILED", "FAILED"));
}

#[test]
fn who_vanished_is_to_be_reaped_and_who_waited_to_be_served() {
    let toll = Toll::made_up(&[(End::Left, 100)]);
    let reaped = |count, seconds| verdict(&vanished::figures(Tenth, &toll, count, seconds));
    assert_eq!((reaped(100, 8.0), reaped(99, 8.0), reaped(100, 11.0)), ("passed", "FAILED", "FAILED"));
    let released = |served, seconds| verdict(&exhaustion::figures_of_release(served, seconds));
    assert_eq!(
        (released(true, 0.1), released(false, 0.1), released(true, 1.5)),
        ("passed", "FAILED", "FAILED")
    );
}
