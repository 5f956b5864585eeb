//! A panic ends its request, not its connection nor its core.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{Checked, Request, Response, refuse};
use crate::{
    error::{Error, ErrorKind},
    metrics::METRICS,
};

#[derive(Clone, Copy, Debug, Default)]
pub struct Layer;

#[derive(Clone)]
pub struct PanicGuard<S> {
    inner: S,
}

impl<S> tower::Layer<S> for Layer {
    type Service = PanicGuard<S>;
    fn layer(&self, inner: S) -> PanicGuard<S> {
        PanicGuard { inner }
    }
}

impl<S> tower::Service<Request> for PanicGuard<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<Guarded<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The inner services keep no state that a panic could leave half changed.
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(inner) => Checked::Right(Guarded { inner }),
            Err(panic) => refuse(mourn(&*panic)),
        }
    }
}

pin_project! {
    pub struct Guarded<F> {
        #[pin]
        inner: F,
    }
}

impl<F> Future for Guarded<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.project().inner;
        // Ready after a panic: the future is not polled again.
        catch_unwind(AssertUnwindSafe(|| inner.poll(context))).unwrap_or_else(|panic| Poll::Ready(Err(mourn(&*panic))))
    }
}

fn mourn(panic: &(dyn Any + Send)) -> Error {
    METRICS.panicked();
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Internal, "the gateway made a mistake")
        .cause(format_args!("panicked: {}", text.unwrap_or("with something that is no text")))
}

#[cfg(test)]
mod tests {
    use tower::{Layer as _, ServiceExt as _, service_fn};
    use upstream::Body;

    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error() {
        let at_once =
            Layer.layer(service_fn(|_: Request| -> std::future::Ready<Result<Response, Error>> { panic!("at once") }));
        let later = Layer.layer(service_fn(|_: Request| async {
            tokio::task::yield_now().await;
            if true {
                panic!("later");
            }
            Ok::<Response, Error>(Response::new(Body::empty()))
        }));
        let cause = |outcome: Result<Response, Error>| outcome.err().and_then(|error| error.cause).unwrap();
        assert_eq!(cause(at_once.oneshot(Request::new(Body::empty())).await), "panicked: at once");
        assert_eq!(cause(later.oneshot(Request::new(Body::empty())).await), "panicked: later");
    }
}
