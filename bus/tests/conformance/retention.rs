//! C18, in part: what is kept, and for how long.

use std::time::Duration;

use bus::{Mode, Queue, Which};

use super::{Lab, ack, claim, claim_one, declare, publish_many, queue, refuse, seconds, settle, status};

const DAY: Duration = Duration::from_secs(86_400);

async fn floor(lab: &impl Lab) -> u64 {
    // Trimming goes piece by piece.
    for _ in 0..10 {
        lab.advance(seconds(20)).await;
    }
    lab.bus().queues().await.unwrap()[0].partitions[0].floor
}

pub(crate) async fn old_events_are_trimmed(lab: impl Lab) {
    let bus = lab.bus();
    publish_many(&bus, 0..2500).await;
    lab.advance(6 * DAY).await;
    publish_many(&bus, 2500..2510).await;
    assert_eq!(floor(&lab).await, 1);
    lab.advance(DAY).await;
    assert_eq!(floor(&lab).await, 2501);
    bus.declare_queue(Queue { max_age: seconds(60), ..Queue::new(queue()) }).await.unwrap();
    assert_eq!(floor(&lab).await, 2511);
    publish_many(&bus, 2510..2511).await;
    assert_eq!(bus.queues().await.unwrap()[0].partitions[0].next, 2512, "positions go on");
}

pub(crate) async fn what_a_group_needs_is_kept(mut lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..10).await;
    let leased = claim(&bus, "g", 5).await;
    ack(&bus, "g", &leased[..2]).await;
    lab.advance(30 * DAY).await;
    assert_eq!(floor(&lab).await, 3, "the third one is not settled");
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    assert_eq!(floor(&lab).await, 3);
    for _ in 0..8 {
        ack(&bus, "g", &claim(&bus, "g", 10).await).await;
    }
    assert_eq!(status(&bus, "g").await.lag, 0);
    assert_eq!(floor(&lab).await, 11);
}

pub(crate) async fn a_trimmed_letter_can_be_redriven(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..1).await;
    let leased = claim_one(&bus, "g").await;
    settle(&bus, "g", leased.token, refuse()).await.unwrap();
    lab.advance(8 * DAY).await;
    assert_eq!(floor(&lab).await, 2);
    bus.redrive("g", Which::All).await.unwrap();
    lab.advance(seconds(1)).await;
    let again = claim_one(&bus, "g").await;
    assert_eq!((again.envelope.id.as_str(), again.position), ("0", 1));
    settle(&bus, "g", again.token, refuse()).await.unwrap();
    assert_eq!(bus.dead_letters("g", (0, 0), 10).await.unwrap()[0].redrive, 1);
    lab.advance(31 * DAY).await;
    lab.advance(seconds(20)).await;
    assert_eq!(status(&bus, "g").await.dead, 0, "kept thirty days");
}
