use principal::Principal;
use tonic::{Request, Status};

/// The principal of a request; UNAUTHENTICATED without one. (The shell verified the token and put it into the extensions.)
#[expect(clippy::result_large_err, reason = "tonic's own error type")]
pub fn caller<T>(_request: &Request<T>) -> Result<Principal, Status> {
    todo!()
}
pub fn caller_or_anonymous<T>(_request: &Request<T>) -> Option<Principal> {
    todo!()
}
/// PERMISSION_DENIED without the scope.
#[expect(clippy::result_large_err, reason = "tonic's own error type")]
pub fn require_scope<T>(_request: &Request<T>, _scope: &str) -> Result<Principal, Status> {
    todo!()
}
/// PERMISSION_DENIED unless the caller is that service itself: `/services/order`.
#[expect(clippy::result_large_err, reason = "tonic's own error type")]
pub fn require_service<T>(_request: &Request<T>, _subject: &str) -> Result<Principal, Status> {
    todo!()
}
