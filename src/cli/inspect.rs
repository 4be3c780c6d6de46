//! `countersign inspect`: what a token says, and whether it would be believed.

use super::output::{BAD, BOLD, GOOD, Output, checks, printable};
use super::token_source::TokenSource;
use super::{Failure, ambient, installation};
use crate::assertion::{SubjectToken, Untrusted};
use crate::audit::AuditTrail;
use crate::domain::{Clock, SystemClock, TokenType};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use countersign_verify::{AccessToken, Refusal, Verifier, json as strict};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Decode a token, verify it, and print why it does not verify.
#[derive(Debug, Args)]
#[command(
    after_help = "A token of the broker is verified with the keys of the configuration, or as a resource server would verify it:
with --jwks, --issuer and --audience. An assertion passes through the checks of the broker, with the issuer's keys.
The store is not asked, so that revocations and earlier uses are not known. Exit status 1 means that it does not verify."
)]
pub(super) struct Inspect {
    #[command(flatten)]
    token: TokenSource,
    /// A file with a JWK Set to verify with, instead of a configuration.
    #[arg(long, value_name = "FILE", requires_all = ["issuer", "audience"])]
    jwks: Option<PathBuf>,
    /// The `iss` that the token must have, with --jwks.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The `aud` that the token must have, with --jwks.
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
}

pub(super) fn run(arguments: &Inspect, config: &Path, output: Output) -> Result<ExitCode, Failure> {
    let token = arguments.token.read("")?;
    let (header, claims) = decode(&token)?;
    let (verdict, trail) = match (&arguments.jwks, &arguments.issuer, &arguments.audience) {
        (Some(jwks), Some(issuer), Some(audience)) => (offline(&token, jwks, issuer, audience)?, None),
        _ => judge(&token, &header, config)?,
    };
    let steps = trail.as_ref().map(AuditTrail::checks).unwrap_or_default();
    let value = json!({
        "header": header, "claims": claims, "believed": verdict.is_ok(), "why_not": verdict.as_ref().err(), "checks": steps,
    });
    let pretty = |value: &Value| {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        text.lines().map(printable).collect::<Vec<_>>().join("\n")
    };
    let mut lines =
        vec![format!("{BOLD}header{BOLD:#} {}", pretty(&header)), format!("{BOLD}claims{BOLD:#} {}", pretty(&claims))];
    if !steps.is_empty() {
        lines.push(checks(steps));
    }
    lines.push(match &verdict {
        Ok(()) => format!("{GOOD}believed{GOOD:#}"),
        Err(fault) => format!("{BAD}not believed{BAD:#}: {fault}"),
    });
    output.print(&lines.join("\n"), &value);
    Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Header and claims as they are written, verified or not.
fn decode(token: &str) -> Result<(Value, Value), Failure> {
    let part = |at: usize, what: &str| {
        let fault = || Failure(format!("this is no compact JWS: its {what} is not base64url of a strict JSON object"));
        let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap_or_default()).map_err(|_| fault())?;
        strict::object(&bytes).map(Value::Object).map_err(|_| fault())
    };
    Ok((part(0, "header")?, part(1, "payload")?))
}

fn offline(token: &str, jwks: &Path, issuer: &str, audience: &str) -> Result<Result<(), String>, Failure> {
    let document =
        std::fs::read(jwks).map_err(|fault| Failure(format!("`{}` cannot be read: {fault}", jwks.display())))?;
    let verifier = Verifier::new(issuer, audience, &document)?;
    let verified: Result<AccessToken, Refusal> = verifier.verify(token, SystemClock.now().seconds());
    Ok(verified.map(drop).map_err(|fault| fault.to_string()))
}

/// Judges the token as the broker of this configuration would.
fn judge(token: &str, header: &Value, config: &Path) -> Result<(Result<(), String>, Option<AuditTrail>), Failure> {
    let installation = installation(config)?;
    let now = SystemClock.now();
    let own = header.get("typ").and_then(Value::as_str).is_some_and(|typ| typ.eq_ignore_ascii_case("at+jwt"));
    if own {
        let ring = crate::http::block_on(installation.token_keys(&ambient().1))?;
        let verified =
            countersign_verify::verify_any_audience(token, installation.issuer(), ring.verifying(), now.seconds(), 0);
        return Ok((verified.map(drop).map_err(|fault| fault.to_string()), None));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let issuers = installation.issuers(&clock, None)?;
    let mut trail = AuditTrail::unwritten(now);
    let verified = crate::http::block_on(async {
        let token = Untrusted::<SubjectToken>::new(token.to_owned(), TokenType::Jwt);
        issuers.verify_assertion(&token, now, &mut trail).await
    });
    Ok((verified.map(drop).map_err(|fault| fault.to_string()), Some(trail)))
}
