//! One answer, as soon as there is something to say: `{"events": [{"cursor", "event"}], "cursor", "gap"?}`. 204 where nothing
//! came in time; the cursor is in a header then, since the filter may have refused much.

use std::{sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::time::{Instant, timeout_at};

use crate::{
    access::Caller,
    follow::{Asked, Connected},
    hub::Event,
    metrics::Transport,
    problem::Problem,
    shared::Shared,
    told::{Subscriber, What, gap_object},
};

/// Events of an answer unless the client says how many.
pub(crate) const LIMIT: usize = 256;
/// What an answer may hold beyond its first event.
const MOST_BYTES: usize = 1 << 20;
/// How long an answer that has something to say looks for more in the log.
const GATHER: Duration = Duration::from_millis(500);

const CURSOR: HeaderName = HeaderName::from_static("turnpike-cursor");
const CAUGHT_UP: HeaderName = HeaderName::from_static("turnpike-caught-up");

#[derive(Default)]
struct Answer {
    gap: Option<String>,
    events: Vec<(String, Arc<Event>)>,
    bytes: usize,
    /// Where the client goes on from.
    cursor: String,
    /// All that was there when this poll began has been told.
    caught_up: bool,
}

pub(crate) async fn answer(
    shared: &Shared,
    caller: &Caller,
    asked: Asked,
    wait: Duration,
    limit: usize,
) -> Result<Response, Problem> {
    let mut connected = Connected::join(shared, caller, Transport::LongPoll, Some(&asked.filter))?;
    let filter = asked.filter.clone();
    let mut subscriber = asked.follow(shared).await?;
    connected.attend_by_polls(shared, caller, &filter).await?;
    let mut answer = Answer { cursor: subscriber.last().to_owned(), ..Answer::default() };
    let until = Instant::now() + wait;
    tokio::select! {
        () = answer.gather(&mut subscriber, limit, until) => {}
        // Whoever waits is answered, and asks another node.
        () = shared.shutdown.draining().cancelled() => {}
    }
    answer.caught_up = subscriber.is_caught_up();
    Transport::LongPoll.delivered(answer.events.len());
    Ok(answer.into_response())
}

impl Answer {
    async fn gather(&mut self, subscriber: &mut Subscriber, limit: usize, until: Instant) {
        while self.is_empty() {
            match timeout_at(until, subscriber.next()).await {
                Ok(told) => _ = self.take(told),
                Err(_) => return self.cursor = subscriber.cursor(),
            }
        }
        // The log is read on for a moment, memory as far as it goes.
        let soon = Instant::now() + GATHER;
        while self.events.len() < limit && self.bytes < MOST_BYTES {
            let next = if subscriber.is_caught_up() {
                subscriber.next().now_or_never()
            } else {
                timeout_at(soon, subscriber.next()).await.ok()
            };
            if !next.is_some_and(|told| self.take(told)) {
                return;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.gap.is_none() && self.events.is_empty()
    }

    /// False for what belongs into the next answer: a gap stands at the beginning of one.
    fn take(&mut self, told: crate::told::Told) -> bool {
        match told.what {
            What::Gap(..) if !self.is_empty() => return false,
            What::Gap(queue, gap) => {
                self.gap = Some(gap_object(&queue, &gap, &told.prev, &told.cursor).to_string());
            }
            What::Event(event) => {
                self.bytes += event.json.len();
                self.events.push((told.cursor.clone(), event));
            }
            What::CaughtUp | What::Cursor => {}
        }
        self.cursor = told.cursor;
        true
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = if self.is_empty() {
            StatusCode::NO_CONTENT.into_response()
        } else {
            ([(header::CONTENT_TYPE, "application/json")], self.json()).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(cursor) = HeaderValue::try_from(&self.cursor) {
            headers.insert(CURSOR, cursor);
        }
        headers.insert(CAUGHT_UP, HeaderValue::from_static(if self.caught_up { "true" } else { "false" }));
        response
    }
}

impl Answer {
    fn json(&self) -> String {
        let mut json = String::with_capacity(self.bytes + self.events.len() * 100 + 200);
        json.push_str("{\"events\":[");
        for (at, (cursor, event)) in self.events.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            json.push_str(&format!("{comma}{{\"cursor\":\"{cursor}\",\"event\":"));
            json.push_str(&event.json);
            json.push('}');
        }
        json.push_str(&format!("],\"cursor\":\"{}\"", self.cursor));
        if let Some(gap) = &self.gap {
            json.push_str(&format!(",\"gap\":{gap}"));
        }
        json.push('}');
        json
    }
}
