use tonic::Status;
/// The one place where a service's errors become gRPC statuses. Details are google.rpc.BadRequest, PreconditionFailure, ErrorInfo.
pub trait StatusExt {
    fn not_found(resource: &str) -> Status;
    /// FAILED_PRECONDITION with a violation of this type: `ETAG`, `STOCK`, `CART`.
    fn precondition(kind: &str, subject: &str, description: &str) -> Status;
    /// Database errors: Unavailable → UNAVAILABLE, Query → INTERNAL (logged; the client reads no SQL), Unique → ALREADY_EXISTS.
    fn from_database(error: database::Error) -> Status;
}
