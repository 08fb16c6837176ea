//! Faults of the system, one at a time.
