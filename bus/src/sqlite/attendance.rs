//! Who attends, beside the partitions of `PRESENCE` and `ROOMS`: what a node tells is taken in, and what follows from that
//! and from the time is found and recorded, in the writer's transaction.
//!
//! All who were connected when the file was last open are taken for cut when it is opened.

use std::collections::HashMap;

use events::{Envelope, Name};
use rusqlite::{Connection, OptionalExtension as _, params};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    declare,
    log::signed,
    owned::{Answer, Owned},
};
use crate::{
    Attended, Error, Partition, Queue,
    clock::moment,
    metrics,
    presence::{
        self, Attendee, BOUNDS, Crowded, Departure, MOST_CONNECTIONS, MOST_MEMBERS, Member, Members, Move, Room, Scope,
        Step, Told, arrival, departure,
    },
};

/// The most members of a page.
const PAGE: usize = 1000;

/// The clock by which nodes are silent and grace ends, who told when, and how many are there.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Milliseconds; no more of them count between two looks at it than [`BOUNDS`] allow.
    now: i64,
    /// The bus's time when it was so.
    seen: Option<i64>,
    /// By partition and node.
    heard: HashMap<(i64, String), i64>,
    /// When the next grace ends, or something before.
    due: Option<i64>,
    /// Users, by partition and scope.
    counts: HashMap<(i64, String), usize>,
}

impl Clock {
    /// Everybody has another time of grace from the opening on.
    pub(super) fn begin_life(&mut self, conn: &Connection, now: i64) -> rusqlite::Result<()> {
        *self = Self::default();
        conn.execute(
            "UPDATE attendee SET until = ?1, seen = iif(EXISTS (SELECT 1 FROM seat WHERE seat.partition = attendee.partition
             AND seat.scope = attendee.scope AND seat.user = attendee.user), ?2, seen)",
            params![BOUNDS.grace, text(now)],
        )?;
        conn.execute("DELETE FROM seat", [])?;
        self.reload(conn)
    }

    /// Looks up when the next grace ends.
    pub(super) fn load(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.due =
            conn.prepare_cached("SELECT min(until) FROM attendee WHERE until > 0")?.query_row([], |row| row.get(0))?;
        Ok(())
    }

    /// After a transaction that failed: whoever it had done with is there still.
    pub(super) fn reload(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut nodes = conn.prepare_cached("SELECT DISTINCT partition, node FROM seat")?;
        let mut rows = nodes.query([])?;
        while let Some(row) = rows.next()? {
            self.heard.entry((row.get(0)?, row.get(1)?)).or_insert(self.now);
        }
        self.counts = conn
            .prepare_cached("SELECT partition, scope, count(*) FROM attendee GROUP BY partition, scope")?
            .query_map([], |row| {
                let count: i64 = row.get(2)?;
                Ok(((row.get(0)?, row.get(1)?), usize::try_from(count).unwrap_or(0)))
            })?
            .collect::<rusqlite::Result<_>>()?;
        self.load(conn)
    }

    fn came(&mut self, who: &Who) {
        *self.counts.entry((who.partition, who.room.clone())).or_default() += 1;
    }

    fn went(&mut self, who: &Who) {
        let place = (who.partition, who.room.clone());
        if let Some(count) = self.counts.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&place);
            }
        }
    }

    /// How many users are in a scope.
    fn count(&self, who: &Who) -> usize {
        self.counts.get(&(who.partition, who.room.clone())).copied().unwrap_or(0)
    }

    /// How many rooms of a partition somebody is in.
    fn rooms(&self, partition: i64) -> usize {
        self.counts.keys().filter(|(of, scope)| *of == partition && !scope.is_empty()).count()
    }

    /// How many milliseconds until something ends by itself.
    pub(super) fn until_due(&mut self, now: i64) -> Option<i64> {
        self.tick(now);
        self.due.map(|due| due - self.now)
    }

    fn tick(&mut self, now: i64) {
        let passed = now - self.seen.unwrap_or(now);
        self.now += passed.clamp(0, BOUNDS.leap);
        self.seen = Some(now);
    }
}

/// A user in a scope, as the file has it.
struct Row {
    since: String,
    /// Until when lost connections count; 0: none does.
    until: i64,
    /// When a connection ended last.
    seen: String,
}

