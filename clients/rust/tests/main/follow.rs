//! Following across everything that breaks: every event once, in order, or a word on why not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use broker::Settings;
use client::{Client, Follow, Options, State, StreamExt as _, Told};
use testkit::{Fault, Way, eventually};
use tokio::time::timeout;

use crate::lab::{ALL, Lab, SOON, ids, next};

fn all(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

#[tokio::test]
async fn what_was_there_is_told_then_what_comes() {
    let lab = Lab::start().await;
    lab.publish("DB/CREATE", 0..5).await;
    let client = lab.client().await;
    let mut notes = client.subscribe("DB/*", Follow::default().from("earliest")).await.unwrap();
    for n in 0..5 {
        let Told::Event(told) = next(&mut notes).await else { panic!("an event") };
        assert_eq!((told.event.id, told.replay, told.event.data["n"].as_u64()), (n.to_string(), true, Some(n)));
        assert_eq!((told.event.queue.as_str(), told.event.event.as_str()), ("DB", "CREATE"));
    }
    assert!(matches!(next(&mut notes).await, Told::CaughtUp { .. }));
    lab.publish("DB/UPDATE", 5..6).await;
    let Told::Event(told) = next(&mut notes).await else { panic!("an event") };
    assert_eq!((told.event.id.as_str(), told.replay), ("5", false));
    // What is done with is where another one goes on.
    let mut other = client.subscribe("DB/*", Follow::default().from(told.prev)).await.unwrap();
    assert_eq!(ids(&mut other, 1).await, [5]);
}

#[tokio::test]
async fn a_cut_a_dead_node_and_a_drain_lose_and_double_nothing() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    let mut notes = client.subscribe("DB/*", Follow::default()).await.unwrap();
    lab.publish("DB/CREATE", 0..20).await;
    assert_eq!(ids(&mut notes, 10).await, all(0..10), "the others wait here or on the way");
    lab.proxy.cut();
    lab.publish("DB/CREATE", 20..40).await;
    assert_eq!(ids(&mut notes, 30).await, all(10..40));
    lab.kill().await;
    lab.publish("DB/CREATE", 40..60).await;
    assert_eq!(ids(&mut notes, 20).await, all(40..60));
    lab.drain().await;
    lab.publish("DB/CREATE", 60..80).await;
    assert_eq!(ids(&mut notes, 20).await, all(60..80));
}

#[tokio::test]
async fn wherever_it_is_cut_the_chain_holds() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    let mut notes = client.subscribe("DB/*", Follow::default().credit(8)).await.unwrap();
    let mut told = Vec::new();
    for round in 0..12 {
        // In the middle of a frame, of an answer, of the handshake.
        lab.proxy.set(Way::Back, Fault::CutAfter(150 + 397 * u64::from(round)));
        lab.publish("DB/CREATE", round * 10..round * 10 + 10).await;
        if round % 3 == 2 {
            lab.proxy.set(Way::Back, Fault::None);
            told.extend(ids(&mut notes, 30).await);
        }
    }
    assert_eq!(told, all(0..120));
}

#[tokio::test]
async fn a_connection_that_died_in_silence_is_noticed() {
    let settings = Settings { ping: Duration::from_millis(200), ..Settings::default() };
    let lab = Lab::start_with(settings).await;
    let client = lab.client().await;
    let mut notes = client.subscribe("DB/*", Follow::default()).await.unwrap();
    lab.proxy.set_both(Fault::Swallow);
    let mut state = client.state();
    timeout(SOON, state.wait_for(|state| matches!(state, State::Reconnecting(_)))).await.expect("noticed").unwrap();
    lab.publish("DB/CREATE", 0..5).await;
    lab.proxy.set_both(Fault::None);
    assert_eq!(ids(&mut notes, 5).await, all(0..5));
}

#[tokio::test]
async fn who_reads_nothing_holds_up_nobody_and_misses_nothing() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    let mut slow = client.subscribe("DB/*", Follow::default().credit(4)).await.unwrap();
    let mut quick = client.subscribe("DB/*", Follow::default().credit(4)).await.unwrap();
    lab.publish("DB/CREATE", 0..200).await;
    assert_eq!(ids(&mut quick, 200).await, all(0..200));
    lab.proxy.cut();
    lab.publish("DB/CREATE", 200..210).await;
    assert_eq!(ids(&mut quick, 10).await, all(200..210));
    assert_eq!(ids(&mut slow, 210).await, all(0..210));
}

#[tokio::test]
async fn a_subscription_that_is_dropped_ends_at_the_broker() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    let notes = client.subscribe("DB/*", Follow::default().name("notes")).await.unwrap();
    let again = client.subscribe("DB/*", Follow::default().name("notes")).await;
    assert_eq!(again.err().unwrap().code(), "conflict");
    let followed = || lab.bus.roster().here().iter().map(|connection| connection.subscriptions.len()).sum::<usize>();
    assert_eq!(followed(), 1);
    drop(notes);
    drop(client.subscribe("DB/*", Follow::default().name("notes")).await.unwrap());
    eventually("it is followed no more", SOON, async || (followed() == 0).then_some(())).await;
    client.subscribe("DB/*", Follow::default().name("notes")).await.unwrap();
    drop(client);
    eventually("it has gone", SOON, async || lab.bus.roster().here().is_empty().then_some(())).await;
}

