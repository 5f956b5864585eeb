//! The tables, and how a connection is set up.

use rusqlite::Connection;

/// Of the file; a file of another version is refused.
const VERSION: i64 = 5;

const TABLES: &str = "
CREATE TABLE queue (
    name TEXT PRIMARY KEY,
    partitions INTEGER NOT NULL,
    max_age_ms INTEGER NOT NULL,
    max_bytes INTEGER,
    max_len INTEGER,
    overflow TEXT NOT NULL DEFAULT 'reject',
    dedupe_ms INTEGER NOT NULL DEFAULT 7200000,
    latest INTEGER NOT NULL DEFAULT 0,
    realtime INTEGER NOT NULL DEFAULT 0,
    journal INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- floor: the oldest position that is kept. bytes: of the events before `counted` that are kept.
CREATE TABLE partition (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    number INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0,
    counted INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, number)
);

CREATE TABLE lineage (
    ordinal INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    id INTEGER NOT NULL,
    first INTEGER NOT NULL,
    parent INTEGER
);
CREATE INDEX lineage_partition ON lineage (partition, ordinal);

-- id: partition << 40 | position, so that a partition's inserts are sequential. recorded: milliseconds since 1970.
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    recorded INTEGER NOT NULL,
    envelope BLOB NOT NULL
);

-- runs: the latest stretches of publish numbers and where they were recorded.
CREATE TABLE producer (
    outbox TEXT NOT NULL,
    partition INTEGER NOT NULL,
    last INTEGER NOT NULL,
    runs TEXT NOT NULL,
    PRIMARY KEY (outbox, partition)
) WITHOUT ROWID;

-- claimed: when a member last asked for something; 0: nobody knows. abandoned: when it lost its hold on the log.
-- deaths: dead letters that were not told of; mourned: when they were last.
CREATE TABLE consumer_group (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    filter TEXT NOT NULL,
    mode TEXT NOT NULL,
    lease_ms INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    claimed INTEGER NOT NULL DEFAULT 0,
    abandoned INTEGER,
    deaths INTEGER NOT NULL DEFAULT 0,
    mourned INTEGER NOT NULL DEFAULT 0,
    policy TEXT NOT NULL DEFAULT '{}'
);

-- start: what lies below was never the group's. lost: how much it lost, and where.
CREATE TABLE progress (
    consumer_group INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    start INTEGER NOT NULL,
    next INTEGER NOT NULL,
    lost TEXT,
    PRIMARY KEY (consumer_group, partition)
) WITHOUT ROWID;

-- state: 0 ready, 1 leased, 2 retrying, 3 parked, 4 a dead letter that blocks. due: the lease's end, or when it is tried again.
CREATE TABLE unsettled (
    consumer_group INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    state INTEGER NOT NULL,
    due INTEGER NOT NULL,
    secret INTEGER NOT NULL,
    member TEXT,
    key INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    expiries INTEGER NOT NULL,
    suspect INTEGER NOT NULL,
    first_delivered INTEGER NOT NULL,
    redrive INTEGER NOT NULL,
    history TEXT,
    PRIMARY KEY (consumer_group, partition, position)
) WITHOUT ROWID;

-- redriven: it is with its group again; the row keeps the envelope, which the log may have trimmed.
CREATE TABLE dead (
    consumer_group INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    position INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    history TEXT NOT NULL,
    died INTEGER NOT NULL,
    redrive INTEGER NOT NULL,
    redriven INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (consumer_group, partition, position)
) WITHOUT ROWID;
-- Counting and forgetting must not read envelopes.
CREATE INDEX dead_by_group ON dead (consumer_group) WHERE redriven = 0;
CREATE INDEX dead_by_age ON dead (died) WHERE redriven = 0;

-- One row: when the file was last kept in order, and since when without a pause.
CREATE TABLE keeping (
    kept INTEGER NOT NULL,
    awake INTEGER NOT NULL
);
";

/// What version 3 has besides.
const TABLES_OF_3: &str = "
-- Each key's last event, of queues that keep it.
CREATE TABLE latest (
    partition INTEGER NOT NULL,
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (partition, key)
) WITHOUT ROWID;
CREATE INDEX latest_by_position ON latest (partition, position);

-- What waits for its time. id: rises with each arrival. event: its id.
CREATE TABLE scheduled (
    id INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    due INTEGER NOT NULL,
    source TEXT NOT NULL,
    event TEXT NOT NULL,
    envelope BLOB NOT NULL,
    UNIQUE (partition, source, event)
);
CREATE INDEX scheduled_by_due ON scheduled (partition, due, id);
";