/// Which user, and where.
#[derive(Clone)]
struct Who {
    partition: i64,
    room: String,
    user: String,
}

impl Owned {
    pub(super) fn attend(&mut self, queue: &Name, number: u32, told: &Told, now: i64) -> Answer<Attended> {
        if !self.queues.contains_key(queue) {
            if told.steps.is_empty() {
                return Ok(Ok(Attended::default()));
            }
            if let Err(error) = declare::queue(self, Queue::initial(queue.clone()), now)? {
                return Ok(Err(error));
            }
        }
        let known = self.queues.get(queue).filter(|known| is_of(number, known.settings.partitions, told));
        let known = known.and_then(|queue| queue.partitions.get(number as usize));
        let Some((id, lineage)) = known.map(|known| (known.log.id, known.log.lineages.current())) else {
            return Ok(Err(Error::Unavailable(format!("{queue} has other partitions now"))));
        };
        self.attendance.tick(now);
        let clock = self.attendance.now;
        let silent = |heard: i64| clock - heard > BOUNDS.silence;
        // What a node told that was silent for too long is taken back, whoever finds it, or was in part.
        let was_heard =
            self.attendance.heard.insert((id, told.node.clone()), clock).is_some_and(|heard| !silent(heard));
        let mut outcomes = Vec::with_capacity(told.steps.len());
        for step in &told.steps {
            let who = Who { partition: id, room: step.scope.as_str().to_owned(), user: step.user.clone() };
            outcomes.push(self.step(&who, step, &told.node, now)?);
        }
        let mut left = BOUNDS.piece;
        let heard = self.attendance.heard.iter().filter(|((of, _), heard)| *of == id && silent(**heard));
        let gone: Vec<(String, i64)> = heard.map(|((_, node), heard)| (node.clone(), *heard)).collect();
        let mut more = false;
        for (node, heard) in gone {
            let seats = seats_of(&self.conn, id, &node, left)?;
            left -= seats.len();
            for (who, connection) in &seats {
                self.cut(who, connection, &node, heard, now)?;
            }
            if left == 0 {
                more = true;
            } else {
                self.attendance.heard.remove(&(id, node));
            }
        }
        more |= self.let_go(now)?;
        let there = if *queue == presence::presence() {
            self.attendance.count(&Who { partition: id, room: String::new(), user: String::new() })
        } else {
            self.attendance.rooms(id)
        };
        Ok(Ok(Attended {
            lineage: lineage.map_or(0, |lineage| lineage.id),
            known: was_heard,
            more,
            there: there as u64,
            outcomes,
        }))
    }

    /// Ends the grace of those whose time it is, a piece of them; whether more may be due.
    pub(super) fn let_go(&mut self, now: i64) -> rusqlite::Result<bool> {
        self.attendance.tick(now);
        let clock = self.attendance.now;
        if self.attendance.due.is_none_or(|due| due > clock) {
            return Ok(false);
        }
        let due: Vec<Who> = self
            .conn
            .prepare_cached(
                "SELECT partition, scope, user FROM attendee WHERE until > 0 AND until <= ?1 ORDER BY until LIMIT ?2",
            )?
            .query_map(params![clock, signed(BOUNDS.piece as u64)], |row| {
                Ok(Who { partition: row.get(0)?, room: row.get(1)?, user: row.get(2)? })
            })?
            .collect::<rusqlite::Result<_>>()?;
        for who in &due {
            let Some(row) = self.row(who)? else { continue };
            if self.connected(who)? == 0 {
                self.depart(who, &row, "lost", now)?;
            } else {
                self.store(who, &Row { until: 0, ..row })?;
            }
        }
        self.attendance.load(&self.conn)?;
        Ok(due.len() == BOUNDS.piece)
    }

    fn step(&mut self, who: &Who, step: &Step, node: &str, now: i64) -> rusqlite::Result<Result<(), Crowded>> {
        match step.what {
            Move::Enter => return self.enter(who, &step.connection, node, now),
            Move::Cut => self.cut(who, &step.connection, node, self.attendance.now, now)?,
            Move::Leave => {
                let Some(row) = self.without(who, &step.connection, node, text(now))? else { return Ok(Ok(())) };
                if row.until <= self.attendance.now && self.connected(who)? == 0 {
                    self.depart(who, &row, "bye", now)?;
                } else {
                    self.store(who, &row)?;
                }
            }
        }
        Ok(Ok(()))
    }

