//! What the processes of one server have in common and nobody else may see: passed on through a pipe, because what is typed
//! and what is in the environment can be read by others, and a file can be left behind.

use std::io::{self, Write};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use webscale::TicketKeys;
use webscale_load::cert;

use crate::args::ServeArgs;

#[derive(Serialize, Deserialize)]
pub(super) struct Inheritance {
    /// Certificate and key, PEM, where none was named.
    pub(super) certificate: Option<(String, String)>,
    /// Of the keys of session tickets; none where a file was named, or each process may have its own.
    pub(super) ticket_secret: Option<Vec<u8>>,
}

impl Inheritance {
    pub(super) fn make(args: &ServeArgs) -> anyhow::Result<Self> {
        let is_needed = !args.plain && args.cert.is_none();
        let made = is_needed.then(|| cert::self_signed(&[])).transpose()?;
        let certificate = made.map(|pair| (pair.cert_pem, pair.key_pem));
        Ok(Self { certificate, ticket_secret: ticket_secret(args)? })
    }

    /// Gives it to a child, whose stdin this is.
    pub(super) fn pass_on(&self, stdin: impl Write) -> anyhow::Result<()> {
        serde_json::to_writer(stdin, self).context("passing on what the processes share")
    }

    /// Takes it from our parent, up to the end of stdin.
    pub(super) fn receive() -> anyhow::Result<Self> {
        serde_json::from_reader(io::stdin().lock()).context("--inherit is for the children of --processes")
    }
}

fn ticket_secret(args: &ServeArgs) -> anyhow::Result<Option<Vec<u8>>> {
    if args.plain || args.processes == 1 || args.ticket_secret.is_some() {
        return Ok(None);
    }
    let mut secret = vec![0; TicketKeys::SECRET_BYTES_MIN];
    webscale_sys::random(&mut secret).context("making the secret of the session tickets")?;
    Ok(Some(secret))
}
