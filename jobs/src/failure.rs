//! How a handler says that it didn't do its task.

use std::time::Duration;

/// Why a task isn't done. `?` on any error makes one that is tried again.
#[derive(Debug)]
pub enum Failure {
    /// Again: after `delay` (at most 24 h), else by the retry policy.
    Retry { reason: String, delay: Option<Duration> },
    /// Never again: the task has failed, whatever its policy.
    Fatal { reason: String },
    /// Given back, since it was told to end ([`crate::Job::ending`]): no attempt is counted.
    GivenBack,
}

impl Failure {
    /// Tried again by the policy.
    pub fn retry(reason: impl ToString) -> Self {
        Self::Retry { reason: reason.to_string(), delay: None }
    }

    /// Not tried again.
    pub fn fatal(reason: impl ToString) -> Self {
        Self::Fatal { reason: reason.to_string() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Retry { reason: format!("{:#}", error.into()), delay: None }
    }
}
