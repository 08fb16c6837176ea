//! The memory that is left behind when much of it is freed together.

use webscale_sys::memory;

/// Fewer connections are not worth the while.
const CONNECTIONS: usize = 250;
/// Nor are fewer bytes that were held for them.
const BYTES: usize = 1 << 20;

/// How many there were, of what takes memory.
pub(super) struct Ebb {
    peak: usize,
    flood: usize,
}

impl Ebb {
    pub(super) fn of_connections() -> Self {
        Self { peak: 0, flood: CONNECTIONS }
    }

    pub(super) fn of_bytes() -> Self {
        Self { peak: 0, flood: BYTES }
    }

    /// So many are left. When they are half of what there was, what the others took goes back to the kernel: an
    /// allocator would keep it for the next flood.
    pub(super) fn watch(&mut self, left: usize) {
        if self.has_come(left) {
            memory::give_back();
        }
    }

    fn has_come(&mut self, left: usize) -> bool {
        let has_come = self.peak >= self.flood && left <= self.peak / 2;
        if has_come {
            self.peak = left;
        }
        has_come
    }

    /// There are so many now.
    pub(super) fn rise(&mut self, now: usize) {
        self.peak = self.peak.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_of_a_flood_is_given_back_once() {
        let mut ebb = Ebb::of_connections();
        (0..=10_000).for_each(|connections| ebb.rise(connections));
        let came: Vec<usize> = (0..=10_000).rev().filter(|connections| ebb.has_come(*connections)).collect();
        assert_eq!(came, [5_000, 2_500, 1_250, 625, 312, 156]);
        ebb.rise(249);
        assert!(!ebb.has_come(0));
    }

    #[test]
    fn of_bytes_the_last_mebibyte_is_left() {
        let mut ebb = Ebb::of_bytes();
        ebb.rise(3 << 20);
        let came: Vec<usize> = (0..=24).rev().filter(|eighths| ebb.has_come(eighths << 17)).collect();
        assert_eq!(came, [12, 6]);
    }
}
