//! SIGHUP: certificates are read again.

use std::io::{self, Write};

use signal_hook::consts::SIGHUP;
use webscale::Tls;

use super::signals;

/// Reloads `tls` on each SIGHUP, and says on stderr what came of it.
pub(super) fn on_hang_up(tls: Tls) -> io::Result<()> {
    signals::watch(&[SIGHUP], move || {
        let said = match tls.reload() {
            Ok(()) => "certificates reloaded".to_owned(),
            Err(error) => format!("{error}; the certificates in use stay"),
        };
        // Who closed stderr does not want to know.
        let _ = writeln!(io::stderr(), "webscale: {said}");
        true
    })
}
