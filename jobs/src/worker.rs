//! A worker: claims tasks of the kinds it knows, 16 : 4 : 1 by priority, and has their handlers work on them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bus::{Claim, Group, Joined, Leased, Mode, Subscription, Transport};
use events::Filter;
use futures_util::future::select_all;
use lifecycle::Shutdown;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::Instant,
};

use crate::{
    Error, Handler, Jobs, Kind, Priority, Retry, event,
    handler::{Untyped, untyped},
    kind::{self, LONGEST_TIMEOUT},
    live::Live,
    metrics,
    share::Share,
    work::{Attempt, Desk},
};

const CONCURRENCY: usize = 16;
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// Asks again after this long without a wake-up.
pub(crate) const IDLE: Duration = Duration::from_secs(5);
/// Asks a bus that is away again after this long.
const BACKOFF: Duration = Duration::from_secs(1);
/// The most kinds of a worker: each is three groups.
const MOST_KINDS: usize = 100;

/// Works on tasks. Any number may, in any number of processes; each kind's tasks are shared by the workers that know it.
pub struct Worker {
    jobs: Jobs,
    concurrency: usize,
    lease: Duration,
    role: Option<&'static str>,
    kinds: Vec<Registered>,
}

/// A kind, and what works on it.
pub(crate) struct Registered {
    pub name: &'static str,
    pub timeout: Duration,
    pub retry: Retry,
    pub concurrency: usize,
    pub handler: Untyped,
}

impl Worker {
    /// One that knows nothing yet; sixteen tasks at once, leases of 30 s.
    pub fn new(jobs: &Jobs) -> Self {
        Self { jobs: jobs.clone(), concurrency: CONCURRENCY, lease: LEASE, role: None, kinds: Vec::new() }
    }

    /// The most tasks at once, 1 to 1,000.
    #[must_use]
    pub fn concurrency(mut self, most: usize) -> Self {
        self.concurrency = most;
        self
    }

    /// After how long the tasks of a worker that died are somebody else's; 1 s to 12 h. It extends its leases while it lives.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The role that it works for, as traces tell it.
    #[must_use]
    pub fn role(mut self, role: &'static str) -> Self {
        self.role = Some(role);
        self
    }

    /// Has a handler work on tasks of a kind.
    #[must_use]
    pub fn register<I, O>(mut self, kind: Kind<I, O>, handler: impl Handler<I, O>) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
    {
        let Kind { name, timeout, retry, concurrency, .. } = kind;
        self.kinds.push(Registered { name, timeout, retry, concurrency, handler: untyped(handler) });
        self
    }

    /// Works, and looks after jobs ([`Jobs::tend`]), until the shutdown drains: then it claims nothing more and finishes what
    /// it has; what is unfinished when the shutdown drops is given back, uncharged. Survives a bus and a database that are
    /// away.
    ///
    /// # Errors
    /// [`Error::Invalid`] if its settings, or a kind's, are out of range.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        self.check()?;
        let (jobs, name) = (self.jobs.clone(), format!("w_{}", self.jobs.id().simple()));
        let live = Arc::new(Live::default());
        let desk = Desk {
            jobs: jobs.clone(),
            worker: name.clone(),
            role: self.role,
            lease: self.lease,
            live: live.clone(),
            dropping: shutdown.dropping().clone(),
        };
        let counter = Counter::new(self, desk);
        let tending = jobs.tend(shutdown.draining().clone());
        tokio::select! {
            ((), ()) = async { tokio::join!(counter.serve(&shutdown), tending) } => {}
            () = live.watch(&jobs, &name) => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |reason: String| Err(Error::Invalid(reason));
        if !(1..=1_000).contains(&self.concurrency) {
            return invalid(format!("concurrency: {} is not within 1 to 1,000", self.concurrency));
        }
        if self.kinds.is_empty() || self.kinds.len() > MOST_KINDS {
            return invalid(format!("kinds: {} are not within 1 to {MOST_KINDS}", self.kinds.len()));
        }
        for (at, kind) in self.kinds.iter().enumerate() {
            kind::check(kind.name)?;
            kind.retry.validate()?;
            if kind.timeout.is_zero() || kind.timeout > LONGEST_TIMEOUT || kind.concurrency == 0 {
                return invalid(format!("kind: {}: its timeout or its concurrency is out of range", kind.name));
            }
            if self.kinds[..at].iter().any(|other| other.name == kind.name) {
                return invalid(format!("kind: {} is registered twice", kind.name));
            }
        }
        self.kinds.iter().try_for_each(|kind| {
            group(kind.name, Priority::Normal, self.lease).validate().map_err(|error| Error::Invalid(error.to_string()))
        })
    }
}

