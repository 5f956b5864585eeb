//! Bookmarks: a hash a user, of four fields each: a letter (`c` cursor, `f` filter, `h` holder, `u` when it was used) and
//! the name.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use futures_util::future::try_join_all;
use rand::Rng as _;
use redis::{FromRedisValue as _, Value};

use super::{
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{
    Bookmark, Error, Move, Moved, Opened,
    bookmark::{self, LIFE},
    clock::moment,
    copy::Place,
};

static OPEN: LazyLock<Script> = LazyLock::new(|| Script::alone(include_str!("lua/bookmark.lua"), WhenFull::Refused));
static MOVE: LazyLock<Script> = LazyLock::new(|| Script::alone(include_str!("lua/bookmark_move.lua"), WhenFull::Runs));
static PUT: LazyLock<Script> = LazyLock::new(|| Script::alone(include_str!("lua/bookmark_put.lua"), WhenFull::Refused));

const FIELDS: [&str; 4] = ["c", "f", "h", "u"];

/// See [`crate::Bus::open_bookmark`].
pub(super) async fn open(shared: &Shared, user: &str, name: &str, filter: &str) -> Result<Opened, Error> {
    let holder = rand::rng().random_range(1..=i64::MAX.cast_unsigned());
    let mut call = OPEN.call([shared.keys().bookmarks(user)].iter());
    call.arg(name).arg(filter).arg(holder).arg(shared.now()).arg(life()).arg(bookmark::MOST);
    match shared.server.call(&OPEN, &call).await? {
        Value::Int(_) => Err(bookmark::too_many()),
        kept => {
            let (cursor,) = <(Option<String>,)>::from_redis_value(kept).map_err(|_| unexpected())?;
            Ok(Opened { holder, cursor })
        }
    }
}

/// See [`crate::Bus::move_bookmarks`]. One after the other on the wire, without waiting in between.
pub(super) async fn shift(shared: &Shared, moves: &[Move]) -> Result<Vec<Moved>, Error> {
    let now = shared.now();
    let each = moves.iter().map(|Move { user, name, holder, cursor }| async move {
        let mut call = MOVE.call([shared.keys().bookmarks(user)].iter());
        call.arg(name).arg(*holder).arg(cursor).arg(now).arg(life());
        match shared.server.call(&MOVE, &call).await? {
            Value::Int(1) => Ok(Moved::Done),
            Value::Int(0) => Ok(Moved::Taken),
            Value::Int(_) => Ok(Moved::Gone),
            _ => Err(unexpected()),
        }
    });
    try_join_all(each).await
}

/// See [`crate::Bus::bookmark_holders`]. One after the other on the wire, without waiting in between.
pub(super) async fn holders(shared: &Shared, which: &[(String, String)]) -> Result<Vec<Option<u64>>, Error> {
    let oldest = shared.now() - life();
    let each = which.iter().map(|(user, name)| async move {
        let mut ask = redis::cmd("HMGET");
        ask.arg(shared.keys().bookmarks(user)).arg(format!("h{name}")).arg(format!("u{name}"));
        let (holder, used): (Option<u64>, Option<i64>) = shared.server.ask(&ask).await?;
        Ok(holder.filter(|_| used.is_some_and(|used| used >= oldest)))
    });
    try_join_all(each).await
}

/// A user's, by name.
pub(super) async fn list(shared: &Shared, user: &str) -> Result<Vec<Bookmark>, Error> {
    let fields: HashMap<String, String> =
        shared.server.ask(redis::cmd("HGETALL").arg(shared.keys().bookmarks(user))).await?;
    let oldest = shared.now() - life();
    let mut bookmarks = BTreeMap::new();
    for (field, used) in &fields {
        let (Some(name), Ok(used)) = (field.strip_prefix('u'), used.parse::<i64>()) else { continue };
        if used < oldest {
            continue;
        }
        let field = |letter: &str| fields.get(&format!("{letter}{name}")).cloned();
        let (filter, cursor) = (field("f").unwrap_or_default(), field("c"));
        bookmarks.insert(name, Bookmark { name: name.to_owned(), filter, cursor, used: moment(used) });
    }
    Ok(bookmarks.into_values().collect())
}

/// Puts bookmarks where there are none by their names.
pub(super) async fn put(shared: &Shared, places: &[Place]) -> Result<(), Error> {
    for Place { user, name, filter, cursor, holder, used } in places {
        let mut put = PUT.call([shared.keys().bookmarks(user)].iter());
        put.arg(name).arg(filter).arg(*holder).arg(*used).arg(life()).arg(cursor.as_deref().unwrap_or_default());
        shared.server.call(&PUT, &put).await?;
    }
    Ok(())
}

pub(super) async fn remove(shared: &Shared, user: &str, name: &str) -> Result<bool, Error> {
    let mut remove = redis::cmd("HDEL");
    remove.arg(shared.keys().bookmarks(user)).arg(FIELDS.map(|letter| format!("{letter}{name}")).as_slice());
    Ok(shared.server.ask::<u64>(&remove).await? > 0)
}

fn life() -> i64 {
    i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX)
}
