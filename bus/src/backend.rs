//! What a backend must do for the [`crate::Bus`]: keep the log, the groups and their leases. The conformance suite
//! (`tests/conformance`) says how; this says what.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use events::{Envelope, Name};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::{
    Attended, Bookmark, Claim, Claimed, Connection, DeadLetter, Error, Fence, Group, GroupStatus, LeaseLost, Lineages,
    Logged, Move, Moved, Opened, Outcome, Page, Partition, PublishOptions, Queue, QueueStatus, Recorded, Roster,
    Scheduled, Settlement, Sought, Standing, Start, Turn, Which,
    presence::{Attendee, Members, Room, Scope, Told},
};

#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Makes a queue, or changes its settings. Partitions can't change once it has events.
    async fn declare_queue(&self, queue: Queue) -> Result<(), Error>;
    /// Makes a group, or changes its settings but for `start`, which only counts the first time.
    async fn declare_group(&self, group: Group) -> Result<(), Error>;
    /// Forgets a group and all that it knows; nothing where it isn't there.
    async fn delete_group(&self, group: &str) -> Result<(), Error>;

    /// See [`crate::Bus::publish_with`].
    async fn publish(&self, events: Vec<Envelope>, options: PublishOptions) -> Result<Vec<Outcome>, Error>;
    async fn partition(&self, queue: &Name, key: &str) -> Result<Partition, Error>;
    async fn lineages(&self, queue: &Name, partition: u32) -> Result<Arc<Lineages>, Error>;

    /// See [`crate::Bus::lead`].
    async fn lead(&self, name: &str, holder: &str, time: Duration) -> Result<Option<Fence>, Error>;
    /// See [`crate::Bus::resign`].
    async fn resign(&self, name: &str, holder: &str) -> Result<(), Error>;
    /// See [`crate::Bus::shut_out`].
    async fn shut_out(&self, queue: &Name, fence: &Fence) -> Result<bool, Error>;

    /// Leases events to a member; at once, with nothing if there is nothing.
    async fn claim(&self, claim: Claim) -> Result<Claimed, Error>;
    /// Settles deliveries; an outcome each, in their order.
    async fn settle(&self, group: &str, settlements: Vec<Settlement>) -> Result<Vec<Result<(), LeaseLost>>, Error>;
    /// Changes when a claim of this group may get something it didn't get before.
    fn claimable(&self, group: &str) -> watch::Receiver<u64>;

    /// At most `limit` events from a position on. A queue or partition that isn't there is an empty page.
    async fn read(&self, queue: &Name, partition: u32, from: u64, limit: usize) -> Result<Page, Error>;
    /// Changes when something was recorded in the queue.
    fn appended(&self, queue: &Name) -> watch::Receiver<u64>;
    /// The first position of a partition that was recorded then or later.
    async fn position_at(&self, queue: &Name, partition: u32, start: Start) -> Result<u64, Error>;

    /// A key's last event. [`Error::Invalid`] where the queue doesn't keep it.
    async fn latest(&self, queue: &Name, key: &str) -> Result<Option<Logged>, Error>;
    /// The events of a partition that are their key's last, after a position, at most `limit`.
    async fn latest_page(&self, queue: &Name, partition: u32, after: u64, limit: usize) -> Result<Page, Error>;

    /// Where an event was recorded or is scheduled, as far back as the dedupe window reaches.
    async fn find(&self, queue: &Name, source: &str, id: &str) -> Result<Option<Recorded>, Error>;
    /// Takes an event back that waits for its time; whether one did.
    async fn cancel(&self, queue: &Name, source: &str, id: &str) -> Result<bool, Error>;
    /// The events that wait for their time, by partition and turn, after a turn, at most `limit`.
    async fn scheduled(&self, queue: &Name, after: Option<Turn>, limit: usize) -> Result<Vec<Scheduled>, Error>;

    /// Where an event stands with each group whose queue it is in, by the group's name.
    async fn standing(&self, queue: &Name, partition: u32, position: u64) -> Result<BTreeMap<String, Standing>, Error>;
    /// Changes when events of the queue were settled, by any group.
    fn settled(&self, queue: &Name) -> watch::Receiver<u64>;

    /// See [`crate::Bus::open_bookmark`].
    async fn open_bookmark(&self, user: &str, name: &str, filter: &str) -> Result<Opened, Error>;
    /// Moves bookmarks; an outcome each, in their order.
    async fn move_bookmarks(&self, moves: Vec<Move>) -> Result<Vec<Moved>, Error>;
    /// A user's bookmarks, by name.
    async fn bookmarks(&self, user: &str) -> Result<Vec<Bookmark>, Error>;
    /// Removes a bookmark; whether there was one.
    async fn remove_bookmark(&self, user: &str, name: &str) -> Result<bool, Error>;

    /// See [`crate::Bus::bookmark_holders`].
    async fn bookmark_holders(&self, which: Vec<(String, String)>) -> Result<Vec<Option<u64>>, Error>;

    /// See [`crate::Bus::now`].
    fn now(&self) -> OffsetDateTime;
    /// Who is connected in this process.
    fn roster(&self) -> &Roster;
    /// Who is connected, in every process that tells.
    async fn connections(&self) -> Result<Vec<Connection>, Error>;

    /// The nodes that were killed within the hour: they stopped telling, and didn't say that they go.
    async fn silent(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// Takes in what a node tells a partition of `PRESENCE` or `ROOMS` of who attends there, and records what follows from
    /// that and from the time. Any number of nodes may; what one has found, another one finds no more. A partition that
    /// nobody ever attended is answered by nothing, and isn't made by being told nothing.
    async fn attend(&self, queue: &Name, partition: u32, told: Told) -> Result<Attended, Error>;
    /// What is known of users in a scope, in the order they are asked for; None: they aren't there.
    async fn attending(&self, scope: &Scope, users: &[String]) -> Result<Vec<Option<Attendee>>, Error>;
    /// Some of those in a room, about `limit`, after what the page before gave as next.
    async fn members(&self, room: &Room, after: Option<&str>, limit: usize) -> Result<Members, Error>;

    /// A queue's settings; None: it isn't there.
    async fn queue(&self, name: &Name) -> Result<Option<Queue>, Error>;
    async fn queues(&self) -> Result<Vec<QueueStatus>, Error>;
    async fn groups(&self) -> Result<Vec<GroupStatus>, Error>;

    /// How long an answer of the server takes of late; None: there is no server.
    fn round_trip(&self) -> Option<Duration> {
        None
    }
    /// A group's dead letters after (partition, position), at most `limit`.
    async fn dead_letters(&self, group: &str, after: (u32, u64), limit: usize) -> Result<Vec<DeadLetter>, Error>;
    /// Gives dead letters to their group again, as if they had never failed, a hundred a second; how many.
    async fn redrive(&self, group: &str, which: Which) -> Result<u64, Error>;
    /// Forgets dead letters; how many.
    async fn discard(&self, group: &str, which: Which) -> Result<u64, Error>;
    /// Has events come at once that wait for another attempt; how many.
    async fn hurry(&self, group: &str, which: Which) -> Result<u64, Error>;
    /// Moves a group: its leases are lost, its retries dropped. With `dry_run` it only says what would happen.
    async fn seek(&self, group: &str, to: Start, dry_run: bool) -> Result<Sought, Error>;
}
