//! The steps towards the most clients that a server holds.

/// Looks for the boundary between what is held and what is not. A first version: it starts where the CPU time of a
/// message says that the server is full, goes up or down in steps of a tenth, and halves what lies between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    ceiling: u32,
    estimate: u32,
    step: u32,
    tries_left: u32,
    held: u32,
    failed: Option<u32>,
}

impl Search {
    /// Looks up to `ceiling`, first at `estimate`, knowing that `held` are held (0 for nothing known).
    pub fn new(ceiling: u32, estimate: u32, held: u32, tries: u32) -> Search {
        let step = (ceiling / 10).max(1);
        // A step below the ceiling is the ceiling: the estimate is no better than that.
        let estimate = if estimate.saturating_add(step) >= ceiling { ceiling } else { estimate };
        Search { ceiling, estimate: estimate.max(1), step, tries_left: tries, held, failed: None }
    }

    /// The next number of clients to try; none when the boundary is known to a step, or no try is left.
    pub fn next_step(&self) -> Option<u32> {
        if self.tries_left == 0 || self.held >= self.ceiling {
            return None;
        }
        match self.failed {
            None if self.held < self.estimate => Some(self.estimate),
            None => Some(self.held.saturating_add(self.step).min(self.ceiling)),
            Some(failed) if failed.saturating_sub(self.held) <= self.step => None,
            // Close below what failed at first: the estimate was close. With few tries left, halving finds more.
            Some(failed) if self.tries_left > 2 && self.held + 2 * self.step < failed => {
                Some(failed - self.step)
            }
            Some(failed) => Some(self.held + (failed - self.held) / 2),
        }
    }

    /// What became of the step.
    pub fn tried(&mut self, clients: u32, held: bool) {
        self.tries_left = self.tries_left.saturating_sub(1);
        if held {
            self.held = self.held.max(clients);
        } else {
            self.failed = Some(self.failed.map_or(clients, |failed| failed.min(clients)));
        }
    }

    /// The most that was held; none if nothing was.
    pub fn most_held(&self) -> Option<u32> {
        (self.held > 0).then_some(self.held)
    }

    /// Whether nothing above what was held could be tried.
    pub fn reached_ceiling(&self) -> bool {
        self.held >= self.ceiling
    }

    /// Whether a step failed.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a server that holds `capacity` clients.
    fn search(mut search: Search, capacity: u32) -> (Option<u32>, Vec<u32>) {
        let mut steps = Vec::new();
        while let Some(clients) = search.next_step() {
            steps.push(clients);
            search.tried(clients, clients <= capacity);
        }
        (search.most_held(), steps)
    }

    #[test]
    fn a_strong_server_is_tried_once() {
        let (most, steps) = search(Search::new(19_936, 30_000, 2000, 8), 50_000);
        assert_eq!((most, steps), (Some(19_936), vec![19_936]));
        let (most, steps) = search(Search::new(19_936, 18_500, 2000, 8), 50_000);
        assert_eq!((most, steps), (Some(19_936), vec![19_936]));
    }

    #[test]
    fn the_boundary_is_found_to_a_step() {
        for capacity in [2_500, 7_000, 9_999, 12_345, 15_000, 19_000] {
            let (most, steps) = search(Search::new(20_000, 13_000, 2000, 20), capacity);
            let most = most.unwrap();
            assert!(most <= capacity && most + 2000 >= capacity, "{capacity}: {most} by {steps:?}");
        }
    }

    #[test]
    fn tries_are_bounded() {
        let (most, steps) = search(Search::new(20_000, 18_000, 2000, 2), 5_000);
        assert_eq!((most, steps), (Some(2000), vec![20_000, 11_000]));
        let (most, steps) = search(Search::new(20_000, 18_000, 2000, 3), 12_000);
        assert_eq!((most, steps), (Some(11_000), vec![20_000, 11_000, 15_500]));
        let (most, steps) = search(Search::new(1000, 1000, 0, 50), 0);
        assert_eq!(most, None);
        assert!(steps.len() < 20);
    }

    #[test]
    fn nothing_to_search() {
        let search = Search::new(100, 1, 100, 5);
        assert_eq!(search.next_step(), None);
        assert!(search.reached_ceiling() && !search.has_failed());
    }
}
