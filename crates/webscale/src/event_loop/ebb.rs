//! The memory that many connections leave behind when they go together.

use webscale_sys::memory;

/// Fewer are not worth the while.
const FLOOD: usize = 1_000;

/// How many connections there were.
#[derive(Default)]
pub(super) struct Ebb {
    peak: usize,
}

impl Ebb {
    /// So many connections are left. When they are half of what there was, what the others took goes back to the kernel: an
    /// allocator would keep it for the next flood.
    pub(super) fn watch(&mut self, connections: usize) {
        if self.has_come(connections) {
            memory::give_back();
        }
    }

    fn has_come(&mut self, connections: usize) -> bool {
        let has_come = self.peak >= FLOOD && connections <= self.peak / 2;
        if has_come {
            self.peak = connections;
        }
        has_come
    }

    /// There are so many now.
    pub(super) fn rise(&mut self, connections: usize) {
        self.peak = self.peak.max(connections);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_of_a_flood_is_given_back_once() {
        let mut ebb = Ebb::default();
        (0..=10_000).for_each(|connections| ebb.rise(connections));
        let came: Vec<usize> = (0..=10_000).rev().filter(|connections| ebb.has_come(*connections)).collect();
        assert_eq!(came, [5_000, 2_500, 1_250, 625]);
        ebb.rise(999);
        assert!(!ebb.has_come(0));
    }
}
