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
    connections: Mutex<BTreeMap<String, Connection>>,
    /// Counts changes, for whoever tells other nodes.
    changed: watch::Sender<u64>,
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
        Self(Arc::new(Shared { node, connections: Mutex::default(), changed: watch::Sender::new(0) }))
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
        self.0.connections.lock().insert(id.clone(), connection);
        self.0.changed.send_modify(|version| *version += 1);
        Joined { id, roster: Arc::downgrade(&self.0) }
    }

    /// The connections of this process, by id.
    pub fn here(&self) -> Vec<Connection> {
        self.0.connections.lock().values().cloned().collect()
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
        self.change(|connections, id| {
            if let Some(connection) = connections.get_mut(id) {
                connection.subscriptions = subscriptions;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Connection>, &str)) {
        let Some(shared) = self.roster.upgrade() else { return };
        change(&mut shared.connections.lock(), &self.id);
        shared.changed.send_modify(|version| *version += 1);
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.change(|connections, id| drop(connections.remove(id)));
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
