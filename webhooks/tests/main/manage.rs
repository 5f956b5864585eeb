//! Endpoints are changed, resumed elsewhere, removed; what is stored of them is sealed.

use std::collections::BTreeSet;

use bus::{Mode, Queue};
use events::Name;
use testkit::eventually;
use time::OffsetDateTime;
use webhooks::{Begin, Change, Error, NewEndpoint, Options};

use crate::{
    lab::{Lab, SOON, hours, new, seconds},
    receiver::{Receiver, Reply},
};

async fn groups(lab: &Lab, id: &str) -> BTreeSet<String> {
    let groups = lab.bus.groups().await.unwrap();
    groups.into_iter().map(|group| group.name).filter(|name| name.contains(id)).collect()
}

#[tokio::test]
async fn an_endpoint_begins_where_it_shall() {
    let lab = Lab::start().await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.let_pass(hours(1));
    let then = lab.webhooks_now();
    lab.publish("ORDERS", &[("b", "k")]).await;
    for (from, expected) in [(Begin::Then, vec!["a", "b"]), (Begin::Time(then), vec!["b"]), (Begin::Now, vec![])] {
        let receiver = Receiver::that_takes_all().await;
        let ordered = NewEndpoint { from, ordered: true, ..new(&receiver, "ORDERS/*") };
        let (endpoint, _) = lab.webhooks.create(ordered).await.unwrap();
        lab.come(&receiver, expected.len()).await;
        lab.settled(&endpoint.id).await;
        assert_eq!(receiver.ids(), expected);
    }
}

#[tokio::test]
async fn a_queue_that_comes_into_being_is_joined_from_its_beginning() {
    let lab = Lab::start().await;
    lab.publish("ORDERS", &[("old", "k")]).await;
    let receiver = Receiver::that_takes_all().await;
    lab.endpoint(&receiver, "*/PLACED").await;
    lab.publish("LATER", &[("new", "k")]).await;
    lab.come(&receiver, 1).await;
    assert_eq!(receiver.ids(), ["new"]);
}

