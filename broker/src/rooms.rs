//! Rooms: a subject of the queue `ROOMS` each, `namespace/room`. Who is in one is told what happens there; others are told that
//! it came and that it went.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    routing::get,
};
use bus::{Member, NotJoined, presence::ROOM_LIFE};
use serde::Serialize;
use time::OffsetDateTime;

pub(crate) use bus::Room;

use crate::{
    access::Caller,
    filter::Filter,
    follow::Asked,
    hub::{Begin, View},
    problem::{Kind, Problem},
    query::{Parameters, refuse},
    shared::Shared,
    told::Subscriber,
};

/// Members that whoever joins, or asks by a socket, is told of; there may be more.
const MEMBERS: usize = 256;
/// How long somebody waits that found this node to hold as much as it can.
const FULL: std::time::Duration = std::time::Duration::from_secs(5);

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/rooms/{namespace}/{room}", get(look))
}

/// Who joined is told what happens in the room from a place in the log on, and who was in it then or later: so nobody comes or
/// goes unnoticed.
pub(crate) struct Joined {
    pub members: Present,
    pub subscriber: Subscriber,
}

/// Who is in a room.
#[derive(Serialize)]
pub(crate) struct Present {
    room: Room,
    members: Vec<Member>,
    /// In all.
    count: u64,
    /// Where the next page begins; None: it is all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// When something happened there last.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    last_event: Option<OffsetDateTime>,
}

/// Joins a room with a connection, and follows it.
pub(crate) async fn join(
    shared: &Shared,
    caller: &Caller,
    conn: &str,
    room: &Room,
    begin: Begin,
) -> Result<Joined, Problem> {
    caller.may_join(room)?;
    let filter: Filter = format!("ROOMS/*[subject={room}]").parse().map_err(|error| refuse("join.room", error))?;
    let subscriber = Asked::new(filter, begin, View::Stream, caller)?.follow(shared).await?;
    shared.attendance.join(conn, room).await?;
    match page(shared, room, None, MEMBERS).await {
        Ok(members) => Ok(Joined { members, subscriber }),
        Err(problem) => {
            // Who is told that it didn't join isn't in it.
            let _ = shared.attendance.leave(conn, room).await;
            Err(problem)
        }
    }
}

/// Leaves a room with a connection.
pub(crate) async fn leave(shared: &Shared, conn: &str, room: &Room) -> Result<(), Problem> {
    Ok(shared.attendance.leave(conn, room).await?)
}

/// Who is in a room.
pub(crate) async fn members(shared: &Shared, caller: &Caller, room: &Room) -> Result<Present, Problem> {
    caller.may_join(room)?;
    page(shared, room, None, MEMBERS).await
}

/// `GET /rooms/{namespace}/{room}`.
async fn look(
    State(shared): State<Shared>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    mut parameters: Parameters,
) -> Result<Json<Present>, Problem> {
    let Path((namespace, name)) = path.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let room: Room = format!("{namespace}/{name}").parse().map_err(|error| refuse("room", error))?;
    let (after, limit) = (parameters.text("after")?, parameters.limit()?);
    parameters.done("after, limit")?;
    caller.may_join(&room)?;
    let mut present = page(&shared, &room, after.as_deref(), limit).await?;
    let last = shared.bus.last_in(&room).await?;
    present.last_event = last.and_then(|last| last.envelope.recordedtime);
    let is_alive = present.last_event.is_some_and(|last| shared.bus.now() - last < ROOM_LIFE);
    if present.count == 0 && !is_alive {
        return Err(Problem::not_found(format!(
            "there is no room {room}: nobody is in it, and nothing happened there for a day"
        )));
    }
    Ok(Json(present))
}

async fn page(shared: &Shared, room: &Room, after: Option<&str>, limit: usize) -> Result<Present, Problem> {
    let bus::Members { mut members, count, next } = shared.bus.members(room, after, limit).await?;
    members.sort_by(|a, b| a.user.cmp(&b.user));
    Ok(Present { room: room.clone(), members, count, next, last_event: None })
}

impl From<NotJoined> for Problem {
    fn from(why: NotJoined) -> Self {
        match why {
            NotJoined::Absent => Self::new(Kind::Unauthenticated, why.to_string()),
            NotJoined::Crowded(_) => Self::new(Kind::TooMany, why.to_string()),
            NotJoined::Full => Self::unavailable(why.to_string(), FULL),
            NotJoined::Away(error) => error.into(),
        }
    }
}
