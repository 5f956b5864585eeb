CREATE TABLE reviews (
    id TEXT PRIMARY KEY,
    product_id TEXT NOT NULL,
    author TEXT NOT NULL,
    rating BIGINT NOT NULL,
    text TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (product_id, author)
);

CREATE INDEX reviews_newest_first ON reviews (product_id, created_at, id);
