//! `countersign task run`: a job that outlives its assertion. Opens a task, keeps token files fresh while the command
//! runs, and ends the task with it.

use super::super::output::Output;
use super::super::prover::Prover;
use super::super::token_source::TokenSource;
use super::super::wire::{HttpClient, WireAnswer};
use super::Failure;
use crate::domain::{Clock as _, Entropy as _, Lifetime, SystemClock, SystemEntropy, TokenType};
use crate::exchange::GRANT_TYPE;
use crate::files;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use countersign_verify::backoff::Backoff;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::IsTerminal as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// Delays before a failed renewal is repeated: the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Number of attempts to end the task.
const TRIES: u32 = 4;

/// Run a command, and renew its tokens before they expire.
#[derive(Debug, Args)]
#[command(
    after_help = "COUNTERSIGN_TOKEN_FILE names the file with the command's token. The command must read the file before each use: it is
replaced before the token expires. With several targets, COUNTERSIGN_TOKEN_FILE_1, _2 and so on name their files, in the order
of the options. The tokens are bound to the key in COUNTERSIGN_KEY_FILE (PKCS#8 PEM), and the command has to send a proof by that
key with each token (DPoP). With --unbound there is no key; a policy has to allow that.

Example:
  countersign task run --broker https://sts.acme.example --target https://orders.acme.example \\
      --from github-actions --purpose 'nightly import' --deadline 2h -- ./import.sh"
)]
pub(in crate::cli) struct Run {
    /// The broker's issuer identifier.
    #[arg(long, value_name = "URL")]
    broker: String,
    /// The URL at which the broker is reached, if it is not its issuer identifier.
    #[arg(long, value_name = "URL")]
    at: Option<String>,
    /// The audience of a target that the command needs a token for. Can be repeated.
    #[arg(long = "target", value_name = "NAME", required = true)]
    targets: Vec<String>,
    /// Scopes, separated by spaces. Default: every scope that policy permits.
    #[arg(long)]
    scope: Option<String>,
    /// The purpose of the task.
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// The longest duration of the task, e.g. 90m. Default: as long as the broker allows.
    #[arg(long, value_name = "TIME")]
    deadline: Option<Lifetime>,
    /// The number of tokens that the task may get.
    #[arg(long, value_name = "COUNT")]
    budget: Option<u32>,
    /// Ask for tokens that are not bound to a key. Anyone who gets hold of such a token can use it.
    #[arg(long)]
    unbound: bool,
    #[command(flatten)]
    token: TokenSource,
    /// The type of the presented token: jwt or id_token.
    #[arg(long, default_value = "jwt", value_name = "TYPE")]
    token_type: String,
    /// The `aud` that a CI system is asked to put into the assertion. Default: the broker.
    #[arg(long, value_name = "NAME")]
    assertion_audience: Option<String>,
    /// A PEM file with the certificates to trust, instead of the machine's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(super) fn run(arguments: &Run, output: Output) -> Result<ExitCode, Failure> {
    let assertion = arguments.token.read(arguments.assertion_audience.as_deref().unwrap_or(&arguments.broker))?;
    let places = Places::create(arguments.targets.len())?;
    let broker = RemoteBroker {
        root: arguments.broker.trim_end_matches('/').to_owned(),
        at: arguments.at.as_ref().unwrap_or(&arguments.broker).trim_end_matches('/').to_owned(),
        client: HttpClient::new(arguments.ca_file.as_deref())?,
        prover: if arguments.unbound { None } else { Some(Prover::new()?) },
    };
    if let Some(prover) = &broker.prover {
        places.write(&places.key(), prover.pem())?;
    }
    crate::http::block_on(async {
        // Heard from here on, so that nothing stays behind whenever it comes.
        let mut signals = Signals::hear()?;
        let (token, id) = broker.open(arguments, &assertion).await?;
        let ran = Work { broker: &broker, arguments, task: &token, places: &places, output }.serve(&mut signals).await;
        if let Err(Failure(why)) = broker.end(&token).await {
            let by_itself = "it ends by itself when it is idle";
            output.warning(&format!(
                "the task {id} was not ended: {why}; {by_itself}, or by `countersign task end {id}`"
            ));
        }
        ran
    })
}

/// The broker, and the key that is proved to it.
struct RemoteBroker {
    root: String,
    at: String,
    client: HttpClient,
    prover: Option<Prover>,
}

impl RemoteBroker {
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<WireAnswer, Failure> {
        let proof = self.prover.as_ref().map(|prover| prover.proof(&format!("{}{path}", self.root))).transpose()?;
        self.client.post_proved(&format!("{}{path}", self.at), form, proof.as_deref()).await
    }

