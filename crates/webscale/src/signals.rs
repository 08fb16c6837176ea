//! SIGTERM and SIGINT, as bytes in a socket pair.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::journal::{self, Level};
use crate::server::Handle;

/// Shuts down on the first SIGTERM or SIGINT of the process, and aborts on the second. The thread that listens lives as
/// long as the process: a signal's disposition belongs to that.
pub(crate) fn shut_down_on_signals(handle: Handle) -> io::Result<()> {
    let (mut receiver, sender) = UnixStream::pair()?;
    pipe::register(SIGTERM, sender.try_clone()?)?;
    pipe::register(SIGINT, sender)?;
    let listen = move || {
        let mut byte = [0];
        let mut wait = || receiver.read_exact(&mut byte).is_ok();
        if wait() {
            journal::write(Level::Info, format_args!("shutting down; a second signal ends at once"));
            handle.shutdown();
        }
        if wait() {
            handle.abort();
        }
    };
    thread::Builder::new().name("signals".into()).spawn(listen)?;
    Ok(())
}