    fn enter(&mut self, who: &Who, connection: &str, node: &str, now: i64) -> rusqlite::Result<Result<(), Crowded>> {
        let place = params![who.partition, who.room, who.user, connection, node];
        let is_there = self
            .conn
            .prepare_cached(
                "SELECT 1 FROM seat WHERE partition = ?1 AND scope = ?2 AND user = ?3 AND connection = ?4 AND node = ?5",
            )?
            .exists(place)?;
        if is_there {
            return Ok(Ok(()));
        }
        if self.row(who)?.is_some() {
            if self.connected(who)? >= signed(MOST_CONNECTIONS as u64) {
                return Ok(Err(Crowded::Connections));
            }
        } else {
            if !who.room.is_empty() && self.attendance.count(who) >= MOST_MEMBERS {
                return Ok(Err(Crowded::Members));
            }
            let since = text(now);
            self.store(who, &Row { since: since.clone(), until: 0, seen: String::new() })?;
            self.attendance.came(who);
            self.record(who, arrival(&who.room, &who.user, &since), now)?;
        }
        self.conn
            .prepare_cached("INSERT INTO seat (partition, scope, user, connection, node) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(place)?;
        Ok(Ok(()))
    }

    /// `lost`: when, by the clock.
    fn cut(&mut self, who: &Who, connection: &str, node: &str, lost: i64, now: i64) -> rusqlite::Result<()> {
        let ended = text(now - (self.attendance.now - lost));
        let Some(row) = self.without(who, connection, node, ended)? else { return Ok(()) };
        let until = row.until.max(lost + BOUNDS.grace);
        self.store(who, &Row { until, ..row })?;
        let due = &mut self.attendance.due;
        *due = Some(due.map_or(until, |due| due.min(until)));
        Ok(())
    }

    /// Takes away a connection of a node, which ended at a time (RFC 3339); None: there is none.
    fn without(&mut self, who: &Who, connection: &str, node: &str, ended: String) -> rusqlite::Result<Option<Row>> {
        let gone = self
            .conn
            .prepare_cached(
                "DELETE FROM seat WHERE partition = ?1 AND scope = ?2 AND user = ?3 AND connection = ?4 AND node = ?5",
            )?
            .execute(params![who.partition, who.room, who.user, connection, node])?;
        if gone == 0 {
            return Ok(None);
        }
        Ok(self.row(who)?.map(|row| Row { seen: row.seen.clone().max(ended), ..row }))
    }

    fn depart(&mut self, who: &Who, row: &Row, reason: &str, now: i64) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("DELETE FROM attendee WHERE partition = ?1 AND scope = ?2 AND user = ?3")?
            .execute(params![who.partition, who.room, who.user])?;
        self.attendance.went(who);
        let seen = if row.seen.is_empty() { &row.since } else { &row.seen };
        self.record(who, departure(&who.room, &who.user, &row.since, &Departure { seen, reason }), now)
    }

    /// Records a transition beside which it is found, however full the queue is.
    fn record(&mut self, who: &Who, mut envelope: Envelope, now: i64) -> rusqlite::Result<()> {
        envelope.time = moment(now);
        let arrives = matches!(envelope.event.as_str(), "ONLINE" | "JOINED");
        metrics::transitions(&envelope.queue, u64::from(arrives), u64::from(!arrives));
        let Some(queue) = self.queues.get_mut(&envelope.queue) else { return Ok(()) };
        let latest = queue.settings.latest;
        let partition = queue.partitions.iter_mut().find(|partition| partition.log.id == who.partition);
        let (Some(partition), Ok(json)) = (partition, serde_json::to_vec(&envelope)) else { return Ok(()) };
        partition.append(&self.conn, envelope, &json, now, latest).map(drop)
    }

    fn row(&self, who: &Who) -> rusqlite::Result<Option<Row>> {
        self.conn
            .prepare_cached(
                "SELECT since, until, seen FROM attendee WHERE partition = ?1 AND scope = ?2 AND user = ?3",
            )?
            .query_row(params![who.partition, who.room, who.user], |row| {
                Ok(Row { since: row.get(0)?, until: row.get(1)?, seen: row.get(2)? })
            })
            .optional()
    }

