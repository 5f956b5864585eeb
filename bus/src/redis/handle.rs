//! The handle on a bus in Redis: the [`Backend`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use events::{Envelope, Name};
use redial::Address;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Options, attendance, bookmark, group, guard, keys::Keys, latest, lead, log, node, offer, publish, queue, retention,
    schedule, server::Server, shared::Shared, sys, wake,
};
use crate::{
    Attended, Backend, Bookmark, Claim, Claimed, Connection, DeadLetter, Error, Fence, Group, GroupStatus, LeaseLost,
    Lineages, Logged, Move, Moved, Opened, Outcome, Page, Partition, PublishOptions, Queue, QueueStatus, Recorded,
    Roster, Scheduled, Settlement, Sought, Standing, Start, Turn, Which,
    clock::moment,
    metrics,
    presence::{Attendee, Members, Room, Scope, Told},
};

/// A bus on Redis. Clones share it; the last one that goes closes it.
#[derive(Clone)]
pub struct Redis {
    pub(super) shared: Arc<Shared>,
    _open: Arc<DropGuard>,
}

impl Redis {
    /// # Errors
    /// If nobody answers, or the server is older than 7.0, evicts keys or is a replica; if the address or the namespace is
    /// none.
    pub async fn open<A>(address: A, options: Options) -> anyhow::Result<Self>
    where
        A: TryInto<Address, Error: Into<anyhow::Error>>,
    {
        let address = address.try_into().map_err(Into::into).context("the address of Redis")?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let namespace = &options.namespace;
        anyhow::ensure!(
            (1..=64).contains(&namespace.len()) && namespace.bytes().all(allowed),
            "namespace: {namespace:?} is not 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'"
        );
        let server = Server::connect(address).await?;
        guard::check(&server, &Keys::new(&options.namespace)).await?;
        let closed = CancellationToken::new();
        let shared = Arc::new(Shared::new(server, options, closed.clone()));
        offer::learn(&shared).await?;
        shared.refresh().await?;
        tokio::spawn(wake::listen(shared.clone()));
        tokio::spawn(wake::look(shared.clone()));
        tokio::spawn(guard::watch(shared.clone()));
        tokio::spawn(node::tell(shared.clone()));
        tokio::spawn(retention::run(shared.clone()));
        tokio::spawn(sys::run(shared.clone()));
        tokio::spawn(schedule::run(shared.clone()));
        Ok(Self { shared, _open: Arc::new(closed.drop_guard()) })
    }

    /// The nodes of this bus that stopped telling without a word, as killed ones do, within the hour; and how long ago.
    ///
    /// # Errors
    /// If Redis is away.
    pub async fn silent_nodes(&self) -> Result<Vec<(String, Duration)>, Error> {
        let silent = node::silent(&self.shared).await?;
        Ok(silent.into_iter().map(|(node, millis)| (node, Duration::from_millis(millis.unsigned_abs()))).collect())
    }

    /// Does now what is otherwise done once a second, ten seconds or a minute: looks at the server, ends leases and delays,
    /// trims, forgets, tells. For tests that move the clock.
    ///
    /// # Errors
    /// If Redis is away.
    pub async fn housekeep(&self) -> Result<(), Error> {
        guard::look_now(&self.shared).await?;
        schedule::pass(&self.shared).await?;
        group::tick(&self.shared).await?;
        retention::pass(&self.shared).await?;
        group::housekeep(&self.shared).await?;
        sys::carry(&self.shared).await
    }
}

#[async_trait]
impl Backend for Redis {
    async fn declare_queue(&self, queue: Queue) -> Result<(), Error> {
        queue::declare(&self.shared, queue).await
    }

    async fn declare_group(&self, group: Group) -> Result<(), Error> {
        group::declare(&self.shared, group).await
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        group::delete(&self.shared, group).await
    }

    async fn publish(&self, events: Vec<Envelope>, options: PublishOptions) -> Result<Vec<Outcome>, Error> {
        let began = std::time::Instant::now();
        let outcomes = publish::publish(&self.shared, events, options).await;
        metrics::publish_took(began.elapsed());
        outcomes
    }

    async fn partition(&self, queue: &Name, key: &str) -> Result<Partition, Error> {
        Ok(Partition::of(key, self.shared.find_queue(queue).await?.map_or(1, |queue| queue.partitions)))
    }

    async fn lineages(&self, queue: &Name, partition: u32) -> Result<Arc<Lineages>, Error> {
        queue::lineages(&self.shared, queue, partition).await
    }

    async fn lead(&self, name: &str, holder: &str, time: Duration) -> Result<Option<Fence>, Error> {
        lead::take(&self.shared, name, holder, time).await
    }

    async fn resign(&self, name: &str, holder: &str) -> Result<(), Error> {
        lead::give_back(&self.shared, name, holder).await
    }

