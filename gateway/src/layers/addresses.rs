//! Refuses who may not call from where they are: by the lists that hold everywhere, and by those of the route.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::{Checked, Request, Response, refuse};
use crate::{
    address::Lists,
    context::RequestContext,
    error::{Error, ErrorKind},
    metrics::METRICS,
};

/// Which lists are asked.
#[derive(Clone)]
pub enum Layer {
    Given(Option<Arc<Lists>>),
    /// Those of the matched route.
    OfRoute,
}

#[derive(Clone)]
pub struct Addresses<S> {
    inner: S,
    source: Layer,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Addresses<S>;
    fn layer(&self, inner: S) -> Addresses<S> {
        Addresses { inner, source: self.clone() }
    }
}

impl<S> tower::Service<Request> for Addresses<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.source.check(&request) {
            Ok(()) => Checked::Right(self.inner.call(request)),
            Err(error) => refuse(error),
        }
    }
}

impl Layer {
    fn check(&self, request: &Request) -> Result<(), Error> {
        let lists = match self {
            Self::Given(None) => return Ok(()),
            Self::Given(Some(lists)) => Some(lists),
            Self::OfRoute => RequestContext::of(request)?.route()?.policy.addresses.as_ref(),
        };
        let Some(lists) = lists else { return Ok(()) };
        if lists.let_in(RequestContext::of(request)?.client.ip()) {
            return Ok(());
        }
        METRICS.address_refused();
        Err(Error::new(ErrorKind::Forbidden, "this may not be called from this address"))
    }
}
