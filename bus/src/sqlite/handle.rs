//! The handle on the writer thread: the [`Backend`].

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use events::{Envelope, Name};
use parking_lot::Mutex;
use rusqlite::OpenFlags;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Options, bookmark, declare, latest, log,
    owned::{Answer, Job, Owned, Reply},
    seek,
    shared::{self, Shared},
    writer,
};
use crate::{
    Attended, Backend, Bookmark, Claim, Claimed, Clock, Confirm, Connection, DeadLetter, Error, Fence, Group,
    GroupStatus, LeaseLost, Lineages, Logged, Move, Moved, Opened, Outcome, Page, Partition, PublishOptions, Queue,
    QueueStatus, Recorded, Roster, Scheduled, Settlement, Sought, Standing, Start, Turn, Which, batch,
    clock::millis,
    metrics,
    presence::{Attendee, Members, Room, Scope, Told},
};

/// Requests that wait for the writer; more wait to be sent.
const WAITING: usize = 1024;
/// The most events of a page.
const PAGE: usize = 1000;

/// A bus on a SQLite file. The last handle that goes closes it.
pub struct Sqlite {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    reader: Arc<Mutex<rusqlite::Connection>>,
    roster: Roster,
    clock: Arc<dyn Clock>,
}

impl Sqlite {
    /// # Errors
    /// If another process has it open, it can't be read, or it is of another version.
    pub async fn open(path: &Path, options: Options) -> anyhow::Result<Self> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            let (jobs, receiver) = mpsc::channel(WAITING);
            let shared = Arc::new(Shared::default());
            let clock = options.clock.clone();
            writer::start(&path, options, shared.clone(), receiver)?;
            let reader = rusqlite::Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            Ok(Self { jobs, shared, reader: Arc::new(Mutex::new(reader)), roster: Roster::new(), clock })
        })
        .await?
    }

    /// Has the writer do something in its next transaction; answers once that is committed.
    async fn write<T: Send + 'static>(
        &self,
        fsync: bool,
        work: impl FnOnce(&mut Owned, i64) -> Answer<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let work = move |core: &mut Owned, now: i64| -> rusqlite::Result<Reply> {
            let result = work(core, now)?;
            Ok(Box::new(move |committed: Result<(), Error>| {
                // Whoever asked may have gone meanwhile.
                let _ = answer.send(committed.and(result));
            }))
        };
        self.jobs.send(Job { fsync, work: Box::new(work) }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| Error::Unavailable("the transaction failed".to_owned()))?
    }
}

impl Sqlite {
    /// A partition of a queue that keeps each key's last event.
    fn with_latest(&self, queue: &Name, number: u32) -> Result<shared::Partition, Error> {
        if self.shared.count(queue).is_none() {
            return Err(Error::NoQueue(queue.to_string()));
        }
        match self.shared.partition(queue, number) {
            Some(partition) if partition.latest => Ok(partition),
            Some(_) => Err(Error::not_latest(queue)),
            None => Err(Error::Invalid(format!("partition: {queue} has none with the number {number}"))),
        }
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn declare_queue(&self, queue: Queue) -> Result<(), Error> {
        self.write(false, move |core, now| declare::queue(core, queue, now)).await
    }

    async fn declare_group(&self, group: Group) -> Result<(), Error> {
        self.write(false, move |core, now| declare::group(core, group, now)).await
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let group = group.to_owned();
        self.write(false, move |core, _| declare::forget_group(core, &group)).await
    }

    async fn publish(&self, events: Vec<Envelope>, mut options: PublishOptions) -> Result<Vec<Outcome>, Error> {
        let began = std::time::Instant::now();
        if let Confirm::Replicated(_) = options.confirm {
            if !options.allow_degraded {
                return Err(Error::NotGiven("a bus in a file has no replicas".to_owned()));
            }
            options.confirm = Confirm::Stored;
        }
        let events = batch::prepare(events, millis(self.clock.now()))?;
        let fsync = options.confirm == Confirm::Fsynced;
        let outcomes = self.write(fsync, move |core, now| core.publish(events, &options, now)).await;
        metrics::publish_took(began.elapsed());
        outcomes
    }

    async fn partition(&self, queue: &Name, key: &str) -> Result<Partition, Error> {
        Ok(Partition::of(key, self.shared.count(queue).unwrap_or(1)))
    }

    async fn lineages(&self, queue: &Name, partition: u32) -> Result<Arc<Lineages>, Error> {
        let partition = self.shared.partition(queue, partition);
        Ok(partition.map(|partition| partition.view.read().lineages.clone()).unwrap_or_default())
    }

    async fn lead(&self, name: &str, holder: &str, time: Duration) -> Result<Option<Fence>, Error> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(false, move |core, now| core.lead(name, holder, time, now)).await
    }

