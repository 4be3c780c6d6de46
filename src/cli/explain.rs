//! `countersign explain`: why a decision was what it was.

use super::output::{BAD, BOLD, DIM, GOOD, Output, checks, printable};
use super::{Failure, installation};
use crate::audit::{self, Event, Outcome};
use crate::domain::{DecisionId, Timestamp};
use crate::policy::Question;
use clap::Args;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// Explain a decision from the audit log, or the meaning of a reason.
#[derive(Debug, Args)]
#[command(
    after_help = "The id of a decision is in the header Countersign-Decision of every exchange and revocation, and in the body of
a refusal. Introspection leaves no event, so that its answers cannot be explained."
)]
pub(super) struct Explain {
    /// The id of a decision, or a reason such as `target_refused`.
    #[arg(allow_hyphen_values = true)]
    decision: String,
}

pub(super) fn run(arguments: &Explain, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    if let Some(page) = crate::error::page(&arguments.decision) {
        output.print(page.trim_end(), &json!({"reason": arguments.decision, "page": page}));
        return Ok(ExitCode::SUCCESS);
    }
    let decision: DecisionId = arguments.decision.parse()?;
    let installation = installation(config)?;
    let Some(event) = audit::find(installation.audit(), decision.as_str())? else {
        let place = installation.audit().display();
        return Err(Failure(format!(
            "the audit log in `{place}` has no decision `{decision}`; each replica has a log of its own"
        )));
    };
    output.print(&describe(&event), &json!(event));
    Ok(ExitCode::SUCCESS)
}

/// The principal, the resource and the attributes, as policies name them.
fn seen(question: &Question) -> Vec<String> {
    let principal = &question.principal;
    let mut seen = vec![
        format!("principal = Workload::\"{}\" in Issuer::\"{}\"", principal.name, principal.issuer),
        format!("resource = Target::\"{}\"", question.resource.audience),
    ];
    for (record, values) in &principal.attributes {
        seen.extend(values.iter().map(|(name, value)| format!("principal.{record}.{name} = {value}")));
    }
    seen.iter().map(|line| printable(line).to_string()).collect()
}

/// The event for people.
pub(super) fn describe(event: &Event) -> String {
    let (style, outcome) = match event.outcome {
        Outcome::Granted => (GOOD, "granted"),
        Outcome::NoEffect => (DIM, "nothing to do"),
        Outcome::Refused => (BAD, "refused"),
        Outcome::Unavailable => (BAD, "not available"),
        Outcome::Abandoned => (BAD, "abandoned"),
    };
    let time = Timestamp::new(event.time).map(|time| time.to_string()).unwrap_or_default();
    let mut lines = vec![format!("{BOLD}{}{BOLD:#}  {style}{outcome}{style:#}  {DIM}{time}{DIM:#}", event.decision)];
    if let Some(peer) = &event.peer {
        lines.push(format!(
            "  from {peer}{}",
            event.client.as_ref().map(|client| format!(" as client {client}")).unwrap_or_default()
        ));
    }
    lines.push(checks(&event.checks));
    if let Some(refused) = &event.refused {
        lines.push(format!("  {BAD}{}{BAD:#}: {}", refused.reason, printable(&refused.message)));
        lines.push(format!("  {DIM}the caller was told: {} ({}){DIM:#}", refused.error, refused.told));
    }
    // For a grant the policies that permitted say enough.
    if let Some(question) = event.question.as_ref().filter(|_| event.outcome == Outcome::Refused) {
        lines.push(format!("  policy was asked about action {}, with", question.action.name()));
        lines.extend(seen(question).into_iter().map(|seen| format!("    {seen}")));
    }
    for verdict in event.answer.iter().flat_map(|answer| &answer.verdicts) {
        let scope = if verdict.scope.is_empty() { "(no scope)" } else { &verdict.scope };
        let (style, word) = if verdict.permitted { (GOOD, "permitted") } else { (BAD, "not permitted") };
        let by = if verdict.determining.is_empty() { "no policy".to_owned() } else { verdict.determining.join(", ") };
        let by = if by == "no policy" { "no policy permits it".to_owned() } else { format!("by {by}") };
        lines.push(format!("  {style}{word}{style:#} {scope}: {by}"));
        lines.extend(verdict.errors.iter().map(|fault| format!("    could not be evaluated: {}", printable(fault))));
    }
    if let Some(granted) = &event.granted {
        lines.push(format!("  token {} for {} scope `{}`", granted.jti, granted.aud, granted.scope));
    }
    if let Some(token) = &event.token {
        lines.push(format!("  {DIM}the token is {token}{DIM:#}"));
    }
    if let Some(change) = &event.change {
        lines.push(format!("  {}", printable(change)));
    }
    if let Some(revoked) = &event.revoked {
        lines.push(format!("  revoked {revoked}"));
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}
