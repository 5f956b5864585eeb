use std::time::Duration;

use crate::{
    Manual, Site, account, by_sms,
    provider::{Provider, Reply, TAKEN},
    settled,
};

const ANN: &str = "+15005550101";
const BEN: &str = "+15005550102";
const LIMIT: &str = "    limit: {messages: 5, per: 1m}\n";
const MINUTE: Duration = Duration::from_secs(61);

#[tokio::test]
async fn a_flood_is_a_few_texts_and_one_digest() {
    for site in Site::every().await {
        let (provider, clock) = (Provider::that_takes_all().await, Manual::new());
        let notifier = site.start_at(&by_sms(&provider, LIMIT), clock.clone()).await;
        site.publish((0..100).map(account).collect()).await;
        notifier.come_to("sent", 10).await;
        notifier.come_to("held", 190).await;
        settled(&site.bus).await;
        assert_eq!(provider.requests().len(), 10);

        clock.pass(MINUTE);
        notifier.come_to("sent", 12).await;
        notifier.come_to("covered", 190).await;
        for number in [ANN, BEN] {
            let texts = provider.texts(number);
            assert_eq!(texts.len(), 6);
            assert!(texts[5].starts_with("95 more: New customer: Customer "), "{}", texts[5]);
        }
        // The window after it has room again.
        site.publish(vec![account(100)]).await;
        notifier.come_to("sent", 14).await;
        assert_eq!(provider.requests().len(), 14);
        notifier.drain().await;
    }
}

#[tokio::test]
async fn a_restart_within_the_window_keeps_the_digest() {
    for site in Site::every().await {
        let (provider, clock) = (Provider::that_takes_all().await, Manual::new());
        let rules = by_sms(&provider, LIMIT);
        let notifier = site.start_at(&rules, clock.clone()).await;
        site.publish((0..6).map(account).collect()).await;
        notifier.come_to("held", 2).await;
        settled(&site.bus).await;
        notifier.drain().await;

        let notifier = site.start_at(&rules, clock.clone()).await;
        // Still the same window: it is full.
        site.publish(vec![account(6)]).await;
        notifier.come_to("held", 4).await;
        settled(&site.bus).await;
        notifier.drain().await;

        clock.pass(MINUTE);
        let notifier = site.start_at(&rules, clock.clone()).await;
        notifier.come_to("covered", 4).await;
        assert_eq!(provider.texts(ANN).len(), 6);
        assert!(provider.texts(ANN)[5].starts_with("2 more: "), "{:?}", provider.texts(ANN));
        notifier.drain().await;
    }
}

#[tokio::test]
async fn a_digest_that_fails_is_tried_again_and_a_refused_one_is_not() {
    let site = Site::sqlite().await;
    let clock = Manual::new();
    let provider = Provider::start(|number, request| match (request.field("To").as_str(), number) {
        _ if !request.field("Body").contains(" more: ") => TAKEN,
        (BEN, _) => Reply::Status(400, ""),
        // One of these two is the first digest to Ann.
        (_, 10 | 11) => Reply::Status(503, ""),
        _ => TAKEN,
    })
    .await;
    let notifier = site.start_at(&by_sms(&provider, LIMIT), clock.clone()).await;
    site.publish((0..8).map(account).collect()).await;
    notifier.come_to("held", 6).await;
    settled(&site.bus).await;
    clock.pass(MINUTE);
    // Ben's digest, and the three messages that it stood for.
    notifier.come_to("failed", 4).await;
    testkit::eventually("the digest to Ann has failed once", crate::SOON, async || {
        let open = notifier.messages("state=intended").await;
        open.iter().any(|digest| digest["reason"] == "503 Service Unavailable").then_some(())
    })
    .await;
    clock.pass(MINUTE);
    notifier.come_to("covered", 3).await;
    assert_eq!(provider.texts(ANN).iter().filter(|text| text.starts_with("3 more: ")).count(), 2);
    assert_eq!(provider.texts(BEN).iter().filter(|text| text.starts_with("3 more: ")).count(), 1);
    notifier.drain().await;
}
