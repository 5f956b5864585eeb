use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{PgPool, query_with};
use tokio::sync::{Mutex, OnceCell, watch};

use crate::{
    Engine, Error, Migration, Row, Transaction, Url, Value, migrate, postgres, signal::Signal, sqlite, trace,
    transaction::Connection, url::Location,
};

/// How long a connection, or SQLite's write lock, is waited for.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A cheap handle; clones share the connections.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    pools: Pools,
    schema: String,
    signal: Arc<Signal>,
    appended: Mutex<watch::Receiver<()>>,
    listening: OnceCell<()>,
}

enum Pools {
    Sqlite(sqlite::Pools),
    Postgres(PgPool),
}

impl Database {
    /// Opens (PostgreSQL: the schema `schema`, made if missing) and migrates. Several processes may do so at once.
    ///
    /// # Errors
    /// [`Error::Query`] if the URL is none, or the database was migrated by other migrations than these.
    pub async fn open(url: &Url, schema: &str, migrations: &[Migration]) -> Result<Self, Error> {
        let (pools, signal) = match url.location()? {
            Location::File(path) => {
                let pools = sqlite::open(Path::new(path)).await?;
                // The file exists now, so every spelling of its path has one canonical form.
                let file = std::fs::canonicalize(path).map_err(|error| Error::Unavailable(error.to_string()))?;
                let signal = Signal::of(&format!("sqlite:{}", file.display()));
                (Pools::Sqlite(pools), signal)
            }
            Location::Server(server) => {
                let pool = postgres::open(server, schema).await?;
                (Pools::Postgres(pool), Signal::of(&format!("{server}#{schema}")))
            }
        };
        let appended = Mutex::new(signal.subscribe());
        let inner = Inner { pools, schema: schema.to_owned(), signal, appended, listening: OnceCell::new() };
        let database = Self(Arc::new(inner));
        let mut tx = database.begin().await?;
        migrate::run(&mut tx, schema, migrations).await?;
        tx.commit().await?;
        Ok(database)
    }

    pub fn engine(&self) -> Engine {
        match self.0.pools {
            Pools::Sqlite(_) => Engine::Sqlite,
            Pools::Postgres(_) => Engine::Postgres,
        }
    }

    /// A write transaction: SQLite takes the write lock at once. Dropped without `commit`, it rolls back.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after 5 s without a connection or the lock.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        let span = trace::begin(self.engine(), &self.0.schema);
        let connection = match &self.0.pools {
            Pools::Sqlite(pools) => {
                let turn = tokio::time::timeout(ACQUIRE_TIMEOUT, self.0.signal.writer.clone().lock_owned()).await;
                let turn = turn.map_err(|_| Error::Unavailable("another transaction is writing".to_owned()))?;
                Connection::Sqlite(pools.writer.begin_with("BEGIN IMMEDIATE").await?, turn)
            }
            Pools::Postgres(pool) => Connection::Postgres(pool.begin().await?),
        };
        Ok(Transaction::new(connection, self.0.signal.clone(), span))
    }

    /// Reads outside a transaction.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, Error> {
        match &self.0.pools {
            Pools::Sqlite(pools) => {
                let query = query_with(sqlite::statement(sql), sqlite::arguments(params)?);
                sqlite::rows(&query.fetch_all(&pools.readers).await?)
            }
            Pools::Postgres(pool) => {
                postgres::rows(&query_with(sql, postgres::arguments(params)?).fetch_all(pool).await?)
            }
        }
    }

    /// Completes when a transaction that called [`Transaction::wake_relay`] has committed since the last call: through
    /// any handle of this process, and on PostgreSQL in any process. A hint that may be missed when the process or the
    /// connection dies: look for yourself now and then.
    pub async fn appended(&self) {
        if let Pools::Postgres(pool) = &self.0.pools {
            let start = async || {
                tokio::spawn(postgres::listen(pool.clone(), self.0.signal.clone(), self.0.schema.clone()));
            };
            self.0.listening.get_or_init(start).await;
        }
        let mut appended = self.0.appended.lock().await;
        // The sender lives as long as this handle.
        let _ = appended.changed().await;
    }

    /// Closes the connections, once they are given back. Further calls on any clone are [`Error::Unavailable`].
    pub async fn close(&self) {
        match &self.0.pools {
            Pools::Sqlite(pools) => {
                pools.readers.close().await;
                pools.writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}
