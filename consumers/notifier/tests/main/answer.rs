use axum::http::StatusCode;

use crate::{Site, account, by_sms, provider::Provider};

#[tokio::test]
async fn the_ledger_is_shown_in_pages_without_addresses() {
    let site = Site::sqlite().await;
    let provider = Provider::that_takes_all().await;
    let notifier = site.start(&by_sms(&provider, "")).await;
    site.publish((0..3).map(account).collect()).await;
    notifier.come_to("sent", 6).await;

    let (_, first) = notifier.ask("/notifier/messages?limit=4").await;
    let next = first["next_before"].as_i64().unwrap();
    let (_, second) = notifier.ask(&format!("/notifier/messages?limit=4&before={next}")).await;
    assert_eq!((first["messages"].as_array().unwrap().len(), second["messages"].as_array().unwrap().len()), (4, 2));
    assert_eq!(second.get("next_before"), None);
    assert_eq!(notifier.messages("recipient=ann&rule=accounts&state=sent").await.len(), 3);

    let (_, rules) = notifier.ask("/notifier/rules").await;
    let all = format!("{first}{second}{rules}");
    assert!(all.contains("…01"), "{all}");
    for hidden in ["+1500", "c1@example.com", "secret"] {
        assert!(!all.contains(hidden), "{hidden}: {all}");
    }
    let (status, refused) = notifier.ask("/notifier/messages?state=lost").await;
    assert_eq!(
        (status, &refused["detail"]),
        (StatusCode::BAD_REQUEST, &"state: must be one of intended, sent, failed, held, covered".into())
    );
    notifier.drain().await;
}
