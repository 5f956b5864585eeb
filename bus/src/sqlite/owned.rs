//! What the writer thread owns: the connection and the state in memory, which is the database's content and is loaded
//! from it. A batch of jobs is one transaction; where it fails, everything is loaded anew.

use std::{
    collections::{BTreeMap, HashMap},
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use events::Name;
use rand::{Rng as _, rngs::StdRng};
use rusqlite::{Connection, params};
use serde_json::Value;

use super::{
    attendance, dedupe::Window, housekeep::Keeping, lead::Leads, load, log::Log, producer::Producers,
    schedule::Waiting, shared::Shared, store,
};
use crate::{Error, Group, Queue, clock::Forward, ledger::Ledger, metrics};

pub(super) struct Owned {
    pub(super) conn: Connection,
    pub(super) clock: Forward,
    pub(super) rng: StdRng,
    pub(super) queues: HashMap<Name, QueueState>,
    pub(super) groups: BTreeMap<String, GroupState>,
    pub(super) shared: Arc<Shared>,
    pub(super) dedupe_capacity: usize,
    /// Events of a partition that wait for their time at most.
    pub(super) scheduled_capacity: usize,
    /// When the next pass of housekeeping is due.
    pub(super) housekeeping_due: i64,
    pub(super) keeping: Keeping,
    pub(super) attendance: attendance::Clock,
    pub(super) leads: Leads,
    /// What the open transaction has to tell in the queue SYS: an event's name and its data.
    pub(super) told: Vec<(&'static str, Value)>,
    /// A transaction failed: the state in memory is not the database's.
    pub(super) stale: bool,
}

pub(super) struct QueueState {
    pub(super) settings: Queue,
    pub(super) partitions: Vec<PartitionState>,
}

pub(super) struct PartitionState {
    pub(super) log: Log,
    pub(super) dedupe: Window,
    pub(super) producers: Producers,
    /// When what is told rarely was told last, by event.
    pub(super) told: HashMap<&'static str, i64>,
    pub(super) waiting: Waiting,
}

pub(super) struct GroupState {
    /// Of the row in `consumer_group`.
    pub(super) id: i64,
    pub(super) group: Group,
    pub(super) generation: u32,
    /// One a partition.
    pub(super) ledgers: Vec<Ledger>,
    /// The partition that the next claim begins with.
    pub(super) turn: usize,
    /// A settlement or the time made something claimable.
    pub(super) woken: bool,
    /// Where events stand with it changed.
    pub(super) settled: bool,
    /// When a member last asked for something, about; 0: nobody knows.
    pub(super) claimed: i64,
    /// When it lost its hold on the log.
    pub(super) abandoned: Option<i64>,
    pub(super) deaths: Deaths,
    pub(super) labels: metrics::GroupLabels,
}

/// Dead letters that were not told of yet.
#[derive(Default)]
pub(super) struct Deaths {
    pub(super) count: i64,
    /// When they last were.
    pub(super) told: i64,
    /// The count isn't the file's.
    pub(super) is_new: bool,
}

/// What a job comes to: the transaction failed, the caller is refused, or this.
pub(super) type Answer<T, E = Error> = rusqlite::Result<Result<T, E>>;

/// Answers a job once its transaction is over.
pub(super) type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

type Work = Box<dyn FnOnce(&mut Owned, i64) -> rusqlite::Result<Reply> + Send>;

pub(super) struct Job {
    /// Its transaction must be on disk before it is answered.
    pub(super) fsync: bool,
    pub(super) work: Work,
}

impl Owned {
    /// Does the jobs in one transaction, then answers them.
    pub(super) fn run(&mut self, jobs: Vec<Job>) {
        let fsync = jobs.iter().any(|job| job.fsync);
        let mut replies = Vec::with_capacity(jobs.len());
        // A panic ends a transaction as an error does: the thread is the only one there is.
        let done = panic::catch_unwind(AssertUnwindSafe(|| self.transact(jobs, fsync, &mut replies)));
        match done.unwrap_or_else(|_| Err(rusqlite::Error::UnwindingPanic)) {
            Ok(()) => {
                self.show();
                replies.into_iter().for_each(|reply: Reply| reply(Ok(())));
            }
            Err(error) => {
                tracing::error!(%error, "a transaction of the bus failed");
                let unavailable = Error::Unavailable(error.to_string());
                self.stale = true;
                if let Err(error) = self.reload() {
                    tracing::error!(%error, "the bus can't read its file");
                }
                replies.into_iter().for_each(|reply: Reply| reply(Err(unavailable.clone())));
            }
        }
    }

    fn transact(&mut self, jobs: Vec<Job>, fsync: bool, replies: &mut Vec<Reply>) -> rusqlite::Result<()> {
        if self.stale {
            self.reload()?;
        }
        if fsync {
            self.conn.pragma_update(None, "synchronous", "FULL")?;
        }
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        let now = self.clock.now();
        self.expire(now)?;
        self.housekeep(now)?;
        self.deliver(now)?;
        self.let_go(now)?;
        for job in jobs {
            replies.push((job.work)(self, now)?);
        }
        self.tell(now)?;
        store::ledgers(self)?;
        self.conn.execute_batch("COMMIT")?;
        if fsync {
            self.conn.pragma_update(None, "synchronous", "NORMAL")?;
        }
        Ok(())
    }

    /// Lets readers and members see what was committed.
    fn show(&mut self) {
        for (name, queue) in &mut self.queues {
            let mut appended = false;
            for partition in &mut queue.partitions {
                appended |= partition.log.committed();
            }
            if appended {
                self.shared.wakes.appended.wake(name);
                for group in self.groups.values_mut().filter(|group| group.group.filter.queue == *name) {
                    group.woken = true;
                }
            }
        }
        for (name, group) in &mut self.groups {
            group.labels.lost(group.ledgers.iter_mut().map(Ledger::take_lost).sum());
            if std::mem::take(&mut group.woken) {
                self.shared.wakes.claimable.wake(name);
            }
            if std::mem::take(&mut group.settled) {
                self.shared.wakes.settled.wake(&group.group.filter.queue);
            }
        }
    }

    /// Loads the state anew after a transaction that failed: the one in memory is ahead of the database's.
    fn reload(&mut self) -> rusqlite::Result<()> {
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        self.conn.pragma_update(None, "synchronous", "NORMAL")?;
        self.told.clear();
        self.keeping = Keeping::load(&self.conn)?;
        self.attendance.reload(&self.conn)?;
        (self.queues, self.groups) = load::load(&self.conn, self.dedupe_capacity, self.clock.now())?;
        self.shared.replace(&self.queues);
        self.stale = false;
        Ok(())
    }

    /// Loads the state, and begins a new lineage in every partition: what the file's last owner wrote at its end may be
    /// lost, and a file that was restored can't know that it is old. Leases end: that owner was their holder.
    pub(super) fn begin_life(&mut self) -> rusqlite::Result<()> {
        if let Some(recorded) = load::last_recorded(&self.conn)? {
            self.clock.not_before(recorded);
        }
        self.reload()?;
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        for (name, queue) in &mut self.queues {
            for partition in &mut queue.partitions {
                load::new_lineage(&self.conn, &mut partition.log, random_id(&mut self.rng))?;
                partition.log.committed();
                metrics::lineage_changed(name);
            }
        }
        for ledger in self.groups.values_mut().flat_map(|group| &mut group.ledgers) {
            ledger.expire_all();
        }
        let now = self.clock.now();
        self.attendance.begin_life(&self.conn, now)?;
        self.expire(now)?;
        store::ledgers(self)?;
        self.conn.execute_batch("COMMIT")
    }

    /// Whether something ended by itself, or housekeeping is due.
    pub(super) fn is_due(&mut self) -> bool {
        self.until_due() == 0 || self.stale || self.clock.now() >= self.housekeeping_due
    }

    pub(super) fn close(self) {
        if let Err((_, error)) = self.conn.close() {
            tracing::warn!(%error, "the bus's file was not closed");
        }
    }

    /// Until something ends by itself, in milliseconds; at most a second, so that a clock that jumps is noticed.
    pub(super) fn until_due(&mut self) -> u64 {
        if self.stale {
            return 1000;
        }
        let now = self.clock.now();
        let ledgers = self.groups.values().flat_map(|group| &group.ledgers).filter_map(Ledger::next_due);
        let partitions = self.queues.values().flat_map(|queue| &queue.partitions);
        let grace = self.attendance.until_due(now).map(|left| now + left);
        let due = ledgers.chain(partitions.filter_map(|partition| partition.waiting.due)).chain(grace).min();
        due.map_or(1000, |due| u64::try_from(due.saturating_sub(now)).unwrap_or(0).min(1000))
    }
}

/// Never 0, fits an i64.
pub(super) fn random_id(rng: &mut StdRng) -> u64 {
    rng.random_range(1..=i64::MAX as u64)
}

impl Owned {
    pub(super) fn log(&self, queue: &Name, number: usize) -> Option<&Log> {
        Some(&self.queues.get(queue)?.partitions.get(number)?.log)
    }
}

impl GroupState {
    /// A member asks for something: the group isn't abandoned. It is written down much less often than the group may be
    /// away.
    pub(super) fn show(&mut self, conn: &Connection, max_age: Duration, now: i64) -> rusqlite::Result<()> {
        let every = i64::try_from(max_age.as_millis() / 8).unwrap_or(i64::MAX).min(60_000);
        if self.abandoned.is_some() || now - self.claimed >= every {
            (self.claimed, self.abandoned) = (now, None);
            conn.prepare_cached("UPDATE consumer_group SET claimed = ?2, abandoned = NULL WHERE id = ?1")?
                .execute(params![self.id, now])?;
        }
        Ok(())
    }

    /// Leases that a member holds, over all partitions.
    pub(super) fn held(&self, member: &str) -> usize {
        self.ledgers.iter().map(|ledger| ledger.held(member)).sum()
    }
}
