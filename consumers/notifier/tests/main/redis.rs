//! What only a bus on Redis does: it goes away at work, and it forgets.

use std::process::Command;

use testkit::eventually;

use crate::{SOON, Site, account, by_sms, provider::Provider, settled};

/// A bus is back when it takes events; who gets no answer sends the same again.
async fn publish(site: &Site, events: &[events::Envelope]) {
    eventually("the bus is back", SOON, async || {
        let outcomes = site.bus.publish(events.to_vec()).await.ok()?;
        outcomes.iter().all(Result::is_ok).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bus_that_goes_away_at_work_loses_no_message_and_repeats_none() {
    let mut site = Site::on_redis(None).await;
    let provider = Provider::that_takes_all().await;
    let rules = by_sms(&provider, "");
    let (one, other) = (site.start(&rules).await, site.start(&rules).await);
    publish(&site, &(0..100).map(account).collect::<Vec<_>>()).await;
    eventually("some are sent", SOON, async || (provider.requests().len() >= 20).then_some(())).await;
    let server = site.redis.as_mut().unwrap();
    server.kill();
    server.restart().await;
    publish(&site, &(100..110).map(account).collect::<Vec<_>>()).await;
    one.come_to("sent", 220).await;
    settled(&site.bus).await;
    assert_eq!(provider.requests().len(), 220);
    one.drain().await;
    other.drain().await;
}

#[tokio::test]
async fn a_bus_that_forgot_everything_and_is_told_it_again_sends_nothing_again() {
    for start in ["earliest", "now"] {
        let site = Site::on_redis(None).await;
        let provider = Provider::that_takes_all().await;
        let rules = by_sms(&provider, "").replace("start: earliest", &format!("start: {start}"));
        let notifier = site.start(&rules).await;
        let events: Vec<_> = (0..10).map(account).collect();
        eventually("the group stands", SOON, async || (!site.bus.groups().await.ok()?.is_empty()).then_some(())).await;
        publish(&site, &events).await;
        notifier.come_to("sent", 20).await;
        settled(&site.bus).await;
        let url = site.redis.as_ref().unwrap().url();
        assert!(Command::new("redis-cli").args(["-u", &url, "FLUSHALL"]).output().unwrap().status.success());
        // As the outbox does, and something new.
        publish(&site, &events).await;
        publish(&site, &[account(99)]).await;
        notifier.come_to("sent", 22).await;
        settled(&site.bus).await;
        assert_eq!(provider.requests().len(), 22);
        notifier.drain().await;
    }
}