    /// The task's token, and its id.
    async fn open(&self, arguments: &Run, assertion: &str) -> Result<(Zeroizing<String>, String), Failure> {
        let declared = format!("urn:ietf:params:oauth:token-type:{}", arguments.token_type);
        let deadline = arguments.deadline.map(|lasts| SystemClock.now().plus(lasts.seconds()).seconds().to_string());
        let budget = arguments.budget.map(|count| count.to_string());
        let mut form = vec![
            ("grant_type", GRANT_TYPE),
            ("subject_token", assertion),
            ("subject_token_type", &declared),
            ("audience", arguments.broker.as_str()),
        ];
        let optional = [("task_purpose", &arguments.purpose), ("task_deadline", &deadline), ("task_budget", &budget)];
        form.extend(optional.into_iter().filter_map(|(name, value)| value.as_deref().map(|value| (name, value))));
        form.extend(arguments.targets.iter().map(|target| ("task_target", target.as_str())));
        let given = self.given(&self.post("/token", &form).await?)?;
        let id = id_of(&given.token).unwrap_or_default();
        Ok((given.token, id))
    }

    async fn token(&self, task: &str, target: &str, scope: Option<&str>) -> Result<Given, Failure> {
        let mut form = vec![
            ("grant_type", GRANT_TYPE),
            ("subject_token", task),
            ("subject_token_type", TokenType::AccessToken.urn()),
            ("audience", target),
        ];
        form.extend(scope.map(|scope| ("scope", scope)));
        self.given(&self.post("/token", &form).await?)
    }

    /// Reads the token of an answer. Refuses an unbound token if a key was proved (RFC 9449 §5): then something between
    /// here and the broker removed the proof.
    fn given(&self, answer: &WireAnswer) -> Result<Given, Failure> {
        let given = given(answer)?;
        let bound =
            answer.body.get("token_type").and_then(Value::as_str).is_some_and(|is| is.eq_ignore_ascii_case("dpop"));
        if bound == self.prover.is_some() {
            return Ok(given);
        }
        Err(Failure(
            "the broker gave a token that is not bound as was asked for; does a proxy take the `DPoP` header away?"
                .to_owned(),
        ))
    }

    /// Revokes the task's token, and with it everything under it.
    async fn end(&self, task: &str) -> Result<(), Failure> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        for _ in 1..TRIES {
            match self.post("/revoke", &[("token", task)]).await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) if answer.status < 500 && answer.status != 429 => return Err(refused(&answer)),
                _ => tokio::time::sleep(backoff.delay()).await,
            }
        }
        let last = self.post("/revoke", &[("token", task)]).await?;
        if last.status == 200 { Ok(()) } else { Err(refused(&last)) }
    }
}

/// A command that runs within a task.
struct Work<'a> {
    broker: &'a RemoteBroker,
    arguments: &'a Run,
    /// The task's token.
    task: &'a str,
    places: &'a Places,
    output: Output,
}