/// The group of the workers on a kind, for tasks of a priority.
pub fn group_of(kind: &str, priority: Priority) -> String {
    event::group(kind, priority)
}

/// Whether a group of this name is one of workers: what it gets is settled here alone.
pub fn is_group(name: &str) -> bool {
    event::of_group(name).is_some()
}

/// The workers of a kind are a group in each of the three queues.
pub(crate) fn group(kind: &str, priority: Priority, lease: Duration) -> Group {
    let filter = Filter { events: Some(vec![event::name(kind)]), ..all(priority) };
    // Tasks of one job may run at once: what comes after what is decided before it is published.
    let mut group = Group::new(&event::group(kind, priority), filter, Mode::Parallel);
    group.lease = lease;
    group
}

#[expect(clippy::expect_used, reason = "a queue's name and /* is a filter")]
fn all(priority: Priority) -> Filter {
    format!("{}/*", event::queue(priority)).parse().expect("a filter")
}

/// Where tasks of one kind and priority come from.
struct Lane {
    kind: Arc<Registered>,
    /// As in [`Priority::ALL`].
    priority: usize,
    group: Group,
    claimable: watch::Receiver<u64>,
    declared: bool,
    /// Asked before then, it has nothing.
    quiet_until: Instant,
}

/// Hands out tasks.
struct Counter {
    desk: Desk,
    concurrency: usize,
    lanes: Vec<Lane>,
    /// Where the next turn of each priority begins, so that its kinds take turns.
    turns: [usize; 3],
    share: Share,
    running: JoinSet<()>,
    /// Which kind each of them is.
    kinds: HashMap<Id, &'static str>,
    _joined: Joined,
}

impl Counter {
    fn new(worker: Worker, desk: Desk) -> Self {
        let bus = desk.jobs.bus();
        let mut lanes = Vec::with_capacity(worker.kinds.len() * 3);
        for kind in worker.kinds.into_iter().map(Arc::new) {
            for (at, priority) in Priority::ALL.into_iter().enumerate() {
                let group = group(kind.name, priority, worker.lease);
                let claimable = bus.claimable(&group.name);
                let quiet_until = Instant::now();
                lanes.push(Lane { kind: kind.clone(), priority: at, group, claimable, declared: false, quiet_until });
            }
        }
        let follows = lanes.iter().map(|lane| Subscription {
            name: lane.group.name.clone(),
            filter: lane.group.filter.to_string(),
            group: Some(lane.group.name.clone()),
        });
        let joined = bus.roster().join(Transport::Member, None, None, follows.collect());
        Self {
            desk,
            concurrency: worker.concurrency,
            lanes,
            turns: [0; 3],
            share: Share::default(),
            running: JoinSet::new(),
            kinds: HashMap::new(),
            _joined: joined,
        }
    }