#[tokio::test]
async fn who_may_not_is_told_so_at_once_and_others_go_on() {
    let lab = Lab::start().await;
    let client = lab.client_of(lab.options_of("bob", &["events:read:DB/*"])).await;
    let refused = client.subscribe("ORDERS/*", Follow::default()).await.err().unwrap();
    assert_eq!(refused.code(), "forbidden", "{refused}");
    for (filter, follow, code) in [
        ("nonsense", Follow::default(), "invalid"),
        ("DB/*", Follow::default().from("nonsense"), "invalid"),
        ("DB/*", Follow::default().credit(0), "invalid"),
    ] {
        assert_eq!(client.subscribe(filter, follow).await.err().unwrap().code(), code);
    }
    let mut notes = client.subscribe("DB/*", Follow::default()).await.unwrap();
    lab.publish("DB/CREATE", 0..1).await;
    assert_eq!(ids(&mut notes, 1).await, [0]);
}

#[tokio::test]
async fn who_is_sent_away_for_good_doesnt_come_again() {
    let lab = Lab::start().await;
    let refused = Client::connect(&lab.url(), Options::default().token(|| "nonsense".to_owned())).await;
    assert_eq!(refused.err().unwrap().code(), "unauthenticated");
    assert_eq!(lab.proxy.connections(), 1);
    let refused = Client::connect(&format!("{}/nowhere", lab.url()), lab.options()).await;
    assert_eq!(refused.err().unwrap().code(), "not-found");
}

#[tokio::test]
async fn a_closed_client_ends_what_it_follows() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    let mut notes = client.subscribe("DB/*", Follow::default()).await.unwrap();
    lab.publish("DB/CREATE", 0..2).await;
    assert_eq!(ids(&mut notes, 1).await, [0]);
    client.clone().close().await;
    loop {
        match next(&mut notes).await {
            Told::Ended(error) => break assert_eq!(error.code(), "closed"),
            Told::Event(_) | Told::CaughtUp { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(notes.next().await, None);
    assert_eq!(client.subscribe("DB/*", Follow::default()).await.err().unwrap().code(), "closed");
}

#[tokio::test]
async fn it_begins_before_the_server_does() {
    let lab = Lab::start().await;
    lab.proxy.refuse(true).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let (url, token, counted) = (lab.url(), lab.token("alice", ALL), tries.clone());
    // Each attempt begins with a token.
    let options = lab.options().token(move || {
        counted.fetch_add(1, Relaxed);
        token.clone()
    });
    let connecting = tokio::spawn(async move { Client::connect(&url, options).await });
    eventually("it was refused, and tries again", SOON, async || (tries.load(Relaxed) >= 3).then_some(())).await;
    assert!(!connecting.is_finished());
    lab.proxy.refuse(false).await;
    timeout(SOON, connecting).await.expect("it connects").unwrap().unwrap();
}

#[tokio::test]
async fn a_durable_subscription_goes_on_where_it_was_acknowledged() {
    let lab = Lab::start().await;
    let durable = || Follow::default().name("desk").durable().credit(4);
    let client = lab.client().await;
    let mut notes = client.subscribe("DB/*", durable()).await.unwrap();
    lab.publish("DB/CREATE", 0..10).await;
    assert_eq!(ids(&mut notes, 6).await, all(0..6));
    // Asking for the next one says that these are done with.
    assert_eq!(ids(&mut notes, 1).await, [6]);
    client.close().await;
    lab.kill().await;
    let client = lab.client().await;
    let mut notes = client.subscribe("DB/*", durable()).await.unwrap();
    let first = ids(&mut notes, 1).await[0];
    assert!((1..=6).contains(&first), "{first}: what was acknowledged is not told again, what wasn't is");
    assert_eq!(ids(&mut notes, 9 - first as usize).await, all(first + 1..10));
    // Whoever comes by the same name has it from then on.
    let other = lab.client().await;
    let _taken = other.subscribe("DB/*", durable()).await.unwrap();
    loop {
        match next(&mut notes).await {
            Told::Ended(error) => break assert_eq!(error.code(), "taken"),
            Told::CaughtUp { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_view_latest_tells_each_key_once() {
    let lab = Lab::start().await;
    let queue = bus::Queue { latest: true, ..bus::Queue::new(events::Name::new("DB").unwrap()) };
    lab.bus.declare_queue(queue).await.unwrap();
    lab.publish("DB/CREATE", 0..5).await;
    let client = lab.client().await;
    let mut view = client.subscribe("DB/*", Follow::default().latest_of_each_key()).await.unwrap();
    assert_eq!(ids(&mut view, 1).await, [4]);
    lab.publish("DB/CREATE", 5..6).await;
    assert_eq!(ids(&mut view, 1).await, [5]);
}
