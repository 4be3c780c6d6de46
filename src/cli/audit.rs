//! `countersign audit`: whether the log holds, what is written to it, and what stands for a token in it.

use super::explain::describe;
use super::output::{BAD, BOLD, DIM, GOOD, Output, printable};
use super::token_source::TokenSource;
use super::{Failure, ambient, installation};
use crate::audit::{self, AuditFollower, LineContent, Note, Report, Sealing};
use crate::domain::{ChainHead, SystemEntropy, Timestamp};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Interval at which a followed log is read.
const LOOK: Duration = Duration::from_millis(200);

/// Verify and follow the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum AuditArguments {
    /// Verify the hash chain: name the first line that was edited, deleted or moved, and detect truncation.
    Verify(Verify),
    /// Print the last events, and new events as they are written.
    Tail(TailArguments),
    /// Print the digest by which the log names a token that could not be verified.
    Digest {
        #[command(flatten)]
        token: TokenSource,
    },
}

/// Verify the log.
#[derive(Debug, Args)]
#[command(
    after_help = "Checkpoints are verified with the keys in the signing directory. The end of the log is compared with the
head in the store, or with --head: a head that you stored elsewhere, from /audit/head on the management
listener. With --directory, a copy of a log is verified without checkpoints and without the store."
)]
pub(super) struct Verify {
    /// The directory of the log. Default: the configuration's.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// A head that the log must contain.
    #[arg(long, value_name = "HEAD")]
    head: Option<ChainHead>,
}

/// Follow the log.
#[derive(Debug, Args)]
pub(super) struct TailArguments {
    /// Number of past lines to print first.
    #[arg(short = 'n', long, default_value_t = 10, value_name = "COUNT")]
    lines: usize,
    /// Stop after the past lines.
    #[arg(long)]
    no_follow: bool,
}

pub(super) fn run(arguments: &AuditArguments, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    match arguments {
        AuditArguments::Verify(verify) => check(verify, config, output),
        AuditArguments::Tail(tail) => follow(tail, config, output),
        AuditArguments::Digest { token } => {
            let digest = installation(config)?.digest(&token.read("")?, &SystemEntropy)?;
            output.print(&digest, &json!({"token": digest}));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(arguments: &Verify, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let (directory, keys, kept) = match &arguments.directory {
        Some(directory) => (directory.clone(), None, None),
        None => {
            let installation = installation(config)?;
            let keys = crate::http::block_on(installation.checkpoint_keys(&ambient().1))?;
            // Read before the log: a broker that runs writes on.
            (installation.audit().to_owned(), Some(keys), installation.audit_head()?)
        }
    };
    let kept = arguments.head.clone().or(kept);
    let sealing = keys.as_ref().map(|keys| Sealing { good: &keys.good, revoked: &keys.revoked });
    match audit::verify(&directory, sealing, kept.as_ref()) {
        Ok(report) => {
            let holds = report.gaps.is_empty();
            output.print(
                &summary(&report, keys.is_some(), kept.is_some()),
                &json!({
                    "holds": holds, "events": report.events, "lines": report.lines, "segments": report.segments,
                    "head": report.head.to_string(), "checkpoints": report.checkpoints, "signed_up_to": report.signed,
                    "counted_refusals": report.counted, "gaps": report.gaps, "torn_bytes": report.torn,
                }),
            );
            Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(fault) if output.json => {
            output.print("", &json!({"holds": false, "error": fault.to_string()}));
            Ok(ExitCode::FAILURE)
        }
        Err(fault) => Err(Failure(format!("{}: {fault}", directory.display()))),
    }
}

fn summary(report: &Report, sealed: bool, compared: bool) -> String {
    let mut lines = vec![if report.gaps.is_empty() {
        format!("{GOOD}the chain holds{GOOD:#}: {} events, head {}", report.events, report.head)
    } else {
        format!("{BAD}lines are lost{BAD:#}: {} events are left, head {}", report.events, report.head)
    }];
    lines.extend(report.gaps.iter().map(|at| format!("  line {at} notes that lines before it are not there any more")));
    lines.push(if sealed {
        format!("  {} checkpoints, signed up to line {} of {}", report.checkpoints, report.signed, report.head.next)
    } else {
        format!("  {DIM}checkpoints were not verified: no keys{DIM:#}")
    });
    if !compared {
        lines.push(format!("  {DIM}its end was compared with nothing: no head is known{DIM:#}"));
    }
    if report.counted > 0 {
        lines.push(format!("  {} refusals were counted and not written", report.counted));
    }
    lines.join("\n")
}

fn follow(arguments: &TailArguments, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let directory = installation(config)?.audit().to_owned();
    let (mut follower, lines) = AuditFollower::last(&directory, arguments.lines)?;
    lines.iter().for_each(|line| show(line, output));
    if arguments.no_follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        let lines = follower.more()?;
        lines.iter().for_each(|line| show(line, output));
        if lines.is_empty() {
            std::thread::sleep(LOOK);
        }
    }
}

fn show(line: &LineContent, output: Output) {
    match line {
        LineContent::Event(event) => output.print(&describe(event), &json!(event)),
        LineContent::Note(note, time) => {
            let value = json!({"note": note, "time": time});
            output.print(&noted(note, *time), &value);
        }
    }
}

fn noted(note: &Note, time: i64) -> String {
    let time = Timestamp::new(time).map(|time| time.to_string()).unwrap_or_default();
    let text = match note {
        Note::Counted(reasons) => {
            let each: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
            format!("refusals that were only counted: {}", each.join(", "))
        }
        Note::Checkpoint(_) => "checkpoint".to_owned(),
        Note::Pruned(head) => format!("segments up to {head} were as old as may be and are gone"),
        Note::Gap(head) => format!("{BAD}lines are lost: the store knew the head {head}{BAD:#}"),
    };
    format!("{BOLD}·{BOLD:#} {}  {DIM}{time}{DIM:#}", printable(&text))
}
