CREATE TABLE carts (
    owner TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE lines (
    owner TEXT NOT NULL REFERENCES carts (owner),
    product_id TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (owner, product_id)
);

-- Which orders have been taken out of which cart.
CREATE TABLE cleared (
    owner TEXT NOT NULL,
    order_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    cleared_at BIGINT NOT NULL,
    PRIMARY KEY (owner, order_id)
);

-- A copy of the catalogue, fed by the product service's events. A product that was dropped stays, unavailable.
CREATE TABLE products (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    minor_units BIGINT NOT NULL,
    currency TEXT NOT NULL,
    available BIGINT NOT NULL,
    version BIGINT NOT NULL
);
