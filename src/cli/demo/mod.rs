//! `countersign demo`: a broker and an issuer on loopback, and the story of one exchange. Every line is a check: where one
//! does not hold, the demo fails.

mod issuer;
mod place;

use super::Failure;
use super::explain::describe;
use super::output::{BAD, BOLD, DIM, GOOD, Output};
use super::wire::{Answer, Client};
use crate::audit;
use crate::domain::{Clock, SystemClock, SystemEntropy, TokenType};
use crate::exchange::GRANT_TYPE;
use clap::Args;
use countersign_verify::Verifier;
use issuer::DemoIssuer;
use place::Place;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Show a whole exchange on this machine.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Keep running, and print two commands to try.
    #[arg(long)]
    serve: bool,
    /// Be only the issuer: keep its keys in `issuer.jwks` below DIR, and a fresh assertion in `assertion.jwt`, until stopped.
    #[arg(long, value_name = "DIR", conflicts_with = "serve")]
    issuer: Option<PathBuf>,
    /// Whom the assertion of `--issuer` is for.
    #[arg(long, value_name = "URL", default_value = "https://localhost:8443", requires = "issuer")]
    audience: String,
}

const BROKER: &str = "https://sts.demo.example";
const ORDERS: &str = "https://orders.demo.example";
const MAIN: &str = "repo:acme/app:ref:refs/heads/main";
const OURS: &str = "41";

pub(super) fn run(arguments: &Demo, output: Output) -> Result<ExitCode, Failure> {
    match &arguments.issuer {
        Some(directory) => crate::http::block_on(be_issuer(directory, &arguments.audience, output)),
        None => crate::http::block_on(story(arguments, output)),
    }
}

/// How often the assertion is made anew, which lives for five minutes.
const AGAIN: Duration = Duration::from_secs(60);

async fn be_issuer(directory: &Path, audience: &str, output: Output) -> Result<ExitCode, Failure> {
    let issuer = DemoIssuer::of("https://issuer.demo.example")?;
    let place = |name: &str| directory.join(name);
    // Whole or not at all: somebody may be reading.
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
    let place = Place::create(issuer.url())?;
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
        client: Client::new(None)?,
        url: format!("http://{address}"),
        issuer: &issuer,
        place: &place,
        steps: Vec::new(),
    };
    let told = telling.tell().await;
    let steps = std::mem::take(&mut telling.steps);
    if told.is_ok() && arguments.serve {
        telling.invite();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
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
    client: Client,
    url: String,
    issuer: &'a DemoIssuer,
    place: &'a Place,
    steps: Vec<Value>,
}

