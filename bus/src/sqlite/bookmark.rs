//! Bookmarks: a row each.

use rand::rngs::StdRng;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    log::{signed, unsigned},
    owned::{Answer, random_id},
};
use crate::{
    Bookmark, Move, Moved, Opened,
    bookmark::{self, LIFE},
    clock::moment,
    copy::Place,
};

/// Rows forgotten at once.
const PIECE: usize = 1000;

pub(super) fn open(
    conn: &Connection,
    rng: &mut StdRng,
    (user, name, filter): (&str, &str, &str),
    now: i64,
) -> Answer<Opened> {
    conn.prepare_cached("DELETE FROM bookmark WHERE user = ?1 AND used < ?2")?.execute(params![user, oldest(now)])?;
    let kept: Option<Option<String>> = conn
        .prepare_cached("SELECT cursor FROM bookmark WHERE user = ?1 AND name = ?2")?
        .query_row(params![user, name], |row| row.get(0))
        .optional()?;
    if kept.is_none() {
        let count: u32 = conn
            .prepare_cached("SELECT count(*) FROM bookmark WHERE user = ?1")?
            .query_row([user], |row| row.get(0))?;
        if count as usize >= bookmark::MOST {
            return Ok(Err(bookmark::too_many()));
        }
    }
    let (holder, cursor) = (random_id(rng), kept.flatten());
    conn.prepare_cached(
        "INSERT OR REPLACE INTO bookmark (user, name, filter, cursor, holder, used) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![user, name, filter, cursor, signed(holder), now])?;
    Ok(Ok(Opened { holder, cursor }))
}

pub(super) fn shift(conn: &Connection, moves: &[Move], now: i64) -> rusqlite::Result<Vec<Moved>> {
    let mut holder = conn.prepare_cached("SELECT holder FROM bookmark WHERE user = ?1 AND name = ?2 AND used >= ?3")?;
    let mut write = conn.prepare_cached("UPDATE bookmark SET cursor = ?3, used = ?4 WHERE user = ?1 AND name = ?2")?;
    let each = moves.iter().map(|Move { user, name, holder: own, cursor }| {
        match holder.query_row(params![user, name, oldest(now)], |row| row.get(0).map(unsigned)).optional()? {
            None => Ok(Moved::Gone),
            Some(holder) if holder != *own => Ok(Moved::Taken),
            Some(_) => {
                write.execute(params![user, name, cursor, now])?;
                Ok(Moved::Done)
            }
        }
    });
    each.collect()
}

/// Who holds each of them.
pub(super) fn holders(conn: &Connection, which: &[(String, String)], now: i64) -> rusqlite::Result<Vec<Option<u64>>> {
    let mut holder = conn.prepare_cached("SELECT holder FROM bookmark WHERE user = ?1 AND name = ?2 AND used >= ?3")?;
    let each = which.iter().map(|(user, name)| {
        holder.query_row(params![user, name, oldest(now)], |row| row.get(0).map(unsigned)).optional()
    });
    each.collect()
}

/// A user's, by name.
pub(super) fn list(conn: &Connection, user: &str, now: i64) -> rusqlite::Result<Vec<Bookmark>> {
    let mut statement = conn.prepare_cached(
        "SELECT name, filter, cursor, used FROM bookmark WHERE user = ?1 AND used >= ?2 ORDER BY name",
    )?;
    let bookmark = |row: &Row<'_>| {
        Ok(Bookmark { name: row.get(0)?, filter: row.get(1)?, cursor: row.get(2)?, used: moment(row.get(3)?) })
    };
    statement.query_map(params![user, oldest(now)], bookmark)?.collect()
}

pub(super) fn remove(conn: &Connection, user: &str, name: &str) -> rusqlite::Result<bool> {
    let removed =
        conn.prepare_cached("DELETE FROM bookmark WHERE user = ?1 AND name = ?2")?.execute(params![user, name])?;
    Ok(removed > 0)
}

/// How many are kept, of all users.
pub(super) fn count(conn: &Connection, now: i64) -> rusqlite::Result<u64> {
    conn.query_row("SELECT count(*) FROM bookmark WHERE used >= ?1", [oldest(now)], |row| row.get(0).map(unsigned))
}

/// Those of all users after one, by user and name, at most so many.
pub(super) fn after(
    conn: &Connection,
    after: Option<&(String, String)>,
    most: usize,
    now: i64,
) -> rusqlite::Result<Vec<Place>> {
    let mut statement = conn.prepare_cached(
        "SELECT user, name, filter, cursor, holder, used FROM bookmark
         WHERE used >= ?1 AND (?2 IS NULL OR (user, name) > (?2, ?3)) ORDER BY user, name LIMIT ?4",
    )?;
    let place = |row: &Row<'_>| {
        Ok(Place {
            user: row.get(0)?,
            name: row.get(1)?,
            filter: row.get(2)?,
            cursor: row.get(3)?,
            holder: unsigned(row.get(4)?),
            used: row.get(5)?,
        })
    };
    let (user, name) = after.map(|(user, name)| (user, name)).unzip();
    statement.query_map(params![oldest(now), user, name, signed(most as u64)], place)?.collect()
}

/// Forgets those that nobody has used for too long, a piece of them.
pub(super) fn forget_old(conn: &Connection, now: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "DELETE FROM bookmark WHERE (user, name) IN (SELECT user, name FROM bookmark WHERE used < ?1 LIMIT ?2)",
    )?
    .execute(params![oldest(now), signed(PIECE as u64)])?;
    Ok(())
}

fn oldest(now: i64) -> i64 {
    now - i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX)
}