#[tokio::test]
async fn a_change_is_for_what_comes_and_groups_follow_the_filter() {
    let lab = Lab::start().await;
    let (first, second) = (Receiver::that_takes_all().await, Receiver::that_takes_all().await);
    let (endpoint, _) = lab.endpoint(&first, "ORDERS/*,NOTES/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.publish("INVOICES", &[("before", "k")]).await;
    lab.come(&first, 1).await;
    lab.settled(&endpoint.id).await;
    let change = Change {
        url: Some(second.url()),
        filter: Some("ORDERS/*,INVOICES/*".to_owned()),
        ordered: Some(true),
        ..Change::default()
    };
    let changed = lab.webhooks.change(&endpoint.id, change).await.unwrap();
    assert_eq!((changed.url, changed.ordered), (second.url(), true));
    eventually("the groups are those of the filter", SOON, || async {
        let queues: BTreeSet<String> = lab
            .bus
            .groups()
            .await
            .unwrap()
            .into_iter()
            .filter(|group| group.name.contains(&endpoint.id) && group.mode == Mode::Keyed)
            .map(|group| group.filter.queue.to_string())
            .collect();
        (queues == BTreeSet::from(["INVOICES".to_owned(), "ORDERS".to_owned()])).then_some(())
    })
    .await;
    eventually("nothing is left of the other queue", SOON, || async {
        (groups(&lab, &endpoint.id).await.len() == 2).then_some(())
    })
    .await;
    lab.publish("ORDERS", &[("b", "k")]).await;
    lab.publish("INVOICES", &[("c", "k")]).await;
    lab.come(&second, 2).await;
    assert_eq!(BTreeSet::from_iter(second.ids()), BTreeSet::from(["b".to_owned(), "c".to_owned()]));
    assert_eq!(first.requests().len(), 1);
    let wrong = Change { url: Some("ftp://example.com".to_owned()), ..Change::default() };
    assert!(matches!(lab.webhooks.change(&endpoint.id, wrong).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn enabling_skips_or_repeats_as_it_was_rehearsed() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.settled(&endpoint.id).await;
    lab.let_pass(hours(1));
    let then = lab.webhooks_now();
    lab.publish("ORDERS", &[("b", "k")]).await;
    lab.settled(&endpoint.id).await;
    lab.webhooks.disable(&endpoint.id).await.unwrap();
    assert!(!lab.webhooks.disable(&endpoint.id).await.unwrap(), "it is disabled already");
    lab.nobody_is_at(&endpoint).await;
    lab.publish("ORDERS", &[("c", "k"), ("d", "k")]).await;

    let rehearsed = async |from| {
        let resumed = lab.webhooks.enable(&endpoint.id, from, true).await.unwrap();
        (resumed.count, resumed.again, resumed.skipped)
    };
    assert_eq!(rehearsed(Begin::Then).await, (2, 0, 0));
    assert_eq!(rehearsed(Begin::Now).await, (0, 0, 2));
    assert_eq!(rehearsed(Begin::Time(then)).await, (3, 1, 0));
    assert!(!lab.webhooks.get(&endpoint.id).await.unwrap().is_enabled());
    lab.webhooks.enable(&endpoint.id, Begin::Time(then), false).await.unwrap();
    lab.come(&receiver, 5).await;
    lab.settled(&endpoint.id).await;
    let mut ids = receiver.ids();
    ids.sort();
    assert_eq!(ids, ["a", "b", "b", "c", "d"]);
}

#[tokio::test]
async fn what_is_lost_while_it_is_disabled_is_told() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let hourly = Queue { max_age: hours(1), ..Queue::new(Name::new("ORDERS").unwrap()) };
    lab.bus.declare_queue(hourly).await.unwrap();
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.settled(&endpoint.id).await;
    lab.webhooks.disable(&endpoint.id).await.unwrap();
    lab.nobody_is_at(&endpoint).await;
    lab.publish("ORDERS", &[("b", "k"), ("c", "k")]).await;
    // By steps: where it leaps, the bus takes it that it was away itself.
    for _ in 0..36 {
        lab.let_pass(seconds(300));
        lab.standing(&endpoint.id).await;
    }
    lab.publish("ORDERS", &[("d", "k")]).await;
    let told = eventually("it has lost what the queue doesn't keep", SOON, || async {
        let standing = lab.standing(&endpoint.id).await;
        (standing.lost == 2).then_some(standing)
    })
    .await;
    assert!(told.abandoned.is_some() && told.lost_ranges.len() == 1, "{told:?}");
    let rehearsed = lab.webhooks.enable(&endpoint.id, Begin::Then, true).await.unwrap();
    assert_eq!((rehearsed.count, rehearsed.before.lost), (1, 2), "told before it is enabled");
    assert_eq!(lab.told("GROUP_ABANDONED").await.len(), 1);
    lab.webhooks.enable(&endpoint.id, Begin::Then, false).await.unwrap();
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.ids(), ["a", "d"]);
}

#[tokio::test]
async fn a_removed_endpoint_leaves_nothing() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(500)).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*,NOTES/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.tried(&endpoint.id, 1).await;
    lab.webhooks.remove(&endpoint.id).await.unwrap();
    for gone in [lab.webhooks.get(&endpoint.id).await.map(drop), lab.webhooks.remove(&endpoint.id).await] {
        assert_eq!(gone, Err(Error::NoEndpoint(endpoint.id.clone())));
    }
    eventually("its groups are gone, whoever was at them", SOON, || async {
        groups(&lab, &endpoint.id).await.is_empty().then_some(())
    })
    .await;
    assert!(lab.webhooks.list(None, None, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn endpoints_are_listed_by_owner_and_state() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    for owner in ["a", "a", "b"] {
        let new = NewEndpoint { owner: Some(owner.to_owned()), ..new(&receiver, "ORDERS/*") };
        lab.webhooks.create(new).await.unwrap();
    }
    let list = async |owner, enabled, after: Option<&str>| lab.webhooks.list(owner, enabled, after, 10).await.unwrap();
    let all = list(None, None, None).await;
    assert_eq!((all.len(), list(Some("a"), None, None).await.len()), (3, 2));
    assert_eq!(list(None, None, Some(&all[0].id)).await.len(), 2);
    lab.webhooks.disable(&all[0].id).await.unwrap();
    assert_eq!((list(None, Some(true), None).await.len(), list(None, Some(false), None).await.len()), (2, 1));
}

#[tokio::test]
async fn there_are_only_so_many_of_an_owner() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    // What nobody publishes to costs little.
    for _ in 0..100 {
        lab.endpoint(&receiver, "NEVER/*").await;
    }
    let refused = lab.webhooks.create(new(&receiver, "NEVER/*")).await.unwrap_err();
    assert!(matches!(refused, Error::TooMany(_)), "{refused}");
    let other = NewEndpoint { owner: Some("partners/other".to_owned()), ..new(&receiver, "NEVER/*") };
    lab.webhooks.create(other).await.unwrap();
}

