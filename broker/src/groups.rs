use axum::Router;

use crate::shared::Shared;

pub(crate) fn router() -> Router<Shared> {
    Router::new()
}
