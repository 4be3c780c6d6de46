//! The control socket: how the command line reaches a broker that runs. A Unix socket of mode 0600; only the broker's
//! own user, and root, are heard. One line of JSON is a request, one line its answer.

use crate::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
/// Time limit of a peer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command to a running broker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Revoke, suspend or let go on what is named, and everything below it.
    Change {
        /// The kind of what is named, e.g. `token`.
        kind: String,
        /// Its id, as tokens have it.
        id: String,
        /// `revoke`, `suspend` or `resume`.
        act: String,
        /// For a revocation: only tokens issued before this time are revoked, in seconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<i64>,
        /// The reason that the operator gives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Every revocation and suspension that is alive.
    Revocations {},
    /// Every task that is open.
    Tasks {},
    /// Every signing key.
    Keys {},
    /// Make a successor for the key of a purpose and an algorithm.
    RotateKey {
        /// The purpose of the key.
        purpose: String,
        /// The algorithm that the key signs with.
        algorithm: String,
    },
    /// Drop a compromised key and end what it signed.
    RevokeKey {
        /// Its id.
        kid: String,
        /// The reason that the operator gives.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Read configuration and policies again.
    Reload {},
}

/// A reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, by this decision.
    Done {
        /// The decision's id.
        decision: String,
    },
    /// Done, and this is to be known.
    Told(Value),
    /// Not done, and why.
    Failed {
        /// The reason in words.
        message: String,
    },
}

/// The receiver of commands.
pub trait Commands: Send + Sync {
    /// Does it, for `by`.
    fn obey(&self, command: Command, by: String) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>>;
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

/// An operator, by the uid that he is known by.
#[must_use]
pub fn operator(uid: u32) -> String {
    format!("operator (uid {uid})")
}

/// The operator whose process this is.
#[must_use]
pub fn own_operator() -> String {
    operator(rustix::process::geteuid().as_raw())
}

/// Answers commands, for ever.
pub async fn serve(control: Control, commands: Arc<dyn Commands>) {
    loop {
        match control.listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(tokio::time::timeout(PATIENCE, converse(stream, Arc::clone(&commands))));
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
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => operator(peer.uid()),
        _ => return,
    };
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    if tokio::io::BufReader::new(reader.take(MAX_LINE)).read_line(&mut line).await.is_err() {
        return;
    }
    let reply = match serde_json::from_str(&line) {
        Ok(command) => commands.obey(command, by).await,
        Err(fault) => Reply::Failed { message: format!("the command cannot be read: {fault}") },
    };
    if let Ok(mut line) = serde_json::to_vec(&reply) {
        line.push(b'\n');
        let _ = writer.write_all(&line).await;
    }
}

/// Asks the broker that listens on `path`.
///
/// # Errors
/// [`ControlError::NotRunning`] where nobody listens, [`ControlError::Io`] where there is no whole answer.
pub fn ask(path: &Path, command: &Command) -> Result<Reply, ControlError> {
    let fault = |fault| ControlError::Io(path.to_owned(), fault);
    let mut stream = match Client::connect(path) {
        Ok(stream) => stream,
        Err(refused) if matches!(refused.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(ControlError::NotRunning(path.to_owned()));
        }
        Err(other) => return Err(fault(other)),
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(fault)?;
    let mut line = serde_json::to_vec(command).map_err(|error| fault(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(fault)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer).map_err(fault)?;
    serde_json::from_str(&answer).map_err(|error| fault(error.into()))
}
