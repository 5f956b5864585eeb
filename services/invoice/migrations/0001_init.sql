-- What the order service asked for, once an order; the worker makes an invoice of it.
CREATE TABLE invoice_requests (
    order_id TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    lines TEXT NOT NULL,
    total BIGINT NOT NULL,
    currency TEXT NOT NULL,
    requested_at BIGINT NOT NULL
);

CREATE TABLE invoices (
    id TEXT PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    order_id TEXT NOT NULL UNIQUE,
    customer TEXT NOT NULL,
    lines TEXT NOT NULL,
    total BIGINT NOT NULL,
    currency TEXT NOT NULL,
    issued_at BIGINT NOT NULL
);

-- The last number given. A sequence would leave a gap for every transaction that rolls back.
CREATE TABLE invoice_counter (
    id BIGINT PRIMARY KEY,
    last BIGINT NOT NULL
);

INSERT INTO invoice_counter (id, last) VALUES (1, 0);
