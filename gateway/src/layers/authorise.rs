//! Lets a principal do only what its scopes and claims allow.

use std::task::{Context, Poll};

use super::{Checked, Request, Response, refuse};
use crate::{
    auth::challenge,
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
    let policy = &context.route()?.policy;
    if matches!(policy.scopes, Scopes::None) && policy.rule.is_none() {
        return Ok(());
    }
    let caller = context.principal.as_ref().map(|caller| &caller.principal);
    if !caller.is_some_and(|caller| policy.scopes.allow(caller)) {
        let (wanted, scopes) = match &policy.scopes {
            Scopes::None => return Err(unknown()),
            Scopes::All(list) | Scopes::Any(list) if list.len() == 1 => (format!("the scope {}", list.concat()), list),
            Scopes::All(list) => (format!("all of the scopes {}", list.join(", ")), list),
            Scopes::Any(list) => (format!("one of the scopes {}", list.join(", ")), list),
        };
        return Err(challenge::insufficient_scope(format!("this needs {wanted}"), scopes.iter().map(String::as_str)));
    }
    if let Some(rule) = &policy.rule
        && !caller.is_some_and(|caller| rule.holds(caller, &context.variables))
    {
        return Err(challenge::insufficient_scope(format!("this needs {rule}"), rule.scopes().into_iter()));
    }
    Ok(())
}

/// Routes that ask for something have their callers known: this is reached by none.
fn unknown() -> Error {
    Error::new(ErrorKind::Unauthenticated, "this needs an API key, a token or a session")
}
