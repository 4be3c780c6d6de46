//! `countersign keys`: the broker's own keys, by the control socket of the broker that runs, or in its store where none
//! does.

use super::output::{BOLD, GOOD, Output, table};
use super::{Failure, installation, perform, unexpected};
use crate::admin::{AdminAnswer, AdminRequest, KeyView};
use crate::domain::Purpose;
use clap::{Subcommand, ValueEnum};
use countersign_verify::key::Algorithm;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// List, rotate and revoke the broker's signing keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysArguments {
    /// List every key with its state and its dates.
    List,
    /// Create a successor. It is published at once, and signs six minutes later, when every resource server can have
    /// it.
    Rotate {
        /// The purpose of the key.
        #[arg(long, value_enum, default_value = "tokens")]
        purpose: For,
        /// The algorithm: ES256, EdDSA or RS256.
        #[arg(long, default_value = "ES256", value_parser = signing_algorithm)]
        algorithm: Algorithm,
    },
    /// Remove a compromised key at once, and revoke every token that it signed.
    #[command(
        after_help = "This cannot be undone: every token that the key signed is revoked on every replica, and another key signs at once."
    )]
    Revoke {
        /// The key's id, as `countersign keys list` shows it.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// A reason for people. It is stored with the revocation and in the audit log.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// The purpose of a key.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum For {
    /// Access tokens.
    Tokens,
    /// Checkpoints of the audit log.
    Checkpoints,
    /// Signed answers of introspection.
    Introspection,
}

impl From<For> for Purpose {
    fn from(purpose: For) -> Self {
        match purpose {
            For::Tokens => Self::Tokens,
            For::Checkpoints => Self::Checkpoints,
            For::Introspection => Self::Introspection,
        }
    }
}

fn signing_algorithm(name: &str) -> Result<Algorithm, String> {
    let known = countersign_verify::SIGNING_ALGORITHMS;
    let algorithm = name.parse().ok().filter(|algorithm| known.contains(algorithm));
    algorithm.ok_or_else(|| format!("use one of {}", known.map(Algorithm::name).join(", ")))
}

const HEADING: [&str; 7] = ["key", "purpose", "algorithm", "state", "signs from", "signs until", "gone"];

pub(super) fn run(arguments: &KeysArguments, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    let request = match arguments {
        KeysArguments::List => AdminRequest::Keys {},
        KeysArguments::Rotate { purpose, algorithm } => {
            AdminRequest::RotateKey { purpose: (*purpose).into(), algorithm: *algorithm }
        }
        KeysArguments::Revoke { kid, reason } => AdminRequest::RevokeKey { kid: kid.clone(), reason: reason.clone() },
    };
    match (perform(&installation, request)?, arguments) {
        (AdminAnswer::Keys(keys), _) => {
            let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
            output.print(&table(&HEADING, &rows), &json!(keys));
        }
        (AdminAnswer::Key(key), KeysArguments::Rotate { .. }) => {
            let KeyView { kid, signs_from, .. } = &key;
            let text = format!("{GOOD}published{GOOD:#} {BOLD}{kid}{BOLD:#}, which signs from {signs_from}");
            output.print(&text, &json!(key));
        }
        (AdminAnswer::Key(key), _) => {
            let kid = &key.kid;
            let text = format!("{GOOD}revoked{GOOD:#} {BOLD}{kid}{BOLD:#} and every token that it signed");
            output.print(&text, &json!(key));
        }
        _ => return Err(unexpected()),
    }
    Ok(ExitCode::SUCCESS)
}

fn row(key: &KeyView) -> Vec<String> {
    let KeyView { kid, purpose, algorithm, state, signs_from, signs_until, gone, .. } = key;
    let date = |date: &Option<String>| date.clone().unwrap_or_else(|| "-".to_owned());
    let texts = [kid, purpose, algorithm, state, signs_from].map(String::clone);
    texts.into_iter().chain([date(signs_until), date(gone)]).collect()
}
