//! The handle on a bus.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use events::{Envelope, Filter, Name};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Attended, Backend, Bookmark, Claim, Claimed, Connection, DeadLetter, Error, Fence, Group, GroupStatus, LeaseLost,
    Lineage, Lineages, Logged, Move, Moved, Opened, Outcome, Page, Partition, PublishOptions, Queue, QueueStatus,
    Recorded, Roster, Scheduled, Settlement, Sought, Standing, Start, Tail, TailFrom, Turn, Which, bookmark, forsaken,
    lead,
    metrics::{self, GroupLabels},
    presence::{self, Members, Presence, Room, Scope, Told},
    receipt::{self, Wanted},
    sys,
};

const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Users whose last transition is looked up at once.
const AT_ONCE: usize = 32;

/// A handle on a bus, whatever its backend. Clones share it.
#[derive(Clone)]
pub struct Bus(Arc<dyn Backend>, Arc<Wanted>);

impl Bus {
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend), Arc::default())
    }

    /// Records events, `stored`. Events of one queue and partition are recorded all or none, in their order; the answer
    /// has one outcome an event. At most 256 events and 1 MiB.
    pub async fn publish(&self, events: Vec<Envelope>) -> Result<Vec<Outcome>, Error> {
        self.publish_with(events, PublishOptions::default()).await
    }

    /// [`Bus::publish`] with a level of confirmation, a producer's numbers, an expected lineage.
    pub async fn publish_with(&self, events: Vec<Envelope>, options: PublishOptions) -> Result<Vec<Outcome>, Error> {
        // Before they are recorded, so that whatever becomes of them, somebody tells.
        for queue in self.1.unknown(&events) {
            self.0.declare_group(receipt::group(&queue)?).await?;
            self.1.add(queue);
        }
        let queues: Vec<Name> = events.iter().map(|event| event.queue.clone()).collect();
        let asked = options.confirm;
        let published = self.0.publish(events, options).await;
        metrics::published(&queues, asked, &published);
        published
    }

    /// Where a key's events go. A queue that isn't there yet counts as one of the default settings.
    pub async fn partition(&self, queue: &Name, key: &str) -> Result<Partition, Error> {
        self.0.partition(queue, key).await
    }

    /// The lineages of a partition; none while the queue isn't there.
    pub async fn lineages(&self, queue: &Name, partition: u32) -> Result<Arc<Lineages>, Error> {
        self.0.lineages(queue, partition).await
    }

    /// The current lineage of a partition; none while the queue isn't there.
    pub async fn lineage(&self, queue: &Name, partition: u32) -> Result<Option<Lineage>, Error> {
        Ok(self.lineages(queue, partition).await?.current())
    }

    /// Makes a queue, or changes its settings; a publish makes one with the defaults. Partitions can't change any more
    /// once it has events ([`Error::Conflict`]).
    pub async fn declare_queue(&self, queue: Queue) -> Result<(), Error> {
        self.0.declare_queue(queue).await
    }

    /// Makes a group, or changes its settings; [`crate::Consumer`] does. `start` counts only the first time.
    pub async fn declare_group(&self, group: Group) -> Result<(), Error> {
        self.0.declare_group(group).await
    }

    /// Forgets a group: its place, what it had not settled, its dead letters. One that isn't there is forgotten already. Its
    /// members stop before: one that runs declares it anew.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        self.0.delete_group(group).await
    }

    /// Takes the lease of this name, or has it longer, as long as nobody else does; None where somebody else has it. The name
    /// has 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'; the time is 1 s to 12 h, of the server's clock. Whoever had it before
    /// may not know yet: what it does must carry its [`Fence`].
    pub async fn lead(&self, name: &str, holder: &str, time: Duration) -> Result<Option<Fence>, Error> {
        lead::check(name, time)?;
        self.0.lead(name, holder, time).await
    }

    /// Gives the lease back, if it is this holder's.
    pub async fn resign(&self, name: &str, holder: &str) -> Result<(), Error> {
        self.0.resign(name, holder).await
    }

    /// From now on no publish into the queue is heard that carries an earlier number of the lease; false where a later one was
    /// seen. A publish shuts out likewise, in its own partition alone.
    pub async fn shut_out(&self, queue: &Name, fence: &Fence) -> Result<bool, Error> {
        self.0.shut_out(queue, fence).await
    }

    /// Leases events to a member of a group, at once; [`crate::Consumer`] does this for a handler. Where the future is
    /// dropped before it is ready, what was leased is given back, and no attempt counted.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, Error> {
        forsaken::UnderWay::new(self.0.clone(), claim).await
    }

    /// Settles deliveries by their tokens; an outcome each, in their order.
    pub async fn settle(&self, group: &str, settlements: Vec<Settlement>) -> Result<Vec<Result<(), LeaseLost>>, Error> {
        self.0.settle(group, settlements).await
    }

    /// Changes when a claim of the group may get something that it didn't get before.
    pub fn claimable(&self, group: &str) -> watch::Receiver<u64> {
        self.0.claimable(group)
    }

    /// What a partition holds from a position on, at most `limit` events; [`Bus::tail`] does this for a reader.
    pub async fn read(&self, queue: &Name, partition: u32, from: u64, limit: usize) -> Result<Page, Error> {
        self.0.read(queue, partition, from, limit).await
    }

    /// A key's last event that the queue keeps; its position is the version that an event may expect of the key.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the queue isn't `latest`, [`Error::NoQueue`] where it isn't there.
    pub async fn latest(&self, queue: &Name, key: &str) -> Result<Option<Logged>, Error> {
        self.0.latest(queue, key).await
    }

    /// The events of a partition that are the last of their key, in their order, after a position (0: from the first);
    /// at most `limit`, and at most 1,000. Who pages until nothing comes and then reads on from the first page's `next`
    /// knows every key: one that changes meanwhile comes again, later.
    ///
    /// # Errors
    /// As [`Bus::latest`].
    pub async fn latest_page(&self, queue: &Name, partition: u32, after: u64, limit: usize) -> Result<Page, Error> {
        self.0.latest_page(queue, partition, after, limit).await
    }

    /// Where an event was recorded, or when it is due, by its source and id; as far back as the queue's dedupe window
    /// reaches.
    pub async fn find(&self, queue: &Name, source: &str, id: &str) -> Result<Option<Recorded>, Error> {
        self.0.find(queue, source, id).await
    }

    /// Takes an event back that waits for its time, by its source and id; whether one did. After it, whichever the
    /// answer, none waits. It may be scheduled anew.
    pub async fn cancel(&self, queue: &Name, source: &str, id: &str) -> Result<bool, Error> {
        self.0.cancel(queue, source, id).await
    }

    /// The events of a queue that wait for their time, after a turn, by partition, time and arrival; at most `limit`, and
    /// at most 1,000. Nothing where the queue isn't there.
    pub async fn scheduled(&self, queue: &Name, after: Option<Turn>, limit: usize) -> Result<Vec<Scheduled>, Error> {
        self.0.scheduled(queue, after, limit).await
    }

    /// Follows a queue without a group.
    pub async fn tail(&self, filter: Filter, from: TailFrom) -> Result<Tail, Error> {
        Tail::new(self.clone(), filter, from).await
    }

    /// Where an event stands with each group on its queue, by the group's name.
    pub async fn standing(
        &self,
        queue: &Name,
        partition: u32,
        position: u64,
    ) -> Result<BTreeMap<String, Standing>, Error> {
        self.0.standing(queue, partition, position).await
    }

    /// Changes when events of the queue were settled, by any group: a hint, which may come up to a second late.
    pub fn settled(&self, queue: &Name) -> watch::Receiver<u64> {
        self.0.settled(queue)
    }

    /// How long an answer of Redis takes of late; None: the bus is in this process.
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.round_trip()
    }

    /// Opens a user's bookmark of this name for what the filter says, and makes it where there is none. From now on whoever
    /// has the `holder` moves it, and nobody who opened it before. It is kept for seven days after it was opened or moved
    /// last.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the user has 64 others, [`Error::Invalid`] where a text is empty or too long.
    pub async fn open_bookmark(&self, user: &str, name: &str, filter: &str) -> Result<Opened, Error> {
        bookmark::check(user, name, filter)?;
        self.0.open_bookmark(user, name, filter).await
    }

    /// Moves bookmarks, each for its holder; an outcome each, in their order.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a cursor is empty or longer than 512 KiB: then nothing was moved.
    pub async fn move_bookmarks(&self, moves: Vec<Move>) -> Result<Vec<Moved>, Error> {
        bookmark::check_moves(&moves)?;
        if moves.is_empty() { Ok(Vec::new()) } else { self.0.move_bookmarks(moves).await }
    }

    /// A user's bookmarks, by name: at most 64.
    pub async fn bookmarks(&self, user: &str) -> Result<Vec<Bookmark>, Error> {
        self.0.bookmarks(user).await
    }

    /// Removes a user's bookmark; whether there was one. Nobody moves it any more.
    pub async fn remove_bookmark(&self, user: &str, name: &str) -> Result<bool, Error> {
        self.0.remove_bookmark(user, name).await
    }

    /// Who holds each of these bookmarks, (user, name), in their order, as [`Opened`] said it; None: there is none.
    pub async fn bookmark_holders(&self, which: Vec<(String, String)>) -> Result<Vec<Option<u64>>, Error> {
        if which.is_empty() { Ok(Vec::new()) } else { self.0.bookmark_holders(which).await }
    }

    /// What time it is, about, by the clock that events expire by.
    pub fn now(&self) -> OffsetDateTime {
        self.0.now()
    }

    /// Who is connected in this process, and where whoever connects is put down.
    pub fn roster(&self) -> &Roster {
        self.0.roster()
    }

    /// Who is connected, in every process on this bus; another process's changes show within seconds.
    pub async fn connections(&self) -> Result<Vec<Connection>, Error> {
        self.0.connections().await
    }

    /// Tells a partition of `PRESENCE` or `ROOMS` who attends; [`crate::Attendance`] does.
    pub async fn attend(&self, queue: &Name, partition: u32, told: Told) -> Result<Attended, Error> {
        self.0.attend(queue, partition, told).await
    }

    /// Whether users are online, in the order they are asked for. When one that isn't was seen last is known as long as
    /// the queue `PRESENCE` keeps its last event.
    pub async fn online(&self, users: &[String]) -> Result<Vec<Presence>, Error> {
        let attendees = self.0.attending(&Scope::Bus, users).await?;
        let shown = users.iter().zip(attendees).map(|(user, attendee)| async move {
            Ok(match attendee {
                Some(attendee) => Presence::of(user, &attendee),
                None => Presence::away(user, self.last(&presence::presence(), user).await?.as_ref()),
            })
        });
        stream::iter(shown.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect().await
    }

    /// Who is in a room: some of them, about `limit`, after what the page before gave as next. Nobody is, where the room isn't
    /// there.
    ///
    /// # Errors
    /// [`Error::Invalid`] where no page gave such an `after`.
    pub async fn members(&self, room: &Room, after: Option<&str>, limit: usize) -> Result<Members, Error> {
        self.0.members(room, after, limit).await
    }

    /// A room's last event that the queue `ROOMS` keeps; None: nothing ever happened there, or too long ago.
    pub async fn last_in(&self, room: &Room) -> Result<Option<Logged>, Error> {
        self.last(&presence::rooms(), room.as_str()).await
    }

    /// A key's last event; nothing of a queue that isn't there, or doesn't keep it.
    async fn last(&self, queue: &Name, key: &str) -> Result<Option<Logged>, Error> {
        match self.0.latest(queue, key).await {
            Err(Error::NoQueue(_) | Error::Invalid(_)) => Ok(None),
            last => last,
        }
    }

    /// A queue's settings; None: it isn't there.
    pub async fn queue(&self, name: &Name) -> Result<Option<Queue>, Error> {
        self.0.queue(name).await
    }

    pub async fn queues(&self) -> Result<Vec<QueueStatus>, Error> {
        self.0.queues().await
    }

    pub async fn groups(&self) -> Result<Vec<GroupStatus>, Error> {
        self.0.groups().await
    }

    /// A group's dead letters after (partition, position), in that order; at most `limit`, and at most 1,000.
    pub async fn dead_letters(&self, group: &str, after: (u32, u64), limit: usize) -> Result<Vec<DeadLetter>, Error> {
        self.0.dead_letters(group, after, limit).await
    }

    /// Gives dead letters to their group again (and to no other), as if they had never failed, a hundred a second; how
    /// many. Those beyond what a group may leave unsettled stay.
    pub async fn redrive(&self, group: &str, which: Which) -> Result<u64, Error> {
        self.0.redrive(group, which).await
    }

    /// Forgets dead letters; how many.
    pub async fn discard(&self, group: &str, which: Which) -> Result<u64, Error> {
        self.0.discard(group, which).await
    }

    /// Has events come at once that wait for another attempt; how many. Others of those named are left out.
    pub async fn hurry(&self, group: &str, which: Which) -> Result<u64, Error> {
        self.0.hurry(group, which).await
    }

    /// Moves a group: its leases are lost, its retries dropped. With `dry_run` it only says what would happen.
    pub async fn seek(&self, group: &str, to: Start, dry_run: bool) -> Result<Sought, Error> {
        self.0.seek(group, to, dry_run).await
    }

    /// Tells of something in the queue `SYS`, which clients can't write. Of several with the same id the first counts.
    pub async fn tell(&self, event: &Name, id: &str, at: OffsetDateTime, data: Value) -> Result<(), Error> {
        self.tell_all(vec![sys::envelope(event, id, at, data)]).await
    }

    pub(crate) async fn tell_all(&self, envelopes: Vec<Envelope>) -> Result<(), Error> {
        if envelopes.is_empty() {
            return Ok(());
        }
        let queue = sys::queue();
        if self.lineage(&queue.name, 0).await?.is_none() {
            self.declare_queue(queue).await?;
        }
        let mut outcomes = self.publish(envelopes).await?.into_iter();
        outcomes.try_for_each(|outcome| outcome.map(drop).map_err(|refused| Error::Invalid(refused.to_string())))
    }

    /// Tells the gauges of every group and queue every five seconds until `drain`. On a bus that several processes share, each of
    /// them may: a group whose members are all gone must be told of by somebody else. The embedded bus does it by itself.
    pub async fn report(&self, drain: CancellationToken) {
        let mut due = tokio::time::interval(REPORT_EVERY);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                _ = due.tick() => {}
            }
            if let Err(error) = self.report_once().await {
                tracing::debug!(%error, "the groups can't be told of at the moment");
            }
        }
    }

    async fn report_once(&self) -> Result<(), Error> {
        for status in self.groups().await? {
            // The one with the lowest position is the oldest, or near it.
            let oldest = if status.dead > 0 { self.dead_letters(&status.name, (0, 0), 1).await? } else { Vec::new() };
            GroupLabels::new(&status.name).gauges(&status, oldest.first().map(|letter| letter.died));
        }
        self.queues().await?.iter().for_each(metrics::queue);
        Ok(())
    }

    /// The queues whose events want receipts.
    pub(crate) fn receipts(&self) -> &Wanted {
        &self.1
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.0.as_ref()
    }
}
