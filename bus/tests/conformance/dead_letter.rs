//! C7: dead letters and their way back.

use std::time::Duration;

use bus::{Mode, Settlement, Start, Verb, Which};
use events::Envelope;

use super::{
    Lab, ack, claim, claim_all, claim_one, declare, event, ids, nack, nack_after, publish, publish_many, refuse,
    seconds, settle, status,
};

pub(crate) async fn a_non_retryable_failure_is_dead_at_once(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k"), ("b", "k")]).await;
    let leased = claim(&bus, "g", 2).await;
    settle(&bus, "g", leased[0].token, refuse()).await.unwrap();
    let long = "ä".repeat(5000);
    settle(&bus, "g", leased[1].token, Verb::Dead { reason: long }).await.unwrap();
    let dead = bus.dead_letters("g", (0, 0), 10).await.unwrap();
    assert_eq!(dead.len(), 2);
    assert_eq!((dead[0].reason.as_str(), dead[0].error.as_str(), dead[0].attempts), ("refused", "never", 1));
    assert_eq!((dead[0].envelope.id.as_str(), dead[0].position), ("a", 1));
    assert_eq!(dead[1].error.len(), 4096, "errors are cut");
    assert_eq!(dead[1].history[0].error.len(), 256);
    let page = bus.dead_letters("g", (0, 1), 10).await.unwrap();
    assert_eq!(page.len(), 1, "paged by the last position seen");
    let status = status(&bus, "g").await;
    assert_eq!((status.dead, status.lag), (2, 0));
}

pub(crate) async fn the_ninth_failure_exhausts(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    for attempt in 1..=9 {
        let leased = claim_one(&bus, "g").await;
        assert_eq!(leased.attempt, attempt);
        settle(&bus, "g", leased.token, nack_after(seconds(1))).await.unwrap();
        lab.advance(seconds(1)).await;
    }
    assert!(claim(&bus, "g", 1).await.is_empty());
    let dead = bus.dead_letters("g", (0, 0), 10).await.unwrap();
    assert_eq!((dead[0].reason.as_str(), dead[0].attempts, dead[0].history.len()), ("exhausted", 9, 9));
}

pub(crate) async fn letters_are_reached_however_many_lie_before_them(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..10_010).await;
    for _ in 0..11 {
        let leased = claim_all(&bus, "g", "member", 1000).await.leased;
        let refused = leased.into_iter().map(|leased| Settlement { token: leased.token, verb: refuse() }).collect();
        bus.settle("g", refused).await.unwrap().into_iter().for_each(|settled| settled.unwrap());
    }
    assert_eq!(status(&bus, "g").await.dead, 10_010);
    assert_eq!(bus.redrive("g", Which::These(vec![(0, 10_005), (0, 10_005), (0, 99_999)])).await.unwrap(), 1);
    lab.advance(seconds(1)).await;
    let again = claim(&bus, "g", 10).await;
    assert_eq!(ids(&again), ["10004"]);
    assert_eq!(
        bus.discard("g", Which::These(vec![(0, 10_005), (0, 10_009)])).await.unwrap(),
        1,
        "one is with its group"
    );
    assert_eq!(bus.discard("g", Which::All).await.unwrap(), 10_008);
    ack(&bus, "g", &again).await;
    assert_eq!(status(&bus, "g").await.dead, 0);
}

pub(crate) async fn redrive_reaches_the_failing_group_only(lab: impl Lab) {
    let bus = lab.bus();
    for group in ["failing", "fine"] {
        declare(&bus, group, Mode::Parallel).await;
    }
    publish(&bus, &[("a", "k"), ("b", "k")]).await;
    for leased in claim(&bus, "failing", 10).await {
        settle(&bus, "failing", leased.token, refuse()).await.unwrap();
    }
    ack(&bus, "fine", &claim(&bus, "fine", 10).await).await;
    assert_eq!(bus.redrive("failing", Which::These(vec![(0, 2)])).await.unwrap(), 1);
    lab.advance(seconds(1)).await;
    assert!(claim(&bus, "fine", 10).await.is_empty());
    let redriven = claim_one(&bus, "failing").await;
    assert_eq!((redriven.envelope.id.as_str(), redriven.position), ("b", 2), "id and position are kept");
    assert_eq!((redriven.redrive, redriven.attempt), (1, 1));
    ack(&bus, "failing", &[redriven]).await;
    assert_eq!(status(&bus, "failing").await.dead, 1, "the other one stays");
    assert_eq!(bus.redrive("failing", Which::These(vec![(0, 2)])).await.unwrap(), 0, "it is no dead letter any more");
}

