//! Connections to the servers: few, each shared by many requests, given up as soon as one fails, and never waited for
//! longer than is allowed.

use super::confirm::{Wait, confirm};
use super::{Durability, LinkSettings, Mode};
use crate::store::StoreError;
use deadpool::managed::{self, Metrics, Pool, QueueMode, RecycleError, RecycleResult};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo as _, Pipeline,
    RedisError, RedisFuture, RedisResult, Script, ScriptInvocation, TlsCertificates, ToRedisArgs, Value,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long an idle connection is used without a test.
const PING_AFTER: Duration = Duration::from_secs(5);
/// Number of times that a command is repeated in a cluster, where slots move.
const RETRIES: u32 = 2;
/// The code by which a server says that it writes nothing: it was made a replica.
const READ_ONLY: &str = "READONLY";

/// A script and the keys and arguments that it is called with. A cluster finds its server by the first key.
pub(super) struct Call {
    invocation: ScriptInvocation<'static>,
    key: String,
}

impl Call {
    pub(super) fn new(script: &'static Script) -> Self {
        Self { invocation: script.prepare_invoke(), key: String::new() }
    }

    pub(super) fn key(mut self, key: String) -> Self {
        self.invocation.key(&key);
        if self.key.is_empty() {
            self.key = key;
        }
        self
    }

    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.invocation.arg(argument);
        self
    }
}

/// A connection, shared.
#[derive(Clone)]
pub(super) struct Handle {
    to: To,
    /// True if the connection is to be dropped.
    broken: Arc<AtomicBool>,
}

