//! A server under measurement: pinned to the first core, watched through `/proc`, ended when it goes out of scope.

use crate::{Fault, bound};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

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

    /// A broker whose configuration says that it listens there.
    pub(crate) fn broker_at(programs: &Path, place: &Path, listen: &str, management: &str) -> Result<Self, Fault> {
        Self::of(&programs.join("countersign"), place, listen, management)
    }

    /// As [`Process::broker_at`], of the build `program`.
    pub(crate) fn of(program: &Path, place: &Path, listen: &str, management: &str) -> Result<Self, Fault> {
        let mut command = pinned(program);
        command.arg("serve").arg("--config").arg(place.join("countersign.toml")).args(["--log", "error"]);
        // A handful for each run.
        let kept = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        Self::start(command, kept(listen), kept(management))
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

    /// CPU time of every thread so far, in seconds, as exact as the scheduler counts it.
    pub(crate) fn cpu(&self) -> Result<f64, Fault> {
        let mut nanoseconds = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))?.flatten() {
            // A thread may end between the listing and this.
            let Ok(stat) = std::fs::read_to_string(thread.path().join("schedstat")) else { continue };
            nanoseconds += stat.split(' ').next().unwrap_or_default().parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
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

/// A Redis on the second core, gone with its files when it goes out of scope.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    /// Its folder.
    own: PathBuf,
}

fn spawn(own: &Path, how: &[&str]) -> Result<Child, Fault> {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "redis-server"]).arg(own.join("redis.conf")).args(how).stdout(Stdio::null());
    command.spawn().map_err(|fault| format!("redis-server cannot be started: {fault}").into())
}

fn listening(port: u16) -> Result<(), Fault> {
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if began.elapsed() > Duration::from_secs(10) {
            return Err("redis-server does not listen".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

impl Redis {
    pub(crate) fn start(place: &Path, port: u16, more: &str) -> Result<Self, Fault> {
        Self::start_as(place, port, more, &[])
    }

    /// One that watches others.
    pub(crate) fn sentinel(place: &Path, port: u16, more: &str) -> Result<Self, Fault> {
        Self::start_as(place, port, more, &["--sentinel"])
    }

    fn start_as(place: &Path, port: u16, more: &str, how: &[&str]) -> Result<Self, Fault> {
        let own = place.join(format!("redis-{port}"));
        std::fs::create_dir(&own)?;
        let config = format!("port {port}\nbind 127.0.0.1\ndir {}\n{more}", own.display());
        std::fs::write(own.join("redis.conf"), config)?;
        let child = spawn(&own, how)?;
        let redis = Self { child, port, own };
        listening(port)?;
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends commands, one behind the other, and gives all that is answered.
    pub(crate) async fn tell(&self, commands: impl Iterator<Item = Vec<Vec<u8>>>) -> Result<String, Fault> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let mut sent = Vec::new();
        for command in commands {
            sent.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for word in command {
                sent.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                sent.extend_from_slice(&word);
                sent.extend_from_slice(b"\r\n");
            }
        }
        let (mut read, mut write) = stream.split();
        let mut told = Vec::new();
        let heard = async {
            tokio::io::AsyncReadExt::read_to_end(&mut read, &mut told).await?;
            Ok::<(), std::io::Error>(())
        };
        let said = async {
            tokio::io::AsyncWriteExt::write_all(&mut write, &sent).await?;
            // That is all: then it closes, when it has answered.
            tokio::io::AsyncWriteExt::shutdown(&mut write).await
        };
        futures_util::future::try_join(said, heard).await?;
        let told = String::from_utf8_lossy(&told).into_owned();
        if told.contains("\n-") || told.starts_with('-') {
            return Err(format!("Redis did not take all of it: {}", told.chars().take(300).collect::<String>()).into());
        }
        Ok(told)
    }

    /// As [`Redis::tell`], of one command.
    pub(crate) async fn ask(&self, words: &[&str]) -> Result<String, Fault> {
        self.tell(std::iter::once(words.iter().map(|word| word.as_bytes().to_vec()).collect())).await
    }

    /// Starts one that has died, on its own files and configuration.
    pub(crate) fn again(&mut self) -> Result<(), Fault> {
        let _ = self.child.wait();
        self.child = spawn(&self.own, &[])?;
        listening(self.port)
    }

    /// Sends it a signal: `-KILL`, `-STOP`.
    pub(crate) fn signal(&self, signal: &str) -> Result<(), Fault> {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err("no signal was sent".into()) }
    }
}

impl Drop for Redis {
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
