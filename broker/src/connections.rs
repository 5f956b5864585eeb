//! Who is connected, on every node: `GET /connections`. Members of groups are among them.

use axum::{Json, Router, extract::State, routing::get};
use bus::Connection;
use events::Name;

use crate::{access::Caller, filter::Filter, page::Page, problem::Problem, query::Parameters, shared::Shared};

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/connections", get(list))
}

async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<Page<Connection>>, Problem> {
    let (user, node) = (parameters.text("user")?, parameters.text("node")?);
    let (queue, group) = (parameters.text("queue")?, parameters.text("group")?);
    let (after, limit) = (parameters.text("after")?, parameters.limit()?);
    parameters.done("user, node, queue, group, after, limit")?;
    let mut connections = all(&shared, &caller).await?;
    connections.retain(|connection| {
        user.as_ref().is_none_or(|user| connection.subject.as_ref() == Some(user))
            && node.as_ref().is_none_or(|node| connection.node == *node)
            && queue.as_ref().is_none_or(|queue| follows(connection, queue))
            && group.as_ref().is_none_or(|group| is_member(connection, group))
    });
    Ok(Json(Page::of("connections", connections.into_iter(), |one| one.id.as_str(), after.as_deref(), limit)))
}

/// Who is connected, by id.
pub(crate) async fn all(shared: &Shared, caller: &Caller) -> Result<Vec<Connection>, Problem> {
    caller.may_operate()?;
    let mut connections = shared.bus.connections().await?;
    connections.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(connections)
}

/// Whether it reads the queue, by its name or with all queues.
fn follows(connection: &Connection, queue: &str) -> bool {
    let Ok(queue) = Name::new(queue) else { return false };
    connection.subscriptions.iter().any(|subscription| {
        let Ok(filter) = subscription.filter.parse::<Filter>() else { return false };
        filter.terms.iter().any(|term| term.is_on(&queue))
    })
}

fn is_member(connection: &Connection, group: &str) -> bool {
    connection.subscriptions.iter().any(|subscription| subscription.group.as_deref() == Some(group))
}
