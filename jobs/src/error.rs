//! Why a call was refused or failed.

use uuid::Uuid;

use crate::State;

/// A call failed; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The caller's fault; the text begins with the field's name.
    #[error("{0}")]
    Invalid(String),
    /// It never was, or was trimmed.
    #[error("no job {0}")]
    NoJob(Uuid),
    #[error("job {0} has no task {1:?}")]
    NoTask(Uuid, String),
    /// What has ended can't be stopped, resumed or cancelled.
    #[error("it is {0}: nothing changes it any more")]
    Ended(State),
    /// Only what is stopped, or asked to stop, can be resumed.
    #[error("it is {0}, not stopped")]
    NotStopped(State),
    /// The task is somebody else's now, has ended, or was cancelled.
    #[error("the task is not this attempt's any more")]
    LeaseLost,
    #[error("no schedule {0:?}")]
    NoSchedule(String),
    /// The database or the bus can't at the moment; the call may be made again.
    #[error("jobs are away: {0}")]
    Unavailable(String),
    /// What is stored isn't what this program expects.
    #[error("{0}")]
    Stored(String),
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        match error {
            database::Error::Unavailable(reason) => Self::Unavailable(reason),
            other => Self::Stored(other.to_string()),
        }
    }
}
