use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use opentelemetry::trace::TracerProvider as _;
use serde_json::Value;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    Site, account,
    provider::{Provider, Recorded, Reply},
    settled,
};

const KEY: &[u8] = b"a key of thirty-two bytes, or so";

fn rules(provider: &Provider) -> String {
    format!(
        "start: earliest
people:
  - {{name: desk, webhook: {{url: '{url}/desk?x=1', secret: whsec_{secret}}}}}
  - {{name: open, webhook: {{url: '{url}/open'}}}}
rules:
  - name: accounts
    on: [DB/CREATE]
    template: {{text: 'New customer {{data.name}}'}}
    recipients: {{webhook: [desk, open]}}
",
        url = provider.url(),
        secret = STANDARD.encode(KEY),
    )
}

#[tokio::test]
async fn a_webhook_is_signed_and_keeps_its_id_through_all_attempts() {
    let site = Site::sqlite().await;
    let provider =
        Provider::start(|number, _| if number < 2 { Reply::Status(503, "") } else { Reply::Status(204, "") }).await;
    let notifier = site.start(&rules(&provider)).await;
    site.publish(vec![account(1)]).await;
    notifier.come_to("sent", 2).await;
    settled(&site.bus).await;
    let to = |path: &str| -> Vec<Recorded> {
        provider.requests().into_iter().filter(|request| request.line.contains(path)).collect()
    };
    let (desk, open) = (to("/desk?x=1"), to("/open"));
    assert_eq!((desk.len(), open.len()), (2, 2));
    for request in &desk {
        let (id, time) = (&request.headers["webhook-id"], &request.headers["webhook-timestamp"]);
        let signature = request.headers["webhook-signature"].strip_prefix("v1,").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
        let signed = format!("{id}.{time}.{}", request.body);
        hmac::verify(&key, signed.as_bytes(), &STANDARD.decode(signature).unwrap()).unwrap();
    }
    assert_eq!(desk[0].headers["webhook-id"], desk[1].headers["webhook-id"]);
    assert_ne!(desk[0].headers["webhook-id"], open[0].headers["webhook-id"]);
    assert_eq!(open[0].headers.get("webhook-signature"), None);
    let body: Value = serde_json::from_str(&desk[1].body).unwrap();
    assert_eq!((&body["text"], &body["about"]["subject"]), (&"New customer Customer 1".into(), &"customers/1".into()));
    notifier.drain().await;
}

#[tokio::test]
async fn a_webhook_belongs_to_the_trace_of_what_caused_the_event() {
    let tracer = opentelemetry_sdk::trace::SdkTracerProvider::default();
    let layer = tracing_opentelemetry::layer().with_tracer(tracer.tracer("test"));
    let _subscriber = tracing_subscriber::registry().with(layer).set_default();
    let site = Site::sqlite().await;
    let provider = Provider::that_takes_all().await;
    let notifier = site.start(&rules(&provider)).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut event = account(1);
    event.traceparent = Some(parent.to_owned());
    site.publish(vec![event]).await;
    notifier.come_to("sent", 2).await;
    let spans: Vec<String> = provider.requests().iter().map(|request| request.headers["traceparent"].clone()).collect();
    assert!(spans.iter().all(|span| span[..36] == parent[..36] && span != parent), "{spans:?}");
    assert_ne!(spans[0], spans[1], "each attempt is a span of its own");
    notifier.drain().await;
}
