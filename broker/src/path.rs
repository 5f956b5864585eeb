//! What a request's path names.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::{problem::Problem, shared::Shared};

/// The parts of the path that have names, in their order; what is no text is refused as any other request that is wrong.
pub(crate) struct Named<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let named = Path::from_request_parts(parts, shared).await;
        named.map(|Path(named)| Self(named)).map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}
