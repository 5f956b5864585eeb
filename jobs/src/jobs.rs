//! The handle: creating jobs, asking for them, stopping, resuming and cancelling them, and schedules.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bus::{Bus, Clock, SystemClock};
use database::{Database, Url};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Created, Error, JobDetail, KEEP, Listed, Listing, NewJob, Schedule, ScheduleStatus, State,
    event::{Run, Wanted},
    machine::Machine,
    metrics,
    store::Store,
};

/// How to open jobs.
#[derive(Clone)]
pub struct Options {
    pub clock: Arc<dyn Clock>,
    /// Of ids and jitter; None: the system's randomness.
    pub seed: Option<u64>,
    /// How long a job is kept after its end.
    pub keep: Duration,
}

impl Default for Options {
    /// The system's clock and randomness; 30 days.
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), seed: None, keep: KEEP }
    }
}

/// The jobs of a bus and a database. Clones share them; any number of processes may.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    bus: Bus,
    store: Store,
    clock: Arc<dyn Clock>,
    random: Mutex<StdRng>,
    keep: Duration,
}

/// A job, or one task of it: `id.into()`, `(id, "task").into()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub job: Uuid,
    pub task: Option<String>,
}

impl Jobs {
    /// Opens the database (PostgreSQL: its schema `jobs`) and migrates it.
    ///
    /// # Errors
    /// If the database can't be opened, or is another version's.
    pub async fn open(bus: Bus, database: &Url, options: Options) -> Result<Self, Error> {
        Ok(Self::of(bus, Store::open(database).await?, options))
    }

    /// In a database that is open already and has [`crate::migrations`] among its own.
    pub fn on(bus: Bus, database: Database, options: Options) -> Self {
        Self::of(bus, Store::on(database), options)
    }

