//! The same scenarios on SQLite and PostgreSQL.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod abandoned;
mod migration;
mod notification;
mod statement;
mod transaction;

use database::{Database, Engine, Error, Migration, Url};
use tempfile::TempDir;
use testkit::Postgres;

const SHELF: Migration = Migration {
    version: 1,
    name: "shelf",
    sql: "CREATE TABLE item (id {identity}, name TEXT NOT NULL UNIQUE, quantity BIGINT, picture BYTEA);
          CREATE TABLE note (item BIGINT NOT NULL REFERENCES item (id), line BIGINT NOT NULL, text TEXT,
                             PRIMARY KEY (item, line));",
};

/// An empty place for a database of each engine.
enum Place {
    Sqlite(TempDir),
    Postgres(Postgres),
}

impl Place {
    async fn every() -> [Self; 2] {
        [Self::Sqlite(tempfile::tempdir().unwrap()), Self::Postgres(testkit::postgres().await)]
    }

    fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    fn url(&self) -> Url {
        match self {
            Self::Sqlite(folder) => Url::sqlite(folder.path().join("shelf.db")),
            Self::Postgres(server) => Url(server.url()),
        }
    }

    async fn open(&self) -> Database {
        self.migrated(&[SHELF]).await.unwrap()
    }

    async fn migrated(&self, migrations: &[Migration]) -> Result<Database, Error> {
        Database::open(&self.url(), "shelf", migrations).await
    }
}

/// How many items there are.
async fn items(database: &Database) -> i64 {
    database.query("SELECT count(*) AS items FROM item", &[]).await.unwrap()[0].get("items").unwrap()
}
