//! SQLite: one connection that writes, several that read, on one file in WAL mode.

use std::{
    borrow::Cow,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, ConnectOptions as _, Row as _, SqlSafeStr as _, SqlStr, SqlitePool,
    TypeInfo as _, ValueRef as _,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use crate::{Error, Row, Value, connect::ACQUIRE_TIMEOUT};

const READERS: u32 = 4;
const REOPEN_AFTER: Duration = Duration::from_millis(10);

pub(crate) struct Pools {
    pub writer: SqlitePool,
    pub readers: SqlitePool,
}

pub(crate) async fn open(path: &Path) -> Result<Pools, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        // Only other processes are waited for here; writers of this one queue at the signal.
        .busy_timeout(ACQUIRE_TIMEOUT)
        .disable_statement_logging();
    let pool = |connections| {
        let forever: Option<Duration> = None;
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(forever)
            .max_lifetime(forever)
            .test_before_acquire(false)
    };
    // Switching a new file to WAL fails at once if another opener does so too: no busy_timeout applies to that.
    let deadline = Instant::now() + ACQUIRE_TIMEOUT;
    let writer = loop {
        match pool(1).connect_with(options.clone()).await.map_err(Error::from) {
            Err(Error::Unavailable(_)) if Instant::now() < deadline => tokio::time::sleep(REOPEN_AFTER).await,
            settled => break settled?,
        }
    };
    let readers = pool(READERS).connect_lazy_with(options.pragma("query_only", "ON"));
    Ok(Pools { writer, readers })
}

/// The statement as SQLite takes it.
pub(crate) fn statement(sql: &'static str) -> SqlStr {
    AssertSqlSafe(without_locks(sql)).into_sql_str()
}

pub(crate) fn without_locks(sql: &str) -> Cow<'_, str> {
    if !sql.contains(" FOR UPDATE") {
        return Cow::Borrowed(sql);
    }
    Cow::Owned(sql.replace(" FOR UPDATE SKIP LOCKED", "").replace(" FOR UPDATE", ""))
}

pub(crate) fn arguments(params: &[Value]) -> Result<SqliteArguments, Error> {
    let mut arguments = SqliteArguments::default();
    for value in params {
        match value.clone() {
            Value::Null => arguments.add(None::<i64>),
            Value::Integer(integer) => arguments.add(integer),
            Value::Text(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
        }
        .map_err(|error| Error::Query(error.to_string()))?;
    }
    Ok(arguments)
}

pub(crate) fn rows(rows: &[SqliteRow]) -> Result<Vec<Row>, Error> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns: Arc<[String]> = first.columns().iter().map(|column| column.name().to_owned()).collect();
    let read = |row: &SqliteRow| {
        let values = (0..row.len()).map(|at| value(row, at)).collect::<Result<_, _>>()?;
        Ok(Row::new(columns.clone(), values))
    };
    rows.iter().map(read).collect()
}

fn value(row: &SqliteRow, at: usize) -> Result<Value, Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().into_owned();
    Ok(match kind.name() {
        "INTEGER" => Value::Integer(row.try_get_unchecked(at)?),
        "TEXT" => Value::Text(row.try_get_unchecked(at)?),
        "BLOB" => Value::Bytes(row.try_get_unchecked(at)?),
        other => return Err(Error::Query(format!("column {} is {other}: CAST it", row.column(at).name()))),
    })
}
