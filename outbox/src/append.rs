use database::{Error, Migration, Transaction, params};
use events::Envelope;

use crate::{Event, row::Headers, trace};

/// The tables; they go into the service's own migrations with a version the service chooses.
///
/// `sent_lineage` and `sent_position` say where the bus recorded a row, `outbox_lineage` up to where each lineage got,
/// so that a change of lineage is judged without reading every row. `outbox_relay` is the lease, and the name under which
/// the bus knows the numbers. The indexes that the relay works by hold unsent rows only: those kept are many more.
pub fn migration(version: i64) -> Migration {
    Migration {
        version,
        name: "outbox",
        sql: "CREATE TABLE outbox (
                  seq {identity},
                  id TEXT NOT NULL,
                  queue TEXT NOT NULL,
                  event TEXT NOT NULL,
                  key TEXT NOT NULL,
                  source TEXT NOT NULL,
                  headers TEXT NOT NULL,
                  data TEXT NOT NULL,
                  created_at BIGINT NOT NULL,
                  sent_partition BIGINT,
                  publish_no BIGINT,
                  sent_lineage BIGINT,
                  sent_position BIGINT,
                  sent_at BIGINT
              );
              CREATE INDEX outbox_unsent ON outbox (seq) WHERE sent_at IS NULL;
              CREATE INDEX outbox_waiting ON outbox (queue, sent_partition, publish_no) WHERE sent_at IS NULL;
              CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;
              CREATE TABLE outbox_partition (
                  queue TEXT NOT NULL,
                  sent_partition BIGINT NOT NULL,
                  next_publish_no BIGINT NOT NULL,
                  PRIMARY KEY (queue, sent_partition)
              );
              CREATE TABLE outbox_lineage (
                  queue TEXT NOT NULL,
                  sent_partition BIGINT NOT NULL,
                  sent_lineage BIGINT NOT NULL,
                  last_position BIGINT NOT NULL,
                  last_sent_at BIGINT NOT NULL,
                  PRIMARY KEY (queue, sent_partition, sent_lineage)
              );
              CREATE TABLE outbox_relay (
                  one BIGINT PRIMARY KEY CHECK (one = 1),
                  outbox TEXT NOT NULL,
                  owner TEXT NOT NULL,
                  token BIGINT NOT NULL,
                  until BIGINT NOT NULL
              );
              INSERT INTO outbox_relay (one, outbox, owner, token, until) VALUES (1, '', '', 0, 0);",
    }
}

/// Appends to the outbox of the transaction's database. Call it after the row's lock is held (after the UPDATE), so that
/// the outbox has the order of the key's commits. `source` is `/services/<name>`.
///
/// # Errors
/// [`Error::Query`] where it makes no valid envelope ([`Envelope::check`]): what the bus would refuse must not get in.
pub async fn append(tx: &mut Transaction, source: &str, event: Event) -> Result<(), Error> {
    let mut envelope =
        Envelope::new(source, event.address.queue, event.address.event).subject(event.subject).data(event.data);
    if let Some(id) = event.id {
        envelope.id = id;
    }
    envelope.causationid = event.causation_id;
    envelope.correlationid = event.correlation_id;
    envelope.owner = event.owner;
    if let Some(trace) = trace::create(tx, source, &envelope) {
        envelope.traceparent = Some(trace.to_string());
        envelope.tracestate = trace.state().map(str::to_owned);
    }
    envelope.check().map_err(|error| Error::Query(format!("not an event: {error}")))?;
    let headers = serde_json::to_string(&Headers::of(&envelope)).map_err(|error| Error::Query(error.to_string()))?;
    let data = envelope.json().map(ToString::to_string).unwrap_or_default();
    tx.execute(
        "INSERT INTO outbox (id, queue, event, key, source, headers, data, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            envelope.id.as_str(),
            envelope.queue.as_str(),
            envelope.event.as_str(),
            envelope.key(),
            envelope.source.as_str(),
            headers,
            data,
            envelope.time
        ],
    )
    .await?;
    tx.wake_relay();
    Ok(())
}
