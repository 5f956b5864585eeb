use std::time::Duration;

use bus::Queue;
use events::Name;
use serde_json::json;
use testkit::eventually;

use crate::{SOON, Site, counts, created, event};

#[tokio::test]
async fn every_event_is_counted_once() {
    for site in Site::every().await {
        let dashboard = site.start().await;
        site.publish(created(0..200)).await;
        site.publish(vec![event("DB", "UPDATE", "a"), event("ORDERS", "PLACED", "b")]).await;
        dashboard.counted("CREATE", 200).await;
        let snapshot = dashboard.counted("UPDATE", 1).await;
        assert_eq!(snapshot["queues"]["DB"]["total"], 201);
        assert_eq!(snapshot["recent"].as_array().unwrap().len(), 50);
        eventually("a queue that came later is counted too", SOON, async || {
            let snapshot = dashboard.snapshot().await;
            (snapshot["queues"]["ORDERS"]["events"]["PLACED"]["count"] == 1).then_some(())
        })
        .await;
        dashboard.drain().await;
    }
}

#[tokio::test]
async fn a_restart_neither_forgets_nor_repeats() {
    for site in Site::every().await {
        let first = site.start().await;
        site.publish(created(0..30)).await;
        first.counted("CREATE", 30).await;
        first.drain().await;
        site.publish(created(30..33)).await;
        let second = site.start().await;
        let snapshot = second.counted("CREATE", 33).await;
        assert_eq!(snapshot["queues"]["DB"]["missing"], json!({}));
        assert_eq!(snapshot["recent"].as_array().unwrap().len(), 33, "the last events of the former life are shown");
        second.drain().await;
    }
}

#[tokio::test]
async fn a_dashboard_killed_at_work_goes_on_from_what_it_kept() {
    for site in Site::every().await {
        for round in 1..=5 {
            let killed = site.start().await;
            site.publish(created(0..100)).await;
            eventually("some are counted", SOON, async || {
                (counts(&killed.snapshot().await, "CREATE") > (round - 1) * 100).then_some(())
            })
            .await;
            killed.kill().await;
        }
        let dashboard = site.start().await;
        dashboard.counted("CREATE", 500).await;
        dashboard.drain().await;
    }
}

#[tokio::test]
async fn two_dashboards_on_one_database_agree() {
    for site in Site::every().await {
        let (one, other) = (site.start().await, site.start().await);
        site.publish(created(0..150)).await;
        one.counted("CREATE", 150).await;
        other.counted("CREATE", 150).await;
        one.kill().await;
        site.publish(created(150..160)).await;
        other.counted("CREATE", 160).await;
        other.drain().await;
        let third = site.start().await;
        third.counted("CREATE", 160).await;
        third.drain().await;
    }
}

#[tokio::test]
async fn a_log_that_began_anew_is_told_and_the_counts_go_on() {
    let mut site = Site::sqlite().await;
    let first = site.start().await;
    site.publish(created(0..20)).await;
    first.counted("CREATE", 20).await;
    first.drain().await;
    site.bus = bus::sqlite::open(&site.folder.path().join("another.db")).await.unwrap();
    site.publish(created(20..25)).await;
    let second = site.start().await;
    let snapshot = second.counted("CREATE", 25).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"]["reset"], json!({ "gaps": 1, "events": 0, "unknown": 1 }));
    second.drain().await;
    // The gap is kept like a count.
    let third = site.start().await;
    let snapshot = third.counted("CREATE", 25).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"]["reset"]["gaps"], 1);
    third.drain().await;
}

#[tokio::test]
async fn it_is_ready_once_it_has_caught_up() {
    let site = Site::sqlite().await;
    site.publish(created(0..256)).await;
    let dashboard = site.start().await;
    eventually("it is ready", SOON, async || dashboard.readiness.is_ready().then_some(())).await;
    assert_eq!(counts(&dashboard.snapshot().await, "CREATE"), 256);
    let readiness = dashboard.readiness.clone();
    dashboard.drain().await;
    assert!(!readiness.is_ready());
}

#[tokio::test]
async fn what_was_trimmed_while_it_was_away_is_told() {
    let (site, clock) = Site::in_the_past(7_200).await;
    let hour = Duration::from_secs(3_600);
    site.bus.declare_queue(Queue { max_age: hour, ..Queue::new(Name::new("DB").unwrap()) }).await.unwrap();
    let first = site.start().await;
    site.publish(created(0..20)).await;
    first.counted("CREATE", 20).await;
    first.drain().await;
    site.publish(created(20..25)).await;
    clock.behind(0);
    site.publish(created(25..28)).await;
    eventually("old events are trimmed", Duration::from_secs(60), async || {
        (site.bus.queues().await.unwrap()[0].partitions[0].floor == 26).then_some(())
    })
    .await;
    let second = site.start().await;
    let snapshot = second.counted("CREATE", 23).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"], json!({ "retention": { "gaps": 1, "events": 5, "unknown": 0 } }));
    second.drain().await;
}

#[tokio::test]
async fn what_was_trimmed_before_its_first_start_is_told() {
    let (site, clock) = Site::in_the_past(7_200).await;
    let hour = Duration::from_secs(3_600);
    site.bus.declare_queue(Queue { max_age: hour, ..Queue::new(Name::new("DB").unwrap()) }).await.unwrap();
    site.publish(created(0..7)).await;
    clock.behind(0);
    site.publish(created(7..9)).await;
    eventually("old events are trimmed", Duration::from_secs(60), async || {
        (site.bus.queues().await.unwrap()[0].partitions[0].floor == 8).then_some(())
    })
    .await;
    let dashboard = site.start().await;
    let snapshot = dashboard.counted("CREATE", 2).await;
    assert_eq!(snapshot["queues"]["DB"]["missing"]["before"]["events"], 7);
    dashboard.drain().await;
}
