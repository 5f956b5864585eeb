-- The truth: what happened to each order. The primary key is the expected version: of two writers one wins.
CREATE TABLE order_events (
    order_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    type TEXT NOT NULL,
    time BIGINT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (order_id, version)
);

-- A projection of the events, written in their transaction, for finding and listing orders.
CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    idempotency_key TEXT,
    cart_version BIGINT NOT NULL,
    lines TEXT NOT NULL,
    total BIGINT NOT NULL,
    currency TEXT NOT NULL,
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- When the command to place it was last appended.
    commanded_at BIGINT NOT NULL,
    UNIQUE (customer, idempotency_key),
    UNIQUE (customer, cart_version)
);

CREATE INDEX orders_newest_first ON orders (customer, id);

-- For the sweep: finished orders, nearly all, are not in it.
CREATE INDEX orders_unfinished ON orders (updated_at) WHERE stage NOT IN ('cleared', 'released');
