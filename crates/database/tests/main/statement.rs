use database::{Engine, Error, Value, params};
use time::OffsetDateTime;

use crate::Place;

#[tokio::test]
async fn what_is_stored_is_read_back() {
    for place in Place::every().await {
        let database = place.open().await;
        let mut tx = database.begin().await.unwrap();
        let stored = tx
            .execute(
                "INSERT INTO item (name, quantity, picture) VALUES ($1, $2, $3), ($4, $5, $6)",
                params!["lamp", i64::MAX, vec![0, 255], String::from("ünïcode 'quoted'"), None::<i64>, None::<&[u8]>],
            )
            .await
            .unwrap();
        assert_eq!(stored, 2);
        tx.commit().await.unwrap();

        let rows = database.query("SELECT * FROM item ORDER BY id", &[]).await.unwrap();
        assert_eq!(rows[0].get::<i64>("id").unwrap(), 1);
        assert_eq!(rows[0].get::<String>("name").unwrap(), "lamp");
        assert_eq!(rows[0].get::<Option<i64>>("quantity").unwrap(), Some(i64::MAX));
        assert_eq!(rows[0].get::<Vec<u8>>("picture").unwrap(), [0, 255]);
        assert_eq!(rows[1].get::<String>("name").unwrap(), "ünïcode 'quoted'");
        assert_eq!(rows[1].get::<Option<i64>>("quantity").unwrap(), None);
        assert_eq!(rows[1].get::<Option<Vec<u8>>>("picture").unwrap(), None);
    }
}

#[tokio::test]
async fn a_statement_takes_null_and_a_value_in_turn() {
    for place in Place::every().await {
        let database = place.open().await;
        for (name, quantity) in [("a", None), ("b", Some(7)), ("c", None), ("d", Some(9))] {
            let mut tx = database.begin().await.unwrap();
            let sql = "INSERT INTO item (name, quantity) VALUES ($1, $2) RETURNING quantity";
            let rows = tx.query(sql, params![name, quantity]).await.unwrap();
            assert_eq!(rows[0].get::<Option<i64>>("quantity").unwrap(), quantity.map(i64::from));
            tx.commit().await.unwrap();
        }
        let sql = "SELECT name FROM item WHERE (CAST($1 AS BIGINT) IS NULL OR quantity >= $1) ORDER BY id LIMIT $2";
        for (least, limit, expected) in [(None, 3, 3), (Some(8_i64), 10, 1), (None, 10, 4)] {
            assert_eq!(database.query(sql, params![least, limit]).await.unwrap().len(), expected);
        }
    }
}

#[tokio::test]
async fn booleans_and_times_are_integers() {
    for place in Place::every().await {
        let database = place.open().await;
        let noon = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
        let mut tx = database.begin().await.unwrap();
        tx.execute("INSERT INTO item (name, quantity) VALUES ('t', $1), ('f', $2)", params![noon, true]).await.unwrap();
        tx.commit().await.unwrap();
        let rows =
            database.query("SELECT quantity, EXISTS (SELECT 1) AS some FROM item ORDER BY id", &[]).await.unwrap();
        assert_eq!(rows[0].get::<OffsetDateTime>("quantity").unwrap(), noon);
        assert!(rows[1].get::<bool>("quantity").unwrap());
        assert!(rows[1].get::<bool>("some").unwrap());
    }
}

#[tokio::test]
async fn a_column_read_as_something_else_is_an_error() {
    for place in Place::every().await {
        let database = place.open().await;
        let rows = database.query("SELECT 'text' AS word, CAST(NULL AS BIGINT) AS missing", &[]).await.unwrap();
        for (column, error) in [
            ("word", rows[0].get::<i64>("word").unwrap_err()),
            ("missing", rows[0].get::<String>("missing").unwrap_err()),
            ("absent", rows[0].get::<i64>("absent").unwrap_err()),
        ] {
            assert!(matches!(&error, Error::Query(reason) if reason.contains(column)), "{error}");
        }
        let refused = database.query("SELECT 1.5 AS half", &[]).await.unwrap_err();
        assert!(matches!(&refused, Error::Query(reason) if reason.contains("half")), "{refused}");
    }
}

#[tokio::test]
async fn a_refused_row_names_its_unique_constraint() {
    for place in Place::every().await {
        let database = place.open().await;
        let insert = "INSERT INTO item (name) VALUES ($1)";
        let mut tx = database.begin().await.unwrap();
        tx.execute(insert, params!["lamp"]).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = database.begin().await.unwrap();
        let refused = tx.execute(insert, params!["lamp"]).await.unwrap_err();
        let expected = match place.engine() {
            Engine::Sqlite => "item.name",
            Engine::Postgres => "item_name_key",
        };
        assert!(matches!(&refused, Error::Unique { constraint } if constraint == expected), "{refused}");
        tx.rollback().await.unwrap();

        let mut tx = database.begin().await.unwrap();
        let orphan = tx.execute("INSERT INTO note (item, line) VALUES ($1, $2)", params![99, 1]).await;
        // A foreign key is checked at the statement on both.
        assert!(matches!(orphan, Err(Error::Query(_))));
    }
}

#[tokio::test]
async fn a_statement_that_is_wrong_is_a_query_error() {
    for place in Place::every().await {
        let database = place.open().await;
        for sql in ["SELECT nonsense FROM item", "SELEC 1", "SELECT * FROM nowhere"] {
            assert!(matches!(database.query(sql, &[]).await, Err(Error::Query(_))), "{sql}");
        }
    }
}

#[test]
fn values_are_made_from_what_the_domain_has() {
    let owned = "a".to_owned();
    assert_eq!(
        params![&owned, false, 3_u32, Some("b")],
        &[Value::Text("a".to_owned()), Value::Integer(0), Value::Integer(3), Value::Text("b".to_owned())]
    );
}
