//! Asks a token server what the documents ask of it, clause by clause: each case sends what a clause is about and looks at
//! what comes back. The cases are data (`cases/*.toml`), and so is what is known of the server (a profile), so that the same
//! table can be made for any server. The issuers that it signs as are its own, with real keys.

mod assertion;
mod case;
mod expect;
mod issuers;
mod local;
mod profile;
mod report;
mod run;
mod send;
mod values;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

type Fault = Box<dyn Error + Send + Sync>;

/// Asks a token server what RFC 8693 and its neighbours ask of it, and prints a table, clause by clause.
#[derive(Parser)]
#[command(
    version,
    after_help = "Profiles of other servers are in conformance/profiles; docs/conformance.md says how to write one."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Ask the server that a profile describes.
    Run {
        /// The profile.
        profile: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Start a broker of this machine, and ask it.
    Local {
        /// The program.
        countersign: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Print every case.
    List,
}

/// Where the table goes, beside the terminal.
#[derive(clap::Args)]
struct Output {
    /// Write the results as JSON and as HTML into this directory, named by the profile.
    #[arg(long, value_name = "DIRECTORY")]
    results: Option<PathBuf>,
    /// Run only cases whose id holds this text.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = Arguments::parse();
    let system = actix_web::rt::System::new();
    match system.block_on(obey(arguments.command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::from(2)
        }
    }
}

/// Whether every case that was tried holds.
async fn obey(command: Command) -> Result<bool, Fault> {
    let cases = case::all()?;
    let (report, output) = match command {
        Command::List => {
            for case in &cases {
                println!("{}  {} §{}  {}", case.id, case.document, case.section, case.says);
            }
            eprintln!("{} cases", cases.len());
            return Ok(true);
        }
        Command::Run { profile, output } => {
            (run::all(&profile::read(&profile)?, &cases, output.only.as_deref()).await?, output)
        }
        Command::Local { countersign, output } => {
            (local::run(&countersign, &cases, output.only.as_deref()).await?, output)
        }
    };
    report.print();
    if let Some(folder) = &output.results {
        report.write(folder)?;
    }
    Ok(report.holds())
}
