//! The end of the pipeline: does what the route says.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;

use super::{Request, Response};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
    worker::Worker,
};

#[derive(Clone)]
pub struct Service {
    pub worker: Arc<Worker>,
}

impl tower::Service<Request> for Service {
    type Response = Response;
    type Error = Error;
    // The one boxed future of the pipeline: an idle connection doesn't keep room for the largest action.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let worker = Arc::clone(&self.worker);
        let context = request.extensions_mut().remove::<RequestContext>();
        Box::pin(async move {
            let lost = || Error::new(ErrorKind::Internal, "the gateway made a mistake").cause("no request context");
            let context = context.ok_or_else(lost)?;
            let route = Arc::clone(context.route()?);
            context.outcome.asked();
            route.request_headers.apply(request.headers_mut());
            let mut response = route.action.call(&worker, request, &context).await?;
            route.response_headers.apply(response.headers_mut());
            Ok(response)
        })
    }
}
