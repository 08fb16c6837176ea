//! SIGHUP: files are read again.

use std::io::{self, Write};

use signal_hook::consts::SIGHUP;
use webscale::Tls;

use super::signals;

/// Reloads `tls` on each SIGHUP, and says on stderr what became of its `files`.
pub(super) fn on_hang_up(tls: Tls, files: &'static str) -> io::Result<()> {
    signals::watch(&[SIGHUP], move || {
        let said = match tls.reload() {
            Ok(()) => format!("{files} reloaded"),
            Err(error) => format!("{error}; what is in use stays"),
        };
        // At once, as siblings write there too. Who closed stderr does not want to know.
        let _ = io::stderr().write_all(format!("webscale: {said}\n").as_bytes());
        true
    })
}
