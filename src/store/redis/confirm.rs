//! Waiting until as many replicas as have to have what was written: on their disks where the servers can say so, and
//! else in their memory.

use super::link::To;
use redis::aio::ConnectionLike as _;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, ErrorKind, FromRedisValue as _, RedisError, RedisResult, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The confirmation of writes by replicas.
pub(super) struct Wait {
    replicas: u32,
    bound: Duration,
    /// True if every server supports `WAITAOF`, as the last probe found.
    synced: AtomicBool,
}

impl Wait {
    pub(super) fn new(replicas: u32, bound: Duration) -> Self {
        Self { replicas, bound, synced: AtomicBool::default() }
    }

    /// Sets whether confirmed writes are on disk.
    pub(super) fn on_disk(&self, synced: bool) {
        self.synced.store(synced, Ordering::Relaxed);
    }

    fn command(&self) -> Cmd {
        let mut command = if self.synced.load(Ordering::Relaxed) {
            let mut command = redis::cmd("WAITAOF");
            // On the server's own disk too.
            command.arg(1);
            command
        } else {
            redis::cmd("WAIT")
        };
        command.arg(self.replicas).arg(u64::try_from(self.bound.as_millis()).unwrap_or(u64::MAX));
        command
    }

    /// Reads the number of confirmations: `WAIT` returns a number, `WAITAOF` whether the server's own disk has the
    /// write, and the number.
    fn confirmed(told: Value) -> RedisResult<u32> {
        Ok(match told {
            Value::Array(_) => {
                let (own, replicas): (u32, u32) = redis::from_redis_value(told)?;
                if own > 0 { replicas } else { 0 }
            }
            told => u32::from_redis_value(told)?,
        })
    }
}

/// Waits until enough replicas have what was written to `key`.
pub(super) async fn confirm(to: &mut To, wait: Option<&Wait>, key: &str) -> RedisResult<()> {
    let Some(wait) = wait else { return Ok(()) };
    let command = wait.command();
    let told = match to {
        To::One(one) => one.req_packed_command(&command).await?,
        To::Cluster(cluster) => {
            // By the server that has the key: nobody else was written to.
            let route = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
            cluster.route_command(command, RoutingInfo::SingleNode(route)).await?
        }
    };
    let (confirmed, replicas) = (Wait::confirmed(told)?, wait.replicas);
    if confirmed < replicas {
        let how = if wait.synced.load(Ordering::Relaxed) {
            "on disk, which needs the server's `appendonly` and `appendfsync` on each of them,"
        } else {
            "in time"
        };
        let said = format!("{confirmed} of {replicas} replicas confirmed it {how} and `durability` is `strict`");
        return Err(RedisError::from((ErrorKind::Io, "not confirmed", said)));
    }
    Ok(())
}
