//! `serve --status`: a port of its own for what the server says of itself.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use server_webscale::status::{Pages, port};
use webscale::Handle;

/// The port, until this is dropped.
pub(super) struct StatusPort {
    handle: Handle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl StatusPort {
    pub(super) fn open(address: SocketAddr, of: Handle) -> anyhow::Result<Self> {
        let server = port(address).build(Pages(of)).context("--status")?;
        // Port 0 is the kernel's choice. Nobody may read it.
        let _ = writeln!(io::stderr(), "status on http://{}", server.local_addr());
        let handle = server.handle();
        let thread = thread::Builder::new().name("status".into()).spawn(move || server.run())?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for StatusPort {
    fn drop(&mut self) {
        self.handle.abort();
        if let Some(thread) = self.thread.take() {
            // It had no client to lose.
            let _ = thread.join();
        }
    }
}
