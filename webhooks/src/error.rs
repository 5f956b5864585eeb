//! Why a call was refused or failed.

/// A call failed; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The caller's fault; the text begins with the field's name.
    #[error("{0}")]
    Invalid(String),
    #[error("no webhook {0:?}")]
    NoEndpoint(String),
    /// There are as many as there may be.
    #[error("{0}")]
    TooMany(String),
    /// The database or the bus can't at the moment; the call may be made again.
    #[error("webhooks are away: {0}")]
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

impl From<bus::Error> for Error {
    fn from(error: bus::Error) -> Self {
        match error {
            bus::Error::Invalid(reason) => Self::Invalid(reason),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
