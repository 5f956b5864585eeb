//! A kind of task: what a handler takes and gives, agreed by whoever creates jobs and whoever works on them.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, NewJob, Retry, Task};

/// The longest an attempt may take unless its task or its kind says.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(900);
/// The longest a task may take, whatever its kind says.
pub(crate) const LONGEST_TIMEOUT: Duration = Duration::from_secs(12 * 3600);

/// A kind of task with the types of its input and output. Declared once, as a constant:
///
/// ```
/// # use jobs::{Kind, Retry};
/// # use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Invoice;
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Receipt;
/// const SEND_INVOICE: Kind<Invoice, Receipt> =
///     Kind::new("send_invoice").timeout(Duration::from_secs(60)).concurrency(4);
/// ```
pub struct Kind<I, O> {
    pub(crate) name: &'static str,
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) concurrency: usize,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Kind<I, O> {
    /// `name`: 1 to 48 of `a-z 0-9 _ -`, beginning with a letter or digit. Defaults: 15 min for an attempt, nine attempts by
    /// the schedule of the bus, as many at once as the worker takes.
    pub const fn new(name: &'static str) -> Self {
        Self { name, timeout: TIMEOUT, retry: Retry::SCHEDULE, concurrency: usize::MAX, types: PhantomData }
    }

    /// The longest an attempt may take, up to 12 h; then it is cut off and has failed.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[must_use]
    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The most at once in a worker.
    #[must_use]
    pub const fn concurrency(mut self, most: usize) -> Self {
        self.concurrency = most;
        self
    }

    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<I: Serialize, O> Kind<I, O> {
    /// A job of one task of this kind, named after it.
    pub fn job(&self, input: &I) -> NewJob {
        NewJob::new(self.name).task(self.name, self.task(input))
    }

    /// A task of a job.
    pub fn task(&self, input: &I) -> Task {
        Task::new(self.name, serde_json::to_value(input))
    }
}

impl<I, O: DeserializeOwned> Kind<I, O> {
    pub(crate) fn output(&self, json: &str) -> Result<O, Error> {
        serde_json::from_str(json).map_err(|error| Error::Stored(format!("the result of {}: {error}", self.name)))
    }
}

impl<I, O> Clone for Kind<I, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I, O> Copy for Kind<I, O> {}

impl<I, O> fmt::Debug for Kind<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("name", &self.name).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Whether it can name a kind: so does its group, and its event on the bus.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if begins && name.len() <= 48 && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::Invalid(format!("kind: {name:?} is not 1 to 48 of a-z, 0-9, _ and -, beginning with a letter or digit")))
}