    async fn shut_out(&self, queue: &Name, fence: &Fence) -> Result<bool, Error> {
        lead::shut_out(&self.shared, queue, fence).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, Error> {
        group::claim(&self.shared, claim).await
    }

    async fn settle(&self, group: &str, settlements: Vec<Settlement>) -> Result<Vec<Result<(), LeaseLost>>, Error> {
        group::settle(&self.shared, group, settlements).await
    }

    fn claimable(&self, group: &str) -> watch::Receiver<u64> {
        self.shared.wakes.claimable.watch(&group.to_owned())
    }

    async fn read(&self, queue: &Name, partition: u32, from: u64, limit: usize) -> Result<Page, Error> {
        log::page(&self.shared, queue, partition, from, limit).await
    }

    fn appended(&self, queue: &Name) -> watch::Receiver<u64> {
        self.shared.wakes.appended.watch(queue)
    }

    async fn position_at(&self, queue: &Name, partition: u32, start: Start) -> Result<u64, Error> {
        log::position_at(&self.shared, queue, partition, start).await
    }

    async fn latest(&self, queue: &Name, key: &str) -> Result<Option<Logged>, Error> {
        latest::one(&self.shared, queue, key).await
    }

    async fn latest_page(&self, queue: &Name, partition: u32, after: u64, limit: usize) -> Result<Page, Error> {
        latest::page(&self.shared, queue, partition, after, limit).await
    }

    async fn find(&self, queue: &Name, source: &str, id: &str) -> Result<Option<Recorded>, Error> {
        schedule::find(&self.shared, queue, source, id).await
    }

    async fn cancel(&self, queue: &Name, source: &str, id: &str) -> Result<bool, Error> {
        schedule::cancel(&self.shared, queue, source, id).await
    }

    async fn scheduled(&self, queue: &Name, after: Option<Turn>, limit: usize) -> Result<Vec<Scheduled>, Error> {
        schedule::scheduled(&self.shared, queue, after, limit).await
    }

    async fn standing(&self, queue: &Name, partition: u32, position: u64) -> Result<BTreeMap<String, Standing>, Error> {
        group::standing(&self.shared, queue, partition, position).await
    }

    fn settled(&self, queue: &Name) -> watch::Receiver<u64> {
        self.shared.wakes.settled.watch(queue)
    }

    async fn open_bookmark(&self, user: &str, name: &str, filter: &str) -> Result<Opened, Error> {
        bookmark::open(&self.shared, user, name, filter).await
    }

    async fn move_bookmarks(&self, moves: Vec<Move>) -> Result<Vec<Moved>, Error> {
        bookmark::shift(&self.shared, &moves).await
    }

    async fn bookmarks(&self, user: &str) -> Result<Vec<Bookmark>, Error> {
        bookmark::list(&self.shared, user).await
    }

    async fn remove_bookmark(&self, user: &str, name: &str) -> Result<bool, Error> {
        bookmark::remove(&self.shared, user, name).await
    }

    async fn bookmark_holders(&self, which: Vec<(String, String)>) -> Result<Vec<Option<u64>>, Error> {
        bookmark::holders(&self.shared, &which).await
    }

    fn now(&self) -> OffsetDateTime {
        moment(self.shared.now())
    }

    fn roster(&self) -> &Roster {
        &self.shared.roster
    }

    fn round_trip(&self) -> Option<Duration> {
        Some(self.shared.server.pace())
    }

    async fn silent(&self) -> Result<Vec<String>, Error> {
        Ok(node::silent(&self.shared).await?.into_iter().map(|(node, _)| node).collect())
    }

    async fn connections(&self) -> Result<Vec<Connection>, Error> {
        node::connections(&self.shared).await
    }

    async fn attend(&self, queue: &Name, partition: u32, told: Told) -> Result<Attended, Error> {
        attendance::attend(&self.shared, queue, partition, told).await
    }

    async fn attending(&self, scope: &Scope, users: &[String]) -> Result<Vec<Option<Attendee>>, Error> {
        attendance::attending(&self.shared, scope, users).await
    }

    async fn members(&self, room: &Room, after: Option<&str>, limit: usize) -> Result<Members, Error> {
        attendance::members(&self.shared, room, after, limit).await
    }

    async fn queue(&self, name: &Name) -> Result<Option<Queue>, Error> {
        Ok(self.shared.find_queue(name).await?.map(|queue| (*queue).clone()))
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>, Error> {
        queue::statuses(&self.shared).await
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>, Error> {
        group::statuses(&self.shared).await
    }

    async fn dead_letters(&self, group: &str, after: (u32, u64), limit: usize) -> Result<Vec<DeadLetter>, Error> {
        group::dead_letters(&self.shared, group, after, limit).await
    }

    async fn redrive(&self, group: &str, which: Which) -> Result<u64, Error> {
        group::redrive(&self.shared, group, which).await
    }

    async fn discard(&self, group: &str, which: Which) -> Result<u64, Error> {
        group::discard(&self.shared, group, which).await
    }

    async fn hurry(&self, group: &str, which: Which) -> Result<u64, Error> {
        group::hurry(&self.shared, group, which).await
    }

    async fn seek(&self, group: &str, to: Start, dry_run: bool) -> Result<Sought, Error> {
        group::seek(&self.shared, group, to, dry_run).await
    }
}
