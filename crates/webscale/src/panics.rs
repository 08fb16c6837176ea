//! Panics: caught where they do no further harm, and told in measure.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::thread;

use crate::journal::{self, Level};

/// So much of a panic's message goes to the log.
const MESSAGE_CHARS: usize = 200;

/// Something panicked. What it worked on is not to be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Panicked;

/// Runs `work`; a panic in it ends here. The caller gives up whatever `work` may have left half done.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        // What was thrown may be a value of the user's, whose destructor panics as well.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(payload);
        }
        Panicked
    })
}

thread_local! {
    /// This thread runs handlers.
    static RUNS_HANDLERS: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread runs handlers from now on.
pub(crate) fn enrol() {
    RUNS_HANDLERS.set(true);
}

/// Has panics on the library's loops and workers told by the log, with thread, place and message, at most ten lines a second
/// in all; not by what std does for each, which is lines on stderr. For a program to call once when it starts; a client who
/// finds a way to make a handler panic could fill the disk otherwise. Panics of all other threads go where they went.
///
/// This replaces the hook of the process ([`std::panic::set_hook`]). A panic in a handler closes its connection with 1011
/// and is counted ([`Snapshot::panics`](crate::Snapshot::panics)), with or without this.
pub fn log_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if RUNS_HANDLERS.get() {
            tell(info);
        } else {
            before(info);
        }
    }));
}

fn tell(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("a thread");
    // What a peer sent may stand in it.
    let message: String = match info.payload_as_str() {
        Some(text) => text.chars().take(MESSAGE_CHARS).flat_map(char::escape_debug).collect(),
        None => "no message".to_owned(),
    };
    match info.location() {
        Some(place) => journal::write(Level::Error, format_args!("{name} panicked at {place}: {message}")),
        None => journal::write(Level::Error, format_args!("{name} panicked: {message}")),
    }
}
