//! Server-sent events: `id:` is the cursor, so that an `EventSource` goes on where it was. What is told comes in band as
//! `event`, `gap`, `caught_up` and `cursor`; a comment says that the stream lives.

use std::{convert::Infallible, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use tokio::time::{Instant, sleep_until};

use crate::{
    access::Caller,
    departure::{Departure, Why},
    follow::{Asked, Connected},
    metrics::Transport,
    problem::Problem,
    shared::Shared,
    told::{Subscriber, Told, What},
};

struct Stream {
    subscriber: Subscriber,
    departure: Departure,
    heartbeat: Duration,
    silent_until: Instant,
    state: State,
    _connected: Connected,
}

enum State {
    Opening,
    Following,
    Over,
}

enum Next {
    Told(Told),
    Silent,
    End(Why),
}

/// Answers with a stream.
pub(crate) async fn answer(shared: &Shared, caller: &Caller, asked: Asked) -> Result<Response, Problem> {
    let mut connected = Connected::join(shared, caller, Transport::Sse, Some(&asked.filter))?;
    let filter = asked.filter.clone();
    let subscriber = asked.follow(shared).await?;
    connected.attend(shared, caller, &filter).await?;
    let heartbeat = shared.settings.heartbeat;
    let stream = Stream {
        subscriber,
        departure: Departure::of(shared, caller),
        heartbeat,
        silent_until: Instant::now() + heartbeat,
        state: State::Opening,
        _connected: connected,
    };
    let body = stream::unfold(stream, |mut stream| async move {
        let text = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), stream))
    });
    Ok(response(Body::from_stream(body)))
}

/// The answer that such a stream is.
pub(crate) fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that keep answers back until they are whole.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Stream {
    /// The next piece; None: it is over.
    async fn next(&mut self) -> Option<String> {
        match self.state {
            State::Opening => {
                self.state = State::Following;
                // Its place at once: who is cut off before the first event goes on from there.
                let cursor = self.subscriber.last();
                Some(format!("id: {cursor}\nevent: cursor\ndata: {{\"cursor\":\"{cursor}\"}}\n\n"))
            }
            State::Following => Some(self.follow().await),
            State::Over => None,
        }
    }

    async fn follow(&mut self) -> String {
        let next = tokio::select! {
            biased;
            why = self.departure.due() => Next::End(why),
            told = self.subscriber.next() => Next::Told(told),
            () = sleep_until(self.silent_until) => Next::Silent,
        };
        self.silent_until = Instant::now() + self.heartbeat;
        match next {
            Next::Told(told) => {
                self.departure.told(&told.what);
                text(&told)
            }
            Next::Silent => ": alive\n\n".to_owned(),
            Next::End(why) => {
                self.state = State::Over;
                match why {
                    Why::Drain | Why::Overload => format!("retry: {}\n\n", Departure::retry_after().as_millis()),
                    Why::Rotated => ": rotated\n\n".to_owned(),
                }
            }
        }
    }
}

fn text(told: &Told) -> String {
    let event = match told.what {
        What::Event(_) => {
            Transport::Sse.delivered(1);
            "event"
        }
        What::Gap(..) => "gap",
        What::CaughtUp => "caught_up",
        What::Cursor => "cursor",
    };
    // JSON text has no line breaks: one data line.
    told.text(&format!("id: {}\nevent: {event}\ndata: {{", told.cursor), "}\n\n")
}
