//! A server under measurement: pinned to the first core, watched through `/proc`, ended when it goes out of scope.

use crate::{Fault, bound};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Clock ticks a second in `/proc/PID/stat`; 100 on every Linux that runs this.
const TICKS: f64 = 100.0;

pub(crate) struct Process {
    child: Child,
    address: &'static str,
    ready: &'static str,
    started: Instant,
}

impl Process {
    pub(crate) fn broker(programs: &Path, place: &Path) -> Result<Self, Fault> {
        let mut command = pinned(&programs.join("countersign"));
        command.arg("serve").arg("--config").arg(place.join("countersign.toml")).args(["--log", "error"]);
        Self::start(command, "127.0.0.1:18080", "127.0.0.1:18081")
    }

    pub(crate) fn bound(programs: &Path, place: &Path) -> Result<Self, Fault> {
        let mut command = pinned(&programs.join("countersign-loadtest"));
        command.arg("bound").arg(place.join("github.jwks"));
        Self::start(command, bound::ADDRESS, bound::ADDRESS)
    }

    fn start(mut command: Command, address: &'static str, ready: &'static str) -> Result<Self, Fault> {
        if std::net::TcpStream::connect(address).is_ok() {
            return Err(format!("something listens on {address} already; stop it first").into());
        }
        let started = Instant::now();
        Ok(Self { child: command.stdout(Stdio::null()).spawn()?, address, ready, started })
    }

    /// Waits until it answers, and says how long that took from its start.
    pub(crate) async fn ready(&mut self) -> Result<Duration, Fault> {
        while self.started.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server ended with {status}").into());
            }
            let answers = TcpStream::connect(self.ready).await.is_ok() && self.says_ready().await;
            if answers {
                return Ok(self.started.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err("the server was not ready within ten seconds".into())
    }

    /// The bound has no `/readyz`: that it answers at all is enough.
    async fn says_ready(&self) -> bool {
        let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        match crate::load::one(self.ready, request).await {
            Ok(answer) => self.ready == bound::ADDRESS || answer.starts_with("HTTP/1.1 200"),
            Err(_) => false,
        }
    }

    pub(crate) fn address(&self) -> &'static str {
        self.address
    }

    /// Where its figures are.
    pub(crate) fn management(&self) -> &'static str {
        self.ready
    }

    /// User and system time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64, Fault> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).ok_or("no CPU time");
        Ok((ticks(11)? + ticks(12)?) / TICKS)
    }

    /// Resident memory, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64, Fault> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no resident memory")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves the generator, all its threads, to the second core.
pub(crate) fn pin_myself() -> Result<(), Fault> {
    let moved =
        Command::new("taskset").args(["-acp", "1", &std::process::id().to_string()]).stdout(Stdio::null()).status()?;
    if moved.success() { Ok(()) } else { Err("the generator needs a second core".into()) }
}

fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}
