//! A worker: the kinds it knows with what works on them, checked, and set to work.

use std::{sync::Arc, time::Duration};

use lifecycle::Shutdown;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error, Handler, Jobs, Kind, Priority, Retry,
    counter::Counter,
    handler::{Untyped, untyped},
    kind::{self, LONGEST_TIMEOUT},
    lane::group,
    live::Live,
    work::Desk,
};

const CONCURRENCY: usize = 16;
pub(crate) const LEASE: Duration = Duration::from_secs(30);
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
        let counter = Counter::new(desk, self.kinds, self.concurrency);
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
