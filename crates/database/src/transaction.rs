use std::sync::Arc;

use sqlx::{AssertSqlSafe, Postgres, Sqlite, query_with};
use tokio::sync::OwnedMutexGuard;
use tracing::Span;

use crate::{Engine, Error, Row, Value, postgres, signal::Signal, sqlite, trace};

/// A transaction that may write. Dropped without `commit`, it rolls back.
pub struct Transaction {
    connection: Connection,
    signal: Arc<Signal>,
    wakes: bool,
    span: Span,
}

pub(crate) enum Connection {
    /// With this process's turn to write, given up after the connection.
    Sqlite(sqlx::Transaction<'static, Sqlite>, OwnedMutexGuard<()>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    pub(crate) fn new(connection: Connection, signal: Arc<Signal>, span: Span) -> Self {
        Self { connection, signal, wakes: false, span }
    }

    /// Where it stands in the trace that it was begun in; a span that is none where that is not recorded.
    pub fn span(&self) -> &Span {
        &self.span
    }

    pub fn engine(&self) -> Engine {
        match self.connection {
            Connection::Sqlite(..) => Engine::Sqlite,
            Connection::Postgres(_) => Engine::Postgres,
        }
    }

    /// How many rows it changed.
    ///
    /// # Errors
    /// See [`Error`]. On PostgreSQL nothing but a rollback succeeds after it: use `ON CONFLICT` where a conflict is
    /// expected.
    pub async fn execute(&mut self, sql: &'static str, params: &[Value]) -> Result<u64, Error> {
        Ok(match &mut self.connection {
            Connection::Sqlite(tx, _) => {
                let query = query_with(sqlite::statement(sql), sqlite::arguments(params)?);
                query.execute(&mut **tx).await?.rows_affected()
            }
            Connection::Postgres(tx) => {
                query_with(sql, postgres::arguments(params)?).execute(&mut **tx).await?.rows_affected()
            }
        })
    }

    /// # Errors
    /// See [`Self::execute`].
    pub async fn query(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        match &mut self.connection {
            Connection::Sqlite(tx, _) => {
                let query = query_with(sqlite::statement(sql), sqlite::arguments(params)?);
                sqlite::rows(&query.fetch_all(&mut **tx).await?)
            }
            Connection::Postgres(tx) => {
                postgres::rows(&query_with(sql, postgres::arguments(params)?).fetch_all(&mut **tx).await?)
            }
        }
    }

    /// Several statements without parameters.
    pub(crate) async fn script(&mut self, sql: String) -> Result<(), Error> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql));
        match &mut self.connection {
            Connection::Sqlite(tx, _) => script.execute(&mut **tx).await.map(drop)?,
            Connection::Postgres(tx) => script.execute(&mut **tx).await.map(drop)?,
        }
        Ok(())
    }

    /// Has the commit wake those who wait for [`crate::Database::appended`].
    pub fn wake_relay(&mut self) {
        self.wakes = true;
    }

    /// # Errors
    /// [`Error::Unavailable`] also where the connection broke while committing: whether it was committed is unknown then.
    pub async fn commit(mut self) -> Result<(), Error> {
        if self.wakes && self.engine() == Engine::Postgres {
            self.query(postgres::NOTIFY, &[]).await?;
        }
        let committed = match self.connection {
            Connection::Sqlite(tx, _turn) => tx.commit().await.map_err(Error::from),
            Connection::Postgres(tx) => tx.commit().await.map_err(Error::from),
        };
        trace::ended(&self.span, "committed", &committed);
        if self.wakes && committed.is_ok() {
            self.signal.announce();
        }
        committed
    }

    /// # Errors
    /// See [`Error`]; the transaction is undone all the same.
    pub async fn rollback(self) -> Result<(), Error> {
        let undone = match self.connection {
            Connection::Sqlite(tx, _turn) => tx.rollback().await.map_err(Error::from),
            Connection::Postgres(tx) => tx.rollback().await.map_err(Error::from),
        };
        trace::ended(&self.span, "rolled_back", &undone);
        undone
    }
}
