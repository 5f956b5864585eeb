//! Whether a client has said its last word, or was cut off. A stream that its client half-closes, and one that is reset by
//! it, or by a proxy for it, end alike for whoever reads messages: a reset by CANCEL is taken for an end on the way here.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};

/// Set once the request's body has come to its own end.
#[derive(Clone, Debug, Default)]
pub(super) struct LastWord(Arc<AtomicBool>);

struct Witnessed {
    body: Body,
    last_word: LastWord,
}

impl LastWord {
    pub fn is_said(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Puts it beside the request.
pub(super) async fn witness(request: Request, next: Next) -> Response {
    let last_word = LastWord::default();
    let mut request = request.map(|body| Body::new(Witnessed { body, last_word: last_word.clone() }));
    request.extensions_mut().insert(last_word);
    next.run(request).await
}

impl HttpBody for Witnessed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if self.body.is_end_stream() {
            self.last_word.0.store(true, Ordering::Release);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
