//! The layers of the pipeline, one file each, all of one shape: what configures it, the layer, the service, its future,
//! tests. Their order stands in `pipeline`.
//!
//! No layer parks a request: what can't be taken is refused at once. So every service is always ready.

pub mod action;
pub mod addresses;
pub mod authenticate;
pub mod authorise;
pub mod cache;
pub mod compress;
pub mod concurrency;
pub mod cors;
pub mod deadline;
pub mod decompress;
pub mod farewell;
pub mod https_only;
pub mod idempotency;
pub mod limits;
pub mod load_shed;
pub mod observe;
pub mod panic_guard;
pub mod rate_limit;
pub mod request_id;
pub mod rescue;
pub mod route_match;
pub mod security_headers;
pub mod unreadable;

use std::future::{Ready, ready};

use futures_util::future::Either;
use upstream::Body;

use crate::error::Error;

pub type Request = http::Request<Body>;
pub type Response = http::Response<Body>;

/// The future of a layer that either lets a request pass or answers at once.
pub type Checked<F> = Either<Ready<Result<Response, Error>>, F>;

/// Refuses a request.
pub fn refuse<F>(error: Error) -> Checked<F> {
    Either::Left(ready(Err(error)))
}
