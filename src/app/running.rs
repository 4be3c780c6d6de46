//! A broker that serves: what runs beside it, what an operator asks of it, and how it takes over another configuration.

use super::{Installation, StartError};
use crate::admin::{Change, Operator, TaskEnd};
use crate::control::{self, Command, Commands, Control, Reply};
use crate::domain::{Clock, KeyRecord, KeyState, Purpose, TaskState, Timestamp, TokenId};
use crate::exchange::{Answer, Snapshot};
use crate::http::{self, Certificate, Limits, Serving, UseCases};
use crate::signing::SigningKeysError;
use crate::store::{Act, Entry, Revoked};
use countersign_verify::revocation::Kind;
use serde_json::{Value, json};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Interval of the broker's periodic work.
const TEND: Duration = Duration::from_secs(1);

/// A broker that listens, and does not serve yet.
pub struct Listening {
    /// The use cases of the broker.
    pub use_cases: Arc<UseCases>,
    pub(super) public: TcpListener,
    pub(super) management: Option<TcpListener>,
    pub(super) control: Control,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) limits: Limits,
    pub(super) installation: Installation,
    pub(super) clock: Arc<dyn Clock>,
}

impl Listening {
    /// The address of the public listener.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.public.local_addr().ok()
    }

    /// The address of the management listener.
    #[must_use]
    pub fn management_address(&self) -> Option<SocketAddr> {
        self.management.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `stop` ends; then what is being worked on may end too, as long as `server.drain` says. Each item of
    /// `reload` is a reload that somebody asked for.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn serve(
        self,
        stop: impl Future<Output = ()>,
        mut reload: tokio::sync::mpsc::Receiver<()>,
    ) -> io::Result<()> {
        let Self { use_cases, public, management, control, certificate, limits, installation, clock } = self;
        let (broker, operator) = (&use_cases.broker, &use_cases.operator);
        let server = installation.config.server.clone();
        let running = Arc::new(Running {
            operator: Arc::clone(operator),
            clock,
            installation: tokio::sync::Mutex::new(installation),
            refreshing: Mutex::default(),
        });
        running.keep_fresh(&broker.snapshot());
        let mut beside = Vec::new();
        if let Some(certificate) = &certificate {
            beside.push(tokio::spawn(Arc::clone(certificate).keep_current(Arc::clone(&running.clock))));
        }
        if let Some(listener) = management {
            let management = http::management(operator, listener)?;
            beside.push(tokio::spawn(async move { drop(management.await) }));
        }
        beside.push(tokio::spawn(control::serve(control, Arc::clone(&running) as Arc<dyn Commands>)));
        let (tended, clock) = (Arc::clone(operator), Arc::clone(&running.clock));
        beside.push(tokio::spawn(async move {
            loop {
                // At once where a key was revoked, by another broker too.
                tokio::select! {
                    () = clock.sleep(TEND) => {}
                    () = tended.broker().revocations().key_revoked() => {}
                }
                tended.tend().await;
            }
        }));
        beside.push(tokio::spawn(Arc::clone(broker.revocations()).follow()));
        let reloading = Arc::clone(&running);
        beside.push(tokio::spawn(async move {
            while reload.recv().await.is_some() {
                let _ = reloading.reload().await;
            }
        }));
        let drain = server.drain.seconds().try_into().unwrap_or(0);
        let serving = Serving {
            limits,
            trusted_proxies: server.trusted_proxies,
            workers: server.workers,
            drain,
            tenant: server.tenant,
            certificate: certificate.as_ref(),
        };
        let public = http::public(&use_cases, public, serving)?;
        let handle = public.handle();
        let serving = tokio::spawn(public);
        stop.await;
        broker.revocations().close();
        http::stop(handle).await;
        running.stop();
        beside.iter().for_each(JoinHandle::abort);
        let served = serving.await.map_err(io::Error::other)?;
        operator.seal().await;
        served
    }
}

struct Running {
    operator: Arc<Operator>,
    clock: Arc<dyn Clock>,
    installation: tokio::sync::Mutex<Installation>,
    /// The tasks that keep the keys of issuers and clients fresh.
    refreshing: Mutex<Vec<JoinHandle<()>>>,
}