    async fn serve(mut self, shutdown: &Shutdown) {
        while !shutdown.draining().is_cancelled() {
            while let Some(done) = self.running.try_join_next_with_id() {
                forget(&mut self.kinds, done);
            }
            let room = self.running.len() < self.concurrency;
            if room && let Some(at) = self.next() {
                self.claim(at).await;
                continue;
            }
            metrics::running(self.running.len());
            let busy = !self.running.is_empty();
            tokio::select! {
                () = shutdown.draining().cancelled() => break,
                () = woken(&mut self.lanes), if room => {}
                Some(done) = self.running.join_next_with_id(), if busy => forget(&mut self.kinds, done),
            }
        }
        while let Some(done) = self.running.join_next_with_id().await {
            forget(&mut self.kinds, done);
        }
        metrics::running(0);
    }

    /// The lane whose turn it is, of those that may have something and whose kind has room.
    fn next(&mut self) -> Option<usize> {
        let now = Instant::now();
        let mut running: HashMap<&str, usize> = HashMap::new();
        self.kinds.values().for_each(|kind| *running.entry(kind).or_default() += 1);
        let open = |lane: &Lane| {
            let running = running.get(lane.kind.name).copied().unwrap_or(0);
            lane.quiet_until <= now && running < lane.kind.concurrency
        };
        let open: Vec<usize> = (0..self.lanes.len()).filter(|at| open(&self.lanes[*at])).collect();
        let mut hungry = [false; 3];
        open.iter().for_each(|at| hungry[self.lanes[*at].priority] = true);
        let priority = self.share.next(hungry)?;
        let turn = self.turns[priority];
        let mut of_it = open.iter().copied().filter(|at| self.lanes[*at].priority == priority);
        let chosen = of_it.clone().find(|at| *at >= turn).or_else(|| of_it.next())?;
        self.turns[priority] = chosen + 1;
        Some(chosen)
    }

    /// Asks for one task: what is claimed begins at once.
    async fn claim(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        lane.claimable.borrow_and_update();
        let bus = self.desk.jobs.bus();
        let claim = Claim { group: lane.group.name.clone(), member: self.desk.worker.clone(), max: 1, bytes: 1 << 20 };
        let claimed = async {
            if !lane.declared {
                bus.declare_group(lane.group.clone()).await?;
            }
            bus.claim(claim).await
        };
        match claimed.await {
            Ok(claimed) => {
                lane.declared = true;
                if claimed.leased.is_empty() {
                    if !claimed.more {
                        lane.quiet_until = Instant::now() + IDLE;
                    }
                    self.share.idle(lane.priority);
                }
                claimed.leased.into_iter().for_each(|leased| self.start(at, leased));
            }
            Err(error) => {
                tracing::warn!(group = lane.group.name, %error, "can't claim");
                lane.declared = false;
                lane.quiet_until = Instant::now() + BACKOFF;
            }
        }
    }

    fn start(&mut self, at: usize, leased: Leased) {
        let lane = &self.lanes[at];
        let attempt =
            Attempt { desk: self.desk.clone(), kind: lane.kind.clone(), group: lane.group.name.clone(), leased };
        let task = self.running.spawn(attempt.run());
        self.kinds.insert(task.id(), lane.kind.name);
    }
}

/// Waits until a lane that had nothing may have something.
async fn woken(lanes: &mut [Lane]) {
    let now = Instant::now();
    let quiet = lanes.iter_mut().filter(|lane| lane.quiet_until > now).map(|lane| {
        Box::pin(async move {
            // Without a sender it is looked at in its time.
            let changed = async {
                if lane.claimable.changed().await.is_err() {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = changed, if lane.declared => {}
                () = tokio::time::sleep_until(lane.quiet_until) => {}
            }
            lane.quiet_until = Instant::now();
        })
    });
    let quiet: Vec<_> = quiet.collect();
    if quiet.is_empty() {
        return std::future::pending().await;
    }
    select_all(quiet).await;
}

fn forget(kinds: &mut HashMap<Id, &'static str>, done: Result<(Id, ()), JoinError>) {
    let id = match done {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(%error, "an attempt broke off; its lease ends by itself");
            error.id()
        }
    };
    kinds.remove(&id);
}
