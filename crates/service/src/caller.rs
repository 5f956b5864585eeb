//! Who calls an RPC, and whether it may. The stack has verified the token and put the principal into the extensions.

use std::time::Instant;

use principal::Principal;
use tonic::{Request, Status};

/// The moment after which nobody waits for the answer; see [`deadline`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub Instant);

/// The principal of a request; UNAUTHENTICATED without one.
pub fn caller<T>(request: &Request<T>) -> Result<Principal, Status> {
    caller_or_anonymous(request).ok_or_else(|| Status::unauthenticated("sign in first"))
}

/// The principal of a request, if it has one.
pub fn caller_or_anonymous<T>(request: &Request<T>) -> Option<Principal> {
    request.extensions().get::<Principal>().cloned()
}

/// PERMISSION_DENIED without the scope.
pub fn require_scope<T>(request: &Request<T>, scope: &str) -> Result<Principal, Status> {
    let caller = caller(request)?;
    if caller.has_scope(scope) {
        return Ok(caller);
    }
    Err(Status::permission_denied(format!("needs the scope {scope}")))
}

/// PERMISSION_DENIED unless the caller is that service itself: `/services/order`.
pub fn require_service<T>(request: &Request<T>, subject: &str) -> Result<Principal, Status> {
    let caller = caller(request)?;
    if caller.subject == subject {
        return Ok(caller);
    }
    Err(Status::permission_denied(format!("only for {subject}")))
}

/// The moment after which nobody waits for the answer: for passing on, and for not beginning what can't end in time.
pub fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    request.extensions().get::<Deadline>().map(|deadline| deadline.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn request_of(subject: &str, scopes: &[&str]) -> Request<()> {
        let mut request = Request::new(());
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        request.extensions_mut().insert(Principal { subject: subject.to_owned(), scopes, ..Principal::default() });
        request
    }

    #[test]
    fn nobody_is_not_authenticated_and_somebody_may_lack_the_permission() {
        assert_eq!(require_scope(&Request::new(()), "a").unwrap_err().code(), Code::Unauthenticated);
        assert_eq!(require_scope(&request_of("customers/1", &["b"]), "a").unwrap_err().code(), Code::PermissionDenied);
        assert!(require_scope(&request_of("customers/1", &["a", "b"]), "a").is_ok());
        assert!(require_service(&request_of("/services/order", &[]), "/services/order").is_ok());
        let other = require_service(&request_of("/services/cart", &[]), "/services/order");
        assert_eq!(other.unwrap_err().code(), Code::PermissionDenied);
    }
}
