//! What the allocator keeps: malloc_trim(3).

/// Gives memory that is free inside the heap back to the kernel. The C library does so by itself only at the heap's end, where
/// something that lives long may lie. It takes time by how much that is, some 50 ms a gigabyte. Does nothing with C
/// libraries other than GNU's.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and touches only pages that no allocation uses; it may be called from any thread.
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn resident_bytes() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        kilobytes.unwrap().trim().parse::<u64>().unwrap() << 10
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_free_between_things_that_live_is_given_back() {
        // Each too small for a mapping of its own, and every hundredth lives on.
        let mut pieces: Vec<Option<Vec<u8>>> = (0..40_000).map(|_| Some(vec![1; 2_000])).collect();
        let before = resident_bytes();
        for (index, piece) in pieces.iter_mut().enumerate() {
            if index % 100 != 0 {
                *piece = None;
            }
        }
        give_back();
        let after = resident_bytes();
        assert!(after + (40 << 20) < before, "{before} bytes before, {after} after");
        assert_eq!(pieces.iter().flatten().count(), 400);
    }
}
