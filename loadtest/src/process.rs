//! A server under measurement: pinned to the first core, watched through `/proc`, ended when it goes out of scope.

use crate::{Fault, bound};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
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

    /// A broker whose configuration says that it listens there.
    pub(crate) fn broker_at(programs: &Path, place: &Path, listen: &str, management: &str) -> Result<Self, Fault> {
        let mut command = pinned(&programs.join("countersign"));
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

/// A Redis on the second core, gone with its files when it goes out of scope.
pub(crate) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    pub(crate) fn start(place: &Path, port: u16, more: &str) -> Result<Self, Fault> {
        let own = place.join(format!("redis-{port}"));
        std::fs::create_dir(&own)?;
        let config = format!("port {port}\nbind 127.0.0.1\ndir {}\nsave \"\"\n{more}", own.display());
        std::fs::write(own.join("redis.conf"), config)?;
        let mut command = Command::new("taskset");
        command.args(["-c", "1", "redis-server"]).arg(own.join("redis.conf")).stdout(Stdio::null());
        let child = command.spawn().map_err(|fault| format!("redis-server cannot be started: {fault}"))?;
        let redis = Self { child, port };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err("redis-server does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Puts `count` revocations into the log of the brokers with the prefix `bench:`, as they would have written them.
    pub(crate) async fn fill(&self, count: usize) -> Result<(), Fault> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let about = br#"{"kind":"token","id":"AAAAAAAAAAAAAAAAAAAAAA","by":"whoever presents it","at":1795304539,"decision":"aaaaaa.AAAAAAAAAAAAAAAA"}"#;
        let ends = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3_600;
        let mut sent = Vec::new();
        for number in 1..=count {
            // Any sixteen bytes are a name.
            let name = (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
            let record = [&[2][..], &name, &ends.to_be_bytes(), b"r", &[0; 8], about].concat();
            let id = format!("{number}-0");
            for command in [
                vec![b"XADD".as_slice(), b"bench:{log}:records", id.as_bytes(), b"r", &record],
                vec![b"ZADD", b"bench:{log}:ends", ends.to_string().as_bytes(), number.to_string().as_bytes()],
            ] {
                sent.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
                for word in command {
                    sent.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                    sent.extend_from_slice(word);
                    sent.extend_from_slice(b"\r\n");
                }
            }
        }
        let count = count.to_string();
        let last = format!(
            "*4\r\n$4\r\nHSET\r\n$17\r\nbench:{{log}}:state\r\n$8\r\nposition\r\n${}\r\n{count}\r\nQUIT\r\n",
            count.len()
        );
        sent.extend_from_slice(last.as_bytes());
        let (mut read, mut write) = stream.split();
        let mut told = Vec::new();
        let heard = async {
            tokio::io::AsyncReadExt::read_to_end(&mut read, &mut told).await?;
            Ok::<(), std::io::Error>(())
        };
        futures_util::future::try_join(tokio::io::AsyncWriteExt::write_all(&mut write, &sent), heard).await?;
        if told.windows(2).any(|pair| pair == b"\n-") || told.first() == Some(&b'-') {
            return Err("Redis did not take all of it".into());
        }
        Ok(())
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
