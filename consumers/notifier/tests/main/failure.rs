use std::time::Duration;

use testkit::eventually;

use crate::{
    SOON, Site, account, by_sms,
    provider::{Provider, Reply, TAKEN},
    settled,
};

const ANN: &str = "+15005550101";
const BEN: &str = "+15005550102";

#[tokio::test]
async fn a_text_that_failed_twice_is_sent_once_and_the_others_not_again() {
    for site in Site::every().await {
        let failures = std::sync::atomic::AtomicUsize::new(0);
        let provider = Provider::start(move |_, request| {
            let failed = request.field("To") == ANN && failures.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2;
            if failed { Reply::Status(500, "") } else { TAKEN }
        })
        .await;
        let notifier = site.start(&by_sms(&provider, "")).await;
        site.publish(vec![account(1)]).await;
        notifier.come_to("sent", 2).await;
        settled(&site.bus).await;
        assert_eq!((provider.texts(ANN).len(), provider.texts(BEN).len()), (3, 1));
        let ann = &notifier.messages("recipient=ann").await[0];
        assert_eq!((&ann["attempts"], &ann["reason"]), (&3.into(), &serde_json::Value::Null));
        notifier.drain().await;
    }
}

#[tokio::test]
async fn a_number_that_is_refused_for_good_holds_back_nobody() {
    for site in Site::every().await {
        let provider = Provider::start(|_, request| match request.field("To").as_str() {
            ANN => Reply::Status(400, r#"{"code":21211,"message":"Invalid 'To' Phone Number: +15005550101"}"#),
            _ => TAKEN,
        })
        .await;
        let notifier = site.start(&by_sms(&provider, "")).await;
        site.publish(vec![account(1)]).await;
        notifier.come_to("sent", 1).await;
        notifier.come_to("failed", 1).await;
        settled(&site.bus).await;
        assert_eq!(provider.requests().len(), 2);
        let failed = &notifier.messages("state=failed").await[0];
        assert_eq!(failed["reason"], "400 Bad Request: 21211 Invalid 'To' Phone Number: …01");
        assert_eq!(site.bus.groups().await.unwrap()[0].dead, 0);
        notifier.drain().await;
    }
}

#[tokio::test]
async fn a_provider_that_says_when_is_asked_then() {
    let site = Site::sqlite().await;
    let provider = Provider::start(|number, _| if number < 2 { Reply::Later(3) } else { TAKEN }).await;
    let notifier = site.start(&by_sms(&provider, "")).await;
    let begun = std::time::Instant::now();
    site.publish(vec![account(1)]).await;
    notifier.come_to("sent", 2).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "the schedule alone would have been a second");
    assert_eq!(provider.requests().len(), 4);
    notifier.drain().await;
}

#[tokio::test]
async fn no_answer_in_time_and_no_answer_at_all_are_tried_again() {
    let site = Site::sqlite().await;
    let provider = Provider::start(|number, _| match number {
        0 => Reply::Hang,
        1 => Reply::Close,
        _ => TAKEN,
    })
    .await;
    let notifier = site.start(&by_sms(&provider, "")).await;
    site.publish(vec![account(1)]).await;
    eventually("a reason is there", SOON, async || {
        let open = notifier.messages("state=intended").await;
        open.iter().any(|message| message["reason"].is_string()).then_some(())
    })
    .await;
    notifier.come_to("sent", 2).await;
    assert_eq!(provider.requests().len(), 4);
    notifier.drain().await;
}

#[tokio::test]
async fn what_a_drain_finds_under_way_is_finished_and_told_to_the_ledger() {
    let site = Site::sqlite().await;
    let provider = Provider::that_takes_all().await;
    let rules = by_sms(&provider, "");
    let notifier = site.start(&rules).await;
    site.publish((0..100).map(account).collect()).await;
    eventually("some are sent", SOON, async || (provider.requests().len() >= 5).then_some(())).await;
    notifier.drain().await;
    let notifier = site.start(&rules).await;
    notifier.come_to("sent", 200).await;
    assert_eq!(provider.requests().len(), 200);
    notifier.drain().await;
}