impl Running {
    fn keep_fresh(&self, snapshot: &Snapshot) {
        let issuers = snapshot.issuers.iter().map(|issuer| &issuer.keys);
        let all = issuers.chain(snapshot.clients.keys());
        let refreshing = all.map(|keys| tokio::spawn(Arc::clone(keys).keep_fresh())).collect();
        let before =
            std::mem::replace(&mut *self.refreshing.lock().unwrap_or_else(PoisonError::into_inner), refreshing);
        before.iter().for_each(JoinHandle::abort);
    }

    fn stop(&self) {
        self.refreshing.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(JoinHandle::abort);
    }

    /// Takes over configuration and policies as they are on disk now: whole, or not at all.
    async fn reload(&self) -> Result<(), String> {
        let mut installation = self.installation.lock().await;
        let done = self.take_over(&mut installation).await;
        match &done {
            Ok(()) => tracing::info!("configuration and policies reloaded"),
            Err(fault) => tracing::error!(%fault, "not reloaded; what was in force stays"),
        }
        self.operator.reloaded(done.as_ref().err().map(String::as_str));
        done
    }

    async fn take_over(&self, installation: &mut Installation) -> Result<(), String> {
        let next = Installation::read(&installation.path).map_err(|problems| problems.to_string())?;
        let fixed = installation.needs_restart(&next);
        if !fixed.is_empty() {
            return Err(format!("{} cannot change while the broker runs; restart it", fixed.join(", ")));
        }
        let before = self.operator.broker().snapshot();
        let fault = |fault: StartError| fault.to_string();
        let snapshot = next.snapshot(&self.clock, Some((&*installation, &*before))).await.map_err(fault)?;
        self.operator.install(snapshot, next.rotation()).await.map_err(|fault| fault.to_string())?;
        self.keep_fresh(&self.operator.broker().snapshot());
        *installation = next;
        Ok(())
    }
}

impl Commands for Running {
    fn obey(&self, command: Command, by: String) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(async move {
            let operator = &self.operator;
            match command {
                change @ Command::Change { .. } => match wanted(change, by, self.clock.now()) {
                    Ok(change) if change.act == Act::Resume && !operator.suspends(&change) => {
                        Reply::Failed { message: NOT_SUSPENDED.to_owned() }
                    }
                    Ok(change) => done(operator.change(&change).await),
                    Err(message) => Reply::Failed { message },
                },
                Command::Revocations {} => match operator.revocations().await {
                    Ok(records) => Reply::Told(records.iter().map(describe_revocation).collect()),
                    Err(fault) => Reply::Failed { message: fault.to_string() },
                },
                Command::Tasks {} => match operator.tasks().await {
                    Ok(tasks) => Reply::Told(tasks.iter().map(|(task, end)| describe_task(task, *end)).collect()),
                    Err(fault) => Reply::Failed { message: fault.to_string() },
                },
                Command::Keys {} => {
                    let keys = operator.keys().await;
                    Reply::Told(keys.iter().map(|(key, state)| describe_key(key, *state)).collect())
                }
                Command::RotateKey { purpose, algorithm } => match (Purpose::named(&purpose), algorithm.parse()) {
                    (Some(purpose), Ok(algorithm)) => self.told(operator.rotate(purpose, algorithm).await),
                    _ => Reply::Failed { message: "no such purpose or algorithm".to_owned() },
                },
                Command::RevokeKey { kid, reason } => match is_reason(reason.as_deref()) {
                    true => self.told(operator.revoke_key(&kid, &by, reason).await),
                    false => Reply::Failed { message: NO_REASON.to_owned() },
                },
                Command::Reload {} => match self.reload().await {
                    Ok(()) => Reply::Told(json!({"reloaded": true})),
                    Err(message) => Reply::Failed { message },
                },
            }
        })
    }
}

impl Running {
    fn told(&self, key: Result<KeyRecord, SigningKeysError>) -> Reply {
        match key {
            Ok(key) => Reply::Told(describe_key(&key, key.state(self.clock.now()))),
            Err(fault) => Reply::Failed { message: fault.to_string() },
        }
    }
}

/// Why nothing is lifted.
pub(super) const NOT_SUSPENDED: &str = "it is not suspended; `countersign revocations` shows what is";

const NO_REASON: &str = "the reason is empty, longer than 1024 bytes or not printable";

