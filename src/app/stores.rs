//! The store that is configured, by the traits that it is used by.

use super::{Installation, StartError};
use crate::config;
use crate::domain::Timestamp;
use crate::store::{
    AuditHeads, Embedded, KeyRecords, LinkSettings, Redis, Reservations, RevocationLog, StoreError, TaskRecords,
};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// The parts of one store, each behind its own trait.
pub(super) struct Stores {
    pub(super) records: Arc<dyn KeyRecords>,
    pub(super) heads: Arc<dyn AuditHeads>,
    pub(super) log: Arc<dyn RevocationLog>,
    pub(super) tasks: Arc<dyn TaskRecords>,
    pub(super) reservations: Arc<dyn Reservations>,
    /// The longest time for which the log may be unreadable, if other brokers append to it.
    pub(super) max_staleness: Option<Duration>,
}

impl Stores {
    fn of<S>(store: S, max_staleness: Option<Duration>) -> Self
    where
        S: KeyRecords + AuditHeads + RevocationLog + TaskRecords + Reservations + 'static,
    {
        let store = Arc::new(store);
        Self {
            records: Arc::clone(&store) as _,
            heads: Arc::clone(&store) as _,
            log: Arc::clone(&store) as _,
            tasks: Arc::clone(&store) as _,
            reservations: store,
            max_staleness,
        }
    }
}

impl Installation {
    pub(super) fn store_fault(&self, fault: StoreError) -> StartError {
        match &self.config.store.redis {
            Some(redis) => StartError::SharedStore(redis.urls.join(", "), fault),
            None => StartError::Store(self.config.store.path.clone(), fault),
        }
    }

    /// Opens the embedded store; of a shared one nothing is asked yet.
    pub(super) fn stores(&self, replica: &str, now: Timestamp) -> Result<Stores, StartError> {
        let config::Store { path, redis, max_staleness } = &self.config.store;
        let fault = |fault| self.store_fault(fault);
        match redis {
            None => Ok(Stores::of(Embedded::open(path, now).map_err(fault)?, None)),
            Some(redis) => {
                super::install_crypto();
                let store = Redis::new(settings(redis)?, replica, path).map_err(fault)?;
                Ok(Stores::of(store, Some(max_staleness.duration())))
            }
        }
    }
}

fn settings(redis: &config::RedisSettings) -> Result<LinkSettings, StartError> {
    let read = |path: &Path| fs::read(path).map_err(|fault| StartError::Kept(path.to_owned(), fault.to_string()));
    let password = redis.password_file.as_deref().map(|path| -> Result<_, StartError> {
        let text = Zeroizing::new(read(path)?);
        let text = std::str::from_utf8(&text).map_err(|fault| StartError::Kept(path.to_owned(), fault.to_string()))?;
        Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    });
    let certificate = redis.certificate.as_ref().map(|(certificate, key)| -> Result<_, StartError> {
        let key = Zeroizing::new(read(key)?);
        Ok((read(certificate)?, key))
    });
    Ok(LinkSettings {
        mode: redis.mode.clone(),
        urls: redis.urls.clone(),
        username: redis.username.clone(),
        password: password.transpose()?,
        prefix: redis.prefix.clone(),
        durability: redis.durability,
        replicas: redis.replicas,
        timeout: redis.timeout.duration(),
        connections: redis.connections,
        ca: redis.ca_file.as_deref().map(read).transpose()?,
        client_certificate: certificate.transpose()?,
    })
}
