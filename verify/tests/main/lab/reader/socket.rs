//! By the crate `client`: it comes again by itself.

use std::time::Duration;

use client::{Client, Follow, Options, State, StreamExt as _, Told};

use super::{Following, Notes};

/// Between attempts.
const FIRST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_millis(500);

/// How a node begins that says why it lets nobody in.
const REFUSED: &str = "this node";

pub(super) async fn follow(notes: &Notes, following: &Following) {
    let caller = following.caller.clone();
    let options = Options::default().token(move || caller.token()).backoff(FIRST, MOST);
    let client = Client::connect(&format!("ws://{}", following.at), options).await.expect("it is let in");
    let mut state = client.state();
    let minding = async {
        while state.changed().await.is_ok() {
            if matches!(&*state.borrow_and_update(), State::Reconnecting(reason) if reason.starts_with(REFUSED)) {
                notes.refused();
            }
        }
    };
    let filter = format!("{}/*", following.queue);
    let reading = async {
        let asked = client.subscribe(&filter, Follow::default().from("earliest").credit(64));
        let mut subscription = asked.await.expect("it may follow");
        while let Some(told) = subscription.next().await {
            // It may have been told in between where it is.
            if let Some(cursor) = subscription.cursor() {
                notes.idle(&cursor);
            }
            match told {
                Told::Event(told) => notes.event(Some(&told.prev), &told.cursor, &told.event),
                Told::Gap(gap) => notes.gap(&gap),
                Told::CaughtUp { cursor } => notes.caught_up(&cursor),
                Told::Missed { expected, got } => notes.missed(&expected, &got),
                Told::Ended(error) => panic!("it is over: {error}"),
            }
        }
    };
    tokio::join!(minding, reading);
}
