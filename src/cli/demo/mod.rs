//! `countersign demo`: a broker and an issuer on loopback, and the story of one exchange. Every line is a check: where
//! one does not hold, the demo fails.

mod issuer;
mod place;

use super::Failure;
use super::output::{BAD, BOLD, DIM, GOOD, Output};
use super::wire::{HttpClient, WireAnswer};
use crate::audit;
use crate::domain::{Clock, SystemClock, SystemEntropy, TokenType};
use crate::exchange::GRANT_TYPE;
use crate::files;
use crate::telemetry::StageTimer;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use countersign_verify::Verifier;
use issuer::DemoIssuer;
use place::DemoPlace;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Show a whole exchange on this machine.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Keep the broker running, and print commands to try.
    #[arg(long)]
    serve: bool,
    /// Run only the issuer until stopped: write its keys to `issuer.jwks` in DIR, and a fresh assertion to
    /// `assertion.jwt`.
    #[arg(long, value_name = "DIR", conflicts_with = "serve")]
    issuer: Option<PathBuf>,
    /// The `aud` of the assertion of `--issuer`.
    #[arg(long, value_name = "URL", default_value = "https://localhost:8443", requires = "issuer")]
    audience: String,
}

const BROKER: &str = "https://sts.demo.example";
const ORDERS: &str = "https://orders.demo.example";
const MAIN: &str = "repo:acme/app:ref:refs/heads/main";
const OURS: &str = "41";
/// An audience that the broker does not accept.
const ELSEWHERE: &str = "https://elsewhere.example";
/// Name of the file in which `--serve` puts a fresh assertion.
const ASSERTION: &str = "assertion.jwt";
const FOREIGN_ASSERTION: &str = "foreign.jwt";

pub(super) fn run(arguments: &Demo, output: Output) -> Result<ExitCode, Failure> {
    match &arguments.issuer {
        Some(directory) => crate::http::block_on(be_issuer(directory, &arguments.audience, output)),
        None => crate::http::block_on(story(arguments, output)),
    }
}

/// Interval at which the assertion is replaced; its lifetime is five minutes.
const AGAIN: Duration = Duration::from_secs(60);

