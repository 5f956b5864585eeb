use axum::http::StatusCode;
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};

use crate::{Running, Site, event};

const NOON: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
const SECOND: time::Duration = time::Duration::SECOND;

/// Three creates and an update of products, and two creates of carts, over three minutes.
async fn some_events(site: &Site) -> Running {
    let (product, cart) = ("/services/product", "/services/cart");
    site.publish(vec![
        event(("DB", "CREATE"), product, "products/1", NOON),
        event(("DB", "CREATE"), product, "products/2", NOON + SECOND * 59),
        event(("DB", "CREATE"), product, "products/3", NOON + SECOND * 60),
        event(("DB", "UPDATE"), product, "products/1", NOON + SECOND * 61),
        event(("DB", "CREATE"), cart, "carts/1", NOON + SECOND * 10),
        event(("DB", "CREATE"), cart, "carts/2", NOON + SECOND * 150),
    ])
    .await;
    let logger = site.start().await;
    logger.counted(6).await;
    logger
}

#[tokio::test]
async fn summaries_count_by_queue_event_source_and_minute() {
    for site in Site::every().await {
        let logger = some_events(&site).await;
        let row = |event: &str, source: &str, minute: &str, events: i64| json!({ "queue": "DB", "event": event, "source": source, "minute": minute, "events": events });
        assert_eq!(
            logger.answer("/logger/summaries").await,
            json!({
                "summaries": [
                    row("CREATE", "/services/cart", "2026-03-01T12:02:00Z", 1),
                    row("CREATE", "/services/product", "2026-03-01T12:01:00Z", 1),
                    row("UPDATE", "/services/product", "2026-03-01T12:01:00Z", 1),
                    row("CREATE", "/services/cart", "2026-03-01T12:00:00Z", 1),
                    row("CREATE", "/services/product", "2026-03-01T12:00:00Z", 2),
                ],
                "total": 6,
                "more": false,
            })
        );
        for (question, total) in [
            ("event=CREATE", 5),
            ("source=/services/product", 4),
            ("queue=DB&event=CREATE&source=/services/cart", 2),
            ("from=2026-03-01T12:01:30Z", 3),
            ("from=2026-03-01T12:01:00Z&to=2026-03-01T12:02:00Z", 2),
            ("to=2026-03-01T13:01:00%2B01:00", 3),
            ("queue=INVOICES", 0),
        ] {
            assert_eq!(logger.answer(&format!("/logger/summaries?{question}")).await["total"], total, "{question}");
        }
        logger.drain().await;
    }
}

fn subjects(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().map(|event| event["envelope"]["subject"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn events_are_paged_newest_first_without_a_gap() {
    for site in Site::every().await {
        let logger = some_events(&site).await;
        let whole = logger.answer("/logger/events").await;
        assert_eq!(whole["events"][0]["envelope"]["specversion"], "1.0");
        let mut paged = Vec::new();
        let mut question = "/logger/events?limit=4".to_owned();
        loop {
            let page = logger.answer(&question).await;
            paged.extend(page["events"].as_array().unwrap().iter().cloned());
            let Some(before) = page["next_before"].as_i64() else { break };
            question = format!("/logger/events?limit=4&before={before}");
        }
        assert_eq!(json!(paged), whole["events"]);
        assert_eq!(paged.len(), 6);
        logger.drain().await;
    }
}

#[tokio::test]
async fn events_of_one_entity_are_found() {
    for site in Site::every().await {
        let logger = some_events(&site).await;
        let page = logger.answer("/logger/events?subject=products/1").await;
        assert_eq!(subjects(&page), ["products/1", "products/1"]);
        let page = logger.answer("/logger/events?event=UPDATE").await;
        assert_eq!(subjects(&page), ["products/1"]);
        assert_eq!(subjects(&logger.answer("/logger/events?queue=INVOICES").await), [""; 0]);
        logger.drain().await;
    }
}

#[tokio::test]
async fn a_question_that_is_wrong_is_refused_by_its_field() {
    let [site, _] = Site::every().await;
    let logger = site.start().await;
    for (question, field) in [
        ("/logger/summaries?from=noon", "from"),
        ("/logger/summaries?colour=red", "colour"),
        ("/logger/events?limit=0", "limit"),
        ("/logger/events?queue=db", "queue"),
    ] {
        let (status, problem) = logger.ask(question).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(problem["status"], 400);
        assert!(problem["detail"].as_str().unwrap().starts_with(field), "{problem}");
    }
    logger.drain().await;
}
