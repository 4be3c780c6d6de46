//! `countersign keys`: the broker's own keys, by the control socket of the broker that runs, or in its store where none
//! does.

use super::output::{BOLD, GOOD, Output, table};
use super::{Failure, ambient, installation};
use crate::app::Installation;
use crate::control::{self, Command, ControlError, Reply};
use crate::domain::Purpose;
use clap::{Subcommand, ValueEnum};
use countersign_verify::key::Algorithm;
use serde_json::Value;
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
    let command = match arguments {
        KeysArguments::List => Command::Keys {},
        KeysArguments::Rotate { purpose, algorithm } => Command::RotateKey {
            purpose: Purpose::from(*purpose).name().to_owned(),
            algorithm: algorithm.name().to_owned(),
        },
        KeysArguments::Revoke { kid, reason } => Command::RevokeKey { kid: kid.clone(), reason: reason.clone() },
    };
    let told = match control::ask(installation.control(), &command) {
        Err(ControlError::NotRunning(_)) => offline(&installation, arguments)?,
        Ok(Reply::Told(told)) => told,
        Ok(Reply::Failed { message }) => return Err(Failure(message)),
        Ok(Reply::Done { .. }) => return Err(Failure("the broker gave another answer than was asked for".to_owned())),
        Err(fault) => return Err(fault.into()),
    };
    let text = |key: &Value, name: &str| key.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let line = match arguments {
        KeysArguments::List => {
            let rows: Vec<Vec<String>> = told
                .as_array()
                .into_iter()
                .flatten()
                .map(|key| {
                    ["kid", "purpose", "algorithm", "state", "signs_from", "signs_until", "gone"]
                        .map(|name| text(key, name))
                        .to_vec()
                })
                .collect();
            table(&HEADING, &rows)
        }
        KeysArguments::Rotate { .. } => {
            let (kid, from) = (text(&told, "kid"), text(&told, "signs_from"));
            format!("{GOOD}published{GOOD:#} {BOLD}{kid}{BOLD:#}, which signs from {from}")
        }
        KeysArguments::Revoke { .. } => {
            let kid = text(&told, "kid");
            format!("{GOOD}revoked{GOOD:#} {BOLD}{kid}{BOLD:#} and every token that it signed")
        }
    };
    output.print(&line, &told);
    Ok(ExitCode::SUCCESS)
}

fn offline(installation: &Installation, arguments: &KeysArguments) -> Result<Value, Failure> {
    let (clock, entropy) = ambient();
    Ok(crate::http::block_on(async {
        match arguments {
            KeysArguments::List => installation.list_keys(&clock, &entropy).await,
            KeysArguments::Rotate { purpose, algorithm } => {
                installation.rotate_key((*purpose).into(), *algorithm, &clock, &entropy).await
            }
            KeysArguments::Revoke { kid, reason } => {
                installation.revoke_key(kid, reason.clone(), &clock, &entropy).await
            }
        }
    })?)
}
