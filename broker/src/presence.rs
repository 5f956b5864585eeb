//! Who is online: `GET /presence?users=`, and the connections by which somebody is.

use axum::{Json, Router, extract::State, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bus::{Attending, Presence};
use serde_json::{Value, json};

use crate::{
    access::Caller,
    problem::Problem,
    query::{Parameters, refuse},
    shared::Shared,
};

/// Users that are asked about at once.
const MOST_USERS: usize = 256;

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/presence", get(list))
}

/// `GET /presence?users=customers/1,customers/2`.
async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<Value>, Problem> {
    let users =
        parameters.text("users")?.ok_or_else(|| refuse("users", "is required, as in customers/1,customers/2"))?;
    parameters.done("users")?;
    let users: Vec<String> = users.split(',').map(str::to_owned).collect();
    if users.len() > MOST_USERS || users.iter().any(String::is_empty) {
        return Err(refuse("users", format!("must be 1 to {MOST_USERS} names with a comma between")));
    }
    Ok(Json(json!({ "users": online(&shared, &caller, &users).await? })))
}

/// Which of these users are online, and since when.
pub(crate) async fn online(shared: &Shared, caller: &Caller, users: &[String]) -> Result<Vec<Presence>, Problem> {
    caller.may_see()?;
    Ok(shared.bus.online(users).await?)
}

/// Has whoever is signed in be online by a connection, while it is held.
pub(crate) fn attend(shared: &Shared, caller: &Caller, connection: &str) -> Option<Attending> {
    Some(shared.attendance.come(caller.subject.as_deref()?, connection))
}

/// The connection that all polls of a caller at this node are together: between two of them it is cut, and not gone yet.
pub(crate) fn polls(shared: &Shared, caller: &Caller) -> String {
    let user = URL_SAFE_NO_PAD.encode(caller.subject.as_deref().unwrap_or_default());
    format!("p_{}_{user}", shared.bus.roster().node())
}
