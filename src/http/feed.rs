//! `POST /revocations`: a snapshot of what is revoked, or, asked for as `text/event-stream`, each record as it is made.

use super::{Edge, accept, presented, respond};
use crate::introspection::{FeedAnswer, FeedRequest, RevocationFeed, Subscription};
use crate::revocation::Heard;
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use countersign_verify::feed::{SNAPSHOT_TYPE, STREAM};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;

pub(super) async fn revocations(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let watch = edge.watch("revocations");
    let wanted = if accept::prefers(&request, STREAM) {
        let last = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
        FeedRequest::After(last.and_then(|last| last.parse().ok()).unwrap_or(u64::MAX))
    } else {
        FeedRequest::Snapshot
    };
    let (presented, _place) = presented::read(&request, payload, &edge).await;
    let answer = edge.use_cases.feed.answer(presented, wanted).await;
    watch.answered(match answer.result {
        Ok(FeedAnswer::Snapshot(jwt)) => {
            respond::signed(&answer.decision, &format!("application/{SNAPSHOT_TYPE}"), jwt)
        }
        Ok(FeedAnswer::Subscription(subscription)) => {
            respond::stream(&answer.decision, STREAM, events(Arc::clone(&edge.use_cases.feed), subscription))
        }
        Err(fault) => edge.refusal("revocations", &answer.decision, &fault),
    })
}

/// The events of `subscription`, until it ends.
fn events(
    feed: Arc<RevocationFeed>,
    subscription: Box<Subscription>,
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(Some(subscription), move |subscription| {
        let feed = Arc::clone(&feed);
        async move {
            let mut subscription = subscription?;
            match feed.next_of(&mut subscription).await? {
                Heard::Events(events) => {
                    let text: String = events.iter().map(ToString::to_string).collect();
                    // A comment is sent if there is nothing else, so that a broken connection is noticed.
                    let text = if text.is_empty() { ":\n\n".to_owned() } else { text };
                    Some((Ok(Bytes::from(text)), Some(subscription)))
                }
                Heard::Last(event) => Some((Ok(Bytes::from(event.to_string())), None)),
            }
        }
    })
}