impl Work<'_> {
    /// Runs the command until it ends, and renews its tokens.
    async fn serve(&self, signals: &mut Signals) -> Result<ExitCode, Failure> {
        let first = async {
            let mut due = Vec::new();
            for (index, target) in self.arguments.targets.iter().enumerate() {
                due.push(Due { index, target, after: self.hand_over(target, index).await? });
            }
            Ok::<_, Failure>(due)
        };
        let due = tokio::select! {
            due = first => due?,
            signal = signals.next() => return Ok(ended_by(signal)),
        };
        let mut child = self.spawn()?;
        let renewing = due.into_iter().map(|due| self.renew(due));
        let mut renewing = std::pin::pin!(futures_util::future::join_all(renewing));
        loop {
            tokio::select! {
                status = child.wait() => return Ok(code_of(status?)),
                signal = signals.next() => forward(&child, signal),
                _ = &mut renewing => {}
            }
        }
    }

    /// Asks for a token for `target`, and puts it where the command reads it; how long until it is to be renewed.
    async fn hand_over(&self, target: &str, index: usize) -> Result<Duration, Failure> {
        let given = self.broker.token(self.task, target, self.arguments.scope.as_deref()).await?;
        self.places.write(&self.places.token(index), &given.token)?;
        Ok(given.renew_after())
    }

    /// Renews the token of one target, for as long as the command runs.
    async fn renew(&self, due: Due<'_>) {
        let (mut after, mut backoff) = (due.after, Backoff::new(RETRY.0, RETRY.1));
        loop {
            tokio::time::sleep(after).await;
            match self.hand_over(due.target, due.index).await {
                Ok(next) => {
                    after = next;
                    backoff.reset();
                }
                Err(Failure(why)) => {
                    self.output.warning(&format!("the token for {} is not renewed: {why}", due.target));
                    after = backoff.delay();
                }
            }
        }
    }

    fn spawn(&self) -> Result<Child, Failure> {
        let Self { arguments, places, .. } = self;
        let Some((program, rest)) = arguments.command.split_first() else {
            return Err(Failure("there is no command".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(rest).env("COUNTERSIGN_TOKEN_FILE", places.token(0)).kill_on_drop(true);
        for index in 0..arguments.targets.len() {
            command.env(format!("COUNTERSIGN_TOKEN_FILE_{}", index + 1), places.token(index));
        }
        if self.broker.prover.is_some() {
            command.env("COUNTERSIGN_KEY_FILE", places.key());
        }
        command.spawn().map_err(|fault| Failure(format!("`{}` cannot be run: {fault}", program.display())))
    }
}

/// A token, and how long it lives.
struct Given {
    token: Zeroizing<String>,
    seconds: u64,
}

impl Given {
    /// After two thirds of its life, so that there is time to try again.
    fn renew_after(&self) -> Duration {
        Duration::from_millis((self.seconds * 667).max(500))
    }
}

/// A token file that is to be renewed.
struct Due<'a> {
    index: usize,
    target: &'a str,
    after: Duration,
}

/// Signals that are passed on to the command.
struct Signals([(Signal, tokio::signal::unix::Signal); 6]);

impl Signals {
    fn hear() -> Result<Self, Failure> {
        let hear = |kind: SignalKind, own| Ok::<_, Failure>((own, signal(kind)?));
        Ok(Self([
            hear(SignalKind::terminate(), Signal::TERM)?,
            hear(SignalKind::interrupt(), Signal::INT)?,
            hear(SignalKind::hangup(), Signal::HUP)?,
            hear(SignalKind::quit(), Signal::QUIT)?,
            hear(SignalKind::user_defined1(), Signal::USR1)?,
            hear(SignalKind::user_defined2(), Signal::USR2)?,
        ]))
    }

    async fn next(&mut self) -> Signal {
        let heard = self.0.iter_mut().map(|(own, heard)| {
            let own = *own;
            Box::pin(async move {
                heard.recv().await;
                own
            })
        });
        futures_util::future::select_all(heard).await.0
    }
}

fn given(answer: &WireAnswer) -> Result<Given, Failure> {
    let token = answer.body.get("access_token").and_then(Value::as_str).filter(|_| answer.status == 200);
    let token = token.ok_or_else(|| refused(answer))?;
    let seconds = answer.body.get("expires_in").and_then(Value::as_u64).unwrap_or_default();
    Ok(Given { token: Zeroizing::new(token.to_owned()), seconds })
}

fn refused(answer: &WireAnswer) -> Failure {
    super::super::wire::refusal(answer)
}

/// The id in a token of ours, for people: it came from the broker just now.
fn id_of(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    Some(claims.get("jti")?.as_str()?.to_owned())
}

fn forward(child: &Child, signal: Signal) {
    // What is typed at a terminal goes to the command by itself.
    if matches!(signal, Signal::INT | Signal::QUIT) && std::io::stdin().is_terminal() {
        return;
    }
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}

fn ended_by(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal.as_raw()).unwrap_or(1))
}

/// Returns the exit code that a shell would: the command's own, or 128 and the signal that ended it.
fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// A folder that nobody else reads, gone with the command.
struct Places(PathBuf);

impl Places {
    fn create(targets: usize) -> Result<Self, Failure> {
        let mut name = [0; 16];
        SystemEntropy.fill(&mut name)?;
        let root = std::env::temp_dir().join(format!("countersign-task-{}", URL_SAFE_NO_PAD.encode(name)));
        DirBuilder::new().mode(0o700).create(&root)?;
        let places = Self(root);
        // Made before anything is asked for: what cannot be written need not be opened.
        (0..targets).try_for_each(|index| places.write(&places.token(index), ""))?;
        Ok(places)
    }

    fn token(&self, index: usize) -> PathBuf {
        self.0.join(format!("token-{}", index + 1))
    }

    fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    /// Replaces the file whole: who reads it has the one before, or this one.
    fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let fault = |fault| Failure(format!("`{}` cannot be written: {fault}", path.display()));
        files::replace(path, text.as_bytes()).map_err(fault)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
