//! SIGHUP: certificates are read again.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use signal_hook::consts::SIGHUP;
use signal_hook::low_level::pipe;
use webscale::Tls;

/// Reloads `tls` on each SIGHUP, and says on stderr what came of it.
pub(super) fn on_hang_up(tls: Tls) -> io::Result<()> {
    let (mut receiver, sender) = UnixStream::pair()?;
    pipe::register(SIGHUP, sender)?;
    let listen = move || {
        while receiver.read_exact(&mut [0]).is_ok() {
            let said = match tls.reload() {
                Ok(()) => "certificates reloaded".to_owned(),
                Err(error) => format!("{error}; the certificates in use stay"),
            };
            // At once, as siblings write there too. Who closed stderr does not want to know.
            let _ = io::stderr().write_all(format!("webscale: {said}\n").as_bytes());
        }
    };
    thread::Builder::new().name("reload".into()).spawn(listen).map(drop)
}
