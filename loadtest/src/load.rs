//! The generator: as much as goes, or at a set pace. At a pace, a request's time counts from when it was due, so that a
//! stall is seen by all who waited for it.

use crate::Fault;
use crate::process::Process;
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;

/// The last address that a connection came from; 0 where all come from one.
static SOURCE: AtomicU32 = AtomicU32::new(0);

/// Whether each connection comes from an address of its own.
pub(crate) fn from_many_addresses(many: bool) {
    SOURCE.store(u32::from(many), Ordering::Relaxed);
}

/// What one turn of full load took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) exchanges: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
}

/// The requests of a turn, one after the other; none when they are used up.
pub(crate) type Requests<'a> = &'a mut dyn FnMut() -> Option<Vec<u8>>;

/// An exchange of `assertion` for a token for the target named `target`.
pub(crate) fn exchange(assertion: &str, target: &str) -> Vec<u8> {
    post(
        "/token",
        &format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&audience=https%3A%2F%2F{target}.bench.example\
             &scope=orders%3Aread&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&subject_token={assertion}"
        ),
    )
}

/// A resource server that asks about `token`.
pub(crate) fn introspection(token: &str) -> Vec<u8> {
    post("/introspect", &format!("client_id=orders-api&client_secret=bench&token={token}"))
}

/// Any form to any path.
pub(crate) fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends one request on a connection of its own.
pub(crate) async fn one(address: &str, request: &[u8]) -> Result<String, Fault> {
    Connection::open(address).await?.exchange(request).await
}

/// As much as `connections` that are never idle bring, for `time` or until the requests are used up. What is answered goes
/// to `seen`.
pub(crate) async fn saturate(
    server: &Process,
    requests: Requests<'_>,
    connections: usize,
    time: Duration,
    seen: &mut dyn FnMut(&str),
) -> Result<Turn, Fault> {
    saturate_with(server, requests, connections, time, &mut |answer| {
        expect_ok(answer)?;
        seen(answer);
        Ok(())
    })
    .await
}

/// As [`saturate`], where `judge` says which answers are right.
pub(crate) async fn saturate_with(
    server: &Process,
    requests: Requests<'_>,
    connections: usize,
    time: Duration,
    judge: &mut dyn FnMut(&str) -> Result<(), Fault>,
) -> Result<Turn, Fault> {
    let (requests, judge) = (RefCell::new(requests), RefCell::new(judge));
    let cpu = server.cpu()?;
    let started = Instant::now();
    let one = || async {
        let mut connection = Connection::open(server.address()).await?;
        let mut done = 0_u64;
        while started.elapsed() < time {
            let Some(request) = (requests.borrow_mut())() else { break };
            let answer = connection.exchange(&request).await?;
            (judge.borrow_mut())(&answer)?;
            done += 1;
        }
        Ok::<u64, Fault>(done)
    };
    let exchanges = futures_util::future::try_join_all((0..connections).map(|_| one())).await?.into_iter().sum();
    Ok(Turn { exchanges, seconds: started.elapsed().as_secs_f64(), cpu: server.cpu()? - cpu })
}

/// Times of up to a minute, in microseconds.
pub(crate) fn histogram() -> Result<Histogram<u64>, Fault> {
    Ok(Histogram::new_with_max(60_000_000, 3)?)
}

/// `rate` requests a second for `time`. Times are in microseconds.
pub(crate) async fn paced(
    address: &'static str,
    tokens: &mut Vec<String>,
    rate: f64,
    time: Duration,
) -> Result<Histogram<u64>, Fault> {
    let mut next = || tokens.pop().map(|token| (exchange(&token, "orders"), true));
    paced_with(address, &mut next, rate, time).await
}

/// As [`paced`], with requests that are to succeed, which are timed, and others that are not.
pub(crate) async fn paced_with(
    address: &'static str,
    next: &mut dyn FnMut() -> Option<(Vec<u8>, bool)>,
    rate: f64,
    time: Duration,
) -> Result<Histogram<u64>, Fault> {
    let histogram = Rc::new(RefCell::new(histogram()?));
    let idle = Rc::new(RefCell::new(Vec::<Connection>::new()));
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut running = Vec::new();
            let started = Instant::now();
            let mut number = 0_u32;
            loop {
                let due = started + Duration::from_secs_f64(f64::from(number) / rate);
                if due.duration_since(started) >= time {
                    break;
                }
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                number += 1;
                let (request, good) = next().ok_or("there are too few assertions")?;
                let (histogram, idle) = (Rc::clone(&histogram), Rc::clone(&idle));
                running.push(tokio::task::spawn_local(async move {
                    let kept = idle.borrow_mut().pop();
                    let mut connection = match kept {
                        Some(connection) => connection,
                        None => Connection::open(address).await?,
                    };
                    let answer = connection.exchange(&request).await?;
                    if good {
                        expect_ok(&answer)?;
                        let micros = u64::try_from(due.elapsed().as_micros())?;
                        histogram.borrow_mut().record(micros)?;
                    } else {
                        expect_refusal(&answer)?;
                    }
                    idle.borrow_mut().push(connection);
                    Ok::<(), Fault>(())
                }));
            }
            for request in running {
                request.await??;
            }
            Ok::<(), Fault>(())
        })
        .await?;
    let measured = histogram.borrow().clone();
    Ok(measured)
}

fn expect_ok(answer: &str) -> Result<(), Fault> {
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("an exchange failed: {answer}").into()) }
}

/// Refused, and not because the broker could not.
pub(crate) fn expect_refusal(answer: &str) -> Result<(), Fault> {
    if answer.starts_with("HTTP/1.1 4") { Ok(()) } else { Err(format!("not refused: {answer}").into()) }
}

struct Connection {
    address: String,
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Whether the last answer was the last on this connection.
    closed: bool,
}

impl Connection {
    async fn open(address: &str) -> Result<Self, Fault> {
        let stream = match SOURCE.load(Ordering::Relaxed) {
            0 => TcpStream::connect(address).await?,
            _ => {
                // Loopback has sixteen million addresses.
                let [_, a, b, c] = SOURCE.fetch_add(1, Ordering::Relaxed).to_be_bytes();
                let socket = TcpSocket::new_v4()?;
                socket.bind(([127, a, b, c.max(2)], 0).into())?;
                socket.connect(address.parse()?).await?
            }
        };
        stream.set_nodelay(true)?;
        Ok(Self { address: address.to_owned(), stream, buffer: Vec::with_capacity(4096), closed: false })
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<String, Fault> {
        if self.closed {
            *self = Self::open(&self.address).await?;
        }
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection was closed".into());
            }
            let text = std::str::from_utf8(&self.buffer)?;
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("no content-length")?;
                if body.len() >= length.trim().parse::<usize>()? {
                    self.closed = head.contains("connection: close");
                    return Ok(text.to_owned());
                }
            }
        }
    }
}
