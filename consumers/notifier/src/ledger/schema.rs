use database::Migration;

pub(super) const MIGRATIONS: [Migration; 1] = [Migration {
    version: 1,
    name: "ledger",
    // covers: how many held messages a digest stands for; 0: it is no digest.
    // digest: the row of the digest that covers this one.
    // not_before: intended: nobody else may attempt it until then; held: the end of its window.
    sql: "CREATE TABLE message (
              seq {identity},
              source TEXT NOT NULL,
              event TEXT NOT NULL,
              rule TEXT NOT NULL,
              channel TEXT NOT NULL,
              recipient TEXT NOT NULL,
              address TEXT NOT NULL,
              title TEXT NOT NULL,
              state TEXT NOT NULL,
              covers BIGINT NOT NULL,
              digest BIGINT,
              attempts BIGINT NOT NULL,
              not_before BIGINT NOT NULL,
              reason TEXT,
              reference TEXT,
              created_at BIGINT NOT NULL,
              touched_at BIGINT NOT NULL,
              UNIQUE (source, event, rule, channel, recipient)
          );
          CREATE INDEX message_by_age ON message (touched_at);
          CREATE INDEX message_waiting ON message (state, not_before) WHERE state IN ('intended', 'held');
          CREATE INDEX message_by_digest ON message (digest) WHERE digest IS NOT NULL;
          CREATE TABLE allowance (
              rule TEXT NOT NULL,
              channel TEXT NOT NULL,
              recipient TEXT NOT NULL,
              begun_at BIGINT NOT NULL,
              used BIGINT NOT NULL,
              PRIMARY KEY (rule, channel, recipient)
          );",
}];
