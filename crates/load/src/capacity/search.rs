//! The steps towards the most that is held: double, bisect, confirm.
//!
//! ```text
//!   held   ──> twice as much            until something is not held
//!   not    ──> the same again           if it was the load's fault, which says nothing of the server
//!          ──> half way between         until the two are close
//!   close  ──> the lowest failure again: a failure that was met once may be noise
//!          ──> the most held again, for the whole time: so may a success
//! ```

use std::collections::BTreeMap;

use super::binding::{Binding, End};

/// No search needs more steps, however noisy the machine.
pub const STEPS_MAX: u32 = 60;
/// What was held so often is held.
const HELD_TIMES: u32 = 2;

/// Where a search begins and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The first to be tried, at least one.
    pub first: u32,
    /// Nothing above is tried.
    pub most: u32,
    /// The result may be below the boundary by this share.
    pub resolution: f64,
    /// No more steps than this, [`STEPS_MAX`] if there is time.
    pub steps: u32,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What is tried.
    pub value: u32,
    /// For the whole time, as the result is; the others are shorter.
    pub whole: bool,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Trial {
    /// It was held.
    Held,
    /// It was not.
    NotHeld(Binding),
    /// It cannot be tried: here is what says so, and the most that can be.
    Refused(Binding, u32),
    /// Nothing can be tried any more.
    Over(Binding),
}

impl Trial {
    /// What stopped it, unless it was held.
    pub fn binding(&self) -> Option<&Binding> {
        match self {
            Trial::Held => None,
            Trial::NotHeld(binding) | Trial::Refused(binding, _) | Trial::Over(binding) => Some(binding),
        }
    }
}

/// A search that is under way.
#[derive(Debug, Clone)]
pub struct Search {
    range: Range,
    /// How often it was held, by what was tried.
    held: BTreeMap<u32, u32>,
    failed: BTreeMap<u32, Failure>,
    steps: u32,
    /// What ended it early.
    over: Option<Binding>,
    /// What the most is bounded by.
    ceiling: Option<Binding>,
    /// There is time for the confirmation alone.
    hurries: bool,
}

#[derive(Debug, Clone)]
struct Failure {
    times: u32,
    binding: Binding,
}

impl Search {
    /// A search over `range`.
    pub fn new(range: Range) -> Search {
        let range =
            Range { first: range.first.clamp(1, range.most.max(1)), most: range.most.max(1), ..range };
        let (held, failed) = (BTreeMap::new(), BTreeMap::new());
        Search { range, held, failed, steps: 0, over: None, ceiling: None, hurries: false }
    }

    /// A search that knows already that `value` was held, once.
    #[must_use]
    pub(crate) fn knowing(mut self, value: u32) -> Search {
        if value > 0 {
            self.held.insert(value.min(self.range.most), 1);
        }
        self
    }

    /// What to try next; none when the search is over.
    pub(crate) fn next_step(&self) -> Option<Step> {
        if self.over.is_some() || self.steps >= self.range.steps {
            return None;
        }
        let short = |value| Some(Step { value, whole: false });
        let held = self.most_held();
        let whole =
            || (held > 0 && self.held[&held] < HELD_TIMES).then_some(Step { value: held, whole: true });
        if self.hurries {
            return whole();
        }
        match self.failed.first_key_value() {
            None if held < self.range.first => short(self.range.first),
            None if held < self.range.most => short(held.saturating_mul(2).min(self.range.most)),
            // Held, and then missed by the load.
            Some((&failed, _)) if failed == held => whole(),
            Some((&failed, failure)) if failure.times < 2 && failure.binding.end == End::Load => {
                short(failed)
            }
            Some((&failed, _)) if failed - held > self.gap(failed) => short(held + (failed - held) / 2),
            Some((&failed, failure)) if failure.times < 2 => short(failed),
            _ => whole(),
        }
    }

    /// Narrows no further: what was held so far is confirmed.
    pub(crate) fn hurry(&mut self) {
        self.hurries = true;
    }

