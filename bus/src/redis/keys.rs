//! Every key the bus has in Redis, spelled here and nowhere else. All of a partition lie in one slot, by the tag
//! `{QUEUE:partition}`; scripts get them as arguments.

use events::Name;

/// What keys begin with where nothing else is said.
pub(super) const NAMESPACE: &str = "tp";

/// The keys that belong to no partition, and those of a partition.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    namespace: String,
}

/// Where a partition is kept.
#[derive(Clone, Debug)]
pub(super) struct PartitionKeys {
    /// A hash: sequence, floor, lineages, clock, publish numbers.
    pub(super) meta: String,
    /// The stream; an entry holds one or more events.
    pub(super) stream: String,
    /// A hash: an event's digest to where it was recorded, for two hours.
    pub(super) dedupe: String,
    /// A list of the digests a batch, in the order of recording.
    pub(super) dedupe_order: String,
    /// A set: the names of the groups that have a place in the partition.
    pub(super) groups: String,
    /// A list: what is to be told in the queue SYS, at most 256.
    pub(super) effects: String,
    /// A sorted set: a key's digest by its last event's position, where the queue keeps it.
    pub(super) view: String,
    /// A sorted set: what waits for its time, by when that is.
    pub(super) waiting: String,
    /// A hash: an event's digest to the event, of those that wait.
    pub(super) events: String,
}

/// Where a partition of `PRESENCE` or `ROOMS` knows who attends. `lua/attend.lua` says what is in it.
#[derive(Clone, Debug)]
pub(super) struct AttendanceKeys {
    /// A hash: the nodes that tell, and the clock.
    pub(super) heard: String,
    /// A sorted set: those whose lost connections count, by until when.
    pub(super) due: String,
    /// A set: the scopes with somebody in them.
    pub(super) scopes: String,
    /// What a scope's hash begins with: a user to the connections of the user.
    pub(super) users: String,
    /// What a node's set begins with: the connections that it told of.
    pub(super) told: String,
}

/// Where a group's state of a partition is kept.
#[derive(Clone, Debug)]
pub(super) struct GroupKeys {
    /// A hash: see [`Keys::group`].
    pub(super) state: String,
    /// A hash: a position to its dead letter, also of those that are with their group again.
    pub(super) dead: String,
    /// A sorted set: the positions of dead letters that are not with their group again, by when they died.
    pub(super) died: String,
    /// The same positions, in their order.
    pub(super) order: String,
    /// The node whose turn it is to commit, for a moment.
    pub(super) turn: String,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A hash: a queue's name to its settings.
    pub(super) fn queues(&self) -> String {
        format!("{}:queues", self.namespace)
    }

    /// A hash: a group's name to its settings.
    pub(super) fn groups(&self) -> String {
        format!("{}:groups", self.namespace)
    }

    /// A sorted set: the nodes, by when they were last heard of.
    pub(super) fn nodes(&self) -> String {
        format!("{}:nodes", self.namespace)
    }

    /// A hash: the connections of a node, by id.
    pub(super) fn node(&self, id: &str) -> String {
        format!("{}:node:{id}", self.namespace)
    }

    /// A hash: who has the lease of a name, its number, until when, and how long it was asked for.
    pub(super) fn lead(&self, name: &str) -> String {
        format!("{}:lead:{name}", self.namespace)
    }

    /// The node that carries what is told to the queue SYS, for some seconds.
    pub(super) fn mover(&self) -> String {
        format!("{}:mover", self.namespace)
    }

    /// A hash: a group's name to when its dead letters were last told of.
    pub(super) fn mourned(&self) -> String {
        format!("{}:mourned", self.namespace)
    }

    /// A hash: a group's name to when it was last told that it lost its hold.
    pub(super) fn abandoned(&self) -> String {
        format!("{}:abandoned", self.namespace)
    }

    /// A hash: a user's bookmarks.
    pub(super) fn bookmarks(&self, user: &str) -> String {
        format!("{}:bookmarks:{user}", self.namespace)
    }

    /// What a user's rights are tried on, for a moment.
    pub(super) fn probe(&self) -> String {
        format!("{}:{{probe}}", self.namespace)
    }

    /// A set: the queues in which events wait for their time, or did once.
    pub(super) fn scheduled(&self) -> String {
        format!("{}:scheduled", self.namespace)
    }

    /// The channel on which scripts tell what they changed.
    pub(super) fn hint(&self) -> String {
        format!("{}:hint", self.namespace)
    }

    pub(super) fn partition(&self, queue: &Name, partition: u32) -> PartitionKeys {
        let key = |end: &str| format!("{}:{{{queue}:{partition}}}:{end}", self.namespace);
        PartitionKeys {
            meta: key("m"),
            stream: key("s"),
            dedupe: key("d"),
            dedupe_order: key("do"),
            groups: key("gs"),
            effects: key("x"),
            view: key("v"),
            waiting: key("w"),
            events: key("we"),
        }
    }

    /// Who attends, in a partition of `PRESENCE` or `ROOMS`.
    pub(super) fn attendance(&self, queue: &Name, partition: u32) -> AttendanceKeys {
        let key = |end: &str| format!("{}:{{{queue}:{partition}}}:a:{end}", self.namespace);
        AttendanceKeys {
            heard: key("heard"),
            due: key("due"),
            scopes: key("scopes"),
            users: key("in:"),
            told: key("of:"),
        }
    }

    /// What a group knows of a partition: a hash. Its field `low` is the lowest position that is not settled, which
    /// nothing is trimmed beyond.
    pub(super) fn group(&self, queue: &Name, partition: u32, group: &str) -> String {
        format!("{}:{{{queue}:{partition}}}:g:{group}", self.namespace)
    }

    /// All of a group in a partition.
    pub(super) fn group_keys(&self, queue: &Name, partition: u32, group: &str) -> GroupKeys {
        let state = self.group(queue, partition, group);
        GroupKeys {
            dead: format!("{state}:dead"),
            died: format!("{state}:died"),
            order: format!("{state}:order"),
            turn: format!("{state}:turn"),
            state,
        }
    }
}
