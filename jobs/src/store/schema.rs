//! The tables.

use bus::Inbox;
use database::Migration;

/// The tables of jobs, and the inbox of their handlers: two steps, numbered from `first` on, among those of a database that is
/// shared with others ([`crate::Jobs::on`]).
pub fn migrations(first: i64) -> [Migration; 2] {
    // `dispatch`: `idle`, `wanted`, `out`; `told`: NULL, `stop`, `cancel`; `part`, `lineage`, `position`: where the bus has it.
    [
        Migration {
            version: first,
            name: "jobs",
            sql: "CREATE TABLE job (
                      id TEXT PRIMARY KEY,
                      name TEXT NOT NULL,
                      state TEXT NOT NULL,
                      priority TEXT NOT NULL,
                      owner TEXT,
                      key TEXT,
                      unique_key TEXT UNIQUE,
                      cron TEXT,
                      traceparent TEXT,
                      tracestate TEXT,
                      created_at BIGINT NOT NULL,
                      run_at BIGINT,
                      ended_at BIGINT
                  );
                  CREATE INDEX job_by_age ON job (created_at, id);
                  CREATE INDEX job_by_state ON job (state, created_at, id);
                  CREATE INDEX job_by_name ON job (name, created_at, id);
                  CREATE INDEX job_ended ON job (ended_at) WHERE ended_at IS NOT NULL;
                  CREATE TABLE task (
                      job TEXT NOT NULL,
                      place BIGINT NOT NULL,
                      name TEXT NOT NULL,
                      kind TEXT NOT NULL,
                      input TEXT NOT NULL,
                      needs TEXT NOT NULL,
                      timeout BIGINT,
                      retry TEXT,
                      state TEXT NOT NULL,
                      due_at BIGINT,
                      told TEXT,
                      dispatch TEXT NOT NULL,
                      run BIGINT NOT NULL,
                      starts BIGINT NOT NULL,
                      attempts BIGINT NOT NULL,
                      part BIGINT,
                      lineage BIGINT,
                      position BIGINT,
                      published_at BIGINT,
                      worker TEXT,
                      progress BIGINT NOT NULL,
                      note TEXT,
                      result TEXT,
                      error TEXT,
                      PRIMARY KEY (job, place)
                  );
                  CREATE INDEX task_due ON task (due_at) WHERE state IN ('scheduled', 'retrying');
                  CREATE INDEX task_wanted ON task (job, place) WHERE dispatch = 'wanted';
                  CREATE INDEX task_out ON task (published_at) WHERE dispatch = 'out';
                  CREATE INDEX task_told ON task (worker) WHERE told IS NOT NULL;
                  CREATE TABLE attempt (
                      job TEXT NOT NULL,
                      place BIGINT NOT NULL,
                      start BIGINT NOT NULL,
                      number BIGINT NOT NULL,
                      worker TEXT NOT NULL,
                      started_at BIGINT NOT NULL,
                      ended_at BIGINT,
                      outcome TEXT NOT NULL,
                      error TEXT,
                      PRIMARY KEY (job, place, start)
                  );
                  CREATE TABLE schedule (
                      name TEXT PRIMARY KEY,
                      expression TEXT NOT NULL,
                      kind TEXT NOT NULL,
                      input TEXT NOT NULL,
                      priority TEXT NOT NULL,
                      owner TEXT,
                      missed TEXT NOT NULL,
                      enabled BIGINT NOT NULL,
                      next_at BIGINT,
                      last_at BIGINT
                  );
                  CREATE INDEX schedule_due ON schedule (next_at) WHERE enabled = 1;",
        },
        Inbox::migration(first + 1),
    ]
}
