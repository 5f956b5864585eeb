use crate::{Error, Migration, Row, Transaction, Value};
use std::sync::Arc;

/// Where a database is: `sqlite:PATH` (a file, made if missing) or `postgres://user@host:port/database`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A cheap handle; clones share the connections.
#[derive(Clone)]
pub struct Database(Arc<()>);

impl Database {
    /// Opens (PostgreSQL: the schema `schema`, made if missing) and migrates. Several processes may do so at once.
    pub async fn open(_url: &Url, _schema: &str, _migrations: &[Migration]) -> Result<Self, Error> {
        todo!()
    }
    pub fn engine(&self) -> Engine {
        todo!()
    }
    /// A write transaction: SQLite takes the write lock at once. Dropped without `commit`, it rolls back.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        todo!()
    }
    /// Reads outside a transaction.
    pub async fn query(&self, _sql: &'static str, _params: &[Value]) -> Result<Vec<Row>, Error> {
        todo!()
    }
    /// Completes when a transaction that appended to the outbox has committed since the last call.
    pub async fn appended(&self) {
        todo!()
    }
    pub async fn close(&self) {
        todo!()
    }
}
