//! Servers without manners: what they say is borne, ended with a reason, or waited out; never for nothing.

use std::time::{Duration, Instant};

use client::{Client, Error, Follow, Options, Outgoing, State, Subscription};
use testkit::eventually;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    impostor::Impostor,
    lab::{SOON, ids},
};

fn options() -> Options {
    Options::default().backoff(Duration::from_millis(20), Duration::from_millis(500))
}

async fn visit(manner: &str, options: Options) -> (Impostor, Client) {
    let impostor = Impostor::start(manner.to_owned()).await;
    let client = timeout(SOON, Client::connect(&impostor.url, options)).await.expect("a connection").unwrap();
    (impostor, client)
}

fn follow(client: &Client) -> JoinHandle<Result<Subscription, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.subscribe("DB/*", Follow::default()).await })
}

/// Why the connection is lost.
async fn lost(client: &Client) -> String {
    let mut state = client.state();
    let lost = state.wait_for(|state| matches!(state, State::Reconnecting(_)));
    match &*timeout(SOON, lost).await.expect("it is lost").unwrap() {
        State::Reconnecting(why) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_of_a_later_protocol_or_meant_for_nobody_is_passed_over() {
    let (impostor, client) = visit("odd", options()).await;
    let mut notes = client.subscribe("DB/*", Follow::default()).await.unwrap();
    assert_eq!(ids(&mut notes, 1).await, [1]);
    assert_eq!(impostor.visits(), 1);
}

#[tokio::test]
async fn what_cant_be_read_ends_the_connection_with_a_reason_and_another_one_is_tried() {
    for (manner, reason) in [
        ("nonsense", "a frame can't be read: expected"),
        ("binary", "a frame came that is no text"),
        ("huge", "too long"),
        ("placeless", "a frame can't be read: missing field `cursor`"),
    ] {
        let (impostor, client) = visit(manner, options()).await;
        let _following = follow(&client);
        let why = lost(&client).await;
        assert!(why.contains(reason), "{manner}: {why}");
        eventually("it comes again", SOON, async || (impostor.visits() > 1).then_some(())).await;
    }
}

#[tokio::test]
async fn who_is_never_welcomed_gives_up_and_comes_again() {
    for manner in ["silent", "chatty"] {
        let impostor = Impostor::start(manner.to_owned()).await;
        let (url, options) = (impostor.url.clone(), options().open_within(Duration::from_millis(200)));
        let connecting = tokio::spawn(async move { Client::connect(&url, options).await });
        eventually("it comes again", SOON, async || (impostor.visits() > 2).then_some(())).await;
        assert!(!connecting.is_finished());
        connecting.abort();
    }
}

#[tokio::test]
async fn who_is_sent_away_again_and_again_doesnt_hurry() {
    let patient = Options::default().backoff(Duration::from_millis(100), Duration::from_secs(1));
    let (impostor, client) = visit("restless", patient).await;
    let began = Instant::now();
    let _following = follow(&client);
    eventually("it was sent away seven times", SOON, async || (impostor.visits() > 7).then_some(())).await;
    // It may come back at once, each time, as far as the server is concerned.
    assert!(began.elapsed() > Duration::from_millis(100), "{:?}", began.elapsed());
    assert!(!matches!(*client.state().borrow(), State::Closed(_)));
}

#[tokio::test]
async fn who_is_sent_away_for_good_is_told_why() {
    let (impostor, client) = visit("dismissing", options()).await;
    let error = client.subscribe("DB/*", Follow::default()).await.err().unwrap();
    assert_eq!((error.code(), error.detail()), ("goaway", "because"));
    assert_eq!(*client.state().borrow(), State::Closed(error));
    assert_eq!(impostor.visits(), 1);
}

#[tokio::test]
async fn who_is_sent_away_and_not_closed_goes_by_itself() {
    let (impostor, client) = visit("lingering", options().open_within(Duration::from_secs(1))).await;
    let _following = follow(&client);
    assert_eq!(lost(&client).await, "nothing was heard");
    eventually("it comes again", SOON, async || (impostor.visits() > 1).then_some(())).await;
}

#[tokio::test]
async fn who_is_asked_to_come_later_comes_later() {
    const ASKED: Duration = Duration::from_secs(1);
    let began = Instant::now();
    let (_full, client) = visit("full", options()).await;
    assert!(began.elapsed() >= ASKED, "of an answer that is no upgrade");
    drop(client);

    let (_busy, client) = visit("busy", options()).await;
    let began = Instant::now();
    let note = Outgoing::new("DB", "CREATE").id("n1");
    assert_eq!(timeout(SOON, client.publish(note)).await.expect("an answer").unwrap().id, "n1");
    assert!(began.elapsed() >= ASKED, "of a publish");

    let (_busy, client) = visit("busy", options()).await;
    let began = Instant::now();
    let mut notes = timeout(SOON, client.subscribe("DB/*", Follow::default())).await.expect("an answer").unwrap();
    assert_eq!(ids(&mut notes, 1).await, [1]);
    assert!(began.elapsed() >= ASKED, "of a subscription");
}

#[tokio::test]
async fn a_publish_that_was_put_off_until_it_was_late_says_for_what() {
    let (_busy, client) = visit("busy", options().publish_within(Duration::from_millis(500))).await;
    let error = client.publish(Outgoing::new("DB", "CREATE")).await.unwrap_err();
    assert_eq!((error.code(), error.retry_after()), ("too-many", Some(Duration::from_secs(1))));
}