    /// Whether it narrows no further.
    pub(crate) fn hurries(&self) -> bool {
        self.hurries
    }

    /// What became of `step`.
    pub fn tried(&mut self, step: Step, trial: Trial) {
        self.steps += 1;
        match trial {
            Trial::Held => {
                *self.held.entry(step.value).or_default() += 1;
                // Who holds this also holds less: a failure below was noise.
                self.failed = self.failed.split_off(&(step.value + 1));
            }
            Trial::NotHeld(binding) => self.failed(step, binding),
            Trial::Refused(binding, most) => {
                self.range.most = most.min(step.value.saturating_sub(1)).max(self.most_held());
                self.range.first = self.range.first.min(self.range.most);
                self.ceiling = Some(binding.clone());
                if self.range.most == 0 {
                    self.over = Some(binding);
                }
            }
            Trial::Over(binding) => self.over = Some(binding),
        }
    }

    fn failed(&mut self, step: Step, binding: Binding) {
        let failure = self.failed.entry(step.value).or_insert(Failure { times: 0, binding: binding.clone() });
        // What the load missed takes nothing from what was held, the first time.
        let may_stay = binding.end == End::Load && failure.times == 0;
        let above = if may_stay { step.value.saturating_add(1) } else { step.value };
        let was_held = self.held.split_off(&above).contains_key(&step.value);
        // What was held once and failed once is at the boundary: it counts as failed, and is not tried again.
        failure.times += if was_held { 2 } else { 1 };
        failure.binding = binding;
    }

    /// The most that was held; 0 if nothing was.
    fn most_held(&self) -> u32 {
        self.held.last_key_value().map_or(0, |(value, _)| *value)
    }

    /// As close as the boundary has to be known.
    fn gap(&self, failed: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32")]
        let gap = (f64::from(failed) * self.range.resolution.clamp(0.0, 1.0)) as u32;
        gap.max(1)
    }

    /// What was found.
    pub fn found(&self) -> Found {
        let most = self.most_held();
        let confirmed = self.held.get(&most).is_some_and(|times| *times >= HELD_TIMES);
        let lowest = self.failed.first_key_value().map(|(_, failure)| failure.binding.clone());
        let ceiling = if most == self.range.most { self.ceiling.clone() } else { None };
        Found {
            most: (most > 0).then_some(most),
            confirmed,
            resolution: self
                .failed
                .keys()
                .find(|failed| **failed > most)
                .map(|failed| f64::from(failed - most) / f64::from(*failed)),
            binding: self.over.clone().or(lowest).or(ceiling),
        }
    }
}

/// The end of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The most that was held; none if nothing was.
    pub most: Option<u32>,
    /// It was held twice, the second time for the whole time.
    pub confirmed: bool,
    /// By which share the boundary may be above it, which is where something was not held; none where nothing was not.
    pub resolution: Option<f64>,
    /// What stopped more; none where nothing did below the most that was to be tried, or the search was ended.
    pub binding: Option<Binding>,
}

#[cfg(test)]
mod tests {
    use super::super::binding::Resource;
    use workload::random::Random;

    use super::*;

    fn slow(value: u32) -> Binding {
        Binding { evidence: Vec::new(), ..Binding::new(Resource::Latency, value, "") }
    }

    const RANGE: Range = Range { first: 1000, most: 1_000_000, resolution: 0.03, steps: STEPS_MAX };

    /// Searches with a load that is made up; the steps with what became of them.
    fn search(range: Range, mut trial: impl FnMut(Step) -> Trial) -> (Found, Vec<Step>) {
        let (mut search, mut steps) = (Search::new(range), Vec::new());
        while let Some(step) = search.next_step() {
            steps.push(step);
            let trial = trial(step);
            search.tried(step, trial);
        }
        (search.found(), steps)
    }

    fn exact(capacity: u32) -> impl FnMut(Step) -> Trial {
        move |step| if step.value <= capacity { Trial::Held } else { Trial::NotHeld(slow(step.value)) }
    }