impl Telling<'_> {
    async fn tell(&mut self) -> Result<(), Failure> {
        self.heading("A CI job on GitHub exchanges its own token for one that orders accepts");
        let answer = self.exchange(&self.issuer.assertion(BROKER, MAIN, OURS)?).await?;
        let token = text(&answer, "access_token");
        self.hold(
            answer.status == 200 && !token.is_empty(),
            "exchanged",
            &format!(
                "for {}, scope `{}`, {} s",
                ORDERS,
                text(&answer, "scope"),
                answer.body.get("expires_in").unwrap_or(&Value::Null)
            ),
            &answer.text,
        )?;

        let jwks = self.client.get_async(&format!("{}/jwks", self.url), None).await?;
        let verifier = Verifier::new(BROKER, ORDERS, jwks.text.as_bytes())?;
        let verified = verifier.verify(&token, SystemClock.now().seconds());
        let claims = verified.as_ref().map(|token| token.claims().clone());
        let said = claims.as_ref().map(|claims| format!("sub {}", claims.sub)).unwrap_or_default();
        self.hold(
            claims.is_ok_and(|claims| claims.sub == format!("github:{MAIN}")),
            "verified offline from /jwks",
            &said,
            "countersign-verify refuses it",
        )?;

        self.heading("What is not meant for us, or not ours, is refused, and the operator can see why");
        let elsewhere = self.exchange(&self.issuer.assertion("https://elsewhere.example", MAIN, OURS)?).await?;
        self.refused(&elsewhere, "a token for another audience", "subject_token_audience", "audience_mismatch")?;
        let foreign =
            self.exchange(&self.issuer.assertion(BROKER, "repo:evil/app:ref:refs/heads/main", "666")?).await?;
        self.refused(&foreign, "a token of a foreign repository", "subject_token_refused", "workload_not_accepted")?;

        self.heading("Access is taken back at once");
        let active = self.introspect(&token).await?;
        self.hold(active.body.get("active") == Some(&Value::Bool(true)), "introspection says", "active", &active.text)?;
        let revoked = self.client.post(&format!("{}/revoke", self.url), &[("token", &token)], None).await?;
        self.hold(revoked.status == 200, "revoked", "on disk before the answer", &revoked.text)?;
        let inactive = self.introspect(&token).await?;
        self.hold(inactive.body == json!({"active": false}), "introspection says", "inactive", &inactive.text)?;

        self.heading("Every decision is on a chained log");
        let report = audit::verify(&self.place.audit(), None, None);
        let said = report.as_ref().map(|report| format!("{} events", report.events)).unwrap_or_default();
        let fault = report.as_ref().err().map(ToString::to_string).unwrap_or_default();
        self.hold(report.is_ok_and(|report| report.events == 4), "the chain holds", &said, &fault)
    }

    async fn exchange(&self, assertion: &str) -> Result<Answer, Failure> {
        let form = [
            ("grant_type", GRANT_TYPE),
            ("subject_token", assertion),
            ("subject_token_type", TokenType::Jwt.urn()),
            ("audience", ORDERS),
        ];
        self.client.post(&format!("{}/token", self.url), &form, None).await
    }

    async fn introspect(&self, token: &str) -> Result<Answer, Failure> {
        let basic = Some(("orders-api", self.place.secret()));
        self.client.post(&format!("{}/introspect", self.url), &[("token", token)], basic).await
    }

    fn refused(&mut self, answer: &Answer, what: &str, told: &str, reason: &str) -> Result<(), Failure> {
        let said = format!("{} ({})", text(answer, "error"), text(answer, "reason"));
        self.hold(answer.status == 400 && text(answer, "reason") == told, what, &said, &answer.text)?;
        let event = audit::find(&self.place.audit(), &text(answer, "decision"))?;
        let explained =
            event.as_ref().and_then(|event| event.refused.as_ref()).is_some_and(|refused| refused.reason == reason);
        let Some(event) = event.filter(|_| explained) else {
            return self.hold(false, "explained", "", "the audit log does not say why");
        };
        if !self.output.json {
            let failed: Vec<String> = describe(&event)
                .lines()
                .filter(|line| line.contains('✗') || line.contains("expected:"))
                .map(|line| format!("  {line}"))
                .collect();
            self.output.line(&failed.join("\n"));
        }
        Ok(())
    }

    fn heading(&self, text: &str) {
        if !self.output.json {
            self.output.line(&format!("{BOLD}{text}{BOLD:#}"));
        }
    }

    /// One line of the story, which has to hold.
    fn hold(&mut self, holds: bool, what: &str, said: &str, otherwise: &str) -> Result<(), Failure> {
        self.steps.push(json!({"what": what, "said": said, "holds": holds}));
        if !self.output.json {
            let (style, mark) = if holds { (GOOD, '✓') } else { (BAD, '✗') };
            self.output.line(&format!("  {style}{mark}{style:#} {what}: {said}"));
        }
        if holds { Ok(()) } else { Err(Failure(format!("{what}: this does not hold: {otherwise}"))) }
    }

    /// Two commands to try, each with a fresh token.
    fn invite(&self) {
        let command = |audience: &str| {
            let assertion = self.issuer.assertion(audience, MAIN, OURS).unwrap_or_default();
            format!(
                "curl -s {}/token -d grant_type={GRANT_TYPE} \\\n  -d subject_token_type={} \\\n  -d audience={ORDERS} \\\n  -d subject_token={assertion}",
                self.url,
                TokenType::Jwt.urn()
            )
        };
        self.output.line(&format!(
            "\n{BOLD}Try it{BOLD:#} (once: a second time the same token is refused as used)\n{}",
            command(BROKER)
        ));
        self.output.line(&format!(
            "\n{BOLD}This one is meant to fail{BOLD:#} (its audience is not the broker)\n{}",
            command("https://elsewhere.example")
        ));
        self.output.line(&format!(
            "\n{DIM}Ctrl-C ends it. Explain a decision with: countersign explain --config {} <decision>{DIM:#}",
            self.place.config().display()
        ));
    }
}

fn text(answer: &Answer, name: &str) -> String {
    answer.body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