    async fn resign(&self, name: &str, holder: &str) -> Result<(), Error> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(false, move |core, _| core.resign(&name, &holder)).await
    }

    async fn shut_out(&self, _: &Name, fence: &Fence) -> Result<bool, Error> {
        // Who has it now is known to every partition at once.
        let fence = fence.clone();
        self.write(false, move |core, _| Ok(Ok(core.leads.shuts_out(Some(&fence)).is_none()))).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, Error> {
        self.write(false, move |core, now| core.claim(&claim, now)).await
    }

    async fn settle(&self, group: &str, settlements: Vec<Settlement>) -> Result<Vec<Result<(), LeaseLost>>, Error> {
        let group = group.to_owned();
        self.write(false, move |core, now| core.settle(&group, settlements, now)).await
    }

    fn claimable(&self, group: &str) -> watch::Receiver<u64> {
        self.shared.wakes.claimable.watch(&group.to_owned())
    }

    async fn read(&self, queue: &Name, partition: u32, from: u64, limit: usize) -> Result<Page, Error> {
        let Some(partition) = self.shared.partition(queue, partition) else {
            return Ok(Page { events: Vec::new(), floor: 1, next: 1, lineages: Arc::default() });
        };
        let limit = limit.min(PAGE);
        let (recent, floor, next, lineages) = {
            let view = partition.view.read();
            (view.recent(from, limit), view.floor, view.next, view.lineages.clone())
        };
        let entries = match recent {
            Some(entries) => entries,
            None => {
                let (reader, from) = (self.reader.clone(), from.max(floor));
                tokio::task::spawn_blocking(move || log::rows(&reader.lock(), partition.id, from, next, limit))
                    .await
                    .map_err(unavailable)?
                    .map_err(unavailable)?
            }
        };
        let events = entries.into_iter().map(Logged::from).collect();
        Ok(Page { events, floor, next, lineages })
    }

    fn appended(&self, queue: &Name) -> watch::Receiver<u64> {
        self.shared.wakes.appended.watch(queue)
    }

    async fn position_at(&self, queue: &Name, partition: u32, start: Start) -> Result<u64, Error> {
        let queue = queue.clone();
        self.write(false, move |core, _| {
            let known = core.queues.get(&queue).and_then(|queue| queue.partitions.get(partition as usize));
            known.map_or(Ok(1), |partition| seek::position(&core.conn, &partition.log, start)).map(Ok)
        })
        .await
    }

    async fn latest(&self, queue: &Name, key: &str) -> Result<Option<Logged>, Error> {
        let number = self.partition(queue, key).await?.index;
        self.with_latest(queue, number)?;
        let (queue, key) = (queue.clone(), key.to_owned());
        let found = self.write(false, move |core, _| {
            let partition = core.queues.get(&queue).and_then(|queue| queue.partitions.get(number as usize));
            let Some(log) = partition.map(|partition| &partition.log) else { return Ok(Ok(None)) };
            match latest::position(&core.conn, log, &key)? {
                Some(position) => log.get(&core.conn, position).map(Ok),
                None => Ok(Ok(None)),
            }
        });
        Ok(found.await?.map(Logged::from))
    }

    async fn latest_page(&self, queue: &Name, partition: u32, after: u64, limit: usize) -> Result<Page, Error> {
        let partition = self.with_latest(queue, partition)?;
        let (floor, next, lineages) = {
            let view = partition.view.read();
            (view.floor, view.next, view.lineages.clone())
        };
        let (reader, limit) = (self.reader.clone(), limit.min(PAGE));
        let page = move || latest::page(&reader.lock(), partition.id, after, floor, limit);
        let entries = tokio::task::spawn_blocking(page).await.map_err(unavailable)?.map_err(unavailable)?;
        let events = entries.into_iter().map(Logged::from).collect();
        Ok(Page { events, floor, next, lineages })
    }

    async fn find(&self, queue: &Name, source: &str, id: &str) -> Result<Option<Recorded>, Error> {
        let (queue, source, id) = (queue.clone(), source.to_owned(), id.to_owned());
        self.write(false, move |core, now| core.find(&queue, &source, &id, now).map(Ok)).await
    }

    async fn cancel(&self, queue: &Name, source: &str, id: &str) -> Result<bool, Error> {
        let (queue, source, id) = (queue.clone(), source.to_owned(), id.to_owned());
        self.write(false, move |core, _| core.cancel(&queue, &source, &id).map(Ok)).await
    }

    async fn scheduled(&self, queue: &Name, after: Option<Turn>, limit: usize) -> Result<Vec<Scheduled>, Error> {
        let queue = queue.clone();
        self.write(false, move |core, _| core.scheduled(&queue, after, limit.min(PAGE)).map(Ok)).await
    }

    async fn standing(&self, queue: &Name, partition: u32, position: u64) -> Result<BTreeMap<String, Standing>, Error> {
        let queue = queue.clone();
        self.write(false, move |core, _| core.standing(&queue, partition, position).map(Ok)).await
    }

    fn settled(&self, queue: &Name) -> watch::Receiver<u64> {
        self.shared.wakes.settled.watch(queue)
    }

    async fn open_bookmark(&self, user: &str, name: &str, filter: &str) -> Result<Opened, Error> {
        let (user, name, filter) = (user.to_owned(), name.to_owned(), filter.to_owned());
        let open = move |core: &mut Owned, now| bookmark::open(&core.conn, &mut core.rng, (&user, &name, &filter), now);
        self.write(false, open).await
    }

    async fn move_bookmarks(&self, moves: Vec<Move>) -> Result<Vec<Moved>, Error> {
        self.write(false, move |core, now| bookmark::shift(&core.conn, &moves, now).map(Ok)).await
    }

    async fn bookmarks(&self, user: &str) -> Result<Vec<Bookmark>, Error> {
        let user = user.to_owned();
        self.write(false, move |core, now| bookmark::list(&core.conn, &user, now).map(Ok)).await
    }

    async fn remove_bookmark(&self, user: &str, name: &str) -> Result<bool, Error> {
        let (user, name) = (user.to_owned(), name.to_owned());
        self.write(false, move |core, _| bookmark::remove(&core.conn, &user, &name).map(Ok)).await
    }

    async fn bookmark_holders(&self, which: Vec<(String, String)>) -> Result<Vec<Option<u64>>, Error> {
        self.write(false, move |core, now| bookmark::holders(&core.conn, &which, now).map(Ok)).await
    }

    fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    fn roster(&self) -> &Roster {
        &self.roster
    }

    async fn connections(&self) -> Result<Vec<Connection>, Error> {
        Ok(self.roster.here())
    }

    async fn attend(&self, queue: &Name, partition: u32, told: Told) -> Result<Attended, Error> {
        let queue = queue.clone();
        self.write(false, move |core, now| core.attend(&queue, partition, &told, now)).await
    }

    async fn attending(&self, scope: &Scope, users: &[String]) -> Result<Vec<Option<Attendee>>, Error> {
        let (scope, users) = (scope.clone(), users.to_vec());
        self.write(false, move |core, _| core.attending(&scope, &users).map(Ok)).await
    }

    async fn members(&self, room: &Room, after: Option<&str>, limit: usize) -> Result<Members, Error> {
        let (room, after) = (room.clone(), after.map(str::to_owned));
        self.write(false, move |core, _| core.members(&room, after.as_deref(), limit).map(Ok)).await
    }

    async fn queue(&self, name: &Name) -> Result<Option<Queue>, Error> {
        Ok(self.shared.settings(name))
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>, Error> {
        self.write(false, |core, _| Ok(Ok(core.queue_statuses()))).await
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>, Error> {
        self.write(false, |core, _| core.group_statuses().map(Ok)).await
    }

    async fn dead_letters(&self, group: &str, after: (u32, u64), limit: usize) -> Result<Vec<DeadLetter>, Error> {
        let group = group.to_owned();
        self.write(false, move |core, _| core.dead_letters(&group, after, limit.min(PAGE))).await
    }

    async fn redrive(&self, group: &str, which: Which) -> Result<u64, Error> {
        let group = group.to_owned();
        self.write(false, move |core, now| core.redrive(&group, &which, now)).await
    }

    async fn discard(&self, group: &str, which: Which) -> Result<u64, Error> {
        let group = group.to_owned();
        self.write(false, move |core, _| core.discard(&group, &which)).await
    }

    async fn hurry(&self, group: &str, which: Which) -> Result<u64, Error> {
        let group = group.to_owned();
        self.write(false, move |core, _| core.hurry(&group, &which)).await
    }

    async fn seek(&self, group: &str, to: Start, dry_run: bool) -> Result<Sought, Error> {
        let group = group.to_owned();
        self.write(false, move |core, _| core.seek(&group, to, dry_run)).await
    }
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
}

fn gone() -> Error {
    Error::Unavailable("the bus is closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::Options;

    #[tokio::test]
    async fn a_transaction_that_panics_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let bus = Sqlite::open(&folder.path().join("bus.db"), Options::default()).await.unwrap();
        let event = |id: &str| {
            let name = |text| Name::new(text).unwrap();
            vec![Envelope::new("/services/test", name("DB"), name("CREATE")).id(id)]
        };
        bus.publish(event("1"), PublishOptions::default()).await.unwrap();

        let second = batch::prepare(event("2"), 0).unwrap();
        let work = |core: &mut Owned, now| -> Answer<()> {
            let _ = core.publish(second, &PublishOptions::default(), now)?;
            panic!("as a mistake would")
        };
        let refused = bus.write(false, work).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");

        let outcome = bus.publish(event("3"), PublishOptions::default()).await.unwrap().remove(0).unwrap();
        assert_eq!(outcome.position, Some(2), "what the panic left half done was rolled back");
    }
}
