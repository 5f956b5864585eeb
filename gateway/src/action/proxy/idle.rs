//! A body that ends in an error when it has been silent for too long.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use upstream::{Body, BoxError};

/// Bounds the body's silences; a body that is complete or in memory is left as it is.
pub fn bounded(body: Body, timeout: Duration) -> Body {
    if body.is_end_stream() || body.is_whole() {
        body
    } else {
        Body::new(Bounded { body, timeout, timer: None, waiting: false })
    }
}

pin_project! {
    struct Bounded {
        body: Body,
        timeout: Duration,
        // Made at the first silence: most bodies are there at once.
        #[pin]
        timer: Option<Sleep>,
        waiting: bool,
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        if let Poll::Ready(frame) = Pin::new(&mut *this.body).poll_frame(context) {
            *this.waiting = false;
            return Poll::Ready(frame);
        }
        match this.timer.as_mut().as_pin_mut() {
            Some(_) if *this.waiting => {}
            Some(timer) => timer.reset(Instant::now() + *this.timeout),
            None => this.timer.set(Some(sleep(*this.timeout))),
        }
        *this.waiting = true;
        if let Some(timer) = this.timer.as_pin_mut() {
            ready!(timer.poll(context));
        }
        Poll::Ready(Some(Err("the stream was silent for too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_ends_in_an_error_and_each_frame_starts_the_wait_anew() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
        let mut body = bounded(Body::new(StreamBody::new(ReceiverStream::new(receiver))), Duration::from_secs(10));
        let talking = tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                sender.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let start = Instant::now();
        for _ in 0..3 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(start.elapsed().as_secs(), 37);
        talking.abort();
    }
}
