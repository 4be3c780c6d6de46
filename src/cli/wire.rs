//! The HTTP client of the command line.

use super::Failure;
use super::output::printable;
use reqwest::RequestBuilder;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use url::Url;

/// The longest answer that is read, in bytes.
const MAX: usize = 1024 * 1024;

pub(super) struct HttpClient(reqwest::Client);

/// An answer, whatever its status.
pub(super) struct WireAnswer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) text: String,
    /// The id of the decision, from its header.
    pub(super) decision: String,
}

impl HttpClient {
    /// Trusts the machine's certificates, or those of `ca` instead. Follows no redirect: a token goes where it was
    /// meant to go.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, Failure> {
        crate::app::install_crypto();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(15));
        if let Some(path) = ca {
            let pem = std::fs::read(path)
                .map_err(|fault| Failure(format!("`{}` cannot be read: {fault}", path.display())))?;
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        Ok(Self(builder.build()?))
    }

    pub(super) fn get(&self, url: &str, bearer: Option<&str>) -> Result<WireAnswer, Failure> {
        crate::http::block_on(self.get_async(url, bearer))
    }

    pub(super) async fn get_async(&self, url: &str, bearer: Option<&str>) -> Result<WireAnswer, Failure> {
        let request = self.0.get(safe(url)?);
        send(match bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        })
        .await
    }

    /// Posts a form, with a DPoP proof where there is one.
    pub(super) async fn post_proved(
        &self,
        url: &str,
        form: &[(&str, &str)],
        proof: Option<&str>,
    ) -> Result<WireAnswer, Failure> {
        let request = self.form(url, form)?;
        send(match proof {
            Some(proof) => request.header("dpop", proof),
            None => request,
        })
        .await
    }

    fn form(&self, url: &str, form: &[(&str, &str)]) -> Result<RequestBuilder, Failure> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        Ok(self.0.post(safe(url)?).header("content-type", "application/x-www-form-urlencoded").body(body))
    }

    /// Posts a form, with HTTP Basic credentials where there are some (RFC 6749 §2.3.1).
    pub(super) async fn post(
        &self,
        url: &str,
        form: &[(&str, &str)],
        basic: Option<(&str, &str)>,
    ) -> Result<WireAnswer, Failure> {
        let request = self.form(url, form)?;
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        send(match basic {
            Some((id, secret)) => request.basic_auth(encoded(id), Some(encoded(secret))),
            None => request,
        })
        .await
    }
}

/// Why a broker refused, for people.
pub(super) fn refusal(answer: &WireAnswer) -> Failure {
    let text = |name: &str| answer.body.get(name).and_then(Value::as_str).map(printable);
    let mut message = format!("the broker refused (HTTP status {})", answer.status);
    for name in ["error", "error_description", "reason", "decision"] {
        if let Some(value) = text(name) {
            message.push_str(&format!("\n  {name}: {value}"));
        }
    }
    if let Some(decision) = text("decision") {
        message.push_str(&format!("\n  the operator can say why: countersign explain {decision}"));
    }
    Failure(message)
}

async fn send(request: RequestBuilder) -> Result<WireAnswer, Failure> {
    let unreachable = |fault: reqwest::Error| {
        let mut cause: &dyn std::error::Error = &fault;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Failure(format!("the server cannot be reached: {cause}"))
    };
    let mut answer = request.send().await.map_err(unreachable)?;
    let status = answer.status().as_u16();
    let decision = answer.headers().get("countersign-decision").and_then(|decision| decision.to_str().ok());
    let decision = decision.map(printable).unwrap_or_default();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX {
            return Err(Failure("the answer is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok(WireAnswer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), text, decision })
}

/// https, or http to a loopback address: a token never crosses a network readable.
fn safe(url: &str) -> Result<Url, Failure> {
    let parsed = Url::parse(url).map_err(|_| Failure(format!("`{url}` is not a URL")))?;
    let loopback = match parsed.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    match parsed.scheme() {
        "https" => Ok(parsed),
        "http" if loopback => Ok(parsed),
        _ => Err(Failure(format!("`{url}` is not https, so the token could be read on its way; use https"))),
    }
}
