CREATE TABLE products (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    category TEXT NOT NULL,
    price_minor_units BIGINT NOT NULL CHECK (price_minor_units >= 0),
    price_currency TEXT NOT NULL,
    stock BIGINT NOT NULL CHECK (stock >= 0),
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX products_by_name ON products (name, id);

CREATE INDEX products_by_category ON products (category, name, id);

-- An order's claim on stock. One that was released stays, so that a reservation which arrives late finds it.
CREATE TABLE reservations (
    order_id TEXT PRIMARY KEY,
    released BIGINT NOT NULL CHECK (released IN (0, 1)),
    created_at BIGINT NOT NULL
);

CREATE TABLE reservation_lines (
    order_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id)
);
