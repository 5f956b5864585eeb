use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    analytics::{Analytics, Question},
    reload::Reloader,
};

type Asked = Result<Query<Question>, QueryRejection>;

pub async fn routes(State(reloader): State<Arc<Reloader>>, question: Asked) -> Response {
    answer(&reloader, question, Analytics::routes)
}

pub async fn clients(State(reloader): State<Arc<Reloader>>, question: Asked) -> Response {
    answer(&reloader, question, Analytics::clients)
}

pub async fn statuses(State(reloader): State<Arc<Reloader>>, question: Asked) -> Response {
    answer(&reloader, question, Analytics::statuses)
}

fn answer<T: Serialize>(
    reloader: &Reloader,
    question: Asked,
    ask: impl Fn(&Analytics, &Question, SystemTime) -> Result<T, String>,
) -> Response {
    let question = question.map_err(|rejected| rejected.body_text());
    match question.and_then(|Query(question)| ask(&reloader.shared.analytics, &question, SystemTime::now())) {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({ "errors": [error] }))).into_response(),
    }
}
