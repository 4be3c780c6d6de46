//! `countersign revoke`, `suspend`, `resume` and `revocations`: by the control socket of the broker that runs, or in
//! its store where none does.

use super::output::{GOOD, Output, printable, table};
use super::token_source::TokenSource;
use super::{Failure, ambient, installation};
use crate::app::Installation;
use crate::control::{self, Command, ControlError, Reply};
use crate::domain::{Timestamp, TokenId};
use clap::Args;
use countersign_verify::jws::Compact;
use countersign_verify::revocation::Kind;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

/// Revoke a token, or every token issued so far to a workload, by an issuer, for a target and so on.
#[derive(Debug, Args)]
#[command(
    after_help = "Name the token by its id, which is in the audit log, or give the token itself. Every token that was exchanged from a
revoked token is revoked too. A workload, client or target can get new tokens at once, unless you use `countersign suspend`.

Examples:
  countersign revoke --task AAECAwQFBgcICQoLDA0ODw
  countersign revoke --workload github:repo:acme/app:ref:refs/heads/main --reason 'INC-42'
  countersign revoke --issuer github --before 2026-11-22T10:00:00Z"
)]
pub(super) struct Revoke {
    /// The token's id (`jti`). It may begin with `-`.
    #[arg(allow_hyphen_values = true, conflicts_with_all = ["NamedArguments", "TokenSource"])]
    jti: Option<String>,
    #[command(flatten)]
    token: TokenSource,
    #[command(flatten)]
    named: NamedArguments,
    /// Revoke only tokens issued before this time, which must be in the past.
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// A reason, for the readers of the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Revoke what was issued so far, and refuse everything new until `countersign resume`.
#[derive(Debug, Args)]
#[command(after_help = "A suspension revokes every token issued so far, and stays in force until it is lifted.")]
pub(super) struct Suspend {
    #[command(flatten)]
    named: NamedArguments,
    /// A reason, for the readers of the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// The thing to revoke: exactly one of these.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct NamedArguments {
    /// The id of a task.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    task: Option<String>,
    /// The name of a workload.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// The name of an actor, at any place in a delegation chain.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// An issuer: the name of its entry, or its `iss`.
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// The id of a client.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// The audience of a target.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

impl NamedArguments {
    /// Returns kind and id as tokens carry them. The name of an issuer's entry stands for the `iss` that it signs as.
    ///
    /// # Errors
    /// Where an issuer's name is that of no entry, and no `iss` either: what hits nothing must not look done.
    fn read(&self, installation: &Installation) -> Result<Option<(Kind, String)>, Failure> {
        let Self { task, workload, actor, issuer, client, target } = self;
        let issuer = issuer.as_ref().map(|name| match installation.signs_as(name) {
            Some(iss) => Ok(iss),
            None if name.contains("://") => Ok(name.clone()),
            None => Err(Failure(format!("no issuer is named `{name}` in the configuration; write its `iss`"))),
        });
        let issuer = issuer.transpose()?;
        let target = target.as_ref().map(|name| installation.audience_of(name).unwrap_or_else(|| name.clone()));
        let all = [
            (Kind::Task, task.clone()),
            (Kind::Workload, workload.clone()),
            (Kind::Actor, actor.clone()),
            (Kind::Issuer, issuer),
            (Kind::Client, client.clone()),
            (Kind::Target, target),
        ];
        Ok(all.into_iter().find_map(|(kind, id)| Some((kind, id?))))
    }
}

pub(super) fn run(arguments: &Revoke, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    let before = arguments.before.as_deref().map(moment).transpose()?;
    let named = arguments.named.read(&installation)?;
    if named.is_some() && arguments.token.is_given() {
        return Err(Failure("name one thing to revoke: a token, or what tokens belong to".to_owned()));
    }
    let (kind, id) = match (&arguments.jti, named) {
        (None, Some(named)) => named,
        (Some(jti), _) => (Kind::Token, jti.parse::<TokenId>()?.to_string()),
        (None, None) => (Kind::Token, id_of(&arguments.token.read("")?, &installation)?.to_string()),
    };
    change(&installation, Wanted { kind, id, act: "revoke", before, reason: arguments.reason.clone() }, output)
}

pub(super) fn suspend(
    arguments: &Suspend,
    act: &'static str,
    config: &Path,
    output: Output,
) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    let named = arguments.named.read(&installation)?;
    let (kind, id) = named.ok_or_else(|| {
        Failure(format!("name what to {act}: --task, --workload, --actor, --issuer, --client or --target"))
    })?;
    change(&installation, Wanted { kind, id, act, before: None, reason: arguments.reason.clone() }, output)
}

/// Ends the token `jti`, and everything below it.
pub(super) fn by_id(
    jti: &TokenId,
    reason: Option<String>,
    installation: &Installation,
    output: Output,
) -> Result<ExitCode, Failure> {
    change(installation, Wanted { kind: Kind::Token, id: jti.to_string(), act: "revoke", before: None, reason }, output)
}

/// Shows everything that is in force.
pub(super) fn list(config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    let told = match control::ask(installation.control(), &Command::Revocations {}) {
        Err(ControlError::NotRunning(_)) => {
            let (clock, entropy) = ambient();
            crate::http::block_on(installation.list_revocations(&clock, &entropy))?
        }
        Ok(Reply::Told(told)) => told,
        Ok(Reply::Failed { message }) => return Err(Failure(message)),
        Ok(Reply::Done { .. }) => return Err(Failure("the broker gave another answer than was asked for".to_owned())),
        Err(fault) => return Err(fault.into()),
    };
    let text = |record: &Value, name: &str| printable(record.get(name).and_then(Value::as_str).unwrap_or("-"));
    let columns = ["position", "act", "kind", "id", "at", "by", "reason"];
    let rows: Vec<Vec<String>> = told
        .as_array()
        .into_iter()
        .flatten()
        .map(|record| {
            let position = record.get("position").and_then(Value::as_u64).unwrap_or_default().to_string();
            std::iter::once(position).chain(columns.iter().skip(1).map(|name| text(record, name))).collect()
        })
        .collect();
    let shown = if rows.is_empty() { "nothing is revoked".to_owned() } else { table(&columns, &rows) };
    output.print(&shown, &told);
    Ok(ExitCode::SUCCESS)
}

/// A change that the command asks a broker for.
struct Wanted {
    kind: Kind,
    id: String,
    act: &'static str,
    before: Option<Timestamp>,
    reason: Option<String>,
}

fn change(installation: &Installation, wanted: Wanted, output: Output) -> Result<ExitCode, Failure> {
    let Wanted { kind, id, act, before, reason } = wanted;
    let command = Command::Change {
        kind: kind.name().to_owned(),
        id: id.clone(),
        act: act.to_owned(),
        before: before.map(Timestamp::seconds),
        reason,
    };
    let reply = match control::ask(installation.control(), &command) {
        Err(ControlError::NotRunning(_)) => offline(installation, command)?,
        other => other?,
    };
    match reply {
        Reply::Done { decision } => {
            let done = match act {
                "suspend" => "suspended",
                "resume" => "resumed",
                _ => "revoked",
            };
            let named = if kind == Kind::Token { id.clone() } else { format!("{kind} {}", printable(&id)) };
            let below = if act == "resume" { "" } else { " and everything below it" };
            let text = format!("{GOOD}{done}{GOOD:#} {named}{below} (decision {decision})");
            output.print(&text, &json!({done: id, "kind": kind.name(), "decision": decision}));
            Ok(ExitCode::SUCCESS)
        }
        Reply::Told(_) => Err(Failure("the broker gave another answer than was asked for".to_owned())),
        Reply::Failed { message } => Err(Failure(format!("not done: {message}"))),
    }
}

fn moment(text: &str) -> Result<Timestamp, Failure> {
    text.parse().map_err(|()| Failure(format!("`{text}` is no moment; write e.g. 2026-11-22T10:00:00Z")))
}

/// The id of a token that this broker signed. One that has expired has one too.
fn id_of(token: &str, installation: &Installation) -> Result<TokenId, Failure> {
    let ring = crate::http::block_on(installation.token_keys(&ambient().1))?;
    let compact = Compact::parse(token)?;
    let key = ring.verifying().find(compact.header().key_id.as_deref(), compact.header().algorithm)?;
    let payload = compact.verify(key)?;
    let jti = payload.members().get("jti").and_then(Value::as_str).unwrap_or_default();
    Ok(jti.parse()?)
}

fn offline(installation: &Installation, command: Command) -> Result<Reply, Failure> {
    let (clock, entropy) = ambient();
    Ok(crate::http::block_on(installation.change(command, &clock, &entropy))?)
}