#[tokio::test]
async fn a_secret_that_the_receiver_has_is_taken_and_one_that_is_none_refused() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let known = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let with = |secret: &str| NewEndpoint { secret: Some(secret.into()), ..new(&receiver, "ORDERS/*") };
    assert_eq!(lab.webhooks.create(with(known)).await.unwrap().1, known);
    assert!(matches!(lab.webhooks.create(with("whsec_short")).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn the_address_of_acknowledgements_is_where_the_system_is_reached() {
    let at = |options| Options { public_url: Some("https://shop.example/".to_owned()), ..options };
    let lab = Lab::at(OffsetDateTime::now_utc(), at).await;
    let receiver = Receiver::that_takes_all().await;
    lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.come(&receiver, 1).await;
    assert!(receiver.requests()[0].header("turnpike-ack-url").starts_with("https://shop.example/webhooks/ack/"));
    lab.let_pass(seconds(1));
}

#[tokio::test]
async fn a_queue_that_is_taken_again_begins_anew() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*,NOTES/*").await;
    for (round, swept) in [false, true].into_iter().enumerate() {
        let filter = |filter: &str| Change { filter: Some(filter.to_owned()), ..Change::default() };
        lab.webhooks.change(&endpoint.id, filter("ORDERS/*")).await.unwrap();
        lab.publish("NOTES", &[(&format!("missed{round}"), "k")]).await;
        if swept {
            lab.sweep().await;
            assert_eq!(groups(&lab, &endpoint.id).await.len(), 1, "its group is gone");
        }
        lab.webhooks.change(&endpoint.id, filter("ORDERS/*,NOTES/*")).await.unwrap();
        let id = format!("new{round}");
        lab.publish("NOTES", &[(&id, "k")]).await;
        lab.come(&receiver, round + 1).await;
        assert_eq!(receiver.ids()[round], id);
    }
}

#[tokio::test]
async fn a_group_keeps_its_place_when_the_first_one_goes() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    let filter = Change { filter: Some("NOTES/*".to_owned()), ..Change::default() };
    lab.webhooks.change(&endpoint.id, filter).await.unwrap();
    lab.publish("NOTES", &[("a", "k")]).await;
    lab.come(&receiver, 1).await;
    lab.sweep().await;
    assert_eq!(groups(&lab, &endpoint.id).await.len(), 1, "the first group is gone");
    let description = Change { description: Some("another".to_owned()), ..Change::default() };
    lab.webhooks.change(&endpoint.id, description).await.unwrap();
    lab.publish("NOTES", &[("b", "k")]).await;
    lab.come(&receiver, 2).await;
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.ids(), ["a", "b"], "what it has had doesn't come again");
}

#[tokio::test]
async fn a_queue_that_came_while_it_was_disabled_begins_where_it_goes_on() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, _) = lab.endpoint(&receiver, "*/PLACED").await;
    lab.webhooks.disable(&endpoint.id).await.unwrap();
    lab.nobody_is_at(&endpoint).await;
    lab.publish("LATER", &[("missed", "k")]).await;
    lab.webhooks.enable(&endpoint.id, Begin::Now, false).await.unwrap();
    lab.publish("LATER", &[("new", "k")]).await;
    lab.come(&receiver, 1).await;
    assert_eq!(receiver.ids(), ["new"]);
}

async fn every_secret_has_its_own_end(lab: Lab) {
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    let signatures = async || {
        lab.webhooks.test(&endpoint.id).await.unwrap();
        let requests = receiver.requests();
        requests[requests.len() - 1].header("webhook-signature").split(' ').count()
    };
    assert_eq!(signatures().await, 1);
    for rotations in 1..=4 {
        lab.webhooks.rotate(&endpoint.id).await.unwrap();
        assert_eq!(signatures().await, rotations + 1, "the first signs still");
        lab.let_pass(hours(1));
    }
    let refused = lab.webhooks.rotate(&endpoint.id).await.unwrap_err();
    assert!(matches!(&refused, Error::TooMany(reason) if reason.contains("4 former secrets")), "{refused}");
    lab.let_pass(hours(20));
    assert_eq!(signatures().await, 4, "the first is over");
    lab.webhooks.rotate(&endpoint.id).await.unwrap();
    assert_eq!(signatures().await, 5);
    lab.let_pass(hours(3));
    assert_eq!(signatures().await, 2);
    lab.let_pass(hours(21));
    assert_eq!(signatures().await, 1);
}

#[tokio::test]
async fn a_second_rotation_leaves_the_first_secret_its_day() {
    every_secret_has_its_own_end(Lab::start().await).await;
}

#[tokio::test]
async fn secrets_kept_in_postgresql_have_their_own_ends() {
    every_secret_has_its_own_end(Lab::on_postgres().await).await;
}
