//! The check that a server stores data as long and as durably as configured. It is made before anything is read, and
//! again when another server has taken over.

use super::link::RedisLink;
use super::{Durability, LinkSettings, Mode};
use crate::store::StoreError;
use redis::{FromRedisValue as _, cmd};
use std::collections::HashMap;

/// Refuses servers that would lose what they are given. Says whether all of them can tell when replicas have it on
/// disk.
pub(super) async fn probe(link: &RedisLink, settings: &LinkSettings) -> Result<bool, StoreError> {
    let servers = link.every_server(cmd("INFO")).await?;
    if servers.is_empty() {
        return Err(StoreError::Io("no server can be written to".to_owned()));
    }
    let mut on_disk = true;
    for server in &servers {
        let info = String::from_redis_value(server.clone()).map_err(|fault| StoreError::Io(fault.to_string()))?;
        judge(&info, settings)?;
        on_disk &= version(&info) >= WAITS_FOR_DISKS;
    }
    if settings.durability != Durability::Memory {
        let mut asked = cmd("CONFIG");
        let servers = link.every_server(asked.arg("GET").arg("appendfsync").to_owned()).await;
        let servers = servers.map_err(|fault| {
            StoreError::Unfit(format!(
                "`appendfsync` cannot be read ({fault}); give the user `+config|get`, or set `store.redis.durability = \"memory\"`"
            ))
        })?;
        for server in servers {
            let said: HashMap<String, String> = HashMap::from_redis_value(server).unwrap_or_default();
            let fsync = said.get("appendfsync").map_or("", String::as_str);
            let enough = match settings.durability {
                Durability::Strict => fsync == "always",
                _ => matches!(fsync, "always" | "everysec"),
            };
            if !enough {
                return Err(StoreError::Unfit(format!(
                    "`appendfsync` is `{fsync}`, and `store.redis.durability` is `{}`; set it to `{}` in redis.conf",
                    settings.durability.name(),
                    if settings.durability == Durability::Strict { "always" } else { "everysec" },
                )));
            }
        }
    }
    Ok(on_disk)
}

/// Refuses a server with more replicas than confirm: one that did not could be promoted.
pub(super) fn promotable(replicas: u32, settings: &LinkSettings) -> Result<(), StoreError> {
    if settings.durability == Durability::Strict && settings.mode != Mode::Standalone && replicas > settings.replicas {
        return Err(StoreError::Unfit(format!(
            "it has {replicas} replicas, and `store.redis.replicas` is {}: one that did not confirm could be promoted; set it to {replicas}",
            settings.replicas
        )));
    }
    Ok(())
}

fn field<'a>(info: &'a str, name: &str) -> &'a str {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim()
}

fn version(info: &str) -> (u32, u32) {
    let (major, rest) = field(info, "redis_version").split_once('.').unwrap_or_default();
    (major.parse().unwrap_or(0), rest.split('.').next().and_then(|minor| minor.parse().ok()).unwrap_or(0))
}

fn judge(info: &str, settings: &LinkSettings) -> Result<(), StoreError> {
    let field = |name| field(info, name);
    let unfit = |fault: String| Err(StoreError::Unfit(fault));
    if version(info) < OLDEST {
        return unfit(format!("it is Redis {}; use 6.2 or later", field("redis_version")));
    }
    match field("maxmemory_policy") {
        "noeviction" => {}
        policy => {
            return unfit(format!(
                "`maxmemory-policy` is `{policy}`, so it may forget revocations when its memory is full; set it to `noeviction` in redis.conf"
            ));
        }
    }
    if field("role") != "master" {
        return unfit("it is a replica; name the server that is written to, or use `mode = \"sentinel\"`".to_owned());
    }
    if settings.durability != Durability::Memory && field("aof_enabled") != "1" {
        return unfit(format!(
            "`appendonly` is off, and `store.redis.durability` is `{}`; set `appendonly yes` in redis.conf",
            settings.durability.name()
        ));
    }
    promotable(field("connected_slaves").parse().unwrap_or(0), settings)?;
    let cluster = field("cluster_enabled") == "1";
    match (&settings.mode, cluster) {
        (Mode::Cluster, false) => unfit("it is no cluster; use `mode = \"standalone\"` or `\"sentinel\"`".to_owned()),
        (Mode::Standalone | Mode::Sentinel { .. }, true) => {
            unfit("it is of a cluster; use `mode = \"cluster\"`".to_owned())
        }
        _ => Ok(()),
    }
}

/// The oldest version with streams, and with `INFO` in scripts.
const OLDEST: (u32, u32) = (6, 2);
/// The oldest version with `WAITAOF`.
const WAITS_FOR_DISKS: (u32, u32) = (7, 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_an_old_one_is_refused() {
        let info = |version: &str| format!("redis_version:{version}\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n");
        let settings = LinkSettings {
            mode: Mode::Standalone,
            urls: Vec::new(),
            username: None,
            password: None,
            prefix: String::new(),
            durability: Durability::Memory,
            replicas: 0,
            timeout: std::time::Duration::from_secs(1),
            connections: 1,
            ca: None,
            client_certificate: None,
        };
        for (said, read) in [("7.0.15", (7, 0)), ("6.2.0", (6, 2)), ("10.11", (10, 11)), ("x", (0, 0)), ("", (0, 0))] {
            assert_eq!(version(&info(said)), read, "{said}");
        }
        for (said, fits) in
            [("6.2.0", true), ("7.0.15", true), ("6.0.16", false), ("5.0.14", false), ("garbage", false)]
        {
            assert_eq!(judge(&info(said), &settings).is_ok(), fits, "{said}");
        }
    }
}
