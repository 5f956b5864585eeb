//! What went wrong, by what the caller can do about it; chosen here for both engines.

use sqlx::error::{DatabaseError, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A unique constraint refused the row; `constraint` as far as the engine names it (`accounts.email` on SQLite, the
    /// constraint's name on PostgreSQL).
    #[error("unique constraint {constraint}")]
    Unique { constraint: String },
    /// The database is away, locked or out of connections: trying again later may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A statement, a row or the schema is not what the code expects.
    #[error("{0}")]
    Query(String),
}

impl Error {
    /// Its kind in one word, for spans.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Unique { .. } => "unique",
            Self::Unavailable(_) => "unavailable",
            Self::Query(_) => "query",
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(refused) => refusal(refused.as_ref()),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error.to_string()),
            other => Self::Query(other.to_string()),
        }
    }
}

fn refusal(refused: &dyn DatabaseError) -> Error {
    if refused.kind() == ErrorKind::UniqueViolation {
        return Error::Unique { constraint: constraint(refused) };
    }
    let code = refused.code();
    let code = code.as_deref().unwrap_or_default();
    let passing = match refused.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        Some(_) => passing_on_postgres(code),
        None => code.parse().is_ok_and(passing_on_sqlite),
    };
    if passing { Error::Unavailable(refused.to_string()) } else { Error::Query(refused.to_string()) }
}

/// SQLSTATEs of a server that is busy, full, restarting or gone, of deadlocks and of timeouts.
fn passing_on_postgres(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "55P03" | "57014" | "25P03")
        || ["08", "53", "57P", "58"].iter().any(|class| code.starts_with(class))
}

/// BUSY, LOCKED, IOERR, FULL, CANTOPEN; the upper bits of an extended code say more than is needed here.
fn passing_on_sqlite(code: i32) -> bool {
    matches!(code & 0xff, 5 | 6 | 10 | 13 | 14)
}

fn constraint(refused: &dyn DatabaseError) -> String {
    let named = refused.constraint();
    named.unwrap_or_else(|| refused.message().rsplit("failed: ").next().unwrap_or_default()).to_owned()
}
