use bus::Start;
use lifecycle::Role as _;
use serde_json::json;
use testkit::eventually;
use time::OffsetDateTime;

use crate::{SOON, Site, event};

const CREATE: (&str, &str) = ("DB", "CREATE");

fn created(number: usize) -> events::Envelope {
    event(CREATE, "/services/product", &format!("products/{number}"), OffsetDateTime::now_utc())
}

#[tokio::test]
async fn every_event_is_logged_once() {
    for site in Site::every().await {
        let logger = site.start().await;
        site.publish((0..200).map(created).collect()).await;
        logger.counted(200).await;
        let logged = logger.answer("/logger/events?limit=500").await;
        assert_eq!(logged["events"].as_array().unwrap().len(), 200);
        assert_eq!(logged["next_before"], json!(null));
        logger.drain().await;
    }
}

#[tokio::test]
async fn an_event_delivered_again_after_its_effect_has_no_second_one() {
    for site in Site::every().await {
        let logger = site.start().await;
        site.publish((0..50).map(created).collect()).await;
        logger.counted(50).await;
        // As if every acknowledgement had been lost.
        site.bus.seek("logger", Start::Earliest, false).await.unwrap();
        eventually("all are delivered again", SOON, async || {
            let groups = site.bus.groups().await.unwrap();
            groups.iter().all(|group| group.lag == 0).then_some(())
        })
        .await;
        logger.counted(50).await;
        assert_eq!(logger.answer("/logger/events?limit=500").await["events"].as_array().unwrap().len(), 50);
        logger.drain().await;
    }
}

#[tokio::test]
async fn a_logger_killed_at_work_leaves_nothing_out_and_nothing_twice() {
    for site in Site::every().await {
        site.publish((0..100).map(created).collect()).await;
        let killed = site.start().await;
        eventually("some are logged", SOON, async || {
            (killed.answer("/logger/summaries").await["total"].as_i64()? >= 5).then_some(())
        })
        .await;
        killed.kill().await;
        // Its leases would run out; a seek gives them up at once, and repeats what was logged.
        site.bus.seek("logger", Start::Earliest, false).await.unwrap();
        let logger = site.start().await;
        logger.counted(100).await;
        logger.drain().await;
    }
}

#[tokio::test]
async fn what_was_published_while_it_was_away_is_logged_later() {
    for site in Site::every().await {
        let first = site.start().await;
        site.publish(vec![created(1)]).await;
        first.counted(1).await;
        first.drain().await;
        site.publish(vec![created(2)]).await;
        let second = site.start().await;
        second.counted(2).await;
        second.drain().await;
    }
}

#[tokio::test]
async fn only_what_its_filters_name_is_logged() {
    for site in Site::every().await {
        let logger = site.start_with(&["DB/CREATE", "INVOICES/*"]).await;
        let now = OffsetDateTime::now_utc();
        site.publish(vec![
            created(1),
            event(("DB", "DELETE"), "/services/product", "products/1", now),
            event(("INVOICES", "CREATED"), "/services/invoice", "invoices/1", now),
            event(("ORDER_COMMANDS", "PLACE"), "/services/order", "orders/1", now),
        ])
        .await;
        logger.counted(2).await;
        logger.drain().await;
    }
}

#[tokio::test]
async fn filters_that_contradict_each_other_are_refused() {
    let [site, _] = Site::every().await;
    for filters in [&[][..], &["DB/CREATE", "DB/DELETE"][..]] {
        let Err(refused) = logger::build(site.config(filters)).await else { panic!("{filters:?} was taken") };
        assert!(refused.to_string().contains("logger.filters"), "{refused}");
    }
}

#[tokio::test]
async fn it_is_ready_while_it_works() {
    let [site, _] = Site::every().await;
    let logger = logger::build(site.config(&["DB/*"])).await.unwrap();
    let (readiness, shutdown) = (logger.readiness(), lifecycle::Shutdown::new());
    assert!(!readiness.is_ready());
    let work = tokio::spawn(Box::new(logger).run(shutdown.clone()));
    eventually("it is ready", SOON, async || readiness.is_ready().then_some(())).await;
    shutdown.begin(SOON);
    work.await.unwrap().unwrap();
    assert!(!readiness.is_ready());
}
