//! Real Redis servers on loopback, each a process of its own that ends with the test: one, a primary with replicas and
//! Sentinels, or a cluster.

use super::until;
use rustix::net::{AddressFamily, SocketType};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// What a server of a strict store is started with.
pub const STRICT: &str = "appendonly yes\nappendfsync always\n";
/// What any other test needs.
pub const PLAIN: &str = "appendonly no\n";

/// One server.
pub struct Server {
    pub port: u16,
    _port: Port,
    folder: TempDir,
    child: Mutex<Option<Child>>,
    sentinel: bool,
}

/// A port that the system gave. It is held by a socket that does not listen, so that the system gives it to nobody else;
/// a server that reuses addresses can listen on it all the same.
pub struct Port {
    pub number: u16,
    _held: OwnedFd,
}

impl Port {
    pub fn new() -> Self {
        let held = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::sockopt::set_socket_reuseaddr(&held, true).unwrap();
        rustix::net::bind(&held, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address: SocketAddr = rustix::net::getsockname(&held).unwrap().try_into().unwrap();
        Self { number: address.port(), _held: held }
    }
}

impl Server {
    /// A server with `more` in its configuration.
    pub fn start(more: &str) -> Self {
        Self::on(Port::new(), more, false)
    }

    fn on(held: Port, more: &str, sentinel: bool) -> Self {
        let port = held.number;
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let config = format!("port {port}\nbind 127.0.0.1\ndir {place}\ndaemonize no\nsave \"\"\n{more}");
        // A Sentinel takes some of these for itself.
        let config = if sentinel { format!("port {port}\nbind 127.0.0.1\ndir {place}\n{more}") } else { config };
        fs::write(folder.path().join("redis.conf"), config).unwrap();
        let server = Self { port, _port: held, folder, child: Mutex::default(), sentinel };
        server.again();
        server
    }

    /// Adds to its configuration, for the next start.
    pub fn configure(&self, more: &str) {
        let path = self.folder.path().join("redis.conf");
        let config = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{config}{more}")).unwrap();
    }

    /// Starts it where it does not run, and waits until it answers.
    pub fn again(&self) {
        self.begin();
        let answers = |answer: String| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH");
        until("the server answers", || self.try_ask(&["PING"]).is_some_and(answers));
    }

    /// Starts it where it does not run.
    pub fn begin(&self) {
        // Another one to try everything on: `REDIS_SERVER=/usr/bin/valkey-server cargo test`.
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        command.arg(self.folder.path().join("redis.conf"));
        if self.sentinel {
            command.arg("--sentinel");
        }
        let output = fs::File::create(self.folder.path().join("log")).unwrap();
        let child = command.stdout(output).stderr(Stdio::null()).spawn();
        *self.child.lock().unwrap() = Some(child.expect("redis-server is installed, as `.ci/needs` sees to"));
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn signal(&self, signal: &str) {
        let child = self.child.lock().unwrap();
        let id = child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Stops it from doing anything, and from ending its connections.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Ends it at once, as a power cut of its machine would.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it answers to a command, in its own words.
    pub fn ask(&self, words: &[&str]) -> String {
        self.try_ask(words).expect("the server answers")
    }

    pub fn try_ask(&self, words: &[&str]) -> Option<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(request.as_bytes()).ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// A field of `INFO`.
    pub fn info(&self, name: &str) -> String {
        let info = self.ask(&["INFO"]);
        let field = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        field.unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A primary with two replicas, watched by three Sentinels.
pub struct Watched {
    pub servers: Vec<Server>,
    pub sentinels: Vec<Server>,
}

impl Watched {
    pub fn start(more: &str) -> Self {
        let more = format!("{more}repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n");
        let primary = Server::start(&more);
        let replica = || Server::start(&format!("{more}replicaof 127.0.0.1 {}\n", primary.port));
        let replicas = [replica(), replica()];
        until("replicas follow", || primary.info("connected_slaves") == "2");
        for replica in &replicas {
            until("a replica is in step", || replica.info("master_link_status") == "up");
        }
        let watch = format!(
            "sentinel monitor tokens 127.0.0.1 {} 2\nsentinel down-after-milliseconds tokens 1000\n\
             sentinel failover-timeout tokens 3000\nsentinel parallel-syncs tokens 2\n",
            primary.port
        );
        let sentinels: Vec<Server> = (0..3).map(|_| Server::on(Port::new(), &watch, true)).collect();
        for sentinel in &sentinels {
            until("the sentinels know each other and the replicas", || {
                let told = sentinel.ask(&["SENTINEL", "MASTER", "tokens"]);
                let number = |name: &str| told.lines().skip_while(|line| *line != name).nth(2).map(str::to_owned);
                number("num-other-sentinels").as_deref() == Some("2") && number("num-slaves").as_deref() == Some("2")
            });
        }
        let [first, second] = replicas;
        Self { servers: vec![primary, first, second], sentinels }
    }

    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    /// The one that is written to, as most Sentinels say.
    pub fn primary(&self) -> Option<&Server> {
        let told = self.sentinels[0].try_ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "tokens"])?;
        self.servers.iter().find(|server| told.contains(&format!("\r\n{}\r\n", server.port)))
    }
}

/// A cluster of three primaries, each with a replica.
pub struct Cluster {
    pub servers: Vec<Server>,
    /// The ports by which the servers talk to each other.
    _buses: Vec<Port>,
}

impl Cluster {
    pub fn start(more: &str) -> Self {
        let more = format!(
            "{more}cluster-enabled yes\ncluster-node-timeout 1000\ncluster-require-full-coverage no\nrepl-diskless-sync-delay 0\n"
        );
        let buses: Vec<Port> = (0..6).map(|_| Port::new()).collect();
        let start = |bus: &Port| Server::start(&format!("{more}cluster-port {}\n", bus.number));
        let servers: Vec<Server> = buses.iter().map(start).collect();
        let addresses: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        for server in &servers {
            until("the cluster stands", || {
                let told = server.ask(&["CLUSTER", "INFO"]);
                let up = server.info("role") == "master" || server.info("master_link_status") == "up";
                told.contains("cluster_state:ok") && up && told.contains("cluster_known_nodes:6")
            });
        }
        Self { servers, _buses: buses }
    }

    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }

    pub fn primaries(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.try_ask(&["PING"]).is_some() && server.info("role") == "master")
    }
}
