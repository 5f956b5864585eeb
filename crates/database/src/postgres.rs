//! PostgreSQL: a bounded pool whose connections see one schema, and the notification that something was appended.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use sqlx::{
    Arguments as _, Column as _, ConnectOptions as _, Encode, PgPool, Postgres, Row as _, Type, TypeInfo as _,
    ValueRef as _,
    encode::IsNull,
    error::BoxDynError,
    postgres::{
        PgArgumentBuffer, PgArguments, PgConnectOptions, PgListener, PgPoolOptions, PgRow, PgTypeInfo, types::Oid,
    },
};

use crate::{Error, Row, Value, connect::ACQUIRE_TIMEOUT, signal::Signal};

const CONNECTIONS: u32 = 8;
/// A database's channel; the payload is the schema.
const CHANNEL: &str = "outbox_appended";
pub(crate) const NOTIFY: &str = "SELECT CAST(pg_notify('outbox_appended', current_schema()) AS TEXT)";

pub(crate) async fn open(url: &str, schema: &str) -> Result<PgPool, Error> {
    let name = schema.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_';
    if name.is_empty() || name.len() > 63 || name[0].is_ascii_digit() || !name.iter().all(plain) {
        return Err(Error::Query(format!("{schema:?} is not a schema's name: a-z, 0-9 and _, at most 63")));
    }
    // The URL stays out of the message: it may hold a password.
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| Error::Query("the URL of the database doesn't parse".to_owned()))?
        .application_name(&format!("turnpike {schema}"))
        .options([
            ("search_path", schema),
            ("statement_timeout", "30s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ])
        .disable_statement_logging();
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
    Ok(pool.connect_with(options).await?)
}

/// Passes on what other processes append, until the pool closes.
pub(crate) async fn listen(pool: PgPool, signal: Arc<Signal>, schema: String) {
    while !pool.is_closed() {
        if let Err(error) = pass_on(&pool, &signal, &schema).await
            && !pool.is_closed()
        {
            tracing::debug!(%error, "not listening for appended events; the relay's timer covers it");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn pass_on(pool: &PgPool, signal: &Signal, schema: &str) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // None: the connection was lost, and with it maybe a notification.
        match listener.try_recv().await? {
            Some(news) if news.payload() != schema => {}
            _ => signal.announce(),
        }
    }
}

/// NULL of a type that the statement tells: a declared one would have to be the column's.
struct Null;

impl Type<Postgres> for Null {
    fn type_info() -> PgTypeInfo {
        const UNKNOWN: Oid = Oid(705);
        PgTypeInfo::with_oid(UNKNOWN)
    }
}

impl Encode<'_, Postgres> for Null {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

pub(crate) fn arguments(params: &[Value]) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    for value in params {
        match value {
            Value::Null => arguments.add(Null),
            Value::Integer(integer) => arguments.add(integer),
            Value::Text(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
        }
        .map_err(|error| Error::Query(error.to_string()))?;
    }
    Ok(arguments)
}

pub(crate) fn rows(rows: &[PgRow]) -> Result<Vec<Row>, Error> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns: Arc<[String]> = first.columns().iter().map(|column| column.name().to_owned()).collect();
    let read = |row: &PgRow| {
        let values = (0..row.len()).map(|at| value(row, at)).collect::<Result<_, _>>()?;
        Ok(Row::new(columns.clone(), values))
    };
    rows.iter().map(read).collect()
}

fn value(row: &PgRow, at: usize) -> Result<Value, Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().into_owned();
    Ok(match kind.name() {
        "INT8" => Value::Integer(row.try_get(at)?),
        "INT4" => Value::Integer(row.try_get::<i32, _>(at)?.into()),
        "BOOL" => Value::Integer(row.try_get::<bool, _>(at)?.into()),
        "TEXT" | "VARCHAR" | "NAME" => Value::Text(row.try_get(at)?),
        "BYTEA" => Value::Bytes(row.try_get(at)?),
        other => return Err(Error::Query(format!("column {} is {other}: CAST it", row.column(at).name()))),
    })
}
