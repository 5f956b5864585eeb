//! `GET /events/{id}/status?watch=1` as server-sent events: the status at once and whenever it changes, until no group is at
//! the event any more; then `settled`, and the end. A comment says that the stream lives.
//!
//! An `EventSource` comes back by itself after every end: after `settled` it says so, and is told to stay away (204).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bus::{Bus, Delivered, Place};
use bytes::Bytes;
use events::Envelope;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    access::Caller,
    confirm,
    departure::{Departure, Why},
    follow::Connected,
    metrics::Transport,
    problem::Problem,
    seal::Seal,
    shared::Shared,
    sse,
    status::{self, Status},
};

/// The id of the last thing that is told.
const SETTLED: &str = "settled";

struct Watch {
    bus: Bus,
    seal: Seal,
    place: Place,
    envelope: Arc<Envelope>,
    departure: Departure,
    heartbeat: Duration,
    /// What was told last.
    told: Option<Delivered>,
    over: bool,
    _waiter: OwnedSemaphorePermit,
    _connected: Connected,
}

/// Answers with a stream.
pub(crate) async fn answer(
    shared: &Shared,
    caller: &Caller,
    place: Place,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let envelope = status::find(shared, caller, &place).await?;
    if headers.get("last-event-id").is_some_and(|last| last == SETTLED) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let watch = Watch {
        _connected: Connected::join(shared, caller, Transport::Sse, None)?,
        _waiter: confirm::waiter(&shared.waiters)?,
        bus: shared.bus.clone(),
        seal: shared.seal.clone(),
        place,
        envelope,
        departure: Departure::of(shared, caller),
        heartbeat: shared.settings.heartbeat,
        told: None,
        over: false,
    };
    let body = stream::unfold(watch, |mut watch| async move {
        let text = watch.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), watch))
    });
    Ok(sse::response(Body::from_stream(body)))
}

impl Watch {
    /// The next piece; None: it is over.
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        let look = async {
            match &self.told {
                None => self.bus.delivered(&self.place, &[]).await,
                Some(told) => self.bus.wait_changed(&self.place, told, self.heartbeat).await,
            }
        };
        let looked = tokio::select! {
            biased;
            why = self.departure.due() => {
                self.over = true;
                return Some(match why {
                    Why::Drain | Why::Overload => format!("retry: {}\n\n", Departure::retry_after().as_millis()),
                    Why::Rotated => ": rotated\n\n".to_owned(),
                });
            }
            looked = look => looked,
        };
        Some(match looked {
            Ok(now) if self.told.as_ref() == Some(&now) => ": alive\n\n".to_owned(),
            Ok(now) => self.tell(now),
            Err(error) => {
                // The client comes back, and reads then why.
                tracing::debug!(%error, "a watched event can't be looked at");
                self.over = true;
                format!("retry: {}\n\n", Departure::retry_after().as_millis())
            }
        })
    }

    fn tell(&mut self, now: Delivered) -> String {
        if now.lost {
            self.over = true;
            let data = json!({ "detail": status::lost().detail });
            return format!("id: {SETTLED}\nevent: gone\ndata: {data}\n\n");
        }
        let status = json!(Status::new(&self.seal, &self.envelope, &self.place, now.clone()));
        // JSON text has no line breaks: one data line.
        let mut text = format!("event: status\ndata: {status}\n\n");
        if now.is_settled() {
            self.over = true;
            text.push_str(&format!("id: {SETTLED}\nevent: settled\ndata: {{}}\n\n"));
        }
        self.told = Some(now);
        text
    }
}
