//! `serve`: what can be typed.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::ValueEnum;
use webscale::{Network, Origins};
use workload::Mode;

use super::units;

mod limits;
mod status;
mod times;
pub(crate) use limits::LimitArgs;
pub(crate) use status::StatusArgs;
pub(crate) use times::TimeArgs;

/// Serve WebSockets: echo, or parse the 10 kB JSON message.
///
/// Without --cert and --key it makes a certificate that signs itself; without --plain it speaks wss:// only. Prints
/// `listening on wss://…` when it accepts. SIGHUP reads the files of --cert, --key, --client-ca, --client-crl and
/// --ticket-secret again, for clients that connect from then on; if one of them is no good, what is in use stays, and stderr
/// says why. The first SIGTERM or Ctrl-C accepts no more, closes every client with 1001 behind the answers to what it sent,
/// and ends with exit code 0 and one line of counts, within 10 s (and the time of --drain); a second one ends at once.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
#[command(after_help = "\
Examples:
  webscale serve --mode echo --plain
  webscale serve --listen 0.0.0.0:9001 --cert cert.pem --key key.pem --mode ingest
  webscale serve --cert cert.pem --key key.pem --client-ca ca.pem --client-crl revoked.pem
  webscale serve --origin https://example.com --origin http://localhost:8080
  webscale serve --processes 2 --threads 1
  webscale serve --listen 0.0.0.0:9001 --proxy-protocol 10.0.7.0/24 --max-per-address 200
  webscale serve --drain 30s
  webscale serve --listen 0.0.0.0:9001 --status 127.0.0.1:9100
  webscale serve --listen 0.0.0.0:9001 --memory 1GiB --max-per-address 200 --max-handshakes-per-address 50")]
pub(crate) struct ServeArgs {
    /// Address and port; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// What to do with a message
    #[arg(long, value_enum, default_value_t = ModeArg::Echo)]
    pub(crate) mode: ModeArg,
    /// ws:// without TLS
    #[arg(long, conflicts_with_all = ["cert", "key", "client_ca"])]
    pub(crate) plain: bool,
    /// Certificate chain, PEM, the server's own first
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Let in only clients with a certificate of this authority, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Option<PathBuf>,
    /// With --client-ca: let in clients without a certificate, too
    #[arg(long, requires = "client_ca")]
    pub(crate) client_ca_optional: bool,
    /// With --client-ca: turn away clients whose certificate was revoked. PEM, with a list of every authority that signs
    /// clients' certificates; a list that has run out (nextUpdate) lets none of its authority's clients in
    #[arg(long, value_name = "FILE", requires = "client_ca")]
    pub(crate) client_crl: Option<PathBuf>,
    /// Have clients resume their TLS sessions also at other machines, and after a restart: the secret that all of them
    /// share, a file of 32 random bytes or more (head -c 32 /dev/urandom). Once SIGHUP finds another secret in it, clients
    /// with tickets of the old one make a full handshake [default: within this server, until it ends]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["plain", "client_ca"])]
    pub(crate) ticket_secret: Option<PathBuf>,
    /// Event loops, each on a thread [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Threads that handle messages, besides the loops [default: handled on the loops]
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
    pub(crate) workers: u16,
    /// Processes on the one port: each has its own limit of descriptors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) processes: u16,
    /// Longest message [default: 1MiB, and 16MiB for echo]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) max_message: Option<usize>,
    /// Compress messages where the client offers it (permessage-deflate, RFC 7692)
    #[arg(long)]
    pub(crate) deflate: bool,
    /// Let pages of this origin connect: scheme://host, with :port where it is not the usual one, null, or any; may be
    /// repeated [default: the server's own]
    #[arg(long = "origin", value_name = "ORIGIN", value_parser = origin)]
    pub(crate) origins: Vec<String>,
    /// Expect the PROXY protocol from load balancers in this network, such as 10.0.7.0/24 or one address; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub(crate) proxy_protocol: Vec<Network>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) times: TimeArgs,
    #[command(flatten)]
    pub(crate) status: StatusArgs,
    /// Have handlers panic or hang when a client says so: for `webscale faults`
    #[arg(long, hide = true)]
    pub(crate) wilful: bool,
    /// Share the port with the sibling that has it: for the children of --processes
    #[arg(long, hide = true)]
    pub(crate) share_port: bool,
    /// Read from stdin what the parent hands down: for the children of --processes
    #[arg(long, hide = true)]
    pub(crate) inherit: bool,
}

impl ServeArgs {
    /// What SIGHUP reads again, if there are files.
    pub(crate) fn reloadable(&self) -> Option<&'static str> {
        match (self.cert.is_some() || self.client_ca.is_some(), self.ticket_secret.is_some()) {
            (true, true) => Some("certificates and ticket secret"),
            (true, false) => Some("certificates"),
            (false, true) => Some("ticket secret"),
            (false, false) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Send every message back
    Echo,
    /// Parse every message into a struct, and count
    Ingest,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Echo => Self::Echo,
            ModeArg::Ingest => Self::Ingest,
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("{error}; wanted ADDR:PORT"))?;
    found.next().ok_or_else(|| "the name has no address".to_owned())
}

fn origin(text: &str) -> Result<String, String> {
    match Origins::list([text]).fault() {
        Some((_, fault)) if text != "any" => Err(format!("{fault}; `any` lets every page connect")),
        _ => Ok(text.to_owned()),
    }
}
