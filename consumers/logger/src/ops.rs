//! What the logger answers on the ops listener: `GET /logger/summaries` and `GET /logger/events`.

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{
    query::{EventQuery, QueryError, SummaryQuery},
    store::{Events, Store, Summaries},
};

pub(crate) fn router(store: Store) -> Router {
    Router::new().route("/logger/summaries", get(summaries)).route("/logger/events", get(events)).with_state(store)
}

pub(crate) fn index() -> lifecycle::OpsIndex {
    vec![
        ("GET /logger/summaries".to_owned(), "how many events there were, by type and time"),
        ("GET /logger/events".to_owned(), "the events themselves, by filter"),
    ]
}

type Pairs = Query<Vec<(String, String)>>;

async fn summaries(State(store): State<Store>, Query(pairs): Pairs) -> Result<Json<Summaries>, Refused> {
    Ok(Json(store.summaries(&SummaryQuery::parse(pairs)?).await?))
}

async fn events(State(store): State<Store>, Query(pairs): Pairs) -> Result<Json<Events>, Refused> {
    Ok(Json(store.events(&EventQuery::parse(pairs)?).await?))
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Database(#[from] database::Error),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, title, detail) = match self {
            Self::Query(error) => (StatusCode::BAD_REQUEST, "Bad Request", error.to_string()),
            Self::Database(error @ database::Error::Unavailable(_)) => {
                tracing::warn!(%error, "a question to the logger is not answered");
                (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", "the database is away".to_owned())
            }
            Self::Database(error) => {
                tracing::error!(%error, "a question to the logger is not answered");
                (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", "see the log".to_owned())
            }
        };
        let problem = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        (status, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
    }
}