/// Returns true if `reason` can be stored as a reason.
pub(super) fn is_reason(reason: Option<&str>) -> bool {
    reason.is_none_or(|reason| is_plain(reason, 1_024))
}

fn is_plain(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
}

/// Reads the change that a command wants.
pub(super) fn wanted(command: Command, by: String, now: Timestamp) -> Result<Change, String> {
    let Command::Change { kind, id, act, before, reason } = command else {
        return Err("the command changes nothing".to_owned());
    };
    let kind: Kind = kind.parse().map_err(|fault| format!("`{kind}`: {fault}"))?;
    let act = match (act.as_str(), before) {
        ("revoke", None) => Act::Revoke,
        // What lies ahead is compared with clocks that may be wrong.
        ("revoke", Some(moment)) if moment > now.seconds() => {
            return Err("the moment lies ahead; revoke everything so far, or suspend".to_owned());
        }
        ("revoke", Some(moment)) => Act::RevokeBefore(moment),
        ("suspend", None) => Act::Suspend,
        ("resume", None) => Act::Resume,
        _ => return Err(format!("`{act}` is not known, or not of a moment; use revoke, suspend or resume")),
    };
    if !is_plain(&id, 2_048) {
        return Err("the id is empty, too long or not printable".to_owned());
    }
    if !is_reason(reason.as_deref()) {
        return Err(NO_REASON.to_owned());
    }
    if matches!(kind, Kind::Token | Kind::Task) {
        id.parse::<TokenId>().map_err(|fault| fault.to_string())?;
    }
    match (kind, act) {
        (Kind::Key, _) => return Err("a key is revoked by `countersign keys revoke`, which drops it too".to_owned()),
        (Kind::Token | Kind::Task, Act::RevokeBefore(_)) => {
            return Err("a token or a task is issued once; revoke it without a moment".to_owned());
        }
        _ => {}
    }
    Ok(Change { kind, id, act, reason, by })
}

/// Turns the result of a change into a reply.
pub(super) fn done(answer: Answer<()>) -> Reply {
    match answer.result {
        Ok(()) => Reply::Done { decision: answer.decision.to_string() },
        Err(fault) => Reply::Failed { message: fault.to_string() },
    }
}

/// A record of the revocation log for people and programs.
pub(super) fn describe_revocation(revoked: &Revoked) -> Value {
    let Entry { until, act, about, .. } = &revoked.entry;
    let time = |seconds| Timestamp::new(seconds).map(|time| time.to_string());
    let (act, before) = match act {
        Act::Revoke => ("revoke", None),
        Act::RevokeBefore(moment) => ("revoke", time(*moment)),
        Act::Suspend => ("suspend", None),
        Act::Resume => ("resume", None),
    };
    json!({
        "position": revoked.position,
        "act": act,
        "before": before,
        "kind": about.kind,
        "id": about.id,
        "reason": about.reason,
        "by": about.by,
        "at": time(about.at),
        "until": until.to_string(),
        "decision": about.decision,
    })
}

/// A task for people and programs.
pub(super) fn describe_task(task: &TaskState, end: TaskEnd) -> Value {
    let time = |seconds| Timestamp::new(seconds).map(|time| time.to_string());
    let record = &task.record;
    json!({
        "id": record.id,
        "state": end.name(),
        "workload": record.workload,
        "client": record.client,
        "purpose": record.purpose,
        "targets": record.targets,
        "budget": record.budget,
        "used": task.used,
        "opened": time(record.opened),
        "deadline": time(record.deadline),
        "last_used": task.last_used.to_string(),
        "key": record.cnf.as_ref().map(ToString::to_string),
        "decision": record.decision,
    })
}

/// A key for people and programs: no secret.
pub(super) fn describe_key(key: &KeyRecord, state: KeyState) -> Value {
    json!({
        "kid": key.kid,
        "purpose": key.purpose.name(),
        "algorithm": key.algorithm.name(),
        "state": state.name(),
        "published": key.published.to_string(),
        "signs_from": key.signs_from.to_string(),
        "signs_until": key.signs_until.map(|until| until.to_string()),
        "gone": key.gone().map(|gone| gone.to_string()),
        "revoked": key.revoked.map(|at| at.to_string()),
    })
}
