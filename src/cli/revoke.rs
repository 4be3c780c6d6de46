//! `countersign revoke`: by the control socket of the broker that runs, or in its store where none does.

use super::output::{GOOD, Output};
use super::token_source::TokenSource;
use super::{Failure, installation};
use crate::app::Installation;
use crate::control::{self, Command, ControlError, Reply};
use crate::domain::{Entropy, SystemClock, SystemEntropy, TokenId};
use crate::signing::Keys;
use clap::Args;
use countersign_verify::jws::Compact;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Revoke a token, and everything that was exchanged from it.
#[derive(Debug, Args)]
#[command(after_help = "Name the token by its id, which the audit log has, or give the token itself.")]
pub(super) struct Revoke {
    /// The token's id (`jti`), which may begin with a `-`.
    #[arg(allow_hyphen_values = true)]
    jti: Option<String>,
    #[command(flatten)]
    token: TokenSource,
}

pub(super) fn run(arguments: &Revoke, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    let jti: TokenId = match &arguments.jti {
        Some(jti) => jti.parse()?,
        None => id_of(&arguments.token.read("")?, &installation)?,
    };
    by_id(&jti, &installation, output)
}

/// Ends the token `jti`, and everything below it.
pub(super) fn by_id(jti: &TokenId, installation: &Installation, output: Output) -> Result<ExitCode, Failure> {
    let command = Command::Revoke { jti: jti.to_string() };
    let reply = match control::ask(installation.control(), &command) {
        Err(ControlError::NotRunning(_)) => offline(installation, jti)?,
        other => other?,
    };
    match reply {
        Reply::Done { decision } => {
            let text = format!("{GOOD}revoked{GOOD:#} {jti} and everything below it (decision {decision})");
            output.print(&text, &json!({"revoked": jti.as_str(), "decision": decision}));
            Ok(ExitCode::SUCCESS)
        }
        Reply::Told(_) => Err(Failure("the broker gave another answer than was asked for".to_owned())),
        Reply::Failed { message } => Err(Failure(format!("not revoked: {message}"))),
    }
}

/// The id of a token that this broker signed. One that has expired has one too.
fn id_of(token: &str, installation: &Installation) -> Result<TokenId, Failure> {
    let ring = Keys::token_keys(installation.keys())?;
    let compact = Compact::parse(token)?;
    let key = ring.verifying().find(compact.header().key_id.as_deref(), compact.header().algorithm)?;
    let payload = compact.verify(key)?;
    let jti = payload.members().get("jti").and_then(Value::as_str).unwrap_or_default();
    Ok(jti.parse()?)
}

fn offline(installation: &Installation, jti: &TokenId) -> Result<Reply, Failure> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let answer = crate::http::block_on(installation.revoke(jti, &SystemClock, &entropy))?;
    Ok(match answer.result {
        Ok(()) => Reply::Done { decision: answer.decision.to_string() },
        Err(fault) => Reply::Failed { message: fault.to_string() },
    })
}
