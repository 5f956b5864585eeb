//! A span for each transaction within a recorded trace, from the wait for its connection to its end (OpenTelemetry's
//! conventions for database clients). Statements have none: a trace shows what was done, not how it was spelled.

use tracing::{Span, field::Empty};

use crate::{Engine, Error};

/// Made before the wait for a connection, which it shows.
pub(crate) fn begin(engine: Engine, schema: &str) -> Span {
    if !telemetry::is_recording() {
        return Span::none();
    }
    let system = match engine {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgresql",
    };
    tracing::info_span!(
        "transaction",
        otel.name = %format_args!("TRANSACTION {schema}"),
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = system,
        db.namespace = schema,
        db.operation.name = "TRANSACTION",
        turnpike.transaction = Empty,
        error.type = Empty,
    )
}

/// How it ended: `committed` or `rolled_back`; neither where it was dropped, which rolls back.
pub(crate) fn ended(span: &Span, how: &'static str, result: &Result<(), Error>) {
    match result {
        Ok(()) => _ = span.record("turnpike.transaction", how),
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", error.label());
        }
    }
}
