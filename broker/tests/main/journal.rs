//! What clients publish into a queue with a journal survives a flush of the bus.

use broker::Settings;
use serde_json::json;
use testkit::eventually;

use crate::site::{SOON, Site};

#[tokio::test]
async fn what_clients_published_comes_again_after_a_flush() {
    let server = testkit::redis().await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    let site = Site::on(bus, tempfile::tempdir().unwrap(), Settings::default()).await;
    let (alice, operator) = (site.alice(), site.operator());
    operator.send(http::Method::PUT, "/queues/KEPT", json!({"journal": true}).to_string()).await.json(201);
    for n in 0..20 {
        for queue in ["KEPT", "LOST"] {
            alice.post(&format!("/events/{queue}/NOTE?id={n}&subject=notes/{}", n % 2), n.to_string()).await.json(201);
        }
    }
    server.command(&["FLUSHALL"]);
    let kept = eventually("they are there again", SOON, || async {
        Some(site.log("KEPT").await).filter(|log| log.len() >= 20)
    })
    .await;
    let told: Vec<_> = kept.iter().map(|logged| (logged.envelope.id.clone(), logged.envelope.source.clone())).collect();
    let expected: Vec<_> = (0..20).map(|n| (n.to_string(), "/clients/alice".to_owned())).collect();
    assert_eq!(told, expected, "each once, in order, as its publisher's");
    assert!(site.log("LOST").await.is_empty(), "nobody kept them");
}
