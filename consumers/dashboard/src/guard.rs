//! Who may look: a principal that an issuer of ours vouches for, with the scope.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use principal::{METADATA, TokenError, Verifier};

use crate::problem::Problem;

const SCOPE: &str = "dashboard:read";

pub(crate) async fn guard(State(verifier): State<Verifier>, request: Request, next: Next) -> Result<Response, Problem> {
    let token = request.headers().get(METADATA).and_then(|value| value.to_str().ok());
    let Some(token) = token else {
        return Err(Problem::unauthenticated("nobody is signed in"));
    };
    match verifier.verify(token).await {
        Ok(principal) if principal.has_scope(SCOPE) => Ok(next.run(request).await),
        Ok(_) => Err(Problem::forbidden(format!("the scope {SCOPE} is needed"))),
        Err(TokenError::Invalid(reason)) => {
            Err(Problem::unauthenticated(format!("the principal's token is not believed: {reason}")))
        }
        Err(TokenError::Unavailable(reason)) => {
            tracing::warn!(reason, "a principal's token can't be verified");
            Err(Problem::busy("the principal's token can't be verified at the moment", 1))
        }
    }
}
