//! The command line: one file a command. Prints for people, and JSON with `--json`.

mod audit;
mod check;
mod demo;
mod exchange;
mod explain;
mod inspect;
mod output;
mod revoke;
mod serve;
mod token_source;
mod wire;

use crate::app::Installation;
use clap::{Parser, Subcommand};
use output::Output;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing::level_filters::LevelFilter;

/// A token exchange broker: workloads swap the assertion that they have for the token that they need.
///
/// Start with `countersign demo`, then write a `countersign.toml` and ask `countersign check` about it.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100)]
struct Arguments {
    /// The configuration.
    #[arg(long, global = true, default_value = "countersign.toml", value_name = "FILE")]
    config: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// How much to log on standard error: off, error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "warn", value_name = "LEVEL")]
    log: LevelFilter,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker until SIGTERM or SIGINT.
    Serve,
    /// Show a whole exchange on this machine: nothing to configure, nothing left behind.
    Demo(demo::Demo),
    /// Check configuration, keys, policies and issuers, and print what is trusted.
    Check(check::Check),
    /// Exchange a token at a broker and print the one that it gives.
    Exchange(exchange::Exchange),
    /// Decode a token, verify it, and say why not.
    Inspect(inspect::Inspect),
    /// Revoke a token and everything below it.
    Revoke(revoke::Revoke),
    /// Print each check of a decision, and the first that failed.
    Explain(explain::Explain),
    /// Look after the audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
}

/// Why a command did not do what it was asked; what is printed.
#[derive(Debug)]
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(fault: E) -> Self {
        Self(fault.to_string().trim_end().to_owned())
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    crate::telemetry::install(arguments.log);
    let output = Output { json: arguments.json };
    let config = arguments.config.as_path();
    let done = match arguments.command {
        Command::Serve => serve::run(config, output),
        Command::Demo(demo) => demo::run(&demo, output),
        Command::Check(check) => check::run(&check, config, output),
        Command::Exchange(exchange) => exchange::run(&exchange, output),
        Command::Inspect(inspect) => inspect::run(&inspect, config, output),
        Command::Revoke(revoke) => revoke::run(&revoke, config, output),
        Command::Explain(explain) => explain::run(&explain, config, output),
        Command::Audit(audit) => audit::run(&audit, config, output),
    };
    match done {
        Ok(code) => code,
        Err(Failure(message)) => {
            output.failure(&message);
            ExitCode::FAILURE
        }
    }
}

fn installation(config: &Path) -> Result<Installation, Failure> {
    Ok(Installation::read(config)?)
}