async fn be_issuer(directory: &Path, audience: &str, output: Output) -> Result<ExitCode, Failure> {
    let issuer = DemoIssuer::of("https://issuer.demo.example")?;
    let place = |name: &str| directory.join(name);
    // Others read these files, so that they are not private ones, and are replaced whole.
    let write = |name: &str, text: &str| {
        let unfinished = place(&format!("{name}.unfinished"));
        std::fs::write(&unfinished, text)?;
        std::fs::rename(&unfinished, place(name))
    };
    write("issuer.jwks", &issuer.jwks().to_string())?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut told = false;
    loop {
        write("assertion.jwt", &issuer.assertion(audience, MAIN, OURS)?)?;
        if !std::mem::replace(&mut told, true) {
            let said = json!({"issuer": issuer.url(), "directory": directory});
            output
                .print(&format!("an assertion of {} is in {}", issuer.url(), place("assertion.jwt").display()), &said);
        }
        tokio::select! {
            _ = term.recv() => return Ok(ExitCode::SUCCESS),
            _ = int.recv() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn story(arguments: &Demo, output: Output) -> Result<ExitCode, Failure> {
    let issuer = DemoIssuer::start()?;
    let place = DemoPlace::create(issuer.url())?;
    let installation = place.installation()?;
    let listening = installation.listen(Arc::new(SystemClock), Arc::new(SystemEntropy)).await?;
    let address = listening.address().ok_or_else(|| Failure("the broker does not listen".to_owned()))?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (_reload, reloads) = tokio::sync::mpsc::channel(1);
    let stop_serving = async {
        let _ = stopped.await;
    };
    let serving = tokio::spawn(listening.serve(stop_serving, reloads));
    let mut telling = Telling {
        output,
        client: HttpClient::new(None)?,
        url: format!("http://{address}"),
        issuer: &issuer,
        place: &place,
        keeps_serving: arguments.serve,
        steps: Vec::new(),
    };
    let told = telling.tell().await;
    let steps = std::mem::take(&mut telling.steps);
    if told.is_ok() && arguments.serve {
        telling.invite();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            fault = telling.keep_assertions_fresh() => drop(fault?),
        }
    } else if told.is_ok() {
        telling.next();
    }
    let _ = stop.send(());
    serving.await??;
    if output.json {
        output.print(
            "",
            &json!({"ok": told.is_ok(), "steps": steps, "error": told.as_ref().err().map(|Failure(fault)| fault)}),
        );
        return Ok(if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    told.map(|()| ExitCode::SUCCESS)
}

struct Telling<'a> {
    output: Output,
    client: HttpClient,
    url: String,
    issuer: &'a DemoIssuer,
    place: &'a DemoPlace,
    /// True if the broker stays, so that its decisions can be explained afterwards.
    keeps_serving: bool,
    steps: Vec<Value>,
}

impl Telling<'_> {
    async fn tell(&mut self) -> Result<(), Failure> {
        self.heading("A CI job on GitHub exchanges its own token for a token that orders accepts");
        let assertion = self.issuer.assertion(BROKER, MAIN, OURS)?;
        self.claims("in:  the assertion of the job", &assertion, &["iss", "sub", "aud", "repository_id", "jti"]);
        let (answer, took) = self.exchange(&assertion).await?;
        let token = text(&answer, "access_token");
        let lifetime = answer.body.get("expires_in").unwrap_or(&Value::Null);
        let said = format!("for {ORDERS}, scope `{}`, {lifetime} s, in {took}", text(&answer, "scope"));
        self.hold(answer.status == 200 && !token.is_empty(), "exchanged", &said, &answer.text)?;
        self.claims("out: the token for orders", &token, &["iss", "sub", "aud", "scope", "jti", "origin"]);
        self.decision(&answer);

        let jwks = self.client.get_async(&format!("{}/jwks", self.url), None).await?;
        let verifier = Verifier::new(BROKER, ORDERS, jwks.text.as_bytes())?;
        let verified = verifier.verify(&token, SystemClock.now().seconds());
        let is_ours = verified.is_ok_and(|token| token.claims().sub == format!("github:{MAIN}"));
        self.hold(is_ours, "verified", "offline, with the keys from /jwks", "countersign-verify refuses it")?;

        self.heading("A token for another audience, or of another owner, is refused, and the operator sees why");
        let elsewhere = self.exchange(&self.issuer.assertion(ELSEWHERE, MAIN, OURS)?).await?;
        self.refused(&elsewhere, "a token for another audience", "subject_token_audience", "audience_mismatch")?;
        let foreign = self.issuer.assertion(BROKER, "repo:evil/app:ref:refs/heads/main", "666")?;
        let foreign = self.exchange(&foreign).await?;
        self.refused(&foreign, "a token of a foreign repository", "subject_token_refused", "workload_not_accepted")?;

        self.heading("Access is taken back at once");
        let active = self.introspect(&token).await?;
        self.hold(active.body.get("active") == Some(&Value::Bool(true)), "introspection says", "active", &active.text)?;
        let began = StageTimer::now();
        let revoked = self.client.post(&format!("{}/revoke", self.url), &[("token", &token)], None).await?;
        let said = format!("on disk before the answer, in {}", milliseconds(began));
        self.hold(revoked.status == 200, "revoked", &said, &revoked.text)?;
        let inactive = self.introspect(&token).await?;
        self.hold(inactive.body == json!({"active": false}), "introspection says", "inactive", &inactive.text)?;

        self.heading("Every decision is on a hash-chained log");
        let report = audit::verify(&self.place.audit(), None, None);
        let said = report.as_ref().map(|report| format!("{} events", report.events)).unwrap_or_default();
        let fault = report.as_ref().err().map(ToString::to_string).unwrap_or_default();
        self.hold(report.is_ok_and(|report| report.events == 4), "the chain holds", &said, &fault)
    }

    /// Exchanges `assertion`, and says how long that took.
    async fn exchange(&self, assertion: &str) -> Result<(WireAnswer, String), Failure> {
        let form = [
            ("grant_type", GRANT_TYPE),
            ("subject_token", assertion),
            ("subject_token_type", TokenType::Jwt.urn()),
            ("audience", ORDERS),
        ];
        let began = StageTimer::now();
        let answer = self.client.post(&format!("{}/token", self.url), &form, None).await?;
        Ok((answer, milliseconds(began)))
    }

    async fn introspect(&self, token: &str) -> Result<WireAnswer, Failure> {
        let basic = Some(("orders-api", self.place.secret()));
        self.client.post(&format!("{}/introspect", self.url), &[("token", token)], basic).await
    }

    fn refused(
        &mut self,
        (answer, took): &(WireAnswer, String),
        what: &str,
        told: &str,
        reason: &str,
    ) -> Result<(), Failure> {
        let said = format!("{} ({}), in {took}", text(answer, "error"), text(answer, "reason"));
        self.hold(answer.status == 400 && text(answer, "reason") == told, what, &said, &answer.text)?;
        let event = audit::find(&self.place.audit(), &text(answer, "decision"))?;
        let failed = event.as_ref().and_then(|event| event.checks.iter().find(|check| !check.holds()));
        let explained = event.as_ref().and_then(|event| event.refused.as_ref()).map(|refused| refused.reason.as_str());
        let (Some(check), Some(_)) = (failed, explained.filter(|explained| *explained == reason)) else {
            return self.hold(false, "explained", "", "the audit log does not say why");
        };
        let expected = check.expected.as_deref().unwrap_or_default();
        self.line(&format!("      {BAD}{}{BAD:#}: {}, expected {expected}", check.name, check.presented));
        self.decision(answer);
        Ok(())
    }

    /// Prints some claims of a token, a line each.
    fn claims(&self, what: &str, token: &str, names: &[&str]) {
        let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims: Value = payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default();
        self.line(&format!("    {DIM}{what}{DIM:#}"));
        for name in names {
            self.line(&format!("      {name:<13} {}", claims.get(*name).unwrap_or(&Value::Null)));
        }
    }

    /// Prints the line that explains the decision of `answer`; it works for as long as the broker of `--serve` runs.
    fn decision(&self, answer: &WireAnswer) {
        let id = &answer.decision;
        let line = match self.keeps_serving {
            true => format!("countersign explain --config {} {id}", self.place.config().display()),
            false => format!("decision {id}"),
        };
        self.line(&format!("      {DIM}{line}{DIM:#}"));
    }

    fn heading(&self, text: &str) {
        self.line(&format!("{BOLD}{text}{BOLD:#}"));
    }

    fn line(&self, text: &str) {
        if !self.output.json {
            self.output.line(text);
        }
    }

    /// Prints one line of the story and fails if it does not hold.
    fn hold(&mut self, holds: bool, what: &str, said: &str, otherwise: &str) -> Result<(), Failure> {
        self.steps.push(json!({"what": what, "said": said, "holds": holds}));
        let (style, mark) = if holds { (GOOD, '✓') } else { (BAD, '✗') };
        self.line(&format!("  {style}{mark}{style:#} {what}: {said}"));
        if holds { Ok(()) } else { Err(Failure(format!("{what}: this does not hold: {otherwise}"))) }
    }

    /// Prints what to do next.
    fn next(&self) {
        self.line(&format!(
            "\n{BOLD}Next{BOLD:#}\n  countersign demo --serve   keeps this broker running and prints commands to try\n  \
             README.md, *Use*           writes your own configuration"
        ));
    }

    /// Prints commands to try. The assertions are files that are replaced each second, so that every command can be run
    /// again.
    fn invite(&self) {
        let (url, folder, secret) = (&self.url, self.place.folder().display(), self.place.secret());
        let exchange = |file: &str| {
            format!(
                "curl -s {url}/token \\\n  -d grant_type={GRANT_TYPE} \\\n  -d subject_token_type={} \\\n  -d audience={ORDERS} \\\n  \
                 --data-urlencode subject_token@{folder}/{file}",
                TokenType::Jwt.urn()
            )
        };
        self.line(&format!(
            "\n{BOLD}Exchange a token{BOLD:#}, and keep the answer\n{} \\\n  | tee {folder}/answer",
            exchange(ASSERTION)
        ));
        self.line(&format!(
            "\n{BOLD}Look at it{BOLD:#}, as the API of orders would\ntoken=$(sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/' {folder}/answer)\n\
             curl -s {url}/introspect -d token=$token \\\n  -u orders-api:{secret}"
        ));
        self.line(&format!(
            "\n{BOLD}Revoke it{BOLD:#}, and look at it again by the command above\ncurl -s {url}/revoke -d token=$token"
        ));
        self.line(&format!(
            "\n{BOLD}This one is meant to fail{BOLD:#}: its audience is not the broker\n{}",
            exchange(FOREIGN_ASSERTION)
        ));
        self.line(&format!(
            "\n{DIM}Ctrl-C ends it. Explain any answer by its Countersign-Decision header, or the member decision:\n\
             countersign explain --config {} DECISION{DIM:#}",
            self.place.config().display()
        ));
    }

    /// Replaces the assertions of the commands each second, for ever.
    async fn keep_assertions_fresh(&self) -> Result<Infallible, Failure> {
        loop {
            for (file, audience) in [(ASSERTION, BROKER), (FOREIGN_ASSERTION, ELSEWHERE)] {
                let assertion = self.issuer.assertion(audience, MAIN, OURS)?;
                files::replace(&self.place.folder().join(file), assertion.as_bytes())?;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Returns the time since `began`, in words.
fn milliseconds(began: Instant) -> String {
    format!("{:.1} ms", began.elapsed().as_secs_f64() * 1e3)
}

fn text(answer: &WireAnswer, name: &str) -> String {
    answer.body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
