//! Server-sent events: `id:` is the cursor, so that an `EventSource` goes on where it was. What is told comes in band as
//! `event`, `gap`, `caught_up` and `cursor`; a comment says that the stream lives.

use std::{convert::Infallible, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use lifecycle::Shutdown;
use tokio::time::{Instant, sleep_until};

use crate::{
    access::Caller,
    follow::{Asked, Connected},
    metrics::Transport,
    problem::Problem,
    shared::Shared,
    told::{Subscriber, Told, What},
};

/// How long a client shall wait that was sent away, in milliseconds: not all at once.
const RETRY: std::ops::RangeInclusive<u64> = 200..=8_000;

struct Stream {
    subscriber: Subscriber,
    shutdown: Shutdown,
    heartbeat: Duration,
    silent_until: Instant,
    /// When it is rotated away.
    end: Instant,
    /// Over how long a drain is spread.
    drain: Duration,
    leaves: Option<Instant>,
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
    Drain,
    End,
}

/// Answers with a stream.
pub(crate) async fn answer(shared: &Shared, caller: &Caller, asked: Asked) -> Result<Response, Problem> {
    let connected = Connected::join(shared, caller, Transport::Sse, Some(&asked.filter))?;
    let subscriber = asked.follow(shared).await?;
    let settings = &shared.settings;
    let now = Instant::now();
    let stream = Stream {
        subscriber,
        shutdown: shared.shutdown.clone(),
        heartbeat: settings.heartbeat,
        silent_until: now + settings.heartbeat,
        end: now + settings.rotation.mul_f64(rand::random_range(0.9..1.1)),
        drain: settings.drain,
        leaves: None,
        state: State::Opening,
        _connected: connected,
    };
    let body = stream::unfold(stream, |mut stream| async move {
        let text = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), stream))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that keep answers back until they are whole.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
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
        loop {
            let end = self.leaves.map_or(self.end, |leaves| leaves.min(self.end));
            let next = tokio::select! {
                biased;
                () = self.shutdown.dropping().cancelled() => Next::End,
                () = sleep_until(end) => Next::End,
                () = self.shutdown.draining().cancelled(), if self.leaves.is_none() => Next::Drain,
                told = self.subscriber.next() => Next::Told(told),
                () = sleep_until(self.silent_until) => Next::Silent,
            };
            self.silent_until = Instant::now() + self.heartbeat;
            match next {
                Next::Told(told) => return text(&told),
                Next::Silent => return ": alive\n\n".to_owned(),
                Next::Drain => self.leaves = Some(Instant::now() + self.drain.mul_f64(rand::random_range(0.0..1.0))),
                Next::End => {
                    self.state = State::Over;
                    return match self.shutdown.draining().is_cancelled() {
                        true => format!("retry: {}\n\n", rand::random_range(RETRY)),
                        false => ": rotated\n\n".to_owned(),
                    };
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
    format!("id: {}\nevent: {event}\ndata: {{{}}}\n\n", told.cursor, told.members())
}