    fn store(&self, who: &Who, Row { since, until, seen }: &Row) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO attendee (partition, scope, user, since, until, seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![who.partition, who.room, who.user, since, until, seen])?;
        Ok(())
    }

    /// How many connections a user has in a scope.
    fn connected(&self, who: &Who) -> rusqlite::Result<i64> {
        self.conn
            .prepare_cached("SELECT count(*) FROM seat WHERE partition = ?1 AND scope = ?2 AND user = ?3")?
            .query_row(params![who.partition, who.room, who.user], |row| row.get(0))
    }

    pub(super) fn attending(&self, scope: &Scope, users: &[String]) -> rusqlite::Result<Vec<Option<Attendee>>> {
        let mut all = Vec::with_capacity(users.len());
        for user in users {
            let Some(partition) = self.partition_of(&scope.queue(), scope.key(user)) else {
                all.push(None);
                continue;
            };
            let who = Who { partition, room: scope.as_str().to_owned(), user: user.clone() };
            let row = self.row(&who)?;
            let connections = usize::try_from(self.connected(&who)?).unwrap_or(0);
            all.push(row.and_then(|row| attendee(&row.since, &row.seen, connections)));
        }
        Ok(all)
    }

    pub(super) fn members(&self, room: &Room, after: Option<&str>, limit: usize) -> rusqlite::Result<Members> {
        let Some(partition) = self.partition_of(&presence::rooms(), room.as_str()) else {
            return Ok(Members::default());
        };
        let who = Who { partition, room: room.to_string(), user: String::new() };
        let limit = limit.clamp(1, PAGE);
        let mut statement = self.conn.prepare_cached(
            "SELECT user, since, seen, (SELECT count(*) FROM seat WHERE seat.partition = attendee.partition
             AND seat.scope = attendee.scope AND seat.user = attendee.user)
             FROM attendee WHERE partition = ?1 AND scope = ?2 AND user > ?3 ORDER BY user LIMIT ?4",
        )?;
        let mut rows =
            statement.query(params![partition, who.room, after.unwrap_or_default(), signed(limit as u64)])?;
        let (mut members, mut last, mut read) = (Vec::new(), None, 0);
        while let Some(row) = rows.next()? {
            let (user, since, seen): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let connections = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
            if let Some(Attendee { since, connections, .. }) = attendee(&since, &seen, connections) {
                members.push(Member { user: user.clone(), since, connections });
            }
            (last, read) = (Some(user), read + 1);
        }
        let count = self.attendance.count(&who) as u64;
        Ok(Members { members, count, next: last.filter(|_| read == limit) })
    }

    fn partition_of(&self, queue: &Name, key: &str) -> Option<i64> {
        let queue = self.queues.get(queue)?;
        let index = Partition::of(key, queue.settings.partitions).index;
        Some(queue.partitions.get(index as usize)?.log.id)
    }
}

/// Whether all that is told belongs into the partition of this number.
fn is_of(number: u32, partitions: u32, told: &Told) -> bool {
    let mut keys = told.steps.iter().map(|step| step.scope.key(&step.user));
    number < partitions && keys.all(|key| Partition::of(key, partitions).index == number)
}

/// Some connections that a node told a partition of.
fn seats_of(conn: &Connection, partition: i64, node: &str, limit: usize) -> rusqlite::Result<Vec<(Who, String)>> {
    conn.prepare_cached("SELECT scope, user, connection FROM seat WHERE node = ?1 AND partition = ?2 LIMIT ?3")?
        .query_map(params![node, partition, signed(limit as u64)], |row| {
            Ok((Who { partition, room: row.get(0)?, user: row.get(1)? }, row.get(2)?))
        })?
        .collect()
}

fn attendee(since: &str, seen: &str, connections: usize) -> Option<Attendee> {
    Some(Attendee {
        since: OffsetDateTime::parse(since, &Rfc3339).ok()?,
        seen: OffsetDateTime::parse(seen, &Rfc3339).ok().filter(|_| connections == 0),
        connections,
    })
}

fn text(now: i64) -> String {
    moment(now).format(&Rfc3339).unwrap_or_default()
}
