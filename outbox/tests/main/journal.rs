//! What clients publish survives a flush where its queue has a journal.

use std::sync::Arc;

use bus::{Bus, PublishOptions, Queue};
use database::{Database, Url};
use events::{Envelope, Name};
use outbox::{Journal, Relay};
use serde_json::json;
use testkit::eventually;

use crate::{SOON, Working};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn event(queue: &str, id: usize) -> Envelope {
    let event = Envelope::new("/clients/alice", name(queue), name("NOTE")).id(id.to_string());
    event.subject(format!("notes/{}", id % 3)).data(json!({ "n": id })).owner("alice").priority(7)
}

async fn read(bus: &Bus, queue: &str) -> Vec<Arc<Envelope>> {
    let page = bus.read(&name(queue), 0, 1, 1000).await.unwrap();
    page.events.into_iter().map(|logged| logged.envelope).collect()
}

async fn journal(database: &Database, bus: &Bus) -> Journal {
    for journal in [true, false] {
        let queue = name(if journal { "KEPT" } else { "LOST" });
        bus.declare_queue(Queue { journal, ..Queue::new(queue) }).await.unwrap();
    }
    Journal::new(database.clone(), bus.clone())
}

async fn open(url: &Url) -> Database {
    Database::open(url, "journal", &[outbox::migration(1), outbox::journal_migration(2)]).await.unwrap()
}

#[tokio::test]
async fn what_is_journaled_comes_again_after_a_flush_once_and_in_order() {
    let postgres = testkit::postgres().await;
    let folder = tempfile::tempdir().unwrap();
    for url in [Url::sqlite(folder.path().join("journal.db")), Url(postgres.url())] {
        let (database, server) = (open(&url).await, testkit::redis().await);
        let bus = bus::redis::open(&server.url()).await.unwrap();
        let journal = Arc::new(journal(&database, &bus).await);
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), "/broker"));
        let publishing: Vec<_> = (0..30)
            .map(|id| {
                let journal = journal.clone();
                tokio::spawn(async move {
                    for queue in ["KEPT", "LOST"] {
                        let outcomes = journal.publish(vec![event(queue, id)], PublishOptions::default()).await;
                        outcomes.unwrap().remove(0).unwrap();
                    }
                })
            })
            .collect();
        for publishing in publishing {
            publishing.await.unwrap();
        }
        // A repeated publish is kept once.
        let again = journal.publish(vec![event("KEPT", 0)], PublishOptions::default()).await.unwrap();
        assert!(again[0].as_ref().unwrap().duplicate);
        let before = read(&bus, "KEPT").await;
        assert_eq!(before.len(), 30);

        server.command(&["FLUSHALL"]);
        let after = eventually("it is there again", SOON, async || {
            Some(read(&bus, "KEPT").await).filter(|events| events.len() >= 30)
        })
        .await;
        let told = |events: &[Arc<Envelope>]| {
            let stripped = |event: &Arc<Envelope>| Envelope { recordedtime: None, ..(**event).clone() };
            events.iter().map(stripped).collect::<Vec<_>>()
        };
        assert_eq!(told(&before), told(&after), "the same events, each once, in the same order");
        assert!(read(&bus, "LOST").await.is_empty(), "nobody kept them");

        // And again, with what came since.
        journal.publish(vec![event("KEPT", 30)], PublishOptions::default()).await.unwrap().remove(0).unwrap();
        server.command(&["FLUSHALL"]);
        let after = eventually("it is there again", SOON, async || {
            Some(read(&bus, "KEPT").await).filter(|events| events.len() >= 31)
        })
        .await;
        assert_eq!(told(&before), told(&after[..30]));
        assert_eq!((after.len(), after[30].id.as_str()), (31, "30"));
        relay.drain().await;
    }
}
