//! An issuer's web server that can misbehave, and counts who came.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it answers.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
    pub delay: Duration,
}

impl Answer {
    pub fn json(body: &serde_json::Value) -> Self {
        Self { status: 200, headers: String::new(), body: body.to_string().into_bytes(), delay: Duration::ZERO }
    }

    pub fn status(status: u16) -> Self {
        Self { status, headers: String::new(), body: Vec::new(), delay: Duration::ZERO }
    }
}

type Behaviour = Box<dyn FnMut(&str) -> Answer + Send>;

/// A server on loopback.
pub struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Upstream {
    /// Answers each path by `behaviour`.
    pub fn new(behaviour: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(Box::new(behaviour)));
        let (counted, answering) = (Arc::clone(&connections), Arc::clone(&behaviour));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let answering = Arc::clone(&answering);
                std::thread::spawn(move || answer(stream, &answering));
            }
        });
        Self { address, connections, behaviour }
    }

    /// An issuer that discovers and publishes `jwks`.
    pub fn issuer(jwks: serde_json::Value) -> Self {
        let upstream = Self::new(|_| Answer::status(500));
        upstream.publish(jwks);
        upstream
    }

    pub fn publish(&self, jwks: serde_json::Value) {
        let url = self.url();
        self.behave(move |path| match path {
            "/.well-known/openid-configuration" => {
                Answer::json(&serde_json::json!({"issuer": url, "jwks_uri": format!("{url}/jwks")}))
            }
            "/jwks" => Answer::json(&jwks),
            _ => Answer::status(404),
        });
    }

    pub fn behave(&self, behaviour: impl FnMut(&str) -> Answer + Send + 'static) {
        *self.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, behaviour: &Mutex<Behaviour>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = behaviour.lock().unwrap()(&path);
    std::thread::sleep(answer.delay);
    let start = format!(
        "HTTP/1.1 {} X\r\ncontent-length: {}\r\nconnection: close\r\n{}\r\n",
        answer.status,
        answer.body.len(),
        answer.headers
    );
    let _ = stream.write_all(start.as_bytes()).and_then(|()| stream.write_all(&answer.body));
}