    #[test]
    fn doubles_bisects_and_confirms() {
        let (found, steps) = search(RANGE, exact(7_300));
        let values: Vec<u32> = steps.iter().map(|step| step.value).collect();
        assert_eq!(values, [1000, 2000, 4000, 8000, 6000, 7000, 7500, 7250, 7375, 7375, 7250]);
        assert_eq!(steps.iter().filter(|step| step.whole).count(), 1);
        assert_eq!((found.most, found.confirmed), (Some(7250), true));
        assert_eq!(found.binding, Some(slow(7375)));
    }

    #[test]
    fn every_capacity_is_found_to_the_resolution() {
        for capacity in (1..100_000).step_by(37) {
            let (found, steps) = search(RANGE, exact(capacity));
            let most = found.most.unwrap();
            let gap = capacity * 31 / 1000 + 1;
            assert!(most <= capacity && most + gap >= capacity, "{capacity}: {most}");
            assert!(found.confirmed && steps.len() <= 27, "{capacity}: {} steps", steps.len());
        }
    }

    #[test]
    fn noise_at_the_boundary_moves_the_result_little() {
        // Between 0.97 and 1.03 of the capacity a step holds by chance.
        for seed in 1..400 {
            let mut random = Random::new(seed);
            let capacity = 3_000.0 + f64::from(u32::try_from(seed).unwrap()) * 97.0;
            let (found, _) = search(RANGE, |step| {
                let at = f64::from(step.value) / capacity;
                let holds = at < random.between(0.97, 1.03);
                if holds { Trial::Held } else { Trial::NotHeld(slow(step.value)) }
            });
            let at = f64::from(found.most.unwrap()) / capacity;
            assert!((0.92..=1.03).contains(&at), "seed {seed}: {at}");
            assert!(found.confirmed, "seed {seed}");
        }
    }

    #[test]
    fn one_hiccup_does_not_halve_the_result() {
        for hiccup in 0..12 {
            let mut steps = 0;
            let (found, _) = search(RANGE, |step| {
                steps += 1;
                if steps == hiccup + 1 { Trial::NotHeld(slow(step.value)) } else { exact(20_000)(step) }
            });
            let most = found.most.unwrap();
            assert!((18_000..=20_000).contains(&most), "hiccup at step {hiccup}: {most}");
        }
    }

    #[test]
    fn what_the_load_missed_is_tried_again_at_once() {
        let late = |value| Binding::new(Resource::Generator, value, "late");
        let mut steps = 0;
        let (found, steps) = search(RANGE, |step| {
            steps += 1;
            if steps == 1 { Trial::NotHeld(late(step.value)) } else { exact(8_000)(step) }
        });
        let values: Vec<u32> = steps.iter().map(|step| step.value).collect();
        assert_eq!(values[..5], [1000, 1000, 2000, 4000, 8000]);
        assert_eq!((found.most, found.confirmed), (Some(8_000), true));
        // Where it always misses, no step is made a third time.
        let (found, steps) = search(RANGE, |step| match step.value {
            0..=3_000 => Trial::Held,
            value => Trial::NotHeld(late(value)),
        });
        assert!(
            found.confirmed && found.most >= Some(2_900) && steps.len() < 20,
            "{found:?} {}",
            steps.len()
        );
    }

