//! The command line: one file a command. Prints for people, and JSON with `--json`.

mod audit;
mod check;
mod client;
mod config;
mod demo;
mod exchange;
mod explain;
mod inspect;
mod keys;
mod manual;
mod output;
mod prover;
mod reload;
mod revoke;
mod serve;
mod task;
mod token_source;
mod wire;

use crate::admin::{AdminAnswer, AdminRequest, OperatorId};
use crate::app::Installation;
use crate::control::{self, ControlError, Reply};
use crate::domain::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::telemetry::LogFormat;
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use countersign_verify::revocation::Act;
use output::Output;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tracing::level_filters::LevelFilter;

/// A token exchange broker: workloads exchange the assertion that their platform gives them for a token of one target.
///
/// Start with `countersign demo`. Then write a `countersign.toml`, and let `countersign check` verify it.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100)]
struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, default_value = "countersign.toml", value_name = "FILE")]
    config: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// The least level that is logged to standard error: off, error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "warn", value_name = "LEVEL")]
    log: LevelFilter,
    /// The format of a log line: text for people, or one JSON object a line.
    #[arg(long, global = true, default_value = "text", value_enum, value_name = "FORMAT")]
    log_format: Format,
    #[command(subcommand)]
    command: Subcommands,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The least level that is logged.
#[derive(Debug, Clone, Copy)]
struct Logs {
    level: LevelFilter,
    format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Run the broker until SIGTERM or SIGINT.
    Serve,
    /// Show a whole exchange on this machine, without any configuration. Leaves nothing behind.
    Demo(demo::Demo),
    /// Check configuration, keys, policies and issuers, and print what is trusted.
    Check(check::CheckArguments),
    /// Exchange a token at a broker and print the token that the broker issues.
    Exchange(exchange::Exchange),
    /// Decode a token, verify it, and print why it does not verify.
    Inspect(inspect::Inspect),
    /// Revoke a token, a task, a workload, an issuer, a client or a target, and everything below it.
    Revoke(revoke::Revoke),
    /// Suspend a workload, an issuer, a client, a target or a task: revoke its tokens, and refuse new ones.
    Suspend(revoke::Suspend),
    /// Lift a suspension. Tokens that were issued before the suspension stay revoked.
    Resume(revoke::Suspend),
    /// List every revocation and suspension in force.
    Revocations,
    /// List and end tasks, or run a command in one.
    #[command(subcommand)]
    Task(task::TaskArguments),
    /// Print each check of a decision and the first check that failed.
    Explain(explain::Explain),
    /// Verify and follow the audit log.
    #[command(subcommand)]
    Audit(audit::AuditArguments),
    /// List, rotate and revoke the broker's signing keys.
    #[command(subcommand)]
    Keys(keys::KeysArguments),
    /// Register clients.
    #[command(subcommand)]
    Client(client::ClientArguments),
    /// Reload configuration and policies in the running broker, all of them or none.
    Reload,
    /// Print the configuration or its schema.
    #[command(subcommand)]
    Config(config::ConfigArguments),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
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
    let format = match arguments.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    let logs = Logs { level: arguments.log, format };
    // A broker knows where its traces go only when it has read its configuration.
    if !matches!(arguments.command, Subcommands::Serve) {
        crate::telemetry::install(logs.level, logs.format, None);
    }
    // Whatever is done, a token or a key may be in this memory.
    serve::keep_memory_in();
    let output = Output { json: arguments.json };
    let config = arguments.config.as_path();
    let done = match arguments.command {
        Subcommands::Serve => serve::run(config, output, logs),
        Subcommands::Demo(demo) => demo::run(&demo, output),
        Subcommands::Check(check) => check::run(&check, config, output),
        Subcommands::Exchange(exchange) => exchange::run(&exchange, output),
        Subcommands::Inspect(inspect) => inspect::run(&inspect, config, output),
        Subcommands::Revoke(revoke) => revoke::run(&revoke, config, output),
        Subcommands::Suspend(suspend) => revoke::suspend(&suspend, Act::Suspend, config, output),
        Subcommands::Resume(resume) => revoke::suspend(&resume, Act::Resume, config, output),
        Subcommands::Revocations => revoke::list(config, output),
        Subcommands::Task(task) => task::run(&task, config, output),
        Subcommands::Explain(explain) => explain::run(&explain, config, output),
        Subcommands::Audit(audit) => audit::run(&audit, config, output),
        Subcommands::Keys(keys) => keys::run(&keys, config, output),
        Subcommands::Client(client) => client::run(&client, output),
        Subcommands::Reload => reload::run(config, output),
        Subcommands::Config(show) => config::run(&show, config, output),
        Subcommands::Completions { shell } => Ok(manual::completions(shell)),
        Subcommands::Man => manual::man(),
    };
    match done {
        Ok(code) => code,
        Err(Failure(message)) => {
            output.failure(&message);
            ExitCode::FAILURE
        }
    }
}

/// The machine's clock and its source of randomness.
fn ambient() -> (Arc<dyn Clock>, Arc<dyn Entropy>) {
    (Arc::new(SystemClock), Arc::new(SystemEntropy))
}

/// Has `request` done by the broker that runs, or in its store if none does. A running broker has the store to itself.
fn perform(installation: &Installation, request: AdminRequest) -> Result<AdminAnswer, Failure> {
    match control::ask(installation.control(), &request) {
        Ok(Reply::Done(answer)) => Ok(answer),
        Ok(Reply::Failed { message }) => Err(Failure(message)),
        Err(ControlError::NotRunning(_)) if request != (AdminRequest::Reload {}) => {
            let (clock, entropy) = ambient();
            crate::http::block_on(async {
                let admin = installation.admin(&clock, &entropy).await?;
                Ok(admin.perform(request, &OperatorId::own()).await?)
            })
        }
        Err(fault) => Err(fault.into()),
    }
}

/// The fault of an answer to another request.
fn unexpected() -> Failure {
    Failure("the broker gave another answer than was asked for; is it of another version?".to_owned())
}

fn installation(config: &Path) -> Result<Installation, Failure> {
    Ok(Installation::read(config)?)
}
