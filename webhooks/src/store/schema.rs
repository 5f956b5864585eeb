//! The tables.

use database::Migration;

/// In the broker's database, whose steps are numbered by owner: webhooks have 10 to 19.
///
/// `state`: `new` (its groups don't begin where they shall yet), `enabled`, `disabled`, `removed` (its groups may still be
/// there); `alert`: that it is disabled is yet to be told. Secrets are sealed. `earlier`: those before the former one, with
/// their ends. `judged`: the revision from which on answers say something of it. `known`: by which an event is known;
/// `of_group`: which of the endpoint's groups it waits in; `revision`: of the endpoint that accepted it.
pub fn migrations() -> [Migration; 2] {
    [
        Migration {
            version: 10,
            name: "webhooks",
            sql: "CREATE TABLE webhook (
                  id TEXT PRIMARY KEY,
                  owner TEXT,
                  url TEXT NOT NULL,
                  filter TEXT NOT NULL,
                  description TEXT NOT NULL,
                  ordered BIGINT NOT NULL,
                  ack_within BIGINT,
                  remove_after BIGINT,
                  signature TEXT NOT NULL,
                  secret TEXT NOT NULL,
                  former TEXT,
                  former_until BIGINT,
                  ack_key TEXT NOT NULL,
                  receipts BIGINT NOT NULL,
                  state TEXT NOT NULL,
                  reason TEXT,
                  disabled_at BIGINT,
                  alert BIGINT NOT NULL,
                  failures BIGINT NOT NULL,
                  failing_since BIGINT,
                  succeeded_at BIGINT,
                  created_at BIGINT NOT NULL,
                  updated_at BIGINT NOT NULL,
                  revision BIGINT NOT NULL
              );
              CREATE INDEX webhook_by_owner ON webhook (owner, id);
              CREATE INDEX webhook_alert ON webhook (id) WHERE alert = 1;
              CREATE TABLE webhook_attempt (
                  seq {identity},
                  webhook TEXT NOT NULL,
                  event TEXT NOT NULL,
                  source TEXT NOT NULL,
                  address TEXT NOT NULL,
                  number BIGINT NOT NULL,
                  at BIGINT NOT NULL,
                  took BIGINT NOT NULL,
                  class TEXT NOT NULL,
                  status BIGINT,
                  error TEXT,
                  answer BYTEA
              );
              CREATE INDEX webhook_attempt_by_webhook ON webhook_attempt (webhook, seq);
              CREATE INDEX webhook_attempt_by_age ON webhook_attempt (at);
              CREATE TABLE webhook_wait (
                  webhook TEXT NOT NULL,
                  known TEXT NOT NULL,
                  until BIGINT NOT NULL,
                  of_group TEXT,
                  said TEXT,
                  error TEXT,
                  PRIMARY KEY (webhook, known)
              );
              CREATE INDEX webhook_wait_by_age ON webhook_wait (until);",
        },
        Migration {
            version: 11,
            name: "webhooks judged by revision",
            sql: "ALTER TABLE webhook ADD COLUMN earlier TEXT;
              ALTER TABLE webhook ADD COLUMN judged BIGINT NOT NULL DEFAULT 0;
              ALTER TABLE webhook_wait ADD COLUMN revision BIGINT;",
        },
    ]
}