    #[test]
    fn what_was_held_stays_where_the_load_missed_the_confirmation() {
        let late = |value| Trial::NotHeld(Binding::new(Resource::Generator, value, "late"));
        let at = |missed: &'static [usize], steps| {
            let mut step = 0;
            search(Range { first: 19_000, most: 19_000, steps, ..RANGE }, move |tried| {
                step += 1;
                if missed.contains(&step) { late(tried.value) } else { Trial::Held }
            })
        };
        // There is no time for another confirmation.
        let (found, _) = at(&[1, 3], 3);
        assert_eq!((found.most, found.confirmed), (Some(19_000), false));
        assert_eq!(found.binding.map(|binding| binding.end), Some(End::Load));
        let (found, steps) = at(&[2], STEPS_MAX);
        assert_eq!((found.most, found.confirmed), (Some(19_000), true));
        assert!(steps.len() == 3 && steps[1].whole && steps[2].whole, "{steps:?}");
        // Twice is not the load's bad luck any more.
        let (found, _) = at(&[2, 3], STEPS_MAX);
        assert!(found.confirmed && found.most < Some(19_000), "{found:?}");
    }

    #[test]
    fn a_refusal_is_the_ceiling() {
        let ports = |value| Binding { resource: Resource::Ports, ..slow(value) };
        let refusing = |step: Step| match step.value {
            0..=2_900 => Trial::Held,
            value => Trial::Refused(ports(value), 2_900),
        };
        let (found, steps) = search(RANGE, refusing);
        assert_eq!((found.most, found.confirmed, found.binding), (Some(2_900), true, Some(ports(4_000))));
        assert_eq!(steps.len(), 5);
        let (found, steps) = search(Range { first: 3_500, ..RANGE }, refusing);
        assert_eq!((found.most, steps.len()), (Some(2_900), 3));
        let (found, _) = search(RANGE, |step| Trial::Refused(ports(step.value), 0));
        assert_eq!((found.most, found.binding), (None, Some(ports(1000))));
    }

    #[test]
    fn the_most_that_is_asked_for_is_no_boundary() {
        let (found, _) = search(Range { most: 3_000, ..RANGE }, exact(9_000));
        assert_eq!((found.most, found.confirmed, found.binding), (Some(3_000), true, None));
    }

    #[test]
    fn what_is_known_is_not_tried() {
        let range = Range { first: 9_000, steps: 3, ..RANGE };
        let mut search = Search::new(range).knowing(4_000);
        let mut values = Vec::new();
        while let Some(step) = search.next_step() {
            values.push(step.value);
            search.tried(step, exact(8_000)(step));
        }
        assert_eq!(values, [9_000, 6_500, 7_750]);
        assert_eq!((search.found().most, search.found().confirmed), (Some(7_750), false));
    }

    #[test]
    fn who_hurries_confirms_what_was_held() {
        let mut search = Search::new(RANGE);
        let mut steps = Vec::new();
        while let Some(step) = search.next_step() {
            steps.push((step.value, step.whole));
            search.tried(step, exact(7_300)(step));
            if steps.len() == 5 {
                search.hurry();
            }
        }
        assert_eq!(steps[3..], [(8000, false), (6000, false), (6000, true)]);
        let found = search.found();
        assert_eq!((found.most, found.confirmed, found.binding), (Some(6000), true, Some(slow(8000))));
        assert_eq!(found.resolution, Some(0.25));
        // Of nothing there is nothing to confirm.
        let mut search = Search::new(RANGE);
        search.hurry();
        assert_eq!((search.next_step(), search.found().most), (None, None));
    }

    #[test]
    fn nothing_is_held() {
        let (found, steps) = search(RANGE, exact(0));
        assert_eq!((found.most, found.confirmed, found.binding), (None, false, Some(slow(1))));
        assert!(steps.len() < 15);
    }

    #[test]
    fn a_death_ends_the_search() {
        let death = Binding { resource: Resource::Death, ..slow(4000) };
        let (found, steps) = search(RANGE, |step| match step.value {
            4000.. => Trial::Over(death.clone()),
            _ => Trial::Held,
        });
        assert_eq!((found.most, found.confirmed, steps.len()), (Some(2000), false, 3));
        assert_eq!(found.binding, Some(death));
    }

    #[test]
    fn pure_chance_ends() {
        for seed in 1..200 {
            let mut random = Random::new(seed);
            let coin =
                |step: Step| if random.flag() { Trial::Held } else { Trial::NotHeld(slow(step.value)) };
            let (_, steps) = search(RANGE, coin);
            assert!(steps.len() <= 60);
        }
    }
}
