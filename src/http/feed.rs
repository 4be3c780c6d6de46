//! `POST /revocations`: a snapshot of what is revoked, or, asked for as `text/event-stream`, each record as it is made.

use super::{Edge, presented, respond};
use crate::exchange::{Broker, Fed, Heard, Stream, Wanted};

use actix_web::http::header::ACCEPT;
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use countersign_verify::feed::{SNAPSHOT_TYPE, STREAM};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;

pub(super) async fn revocations(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let watch = edge.watch("revocations");
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accept = header(ACCEPT.as_str()).split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
    let wanted = if accept.into_iter().any(|one| one == STREAM) {
        Wanted::After(header("last-event-id").parse().unwrap_or(u64::MAX))
    } else {
        Wanted::Snapshot
    };
    let (presented, _place) = presented::read(&request, payload, &edge).await;
    let answer = edge.broker.feed(presented, wanted).await;
    watch.answered(match answer.result {
        Ok(Fed::Snapshot(jwt)) => respond::signed(&answer.decision, &format!("application/{SNAPSHOT_TYPE}"), jwt),
        Ok(Fed::Stream(stream)) => respond::stream(&answer.decision, STREAM, told(Arc::clone(&edge.broker), stream)),
        Err(fault) => edge.refusal("revocations", &answer.decision, &fault),
    })
}

/// Each event, as long as the broker has any for this client.
fn told(broker: Arc<Broker>, stream: Box<Stream>) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(Some(stream), move |stream| {
        let broker = Arc::clone(&broker);
        async move {
            let mut stream = stream?;
            match broker.next_of(&mut stream).await? {
                Heard::Events(events) => {
                    let text: String = events.iter().map(ToString::to_string).collect();
                    // Something is always said, so that a connection that has gone shows.
                    let text = if text.is_empty() { ":\n\n".to_owned() } else { text };
                    Some((Ok(Bytes::from(text)), Some(stream)))
                }
                Heard::Last(event) => Some((Ok(Bytes::from(event.to_string())), None)),
            }
        }
    })
}
