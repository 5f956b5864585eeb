//! A task as it is to be part of a job.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Error, Retry,
    kind::{self, LONGEST_TIMEOUT},
    plan::{MAX_DATA_BYTES, invalid},
};

/// A task that is to be part of a job. [`crate::Kind::task`] makes one.
#[derive(Clone, Debug)]
pub struct Task {
    pub(crate) kind: String,
    pub(crate) input: Result<Value, String>,
    pub(crate) after: Vec<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<Retry>,
}

impl Task {
    pub(crate) fn new(kind: &str, input: Result<Value, serde_json::Error>) -> Self {
        let input = input.map_err(|error| error.to_string());
        Self { kind: kind.to_owned(), input, after: Vec::new(), timeout: None, retry: None }
    }

    /// Of a kind whose types aren't known here, such as one that a client names. Whether the input is the kind's is found
    /// out when it is worked on.
    pub fn untyped(kind: &str, input: Value) -> Self {
        Self::new(kind, Ok(input))
    }

    /// Begins once these tasks of its job are completed, and sees their results.
    #[must_use]
    pub fn after<'a>(mut self, tasks: impl IntoIterator<Item = &'a str>) -> Self {
        self.after.extend(tasks.into_iter().map(str::to_owned));
        self
    }

    /// Instead of its kind's.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Instead of its kind's.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        kind::check(&self.kind)?;
        let field = |field: &str| format!("tasks.{name}.{field}");
        match &self.input {
            Err(reason) => return invalid(&field("input"), reason),
            Ok(input) if input.to_string().len() > MAX_DATA_BYTES => {
                return invalid(&field("input"), "must be at most 256 KiB");
            }
            Ok(_) => {}
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero() || timeout > LONGEST_TIMEOUT) {
            return invalid(&field("timeout"), "must be more than nothing and at most 12 h");
        }
        self.retry.map_or(Ok(()), |retry| retry.validate())
    }
}