pub(crate) async fn a_redriven_letter_that_fails_again_is_dead_again(mut lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a", "k"), ("b", "k")]).await;
    let leased = claim_one(&bus, "g").await;
    settle(&bus, "g", leased.token, refuse()).await.unwrap();
    let later = claim_one(&bus, "g").await;
    assert_eq!(bus.redrive("g", Which::All).await.unwrap(), 1);
    lab.advance(seconds(1)).await;
    assert!(claim(&bus, "g", 10).await.is_empty(), "its key has an unsettled delivery");
    ack(&bus, "g", &[later]).await;
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    lab.advance(seconds(1)).await;
    let again = claim_one(&bus, "g").await;
    assert_eq!((again.envelope.id.as_str(), again.redrive), ("a", 1));
    settle(&bus, "g", again.token, nack()).await.unwrap();
    assert_eq!(status(&bus, "g").await.dead, 0, "it has its attempts anew");
    lab.advance(seconds(2)).await;
    let again = claim_one(&bus, "g").await;
    settle(&bus, "g", again.token, refuse()).await.unwrap();
    let dead = bus.dead_letters("g", (0, 0), 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].redrive, dead[0].attempts), (1, 1, 2));
    assert_eq!(bus.redrive("g", Which::All).await.unwrap(), 1);
    lab.advance(seconds(1)).await;
    assert_eq!(claim_one(&bus, "g").await.redrive, 2);
}

pub(crate) async fn redrive_is_paced(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..500).await;
    for leased in claim(&bus, "g", 500).await {
        settle(&bus, "g", leased.token, refuse()).await.unwrap();
    }
    assert_eq!(bus.redrive("g", Which::All).await.unwrap(), 500);
    lab.advance(seconds(1)).await;
    let first = claim(&bus, "g", 500).await;
    assert!((100..=102).contains(&first.len()), "a hundred a second: {}", first.len());
    lab.advance(seconds(4)).await;
    assert_eq!(first.len() + claim(&bus, "g", 500).await.len(), 500);
}

pub(crate) async fn discarded_letters_are_gone(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..3).await;
    for leased in claim(&bus, "g", 3).await {
        settle(&bus, "g", leased.token, refuse()).await.unwrap();
    }
    assert_eq!(bus.discard("g", Which::These(vec![(0, 2), (0, 99)])).await.unwrap(), 1);
    let dead = bus.dead_letters("g", (0, 0), 10).await.unwrap();
    assert_eq!(dead.iter().map(|letter| letter.position).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(bus.discard("g", Which::All).await.unwrap(), 2);
    assert_eq!(bus.redrive("g", Which::All).await.unwrap(), 0);
    lab.advance(seconds(1)).await;
    assert!(ids(&claim(&bus, "g", 3).await).is_empty());
}

pub(crate) async fn a_redriven_letter_that_expires_is_over(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("lasting", "k")]).await;
    let lasting = claim_one(&bus, "g").await;
    let end = lasting.until + Duration::from_secs(3600);
    ack(&bus, "g", &[lasting]).await;
    let brief = Envelope { expirytime: Some(end), ..event("brief", "k") };
    bus.publish(vec![brief]).await.unwrap().remove(0).unwrap();
    settle(&bus, "g", claim_one(&bus, "g").await.token, refuse()).await.unwrap();
    assert_eq!(bus.redrive("g", Which::All).await.unwrap(), 1);
    lab.advance(seconds(7200)).await;
    assert!(claim(&bus, "g", 10).await.is_empty());
    bus.seek("g", Start::Latest, false).await.unwrap();
    assert!(bus.dead_letters("g", (0, 0), 10).await.unwrap().is_empty(), "what was settled doesn't die again");
}
