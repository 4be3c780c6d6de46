//! HTTP by hand, so that a test can send what no client would.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::HashMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub text: String,
    pub json: Value,
}

impl Reply {
    pub fn text(&self, name: &str) -> &str {
        self.json.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn token(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text);
        self.text("access_token").to_owned()
    }

    pub fn decision(&self) -> String {
        self.headers.get("countersign-decision").cloned().unwrap_or_default()
    }

    /// Returns true if `Retry-After` asks for a delay within the spread that the broker uses.
    pub fn asks_to_retry(&self) -> bool {
        let seconds = self.headers.get("retry-after").and_then(|seconds| seconds.parse().ok());
        seconds.is_some_and(|seconds| (1..=countersign_verify::backoff::LONGEST_RETRY).contains(&seconds))
    }

    /// Status, `error` and `reason`.
    pub fn refusal(&self) -> (u16, &str, &str) {
        (self.status, self.text("error"), self.text("reason"))
    }
}

/// Sends raw bytes and reads one answer.
pub fn send(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A server that refuses early may close before all is sent.
    let _ = stream.write_all(request);
    read(&mut stream)
}

/// Sends a request with a form.
pub fn send_to(address: SocketAddr, path: &str, headers: &[(&str, String)], form: &[(&str, &str)]) -> Reply {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: sts.test\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request.push_str("content-type: application/x-www-form-urlencoded\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    send(address, format!("{request}\r\n{body}").as_bytes())
}

pub fn read(stream: &mut impl std::io::Read) -> Reply {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        // An interim answer comes before the one that counts.
        if let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
            bytes = rest.to_vec();
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let status =
                lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
            let headers: HashMap<String, String> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length = headers.get("content-length").and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
            if body.len() >= length {
                let json = serde_json::from_str(body).unwrap_or(Value::Null);
                return Reply { status, headers, text: body.to_owned(), json };
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => {
                return Reply {
                    status: 0,
                    headers: HashMap::new(),
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                    json: Value::Null,
                };
            }
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// Whether the beginning of a JWT is in it: `eyJ` (`{"`) that reads on as JSON. Random ids have the three letters too, now and then.
pub fn holds_a_token(text: &str) -> bool {
    text.match_indices("eyJ").any(|(at, _)| {
        let run = text[at..].bytes().take(12).take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
        let whole = run.count() / 4 * 4;
        whole >= 8
            && URL_SAFE_NO_PAD.decode(&text[at..at + whole]).unwrap().iter().all(|byte| (b' '..=b'~').contains(byte))
    })
}

#[test]
fn a_token_is_told_from_a_random_id() {
    assert!(holds_a_token("\"eyJhbGciOiJub25lIn0.secret\"") && holds_a_token("x eyJzdWIiOiJhIn0"));
    assert!(!holds_a_token("Rio5wz.U44v0YmZzmZkeyJV") && !holds_a_token("eyJ.eyJ.x") && !holds_a_token("eyJ_____x"));
}
