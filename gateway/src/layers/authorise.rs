//! Lets a principal do only what its scopes allow.

use std::task::{Context, Poll};

use super::{Checked, Request, Response, refuse};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
    route::Scopes,
};

#[derive(Clone, Copy, Debug, Default)]
pub struct Layer;

#[derive(Clone)]
pub struct Authorise<S> {
    inner: S,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Authorise<S>;
    fn layer(&self, inner: S) -> Authorise<S> {
        Authorise { inner }
    }
}

impl<S> tower::Service<Request> for Authorise<S>
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
        match check(&request) {
            Ok(()) => Checked::Right(self.inner.call(request)),
            Err(error) => refuse(error),
        }
    }
}

fn check(request: &Request) -> Result<(), Error> {
    let context = RequestContext::of(request)?;
    let scopes = &context.route()?.policy.scopes;
    if context.principal.as_ref().is_some_and(|caller| scopes.allow(&caller.principal)) {
        return Ok(());
    }
    let wanted = match scopes {
        Scopes::None => return Ok(()),
        Scopes::All(list) | Scopes::Any(list) if list.len() == 1 => format!("the scope {}", list.concat()),
        Scopes::All(list) => format!("all of the scopes {}", list.join(", ")),
        Scopes::Any(list) => format!("one of the scopes {}", list.join(", ")),
    };
    Err(Error::new(ErrorKind::Forbidden, format!("this needs {wanted}")))
}
