//! Rooms: who is in one is told what happens there, also when its node dies.

use client::{Follow, Outgoing, Subscription, Told};
use testkit::eventually;

use crate::lab::{GUEST, Lab, SOON, next};

/// The next event of the room: its name, whose it is, and what it says.
async fn happened(room: &mut Subscription) -> (String, String, String) {
    loop {
        match next(room).await {
            Told::Event(told) => {
                let event = told.event;
                let owner = event.attributes["owner"].as_str().unwrap_or_default().to_owned();
                let said = event.data["text"].as_str().unwrap_or_default().to_owned();
                return (event.event, owner, said);
            }
            Told::CaughtUp { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn message(text: &str) -> Outgoing {
    Outgoing::new("ROOMS", "MESSAGE").subject("chat/lobby").data(serde_json::json!({ "text": text }))
}

async fn said(room: &mut Subscription) -> String {
    loop {
        let (event, _, text) = happened(room).await;
        if event == "MESSAGE" {
            return text;
        }
    }
}

#[tokio::test]
async fn two_in_a_room_hear_each_other_across_a_dead_node() {
    let lab = Lab::start().await;
    let alice = lab.client_of(lab.options_of("alice", GUEST)).await;
    let bob = lab.client_of(lab.options_of("bob", GUEST)).await;
    let mut hers = alice.join("chat/lobby", Follow::default()).await.unwrap();
    assert!(hers.members().iter().any(|member| member.user == "alice"), "{:?}", hers.members());
    let mut his = bob.join("chat/lobby", Follow::default()).await.unwrap();
    let users: Vec<&str> = his.members().iter().map(|member| member.user.as_str()).collect();
    assert_eq!(users, ["alice", "bob"]);
    alice.publish(message("hello")).await.unwrap();
    assert_eq!(said(&mut his).await, "hello");
    assert_eq!(said(&mut hers).await, "hello");
    lab.kill().await;
    for text in ["are you", "still there?"] {
        bob.publish(message(text)).await.unwrap();
    }
    for text in ["are you", "still there?"] {
        assert_eq!(said(&mut hers).await, text);
        assert_eq!(said(&mut his).await, text);
    }
    let present = alice.presence(&["alice", "bob", "carol"]).await.unwrap();
    let online: Vec<(&str, bool)> = present.iter().map(|each| (each.user.as_str(), each.online)).collect();
    assert_eq!(online, [("alice", true), ("bob", true), ("carol", false)]);
    // Who leaves is told of once, and is gone at once.
    drop(hers);
    loop {
        let (event, _, _) = happened(&mut his).await;
        assert_ne!(event, "MESSAGE");
        if event == "LEFT" {
            break;
        }
    }
    eventually("she is gone", SOON, async || {
        let members = bob.members("chat/lobby").await.unwrap();
        (members.len() == 1 && members[0].user == "bob").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_room_is_for_those_who_may() {
    let lab = Lab::start().await;
    let alice = lab.client_of(lab.options_of("alice", GUEST)).await;
    assert_eq!(alice.join("staff/lobby", Follow::default()).await.err().unwrap().code(), "forbidden");
    assert_eq!(alice.join("lobby", Follow::default()).await.err().unwrap().code(), "invalid");
    let other = Outgoing::new("ROOMS", "MESSAGE").subject("staff/lobby");
    assert_eq!(alice.publish(other).await.unwrap_err().code(), "forbidden");
    assert_eq!(alice.members("staff/lobby").await.unwrap_err().code(), "forbidden");
}
