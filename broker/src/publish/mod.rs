use axum::Router;
use events::Envelope;

use crate::{access::Caller, problem::Problem, shared::Shared};

/// How a client wants its events confirmed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub confirm: Option<String>,
}

/// What became of an event: serialized, what its client reads.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Receipt {
    pub id: String,
}

pub(crate) fn router() -> Router<Shared> {
    Router::new()
}

/// Publishes as the caller, if it may; an outcome each.
pub(crate) async fn publish(
    shared: &Shared,
    caller: &Caller,
    events: Vec<Envelope>,
    options: Options,
) -> Result<Vec<Result<Receipt, Problem>>, Problem> {
    let _ = (shared, caller, events, options);
    todo!("publish")
}