    fn of(bus: Bus, store: Store, options: Options) -> Self {
        let random = Mutex::new(options.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64));
        Self(Arc::new(Inner { bus, store, clock: options.clock, random, keep: options.keep }))
    }

    /// Creates a job, or answers the one that has its id, or its unique key and has not ended. Durable once it is answered;
    /// where the bus is away, its tasks begin when the bus is back.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::Unavailable`].
    pub async fn create(&self, job: NewJob) -> Result<Created, Error> {
        let id = job.id.unwrap_or_else(|| self.id());
        // What the bus would refuse is refused now.
        if let Some((_, task)) = job.tasks.first() {
            job.check(self.now())?;
            let (run, trace) = (Run { job: id, task: 0, run: 1 }, job.trace.as_ref());
            let (kind, owner) = (task.kind.clone(), job.owner.clone());
            let wanted = Wanted {
                run,
                kind,
                priority: job.priority,
                owner,
                traceparent: trace.map(ToString::to_string),
                tracestate: trace.and_then(|trace| trace.state().map(str::to_owned)),
            };
            wanted.envelope().check().map_err(|error| Error::Invalid(error.to_string()))?;
        }
        let created = self.0.store.create(id, &job, self.now()).await?;
        metrics::created(created.existing);
        if !created.existing {
            self.publish_soon(Some(created.id)).await;
        }
        Ok(created)
    }

    /// All that is known of a job.
    ///
    /// # Errors
    /// [`Error::NoJob`], [`Error::Unavailable`].
    pub async fn get(&self, id: Uuid) -> Result<JobDetail, Error> {
        self.0.store.get(id).await
    }

    /// Whose job it is.
    ///
    /// # Errors
    /// [`Error::NoJob`], [`Error::Unavailable`].
    pub async fn owner(&self, id: Uuid) -> Result<Option<String>, Error> {
        self.0.store.owner(id).await
    }

    /// A page of jobs, newest first; `limit`: 1 to 500.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(&self, listing: &Listing, limit: usize) -> Result<Listed, Error> {
        self.0.store.list(listing, limit).await
    }

    /// How many jobs are in each state, those that ended included as long as they are kept.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn counts(&self) -> Result<BTreeMap<State, u64>, Error> {
        self.0.store.counts().await
    }

    /// Stops a job or a task: what has not begun doesn't, until it is resumed; the handler of what runs is told, within a
    /// second and wherever it runs, and may finish, or give its task back. The state afterwards: `Running` as long as
    /// something runs.
    ///
    /// # Errors
    /// [`Error::NoJob`], [`Error::NoTask`]; [`Error::Ended`] where it is over.
    pub async fn stop(&self, target: impl Into<Target>) -> Result<State, Error> {
        let now = self.now();
        self.change(target.into(), |machine, which| machine.stop(which, now)).await
    }

    /// Lets what was stopped go on.
    ///
    /// # Errors
    /// As [`Self::stop`]; [`Error::NotStopped`].
    pub async fn resume(&self, target: impl Into<Target>) -> Result<State, Error> {
        let (target, now) = (target.into(), self.now());
        let job = target.job;
        let state = self.change(target, |machine, which| machine.resume(which, now)).await?;
        self.publish_soon(Some(job)).await;
        Ok(state)
    }

    /// Ends a job, or a task and what comes after it. The handler of what runs is told, and cut off after five seconds; what
    /// it says doesn't count any more. Cancelling again changes nothing.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub async fn cancel(&self, target: impl Into<Target>) -> Result<State, Error> {
        let target = target.into();
        let job = target.job;
        let state = self.change(target, Machine::cancel).await?;
        self.publish_soon(Some(job)).await;
        Ok(state)
    }

    /// Creates a schedule, or changes the one of this name; whether it is enabled stays.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::Unavailable`].
    pub async fn schedule(&self, schedule: &Schedule) -> Result<(), Error> {
        self.0.store.declare(schedule, self.now()).await
    }

    /// Disables a schedule, or enables it: it goes on from now then, and nothing is made up for.
    ///
    /// # Errors
    /// [`Error::NoSchedule`], [`Error::Unavailable`].
    pub async fn enable(&self, schedule: &str, enabled: bool) -> Result<(), Error> {
        self.0.store.enable(schedule, enabled, self.now()).await
    }

    /// Forgets a schedule; its jobs stay.
    ///
    /// # Errors
    /// [`Error::NoSchedule`], [`Error::Unavailable`].
    pub async fn unschedule(&self, schedule: &str) -> Result<(), Error> {
        self.0.store.remove(schedule).await
    }

    /// A schedule.
    ///
    /// # Errors
    /// [`Error::NoSchedule`], [`Error::Unavailable`].
    pub async fn schedule_of(&self, name: &str) -> Result<ScheduleStatus, Error> {
        self.0.store.schedule_of(name).await
    }

    /// Schedules by name, after that one; `limit`: 1 to 500.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn schedules(&self, after: &str, limit: usize) -> Result<Vec<ScheduleStatus>, Error> {
        self.0.store.schedules(after, limit).await
    }

    /// Closes the database's connections.
    pub async fn close(&self) {
        self.0.store.close().await;
    }

    async fn change(
        &self,
        target: Target,
        change: impl FnOnce(&mut Machine, Option<usize>) -> Result<(), Error> + Send,
    ) -> Result<State, Error> {
        self.0.store.change(target.job, target.task.as_deref(), self.now(), change).await
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.0.bus
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn keep(&self) -> Duration {
        self.0.keep
    }

    /// Whole microseconds, which is what databases keep.
    pub(crate) fn now(&self) -> OffsetDateTime {
        database::from_micros(database::micros(self.0.clock.now()))
    }

    /// From 0 to 1.
    pub(crate) fn jitter(&self) -> f64 {
        self.0.random.lock().random()
    }

    /// A UUIDv7 by this clock and randomness.
    pub(crate) fn id(&self) -> Uuid {
        let millis = u64::try_from(self.now().unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &self.0.random.lock().random()).into_uuid()
    }
}

impl From<Uuid> for Target {
    fn from(job: Uuid) -> Self {
        Self { job, task: None }
    }
}

impl From<(Uuid, &str)> for Target {
    fn from((job, task): (Uuid, &str)) -> Self {
        Self { job, task: Some(task.to_owned()) }
    }
}
