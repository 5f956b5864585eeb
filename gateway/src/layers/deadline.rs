//! Gives a request the moment by which its answer must have begun. The upstream keeps to it by itself; this is the end of
//! patience for whatever doesn't. The answer's body may take longer: streams do.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use super::{Checked, Request, Response, refuse};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
    overload,
};

#[derive(Clone)]
pub struct Layer(pub Arc<overload::Core>);

#[derive(Clone)]
pub struct Deadline<S> {
    inner: S,
    overload: Arc<overload::Core>,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Deadline<S>;
    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner, overload: Arc::clone(&self.0) }
    }
}

impl<S> tower::Service<Request> for Deadline<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<Waiting<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match set(&mut request, self.overload.shortens_timeouts()) {
            Ok(deadline) => Checked::Right(Waiting { inner: self.inner.call(request), deadline, alarm: None }),
            Err(error) => refuse(error),
        }
    }
}

/// `hurry`: who waits holds memory.
fn set(request: &mut Request, hurry: bool) -> Result<Instant, Error> {
    let context = RequestContext::of_mut(request)?;
    let timeout = context.route()?.policy.timeout;
    context.deadline = context.arrived + if hurry { timeout / 2 } else { timeout };
    Ok(context.deadline)
}

pin_project! {
    pub struct Waiting<F> {
        #[pin]
        inner: F,
        deadline: Instant,
        // Made when there is something to wait for; boxed, because futures are moved until then.
        alarm: Option<Pin<Box<Sleep>>>,
    }
}

impl<F> Future for Waiting<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(context) {
            return Poll::Ready(result);
        }
        let deadline = *this.deadline;
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(Err(Error::new(ErrorKind::Timeout, "the answer took too long")))
    }
}
