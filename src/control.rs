//! The control socket: how the command line reaches a broker that runs. A Unix socket of mode 0600; only the broker's
//! own user, and root, are heard. One line of JSON is a request, one line its answer.

use crate::admin::{AdminAnswer, AdminError, AdminRequest, OperatorId};
use crate::files;
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as Client;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// The longest answer, in bytes: every task that can be open.
const MAX_ANSWER: u64 = 128 * 1024 * 1024;
/// Time limit for a peer to send or to take a line.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time limit of an act: a key backend or a store may be slow. The act goes on after it.
const ACT: Duration = Duration::from_secs(120);

/// A reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Done(AdminAnswer),
    /// Not done, and why.
    Failed {
        /// The reason in words.
        message: String,
    },
}

/// The receiver of requests.
pub trait Commands: Send + Sync {
    /// Does it, for `by`.
    fn obey(
        &self,
        request: AdminRequest,
        by: OperatorId,
    ) -> Pin<Box<dyn Future<Output = Result<AdminAnswer, AdminError>> + Send + '_>>;
}

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another broker listens on it.
    #[error("another broker listens on `{0}`; stop it first, or name another `server.control`")]
    InUse(PathBuf),
    /// Nobody listens on it.
    #[error("no broker listens on `{0}`")]
    NotRunning(PathBuf),
    /// It cannot be used.
    #[error("the control socket `{0}` cannot be used: {1}")]
    Io(PathBuf, io::Error),
}

/// The bound socket.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Binds the socket. One that a dead broker left behind is replaced.
    ///
    /// # Errors
    /// [`ControlError::InUse`] where a broker answers on it.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let fault = |fault| ControlError::Io(path.to_owned(), fault);
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            files::private_directory(parent).map_err(fault)?;
        }
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(fault(io::Error::other(
                    "something else than a socket is there; name another `server.control`",
                )));
            }
            Ok(_) if Client::connect(path).is_ok() => return Err(ControlError::InUse(path.to_owned())),
            Ok(_) => fs::remove_file(path).map_err(fault)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(fault)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(fault)?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers commands, for ever.
pub async fn serve(control: Control, commands: Arc<dyn Commands>) {
    loop {
        match control.listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, Arc::clone(&commands)));
            }
            Err(fault) => {
                tracing::warn!(%fault, "control connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, commands: Arc<dyn Commands>) {
    // The mode of the socket keeps others out; this holds where the mode was changed.
    let own = rustix::process::geteuid().as_raw();
    let by = match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => OperatorId::unix(peer.uid()),
        _ => return,
    };
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(MAX_LINE));
    if !matches!(tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await, Ok(Ok(_))) {
        return;
    }
    let reply = match serde_json::from_str(&line) {
        // A task of its own: an operator who does not wait must not leave an act half done.
        Ok(request) => match tokio::spawn(async move { commands.obey(request, by).await }).await {
            Ok(Ok(answer)) => Reply::Done(answer),
            Ok(Err(fault)) => Reply::Failed { message: fault.to_string() },
            Err(fault) => Reply::Failed { message: format!("the broker failed: {fault}") },
        },
        Err(fault) => Reply::Failed { message: format!("the command cannot be read: {fault}") },
    };
    if let Ok(mut line) = serde_json::to_vec(&reply) {
        line.push(b'\n');
        let _ = tokio::time::timeout(PATIENCE, writer.write_all(&line)).await;
    }
}

/// Asks the broker that listens on `path`.
///
/// # Errors
/// [`ControlError::NotRunning`] where nobody listens, [`ControlError::Io`] where there is no whole answer.
pub fn ask(path: &Path, request: &AdminRequest) -> Result<Reply, ControlError> {
    let fault = |fault| ControlError::Io(path.to_owned(), fault);
    let mut stream = match Client::connect(path) {
        Ok(stream) => stream,
        Err(refused) if matches!(refused.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(ControlError::NotRunning(path.to_owned()));
        }
        Err(other) => return Err(fault(other)),
    };
    stream.set_read_timeout(Some(ACT)).map_err(fault)?;
    let mut line = serde_json::to_vec(request).map_err(|error| fault(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(fault)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer).map_err(fault)?;
    serde_json::from_str(&answer).map_err(|error| fault(error.into()))
}
