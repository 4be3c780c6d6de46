//! TLS of the public listener. The certificate is exchanged in place when its files change; a pair that cannot be used
//! leaves the one that is served.

use crate::domain::Clock;
use crate::telemetry::JobRuns;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Interval at which the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Why a certificate cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("`{0}` cannot be read: {1}")]
    File(PathBuf, String),
    /// The files do not make a pair.
    #[error("`{0}` and `{1}` cannot be used together: {2}")]
    Pair(PathBuf, PathBuf, String),
}

/// The certificate that is served.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    served: ArcSwap<CertifiedKey>,
    /// The time of the last change of the served files.
    stamp: ArcSwap<Stamp>,
}

type Stamp = [Option<SystemTime>; 2];

impl fmt::Debug for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Certificate({})", self.chain.display())
    }
}

impl Certificate {
    /// Reads the PEM chain and the PEM private key.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let stamp = ArcSwap::from_pointee(stamp(chain, key));
        let served = ArcSwap::from_pointee(pair(chain, key)?);
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), served, stamp })
    }

    /// Reads the files again and serves them from the next handshake on.
    ///
    /// # Errors
    /// [`TlsError`]; what was served stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        // Taken first: a change while the files are read shows at the next look.
        let stamp = stamp(&self.chain, &self.key);
        self.served.store(Arc::new(pair(&self.chain, &self.key)?));
        self.stamp.store(Arc::new(stamp));
        Ok(())
    }

    /// Reloads whenever a file has changed, for ever.
    pub async fn keep_current(self: Arc<Self>, clock: Arc<dyn Clock>, runs: JobRuns) {
        loop {
            clock.sleep(LOOK).await;
            if stamp(&self.chain, &self.key) == **self.stamp.load() {
                runs.count(true);
                continue;
            }
            let reloaded = self.reload();
            runs.count(reloaded.is_ok());
            match reloaded {
                Ok(()) => tracing::info!(certificate = %self.chain.display(), "certificate reloaded"),
                // Both files are seldom replaced in one moment: try again until they fit.
                Err(fault) => tracing::warn!(%fault, "certificate not reloaded"),
            }
        }
    }

    pub(super) fn server_config(self: &Arc<Self>) -> ServerConfig {
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ServedCertificate(Arc::clone(self))));
        // HTTP/1.1 alone: the server has no limit for streams of HTTP/2.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

fn stamp(chain: &Path, key: &Path) -> Stamp {
    [chain, key].map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}

struct ServedCertificate(Arc<Certificate>);

impl fmt::Debug for ServedCertificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.served.load_full())
    }
}

fn pair(chain: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let file = |path: &Path, fault: &dyn fmt::Display| TlsError::File(path.to_owned(), fault.to_string());
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(chain).and_then(Iterator::collect).map_err(|fault| file(chain, &fault))?;
    if certificates.is_empty() {
        return Err(file(chain, &"it holds no PEM certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|fault| file(key, &fault))?;
    CertifiedKey::from_der(certificates, private, &rustls::crypto::aws_lc_rs::default_provider())
        .map_err(|fault| TlsError::Pair(chain.to_owned(), key.to_owned(), fault.to_string()))
}