#[derive(Clone)]
pub(super) enum To {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Handle {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match &mut self.to {
            To::One(one) => one.req_packed_command(command),
            To::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.to {
            To::One(one) => one.req_packed_commands(pipeline, offset, count),
            To::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// Makes connections.
struct Servers {
    to: ServerTarget,
    config: AsyncConnectionConfig,
}

enum ServerTarget {
    One(Client),
    /// Asked again for each connection, so that the one that has taken over is found.
    Sentinel(Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

impl Servers {
    fn new(settings: &LinkSettings, answer: Duration) -> RedisResult<Self> {
        let tls = || {
            let client_tls = settings
                .client_certificate
                .clone()
                .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key: client_key.to_vec() });
            TlsCertificates { client_tls, root_cert: settings.ca.clone() }
        };
        let with_tls = settings.urls.iter().any(|url| url.starts_with("rediss:"));
        let first = settings.urls.first().cloned().unwrap_or_default();
        let to = match &settings.mode {
            Mode::Standalone => {
                let info = first.into_connection_info()?;
                let redis = credentials(settings, info.redis_settings().clone());
                let info = info.set_redis_settings(redis);
                ServerTarget::One(if with_tls { Client::build_with_tls(info, tls())? } else { Client::open(info)? })
            }
            Mode::Sentinel { master } => {
                let sentinels: RedisResult<Vec<_>> =
                    settings.urls.iter().map(|url| Ok(url.as_str().into_connection_info()?.addr().clone())).collect();
                let mut builder = SentinelClientBuilder::new(sentinels?, master, SentinelServerType::Master)?;
                if with_tls {
                    builder = builder
                        .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
                        .set_client_to_sentinel_tls_mode(redis::TlsMode::Secure)
                        .set_client_to_redis_certificates(tls())
                        .set_client_to_sentinel_certificates(tls());
                }
                if let Some(username) = &settings.username {
                    builder = builder.set_client_to_redis_username(username);
                }
                if let Some(password) = &settings.password {
                    builder = builder.set_client_to_redis_password(password.as_str());
                }
                ServerTarget::Sentinel(Mutex::new(builder.build()?))
            }
            Mode::Cluster => {
                let mut builder = ClusterClient::builder(settings.urls.clone())
                    .retries(RETRIES)
                    .max_retry_wait(100)
                    .connection_timeout(settings.timeout / 3)
                    .response_timeout(answer);
                if with_tls {
                    builder = builder.tls(redis::TlsMode::Secure).certs(tls());
                }
                if let Some(username) = &settings.username {
                    builder = builder.username(username);
                }
                if let Some(password) = &settings.password {
                    builder = builder.password(password.as_str());
                }
                ServerTarget::Cluster(builder.build()?)
            }
        };
        // No timeout here: the caller's deadline covers the whole operation, and the edge limits requests in progress.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(settings.timeout)).set_response_timeout(None);
        Ok(Self { to, config })
    }
}

fn credentials(settings: &LinkSettings, mut info: redis::RedisConnectionInfo) -> redis::RedisConnectionInfo {
    if let Some(username) = &settings.username {
        info = info.set_username(username);
    }
    if let Some(password) = &settings.password {
        info = info.set_password(password.as_str());
    }
    info
}

/// Makes the connections of one worker thread.
struct Maker(Arc<Servers>);

impl managed::Manager for Maker {
    type Type = Handle;
    type Error = RedisError;

    async fn create(&self) -> RedisResult<Handle> {
        let to = match &self.0.to {
            ServerTarget::One(client) => {
                To::One(client.get_multiplexed_async_connection_with_config(&self.0.config).await?)
            }
            ServerTarget::Sentinel(client) => {
                To::One(client.lock().await.get_async_connection_with_config(&self.0.config).await?)
            }
            ServerTarget::Cluster(client) => To::Cluster(client.get_async_connection().await?),
        };
        Ok(Handle { to, broken: Arc::default() })
    }

    async fn recycle(&self, handle: &mut Handle, metrics: &Metrics) -> RecycleResult<RedisError> {
        if handle.broken.load(Ordering::Relaxed) {
            return Err(RecycleError::message("given up"));
        }
        // A cluster's connection looks after its own.
        if matches!(handle.to, To::Cluster(_)) || metrics.last_used() < PING_AFTER {
            return Ok(());
        }
        redis::cmd("PING").query_async::<()>(handle).await.map_err(RecycleError::Backend)
    }
}

/// The connections for one use: for commands, or for following the log. Each thread has its own.
pub(super) struct RedisLink {
    servers: Arc<Servers>,
    /// Some for each thread: what drives a connection runs where it was made, and waking another thread costs more than
    /// the command does.
    pools: RwLock<HashMap<ThreadId, Pool<Maker>>>,
    /// True while a connection is being made.
    making: Arc<AtomicBool>,
    /// Number of connections of a thread.
    connections: usize,
    order: QueueMode,
    /// Time limit of every operation.
    bound: Duration,
    wait: Option<Arc<Wait>>,
}

impl RedisLink {
    /// Up to `connections` of them for each thread, whose answers may take `answer`.
    pub(super) fn new(settings: &LinkSettings, connections: usize, answer: Duration) -> Result<Self, StoreError> {
        let servers = Servers::new(settings, answer).map_err(|fault| down(&fault))?;
        let confirmed = settings.durability == Durability::Strict && settings.replicas > 0;
        // Commands of many requests travel together on one connection, as long as none of them makes it wait for
        // replicas.
        let order = if confirmed { QueueMode::Fifo } else { QueueMode::Lifo };
        let wait = confirmed.then(|| Arc::new(Wait::new(settings.replicas, settings.timeout * 3 / 4)));
        let (servers, pools) = (Arc::new(servers), RwLock::default());
        Ok(Self { servers, pools, making: Arc::default(), connections, order, bound: answer, wait })
    }

    /// The connections of this thread.
    fn pool(&self) -> Result<Pool<Maker>, RedisError> {
        let this = std::thread::current().id();
        if let Some(pool) = self.pools.read().unwrap_or_else(PoisonError::into_inner).get(&this) {
            return Ok(pool.clone());
        }
        let builder = Pool::builder(Maker(Arc::clone(&self.servers)));
        let pool = builder.max_size(self.connections).queue_mode(self.order).build();
        let pool = pool.map_err(std::io::Error::other)?;
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        Ok(pools.entry(this).or_insert(pool).clone())
    }

    /// The confirmation by replicas, if it is required.
    pub(super) fn waits(&self) -> Option<&Wait> {
        self.wait.as_deref()
    }

    /// Does `work` on a connection, within the bound.
    pub(super) async fn with<T, F>(&self, work: impl FnOnce(Handle) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut used = None;
        let whole = async {
            // Shared at once: the place in the pool is for making connections, not for using them.
            let handle = self.handle().await?;
            used = Some((Arc::clone(&handle.broken), now()));
            work(handle).await
        };
        let done = tokio::time::timeout(self.bound, whole).await;
        let give_up = |since: &Instant| match &done {
            // If the time went into connecting, keep the connection: the next caller can use it.
            Err(_) => since.elapsed() >= self.bound / 2,
            Ok(Err(fault)) => is_broken(fault),
            Ok(Ok(_)) => false,
        };
        if let Some((broken, _)) = used.filter(|(_, since)| give_up(since)) {
            broken.store(true, Ordering::Relaxed);
        }
        match done {
            Err(_) => Err(StoreError::Io(format!("no answer within {} ms", self.bound.as_millis()))),
            Ok(done) => done.map_err(|fault| down(&fault)),
        }
    }

    /// A connection, of which there is one, or one is made. Making one goes on where nobody waits for it any longer: a
    /// Sentinel or a seed that does not answer may take longer than a request has.
    async fn handle(&self) -> RedisResult<Handle> {
        let pool = self.pool()?;
        let get = async move {
            match pool.get().await {
                Ok(object) => Ok(Handle::clone(&object)),
                Err(managed::PoolError::Backend(fault)) => Err(fault),
                Err(other) => Err(RedisError::from(std::io::Error::other(other.to_string()))),
            }
        };
        if self.pool()?.status().available > 0 || self.making.swap(true, Ordering::AcqRel) {
            return get.await;
        }
        let making = Arc::clone(&self.making);
        let made = tokio::spawn(async move {
            let made = get.await;
            making.store(false, Ordering::Release);
            made
        });
        made.await.map_err(std::io::Error::other)?
    }

    /// Drops every connection.
    pub(super) fn give_up(&self) {
        self.pools.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs a script that reads.
    pub(super) async fn ask<T: FromRedisValue>(&self, call: Call) -> Result<T, StoreError> {
        self.with(async |mut handle| call.invocation.invoke_async(&mut handle).await).await
    }

    /// Runs a script that writes: what comes back is as durable as is asked for.
    pub(super) async fn write<T: FromRedisValue>(&self, call: Call) -> Result<T, StoreError> {
        let wait = self.wait.as_deref();
        self.with(async |mut handle| {
            let done = call.invocation.invoke_async(&mut handle).await?;
            confirm(&mut handle.to, wait, &call.key).await?;
            Ok(done)
        })
        .await
    }

    /// Writes with one command: what comes back is as durable as is asked for.
    pub(super) async fn command<T: FromRedisValue>(&self, command: Cmd, key: &str) -> Result<T, StoreError> {
        let wait = self.wait.as_deref();
        self.with(async |mut handle| {
            let done = command.query_async(&mut handle).await?;
            confirm(&mut handle.to, wait, key).await?;
            Ok(done)
        })
        .await
    }

    /// Writes with several commands on `key`: what comes back is as durable as is asked for.
    pub(super) async fn pipeline(&self, commands: Pipeline, key: &str) -> Result<(), StoreError> {
        let wait = self.wait.as_deref();
        self.with(async |mut handle| {
            let () = commands.query_async(&mut handle).await?;
            confirm(&mut handle.to, wait, key).await
        })
        .await
    }

    /// Returns the answer of every server that may be written to.
    pub(super) async fn every_server(&self, command: Cmd) -> Result<Vec<Value>, StoreError> {
        self.with(async |mut handle| match &mut handle.to {
            To::One(one) => Ok(vec![command.query_async(one).await?]),
            To::Cluster(cluster) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                match cluster.route_command(command, all).await? {
                    Value::Map(answers) => Ok(answers.into_iter().map(|(_, answer)| answer).collect()),
                    Value::Array(answers) => Ok(answers),
                    other => Ok(vec![other]),
                }
            }
        })
        .await
    }
}

/// Returns true if a connection cannot be used after `fault`.
fn is_broken(fault: &RedisError) -> bool {
    fault.is_io_error()
        || fault.is_timeout()
        || fault.is_connection_dropped()
        || fault.is_unrecoverable_error()
        || matches!(fault.kind(), ErrorKind::AuthenticationFailed | ErrorKind::Parse)
        || fault.code() == Some(READ_ONLY)
}

/// Describes a fault. The server's words may repeat what was sent, so they are cut.
pub(super) fn down(fault: &RedisError) -> StoreError {
    if fault.code() == Some("HISTORY") {
        return StoreError::History;
    }
    StoreError::Io(fault.to_string().chars().filter(|letter| !letter.is_control()).take(200).collect())
}

#[expect(clippy::disallowed_methods, reason = "how long something takes is no date")]
fn now() -> Instant {
    Instant::now()
}
