use std::time::Duration;

use axum::http::StatusCode;
use bus::Start;
use events::Name;
use notifier::Rules;
use testkit::eventually;

use crate::{Manual, SOON, Site, account, by_sms, named, provider::Provider, rules, settled};

const ANN: &str = "+15005550101";
const BEN: &str = "+15005550102";

#[tokio::test]
async fn each_sales_person_gets_one_text_for_an_account() {
    for site in Site::every().await {
        let provider = Provider::that_takes_all().await;
        let notifier = site.start(&by_sms(&provider, "")).await;
        site.publish(vec![account(1)]).await;
        notifier.come_to("sent", 2).await;
        for number in [ANN, BEN] {
            assert_eq!(provider.texts(number), ["New customer Customer 1, c1@example.com"]);
        }
        let request = &provider.requests()[0];
        assert_eq!(request.line, "POST /2010-04-01/Accounts/AC1/Messages.json HTTP/1.1");
        // AC1:secret
        assert_eq!(request.headers["authorization"], "Basic QUMxOnNlY3JldA==");
        assert_eq!(request.field("From"), "+15005550006");
        assert_eq!(notifier.messages("state=sent").await[0]["reference"], "SM1");
        notifier.drain().await;
    }
}

#[tokio::test]
async fn an_event_delivered_again_sends_nothing_again() {
    for site in Site::every().await {
        let provider = Provider::that_takes_all().await;
        let notifier = site.start(&by_sms(&provider, "")).await;
        site.publish((0..20).map(account).collect()).await;
        notifier.come_to("sent", 40).await;
        settled(&site.bus).await;
        // As if every acknowledgement had been lost.
        site.bus.seek("notifier", Start::Earliest, false).await.unwrap();
        settled(&site.bus).await;
        notifier.come_to("sent", 40).await;
        assert_eq!(provider.requests().len(), 40);
        assert!(provider.connections() < 40, "a connection is used again");
        notifier.drain().await;
    }
}

#[tokio::test]
async fn two_notifiers_on_one_ledger_share_the_work_and_repeat_nothing() {
    for site in Site::every().await {
        let provider = Provider::that_takes_all().await;
        let rules = by_sms(&provider, "    limit: {messages: 30, per: 1h}\n");
        let (one, other) = (site.start(&rules).await, site.start(&rules).await);
        site.publish((0..50).map(account).collect()).await;
        one.come_to("sent", 60).await;
        other.come_to("held", 40).await;
        settled(&site.bus).await;
        assert_eq!((provider.texts(ANN).len(), provider.texts(BEN).len()), (30, 30));
        one.drain().await;
        other.drain().await;
    }
}

#[tokio::test]
async fn the_ledger_forgets_what_nothing_can_repeat_any_more() {
    for site in Site::every().await {
        let (provider, clock) = (Provider::that_takes_all().await, Manual::new());
        let rules = by_sms(&provider, "");
        let notifier = site.start_at(&rules, clock.clone()).await;
        site.publish(vec![account(1)]).await;
        notifier.come_to("sent", 2).await;
        settled(&site.bus).await;
        notifier.drain().await;
        clock.pass(Duration::from_secs(15 * 24 * 3600));
        let notifier = site.start_at(&rules, clock.clone()).await;
        site.publish(vec![account(2)]).await;
        eventually("the new messages alone are left", SOON, async || {
            let sent = notifier.messages("state=sent").await;
            (sent.len() == 2 && sent.iter().all(|sent| sent["title"] == "New customer: Customer 2")).then_some(())
        })
        .await;
        notifier.drain().await;
    }
}

#[tokio::test]
async fn only_events_that_a_rule_names_become_messages() {
    let site = Site::sqlite().await;
    let notifier = site.start(&rules("", "console", "")).await;
    let mut other_source = account(1);
    other_source.source = "/services/product".to_owned();
    let mut other_event = account(2);
    other_event.event = Name::new("UPDATE").unwrap();
    site.publish(vec![other_source, other_event, account(3)]).await;
    notifier.come_to("sent", 2).await;
    settled(&site.bus).await;
    let messages = notifier.messages("").await;
    assert!(messages.iter().all(|message| message["title"] == "New customer: Customer 3"), "{messages:?}");
    notifier.drain().await;
}

#[tokio::test]
async fn what_an_account_is_called_stays_one_line_of_visible_characters() {
    let site = Site::sqlite().await;
    let provider = Provider::that_takes_all().await;
    let notifier = site.start(&by_sms(&provider, "")).await;
    let hostile = format!("Eve\r\n\u{202e}{{data.email}}\u{0}&To=+1900{}", "x".repeat(2_000));
    site.publish(vec![named(&hostile, 1)]).await;
    notifier.come_to("sent", 2).await;
    let text = provider.texts(ANN).pop().unwrap();
    assert!(text.starts_with("New customer Eve  {data.email}&To=+1900xxx"), "{text}");
    assert!(text.chars().count() <= 480 && !text.chars().any(char::is_control), "{text}");
    assert_eq!(provider.texts(BEN).len(), 1);
    notifier.drain().await;
}

#[tokio::test]
async fn a_new_notifier_begins_with_what_happens_from_now_on() {
    let site = Site::sqlite().await;
    site.publish(vec![account(1)]).await;
    let begins_now = rules("", "console", "").replace("start: earliest", "start: now");
    let notifier = site.start(&begins_now).await;
    site.publish(vec![account(2)]).await;
    notifier.come_to("sent", 2).await;
    notifier.drain().await;
    // What was published while it was away is another matter.
    site.publish(vec![account(3)]).await;
    let notifier = site.start(&begins_now).await;
    notifier.come_to("sent", 4).await;
    notifier.drain().await;
}

#[tokio::test]
async fn the_demo_writes_to_the_console() {
    let site = Site::sqlite().await;
    let demo = notifier::REFERENCE.replace("start: now", "start: earliest");
    assert_eq!(Rules::default().rules.len(), 1);
    let notifier = site.start(&demo).await;
    site.publish(vec![account(1)]).await;
    notifier.come_to("sent", 2).await;
    let (status, rules) = notifier.ask("/notifier/rules").await;
    assert_eq!((status, &rules["rules"][0]["name"]), (StatusCode::OK, &"account-created".into()));
    notifier.drain().await;
}
