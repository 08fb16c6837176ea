//! The command `webscale`: flags in, the library and the load generator behind them, text or JSON out.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod bench;
mod capacity;
mod cert;
mod compare;
mod doctor;
mod exit;
mod faults;
mod live;
mod output;
mod payload;
mod plain;
mod progress;
mod serve;

fn main() -> ExitCode {
    let args = args::Args::parse();
    exit::finish(run(args.command))
}

fn run(command: args::Command) -> anyhow::Result<()> {
    match command {
        args::Command::Bench(args) => bench::run(&args),
        args::Command::BenchPart => bench::run_part(),
        args::Command::Capacity(args) => capacity::run(&args),
        args::Command::Cert(args) => cert::run(&args),
        args::Command::Compare(args) => compare::run(&args),
        args::Command::Doctor(args) => doctor::run(&args),
        args::Command::Faults(args) => faults::run(&args),
        args::Command::Payload(args) => payload::run(&args),
        args::Command::Serve(args) => serve::run(&args),
    }
}
