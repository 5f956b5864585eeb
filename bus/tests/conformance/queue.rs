//! Queues: their settings, and what is refused of them.

use bus::{Error, Overflow, Queue};

use super::{Lab, publish, queue, seconds};

pub(crate) async fn a_queue_that_is_published_to_has_the_defaults(lab: impl Lab) {
    let bus = lab.bus();
    publish(&bus, &[("a", "k")]).await;
    assert_eq!(bus.queues().await.unwrap()[0].settings, Queue::new(queue()));
}

pub(crate) async fn settings_are_kept(mut lab: impl Lab) {
    let settings = Queue {
        partitions: 3,
        max_age: seconds(3600),
        max_bytes: Some(1 << 20),
        max_len: Some(1000),
        overflow: Overflow::DropOldest,
        dedupe: seconds(60),
        latest: true,
        realtime: true,
        journal: true,
        ..Queue::new(queue())
    };
    lab.bus().declare_queue(settings.clone()).await.unwrap();
    lab.kill_and_reopen().await;
    let status = lab.bus().queues().await.unwrap().remove(0);
    assert_eq!((status.settings, status.partitions.len()), (settings.clone(), 3));
    assert_eq!(lab.bus().queue(&queue()).await.unwrap(), Some(settings.clone()));
    let changed = Queue { max_len: None, overflow: Overflow::Reject, journal: false, ..settings };
    lab.bus().declare_queue(changed.clone()).await.unwrap();
    assert_eq!(lab.bus().queues().await.unwrap()[0].settings, changed);
}

pub(crate) async fn settings_out_of_range_are_refused(lab: impl Lab) {
    let bus = lab.bus();
    for wrong in [
        Queue { partitions: 257, ..Queue::new(queue()) },
        Queue { max_age: seconds(1), ..Queue::new(queue()) },
        Queue { max_bytes: Some(1), ..Queue::new(queue()) },
        Queue { dedupe: seconds(86_401), ..Queue::new(queue()) },
    ] {
        let refused = bus.declare_queue(wrong).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    assert!(bus.queues().await.unwrap().is_empty());
}
