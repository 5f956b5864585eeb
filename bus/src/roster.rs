//! Who is connected to the bus now: clients of brokers, and members of groups, on every node.
//!
//! Not a record of anything: what a node tells of itself is forgotten when it stops telling.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::comings::{Comings, What};

/// How somebody is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    WebSocket,
    Sse,
    LongPoll,
    Grpc,
    /// A member of a group, in a service or a consumer.
    Member,
}

/// What a connection follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub name: String,
    /// As in `DB/*`.
    pub filter: String,
    /// The group it is a member of, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Somebody who is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Unique over all nodes.
    pub id: String,
    /// The process that holds it.
    pub node: String,
    pub transport: Transport,
    /// The principal's subject; None: nobody in particular, or a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    pub subscriptions: Vec<Subscription>,
}

/// The connections of this process. Clones share them.
#[derive(Clone)]
pub struct Roster(Arc<Shared>);

struct Shared {
    node: String,
    book: Mutex<Book>,
    /// Counts changes, for whoever tells other nodes.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Book {
    connections: BTreeMap<String, Connection>,
    /// What is told of who comes and goes, where that is asked for.
    comings: Option<Comings>,
}

/// Somebody's place on the roster; dropped, they are gone.
#[must_use]
pub struct Joined {
    id: String,
    roster: Weak<Shared>,
}

impl Roster {
    /// The roster of this process, under a random name.
    pub(crate) fn new() -> Self {
        let node = format!("n_{}", uuid::Uuid::new_v4().simple());
        Self(Arc::new(Shared { node, book: Mutex::default(), changed: watch::Sender::new(0) }))
    }

    /// What this process is called on the roster.
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// Puts somebody on the roster, under a random id.
    pub fn join(
        &self,
        transport: Transport,
        subject: Option<String>,
        address: Option<String>,
        subscriptions: Vec<Subscription>,
    ) -> Joined {
        let id = format!("c_{}", uuid::Uuid::new_v4().simple());
        let connection = Connection {
            id: id.clone(),
            node: self.0.node.clone(),
            transport,
            subject,
            address,
            since: OffsetDateTime::now_utc(),
            subscriptions,
        };
        self.0.book.lock().join(connection);
        self.0.changed.send_modify(|version| *version += 1);
        Joined { id, roster: Arc::downgrade(&self.0) }
    }

    /// The connections of this process, by id.
    pub fn here(&self) -> Vec<Connection> {
        self.0.book.lock().connections.values().cloned().collect()
    }

    /// From now on it is noted who comes and who goes; changes with each.
    pub(crate) fn tell_comings(&self) -> watch::Receiver<u64> {
        self.0.book.lock().comings.get_or_insert_with(|| Comings::new(&self.0.node));
        self.changed()
    }

    /// What there is to tell of that.
    pub(crate) fn comings<T: Default>(&self, take: impl FnOnce(&mut Comings) -> T) -> T {
        self.0.book.lock().comings.as_mut().map(take).unwrap_or_default()
    }

    /// Changes when somebody came, went or subscribed to something else.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

impl Joined {
    /// The connection's id, unique over all nodes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Tells what the connection follows now.
    pub fn follow(&self, subscriptions: Vec<Subscription>) {
        self.change(|book, id| book.follow(id, subscriptions));
    }

    fn change(&self, change: impl FnOnce(&mut Book, &str)) {
        let Some(shared) = self.roster.upgrade() else { return };
        change(&mut shared.book.lock(), &self.id);
        shared.changed.send_modify(|version| *version += 1);
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.change(Book::leave);
    }
}

impl Book {
    fn join(&mut self, connection: Connection) {
        self.note(&connection, &[], &connection.subscriptions);
        self.connections.insert(connection.id.clone(), connection);
    }

    fn follow(&mut self, id: &str, subscriptions: Vec<Subscription>) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        self.note(&connection, &connection.subscriptions, &subscriptions);
        connection.subscriptions = subscriptions;
        self.connections.insert(id.to_owned(), connection);
    }

    fn leave(&mut self, id: &str) {
        if let Some(connection) = self.connections.remove(id) {
            self.note(&connection, &connection.subscriptions, &[]);
        }
    }

    fn note(&mut self, connection: &Connection, before: &[Subscription], now: &[Subscription]) {
        let Some(comings) = &mut self.comings else { return };
        for (what, these, others) in [(What::Went, before, now), (What::Came, now, before)] {
            let changed = these.iter().filter(|one| !others.contains(one));
            changed.for_each(|one| comings.note(what, connection, one));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_is_off_the_roster() {
        let roster = Roster::new();
        let follows = |filter: &str| vec![Subscription { name: "s1".into(), filter: filter.into(), group: None }];
        let joined = roster.join(Transport::Sse, Some("customers/1".into()), None, follows("DB/*"));
        joined.follow(follows("ORDERS/*"));
        let here = roster.here();
        assert_eq!((here.len(), here[0].id.as_str(), here[0].node.as_str()), (1, joined.id(), roster.node()));
        assert_eq!(here[0].subscriptions, follows("ORDERS/*"));
        let changed = roster.changed();
        drop(joined);
        assert!(changed.has_changed().unwrap());
        assert_eq!(roster.here(), []);
    }
}
