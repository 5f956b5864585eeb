use database::{Database, Error, Migration, params};

use crate::{Place, SHELF, items};

const SECOND: Migration = Migration {
    version: 2,
    name: "colour",
    sql: "ALTER TABLE item ADD COLUMN colour TEXT; CREATE TABLE paint (id {identity});",
};

fn reason(opened: Result<Database, Error>) -> String {
    match opened {
        Err(Error::Query(reason)) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn an_opened_again_database_keeps_what_it_has_and_gets_what_it_lacks() {
    for place in Place::every().await {
        let database = place.open().await;
        let mut tx = database.begin().await.unwrap();
        tx.execute("INSERT INTO item (name) VALUES ($1)", params!["lamp"]).await.unwrap();
        tx.commit().await.unwrap();
        database.close().await;
        let database = place.migrated(&[SECOND, SHELF]).await.unwrap();
        assert_eq!(items(&database).await, 1);
        database.query("SELECT colour FROM item", &[]).await.unwrap();
        let rows = database.query("SELECT version, name FROM migration ORDER BY version", &[]).await.unwrap();
        assert_eq!(rows[1].get::<String>("name").unwrap(), "colour");
        assert_eq!(rows.len(), 2);
    }
}

#[tokio::test]
async fn concurrent_openers_migrate_once() {
    for place in Place::every().await {
        let url = place.url();
        let openers: Vec<_> = (0..6)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move { Database::open(&url, "shelf", &[SHELF, SECOND]).await.map(drop) })
            })
            .collect();
        for opener in openers {
            opener.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn schemas_of_one_server_are_apart() {
    let [_, place] = Place::every().await;
    let one = Database::open(&place.url(), "one", &[SHELF]).await.unwrap();
    let other = Database::open(&place.url(), "other", &[SHELF]).await.unwrap();
    let mut tx = one.begin().await.unwrap();
    tx.execute("INSERT INTO item (name) VALUES ('lamp')", &[]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((items(&one).await, items(&other).await), (1, 0));
    assert!(reason(Database::open(&place.url(), "x; DROP SCHEMA one", &[]).await).contains("schema"));
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    for place in Place::every().await {
        place.open().await;
        let changed = Migration { sql: "CREATE TABLE item (id {identity});", ..SHELF };
        let reason = reason(place.migrated(&[changed]).await);
        assert!(reason.contains("migration 1 (shelf)"), "{reason}");
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    for place in Place::every().await {
        place.migrated(&[SHELF, SECOND]).await.unwrap();
        let reason = reason(place.migrated(&[SHELF]).await);
        assert!(reason.contains("migration 2 (colour)"), "{reason}");
    }
}

#[tokio::test]
async fn a_migration_that_comes_too_late_is_refused() {
    for place in Place::every().await {
        place.migrated(&[Migration { version: 3, ..SHELF }]).await.unwrap();
        let reason = reason(place.migrated(&[Migration { version: 3, ..SHELF }, SECOND]).await);
        assert!(reason.contains("too late"), "{reason}");
    }
}

#[tokio::test]
async fn each_ten_versions_are_an_owners_own() {
    for place in Place::every().await {
        let other = Migration { version: 20, name: "other", sql: "CREATE TABLE other (id {identity});" };
        let late = Migration { version: 10, name: "late", sql: "CREATE TABLE late (id {identity});" };
        place.migrated(&[SHELF, other]).await.unwrap();
        let database = place.migrated(&[SHELF, SECOND, late, other]).await.unwrap();
        database.query("SELECT * FROM late", &[]).await.unwrap();
        database.query("SELECT colour FROM item", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_failing_migration_leaves_nothing() {
    for place in Place::every().await {
        let broken =
            Migration { version: 2, name: "broken", sql: "CREATE TABLE half (id {identity}); CREATE NONSENSE;" };
        let reason = reason(place.migrated(&[SHELF, broken]).await);
        assert!(reason.contains("migration 2 (broken)"), "{reason}");
        let database = place.migrated(&[]).await.unwrap();
        assert!(database.query("SELECT * FROM item", &[]).await.is_err(), "the first was kept");
    }
}
