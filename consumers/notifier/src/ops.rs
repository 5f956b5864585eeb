//! What the notifier answers on the ops listener: `GET /notifier/messages` and `GET /notifier/rules`. No address is shown
//! whole, no secret at all.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use crate::{
    ledger::{Ledger, Page},
    plan::{Plan, Planned},
    query::{MessageQuery, QueryError},
};

pub(crate) fn router(ledger: Ledger, plan: &Arc<Plan>) -> Router {
    let rules = Arc::new(json!({ "rules": plan.rules.iter().map(shown).collect::<Vec<_>>() }));
    Router::new()
        .route("/notifier/messages", get(messages))
        .with_state(ledger)
        .route("/notifier/rules", get(move || async move { Json((*rules).clone()) }))
}

pub(crate) fn index() -> lifecycle::OpsIndex {
    vec![
        ("GET /notifier/messages".to_owned(), "what was sent, what failed and what waits"),
        ("GET /notifier/rules".to_owned(), "the rules, with their recipients"),
    ]
}

type Pairs = Query<Vec<(String, String)>>;

async fn messages(State(ledger): State<Ledger>, Query(pairs): Pairs) -> Result<Json<Page>, Refused> {
    Ok(Json(ledger.list(&MessageQuery::parse(pairs)?).await?))
}

fn shown(rule: &Planned) -> Value {
    let recipients: Vec<Value> = rule
        .recipients
        .iter()
        .map(|recipient| {
            json!({
                "channel": recipient.channel.as_str(),
                "name": recipient.name,
                "address": recipient.masked(),
            })
        })
        .collect();
    json!({
        "name": rule.name,
        "on": rule.filters.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "where": rule.written,
        "recipients": recipients,
        "limit": rule.limit.map(|limit| json!({ "messages": limit.messages, "per_seconds": limit.per.as_secs_f64() })),
    })
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
                tracing::warn!(%error, "a question to the notifier is not answered");
                (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", "the database is away".to_owned())
            }
            Self::Database(error) => {
                tracing::error!(%error, "a question to the notifier is not answered");
                (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", "see the log".to_owned())
            }
        };
        let problem = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        (status, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
    }
}
