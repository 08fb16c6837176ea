//! What can be typed. One definition feeds parsing and help.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod bench;
mod capacity;
mod compare;
mod doctor;
mod faults;
mod output;
mod serve;
mod units;

pub(crate) use bench::{BenchArgs, own_path, own_program};
pub(crate) use capacity::CapacityArgs;
pub(crate) use compare::CompareArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use faults::FaultsArgs;
pub(crate) use output::OutputArgs;
pub(crate) use serve::ServeArgs;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the run failed; stderr says why
  2  what was typed cannot be done
  3  faults alone: not everything could be told";

/// WebSocket servers and load, without an async runtime.
#[derive(Debug, Parser)]
#[command(name = "webscale", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Bench(Box<BenchArgs>),
    /// Make a part of the load of `bench`, which starts this
    #[command(hide = true)]
    BenchPart,
    Capacity(Box<CapacityArgs>),
    Cert(CertArgs),
    Compare(CompareArgs),
    Doctor(DoctorArgs),
    Faults(FaultsArgs),
    Payload(PayloadArgs),
    Serve(Box<ServeArgs>),
}

/// Make a CA and a certificate for tests.
///
/// Writes ca.pem, ca-key.pem, cert.pem and key.pem. The certificate is for localhost, 127.0.0.1, ::1 and every
/// --name, valid for 397 days. Key files have mode 0600.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  webscale cert
  webscale cert --directory tls --name bench.example --name 10.0.0.7")]
pub(crate) struct CertArgs {
    /// Where the files go; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
    /// One more host name or IP address; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,
    /// Replace files that are there already
    #[arg(long)]
    pub(crate) force: bool,
}

/// Print the 10 kB JSON message that the servers parse.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  webscale payload | wc -c
  webscale payload --seed 7 > message.json")]
pub(crate) struct PayloadArgs {
    /// Which device reports: another seed, another message of the same size
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}