/// What version 4 has besides.
const TABLES_OF_4: &str = "
-- Who attends: the bus (scope ''), or a room. since, seen: RFC 3339. until: when lost connections count no longer, by a clock
-- that begins with each opening; 0: none does.
CREATE TABLE attendee (
    partition INTEGER NOT NULL,
    scope TEXT NOT NULL,
    user TEXT NOT NULL,
    since TEXT NOT NULL,
    until INTEGER NOT NULL,
    seen TEXT NOT NULL,
    PRIMARY KEY (partition, scope, user)
) WITHOUT ROWID;
CREATE INDEX attendee_until ON attendee (until) WHERE until > 0;

-- By what connection of which node.
CREATE TABLE seat (
    partition INTEGER NOT NULL,
    scope TEXT NOT NULL,
    user TEXT NOT NULL,
    connection TEXT NOT NULL,
    node TEXT NOT NULL,
    PRIMARY KEY (partition, scope, user, connection, node)
) WITHOUT ROWID;
CREATE INDEX seat_node ON seat (node);
";

/// What version 5 has besides.
const TABLES_OF_5: &str = "
-- A client's place. holder: says who may move it. used: when it was opened or moved last.
CREATE TABLE bookmark (
    user TEXT NOT NULL,
    name TEXT NOT NULL,
    filter TEXT NOT NULL,
    cursor TEXT,
    holder INTEGER NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (user, name)
) WITHOUT ROWID;
CREATE INDEX bookmark_by_use ON bookmark (used);
";

/// Where a group of version 1 began nobody wrote down.
const FROM_1: &str = "ALTER TABLE progress ADD COLUMN start INTEGER NOT NULL DEFAULT 1;";

/// What a queue of version 2 could not set has its default.
const FROM_2: &str = "
ALTER TABLE queue ADD COLUMN max_bytes INTEGER;
ALTER TABLE queue ADD COLUMN max_len INTEGER;
ALTER TABLE queue ADD COLUMN overflow TEXT NOT NULL DEFAULT 'reject';
ALTER TABLE queue ADD COLUMN dedupe_ms INTEGER NOT NULL DEFAULT 7200000;
ALTER TABLE queue ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE queue ADD COLUMN realtime INTEGER NOT NULL DEFAULT 0;
ALTER TABLE queue ADD COLUMN journal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE partition ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE partition ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE consumer_group ADD COLUMN claimed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE consumer_group ADD COLUMN abandoned INTEGER;
ALTER TABLE consumer_group ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
ALTER TABLE consumer_group ADD COLUMN mourned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE progress ADD COLUMN lost TEXT;
CREATE TABLE keeping (
    kept INTEGER NOT NULL,
    awake INTEGER NOT NULL
);
ALTER TABLE consumer_group ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
";

/// Whether a file that is only read is of this version.
pub(super) fn is_current(conn: &Connection) -> anyhow::Result<()> {
    match conn.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
        VERSION => Ok(()),
        0 => anyhow::bail!("this is no file of a bus"),
        older @ 1..VERSION => anyhow::bail!(
            "the file is of version {older}, this program's is {VERSION}: start `turnpike up` on it once, which brings it up to date"
        ),
        other => anyhow::bail!("the file is of version {other}; this program reads 1 to {VERSION}"),
    }
}

/// Makes the tables if they aren't there.
pub(super) fn prepare(conn: &Connection) -> anyhow::Result<()> {
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    conn.pragma_update(None, "cache_size", -16_384)?;
    conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
    conn.set_prepared_statement_cache_capacity(64);
    let version = conn.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
    let steps: &[&str] = match version {
        0 => &[TABLES, TABLES_OF_3, TABLES_OF_4, TABLES_OF_5],
        1 => &[FROM_1, FROM_2, TABLES_OF_3, TABLES_OF_4, TABLES_OF_5],
        2 => &[FROM_2, TABLES_OF_3, TABLES_OF_4, TABLES_OF_5],
        3 => &[TABLES_OF_4, TABLES_OF_5],
        4 => &[TABLES_OF_5],
        VERSION => return Ok(()),
        other => anyhow::bail!("the file is of version {other}; this program reads 1 to {VERSION}"),
    };
    let steps = steps.concat();
    conn.execute_batch(&format!("BEGIN IMMEDIATE; {steps} PRAGMA user_version = {VERSION}; COMMIT;"))?;
    Ok(())
}
