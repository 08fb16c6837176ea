//! Signals, told to a thread of their own by a socket pair.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::thread;

use signal_hook::low_level::pipe;

/// Calls `heard` each time that one of `signals` comes, until it says that there is nobody left to tell.
pub(super) fn watch(signals: &[i32], mut heard: impl FnMut() -> bool + Send + 'static) -> io::Result<()> {
    let (mut receiver, sender) = UnixStream::pair()?;
    for signal in signals {
        pipe::register(*signal, sender.try_clone()?)?;
    }
    let listen = move || while receiver.read_exact(&mut [0]).is_ok() && heard() {};
    thread::Builder::new().name("signals".into()).spawn(listen).map(drop)
}
