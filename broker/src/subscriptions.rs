//! A caller's durable subscriptions: `GET /subscriptions`, `DELETE /subscriptions/{name}`. Operators say whose.

use axum::{
    Json, Router,
    extract::State,
    routing::{delete, get},
};
use http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    access::Caller,
    cursor::Cursor,
    page::Page,
    path::Named,
    problem::{Kind, Problem},
    query::Parameters,
    shared::Shared,
};

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/subscriptions", get(list)).route("/subscriptions/{name}", delete(remove))
}

#[derive(Serialize)]
struct SubscriptionView {
    name: String,
    filter: String,
    /// Where it goes on. Absent: it hasn't begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// When it was last in use, about; it is kept for seven days after that.
    #[serde(with = "time::serde::rfc3339")]
    used: OffsetDateTime,
}

async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<Page<SubscriptionView>>, Problem> {
    let user = whose(&caller, &mut parameters)?;
    let (after, limit) = (parameters.text("after")?, parameters.limit()?);
    parameters.done("user, after, limit")?;
    let bookmarks = shared.bus.bookmarks(&user).await?.into_iter().map(|bookmark| {
        let cursor = bookmark.cursor.and_then(|cursor| cursor.parse::<Cursor>().ok());
        SubscriptionView {
            name: bookmark.name,
            filter: bookmark.filter,
            cursor: cursor.map(|cursor| shared.seal.text(&cursor)),
            used: bookmark.used,
        }
    });
    Ok(Json(Page::of("subscriptions", bookmarks, |one| one.name.as_str(), after.as_deref(), limit)))
}

/// 204: there is none by that name any more, and a client that follows by it is told so.
async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Named(name): Named<String>,
    mut parameters: Parameters,
) -> Result<StatusCode, Problem> {
    let user = whose(&caller, &mut parameters)?;
    parameters.done("user")?;
    if !shared.bus.remove_bookmark(&user, &name).await? {
        return Err(Problem::not_found(format!("there is no durable subscription {name:?}")));
    }
    shared.durable.doubt(&user, &name);
    tracing::info!(subject = caller.subject, user, name, "a durable subscription was removed");
    Ok(StatusCode::NO_CONTENT)
}

/// The caller's own, unless an operator says another's.
fn whose(caller: &Caller, parameters: &mut Parameters) -> Result<String, Problem> {
    let Some(own) = &caller.subject else {
        return Err(Problem::new(Kind::Unauthenticated, "durable subscriptions belong to somebody who is known"));
    };
    match parameters.text("user")? {
        Some(user) if user != *own => {
            caller.may_operate()?;
            Ok(user)
        }
        _ => Ok(own.clone()),
    }
}
