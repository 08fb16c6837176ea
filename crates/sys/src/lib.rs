//! What webscale asks of Linux: readiness, sockets, limits, processes.
//!
//! Thin, typed and safe: a caller never sees a raw descriptor or an errno that was not looked at. This is the only
//! crate of the project where `unsafe` may stand, and each block says why it is sound. Needs Linux 5.11 or later
//! (`epoll_pwait2`, for timeouts below a millisecond).
//!
//! | module | man pages |
//! |---|---|
//! | [`clock`] | clock_gettime(2) |
//! | [`epoll`] | epoll(7), eventfd(2) |
//! | [`socket`] | socket(7), tcp(7), ip(7) |
//! | [`limits`] | getrlimit(2), fcntl(2) |
//! | [`cgroup`] | cgroups(7) |
//! | [`memory`] | malloc_trim(3) |
//! | [`process`] | sched_setaffinity(2), setpriority(2), sched_setattr(2), prctl(2), kill(2) |

pub mod cgroup;
pub mod clock;
pub mod epoll;
pub mod limits;
pub mod memory;
pub mod process;
pub mod socket;

pub use epoll::{Event, Events, Interest, Poller, Readiness, Waker};
pub use socket::{Listener, TcpOptions, TcpSocket};

/// Fills `out` with bytes from the kernel's generator, getrandom(2).
///
/// # Errors
/// Only on a kernel without getrandom(2), or one whose pool is not yet ready at boot.
pub fn random(out: &mut [u8]) -> std::io::Result<()> {
    let mut filled = 0;
    while filled < out.len() {
        filled += rustix::rand::getrandom(&mut out[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}
