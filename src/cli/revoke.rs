//! `countersign revoke`, `suspend`, `resume` and `revocations`: by the control socket of the broker that runs, or in
//! its store where none does.

use super::output::{GOOD, Output, printable, table};
use super::token_source::TokenSource;
use super::{Failure, ambient, installation, perform, unexpected};
use crate::admin::{AdminAnswer, AdminRequest, Change, RevocationView};
use crate::app::Installation;
use crate::domain::{Timestamp, TokenId};
use clap::Args;
use countersign_verify::jws::Compact;
use countersign_verify::revocation::{Act, Kind};
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
    let act = before.map_or(Act::Revoke, |before| Act::RevokeBefore(before.seconds()));
    change(&installation, Change { kind, id, act, reason: arguments.reason.clone() }, output)
}

pub(super) fn suspend(arguments: &Suspend, act: Act, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    let named = arguments.named.read(&installation)?;
    let (kind, id) = named.ok_or_else(|| {
        let act = if act == Act::Suspend { "suspend" } else { "resume" };
        Failure(format!("name what to {act}: --task, --workload, --actor, --issuer, --client or --target"))
    })?;
    change(&installation, Change { kind, id, act, reason: arguments.reason.clone() }, output)
}

/// Ends the token `jti`, and everything below it.
pub(super) fn by_id(
    jti: &TokenId,
    reason: Option<String>,
    installation: &Installation,
    output: Output,
) -> Result<ExitCode, Failure> {
    change(installation, Change { kind: Kind::Token, id: jti.to_string(), act: Act::Revoke, reason }, output)
}

/// Shows everything that is in force.
pub(super) fn list(config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let installation = installation(config)?;
    let AdminAnswer::Revocations(records) = perform(&installation, AdminRequest::Revocations {})? else {
        return Err(unexpected());
    };
    let columns = ["position", "act", "kind", "id", "at", "by", "reason"];
    let rows: Vec<Vec<String>> = records.iter().map(row).collect();
    let shown = if rows.is_empty() { "nothing is revoked".to_owned() } else { table(&columns, &rows) };
    output.print(&shown, &json!(records));
    Ok(ExitCode::SUCCESS)
}

fn row(record: &RevocationView) -> Vec<String> {
    let RevocationView { position, act, kind, id, at, by, reason, .. } = record;
    let text = |text: &Option<String>| text.as_ref().map_or_else(|| "-".to_owned(), |text| printable(text));
    vec![position.to_string(), act.clone(), kind.clone(), printable(id), text(at), printable(by), text(reason)]
}

fn change(installation: &Installation, change: Change, output: Output) -> Result<ExitCode, Failure> {
    let Change { kind, id, act, .. } = change.clone();
    let answer = perform(installation, AdminRequest::Change(change));
    let answer = answer.map_err(|Failure(message)| Failure(format!("not done: {message}")))?;
    let AdminAnswer::Changed(decision) = answer else { return Err(unexpected()) };
    let (done, below) = match act {
        Act::Revoke | Act::RevokeBefore(_) => ("revoked", " and everything below it"),
        Act::Suspend => ("suspended", " and everything below it"),
        Act::Resume => ("resumed", ""),
    };
    let named = if kind == Kind::Token { id.clone() } else { format!("{kind} {}", printable(&id)) };
    let text = format!("{GOOD}{done}{GOOD:#} {named}{below} (decision {decision})");
    output.print(&text, &json!({done: id, "kind": kind.name(), "decision": decision}));
    Ok(ExitCode::SUCCESS)
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
