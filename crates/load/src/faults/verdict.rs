//! What the figures of a row say of the server.

use serde::Serialize;

use super::figure::{Figure, Meaning};
use crate::compare::server::ServerError;

/// What a row says of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "lowercase")]
pub enum Verdict {
    /// Every figure is inside its bar.
    Passed,
    /// The server did not survive, or let others suffer.
    Failed(Vec<String>),
    /// The row says nothing of the server: the machine was busy with other things, or the attack was not made.
    Disturbed(Vec<String>),
    /// It was not tried.
    Skipped(Vec<String>),
}

impl Verdict {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "FAILED",
            Verdict::Disturbed(_) => "disturbed",
            Verdict::Skipped(_) => "skipped",
        }
    }

    /// Why it is not passed; empty if it is.
    pub fn why(&self) -> &[String] {
        match self {
            Verdict::Passed => &[],
            Verdict::Failed(why) | Verdict::Disturbed(why) | Verdict::Skipped(why) => why,
        }
    }

    /// The same of a server that ended before it was asked to, or otherwise than it should: it failed, whatever else.
    pub(crate) fn with_death(self, death: Option<ServerError>) -> Verdict {
        match death {
            Some(death) => {
                Verdict::Failed([death.to_string()].into_iter().chain(self.why().to_vec()).collect())
            }
            None => self,
        }
    }
}

/// Judges a row by its figures, knowing what `disturbed` it.
///
/// What a server did wrong, it did; but where it was only slow, or the attack was not what it should have been, and
/// something else explains that, the row has no verdict.
pub(crate) fn judge(figures: &[Figure], disturbed: Vec<String>) -> Verdict {
    let missed = |meaning: Meaning| {
        let missed = figures.iter().filter(move |figure| !figure.holds && figure.meaning == meaning);
        missed.map(Figure::to_string)
    };
    let failed: Vec<String> = missed(Meaning::Conduct).collect();
    if !failed.is_empty() {
        return Verdict::Failed(failed.into_iter().chain(missed(Meaning::Time)).collect());
    }
    let (slow, weak): (Vec<String>, Vec<String>) =
        (missed(Meaning::Time).collect(), missed(Meaning::Attack).collect());
    match (slow.is_empty(), weak.is_empty(), disturbed.is_empty()) {
        (true, true, _) => Verdict::Passed,
        (false, true, true) => Verdict::Failed(slow),
        _ => Verdict::Disturbed(slow.into_iter().chain(weak).chain(disturbed).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::Bar;
    use super::*;

    fn figures(conduct: bool, time: bool, attack: bool) -> Vec<Figure> {
        let figure = |name: &str, holds: bool| Figure::count(name, u64::from(!holds), Bar::AtMost(0.0));
        vec![figure("conduct", conduct), figure("time", time).of_time(), figure("attack", attack).of_attack()]
    }

    fn judged(conduct: bool, time: bool, attack: bool, disturbed: bool) -> (&'static str, usize) {
        let disturbed = disturbed.then(|| "noise".to_owned()).into_iter().collect();
        let verdict = judge(&figures(conduct, time, attack), disturbed);
        (verdict.word(), verdict.why().len())
    }

    #[test]
    fn all_inside_is_passed_whatever_the_machine_did() {
        assert_eq!(judged(true, true, true, false), ("passed", 0));
        assert_eq!(judged(true, true, true, true), ("passed", 0));
    }

    #[test]
    fn a_wrong_deed_is_no_matter_of_noise() {
        assert_eq!(judged(false, true, true, true), ("FAILED", 1));
        assert_eq!(judged(false, false, false, true), ("FAILED", 2));
    }

    #[test]
    fn a_slow_server_failed_unless_somebody_was_in_its_way() {
        assert_eq!(judged(true, false, true, false), ("FAILED", 1));
        assert_eq!(judged(true, false, true, true), ("disturbed", 2));
    }

    #[test]
    fn an_attack_that_was_not_made_proves_nothing() {
        assert_eq!(judged(true, true, false, false), ("disturbed", 1));
        assert_eq!(judged(true, false, false, false), ("disturbed", 2));
    }

    #[test]
    fn a_server_that_died_failed_and_what_else_was_seen_is_told() {
        let disturbed = || Verdict::Disturbed(vec!["noise".into()]);
        assert_eq!(disturbed().with_death(None), disturbed());
        let Verdict::Failed(why) = disturbed().with_death(Some(ServerError::Silent)) else { panic!() };
        assert!(why.len() == 2 && why[1] == "noise", "{why:?}");
    }

    #[test]
    fn json_is_tagged() {
        let json = serde_json::to_value(Verdict::Failed(vec!["x".into()])).unwrap();
        assert_eq!(json, serde_json::json!({ "verdict": "failed", "why": ["x"] }));
        assert_eq!(
            serde_json::to_value(Verdict::Passed).unwrap(),
            serde_json::json!({ "verdict": "passed" })
        );
    }
}
