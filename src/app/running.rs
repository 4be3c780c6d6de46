//! A broker that serves: what runs beside it, what an operator asks of it, and how it takes over another configuration.

use super::{Installation, StartError, jobs};
use crate::admin::{AdminAnswer, AdminError, AdminRequest, Operator, OperatorId};
use crate::control::{self, Commands, Control};
use crate::domain::Clock;
use crate::exchange::Snapshot;
use crate::http::{self, Certificate, Limits, Serving, UseCases};
use crate::telemetry::Job;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;

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
        let mut beside = jobs::start(operator, &running.clock, certificate.as_ref());
        if let Some(listener) = management {
            let management = http::management(operator, listener)?;
            beside.push(tokio::spawn(async move { drop(management.await) }));
        }
        beside.push(tokio::spawn(control::serve(control, Arc::clone(&running) as Arc<dyn Commands>)));
        let reloading = Arc::clone(&running);
        beside.push(tokio::spawn(async move {
            while reload.recv().await.is_some() {
                let _ = reloading.reload("a signal").await;
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
        let runs = self.operator.broker().metrics().job(Job::IssuerKeys);
        let refreshing = all.map(|keys| tokio::spawn(Arc::clone(keys).keep_fresh(runs.clone()))).collect();
        let before =
            std::mem::replace(&mut *self.refreshing.lock().unwrap_or_else(PoisonError::into_inner), refreshing);
        before.iter().for_each(JoinHandle::abort);
    }

    fn stop(&self) {
        self.refreshing.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(JoinHandle::abort);
    }

    /// Takes over configuration and policies as they are on disk now: whole, or not at all.
    async fn reload(&self, by: &str) -> Result<(), String> {
        let mut installation = self.installation.lock().await;
        let done = self.take_over(&mut installation).await;
        match &done {
            Ok(()) => tracing::info!("configuration and policies reloaded"),
            Err(fault) => tracing::error!(%fault, "not reloaded; what was in force stays"),
        }
        self.operator.reloaded(done.as_ref().err().map(String::as_str), by);
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
    fn obey(
        &self,
        request: AdminRequest,
        by: OperatorId,
    ) -> Pin<Box<dyn Future<Output = Result<AdminAnswer, AdminError>> + Send + '_>> {
        Box::pin(async move {
            match request {
                AdminRequest::Reload {} => {
                    self.reload(&by.to_string()).await.map_err(AdminError::Reload)?;
                    Ok(AdminAnswer::Reloaded)
                }
                request => self.operator.admin().perform(request, &by).await,
            }
        })
    }
}
