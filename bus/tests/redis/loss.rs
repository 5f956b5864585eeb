//! What a server loses is told, and what it keeps is no gap.

use bus::{Gap, GapReason, Mode, Producer, PublishOptions, Queue, Refused, Tail, TailFrom, Tailed};
use events::Envelope;
use testkit::{Aof, Redis, RedisOptions};

use super::{RedisLab, command, eventually, written};
use crate::conformance::{Lab as _, ack, claim, declare, event, ids, publish, publish_many, queue, seconds, status};

async fn next(tail: &mut Tail) -> Tailed {
    loop {
        match tokio::time::timeout(seconds(20), tail.next()).await.expect("something comes") {
            Ok(Tailed::CaughtUp) => {}
            Ok(next) => return next,
            // The server is just being started.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn next_id(tail: &mut Tail) -> String {
    match next(tail).await {
        Tailed::Event { envelope, .. } => envelope.id.clone(),
        other => panic!("no event: {other:?}"),
    }
}

#[tokio::test]
async fn a_flush_is_told_to_tails_and_relays() {
    let lab = RedisLab::open().await;
    let bus = lab.bus();
    bus.declare_queue(Queue { max_age: seconds(3600), ..Queue::new(queue()) }).await.unwrap();
    publish(&bus, &[("a", "k"), ("b", "k")]).await;
    let before = bus.lineage(&queue(), 0).await.unwrap().unwrap();
    let mut tail = bus.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    assert_eq!([next_id(&mut tail).await, next_id(&mut tail).await], ["a", "b"]);

    command(&lab.server, &["FLUSHALL"]).await;
    let gap = Gap { partition: 0, from: 3, to: 1, lost: None, reason: GapReason::Reset };
    match next(&mut tail).await {
        Tailed::Gap(told) => assert_eq!(told, gap),
        other => panic!("no gap: {other:?}"),
    }
    let after = bus.lineage(&queue(), 0).await.unwrap().unwrap();
    assert_ne!(after.id, before.id);
    assert_eq!((after.first, after.parent), (1, None));

    let producer = Some(Producer { outbox: "product".into(), first_publish_no: 7 });
    let options = |expect_lineage| PublishOptions { producer: producer.clone(), expect_lineage, ..Default::default() };
    let refused = bus.publish_with(vec![event("a", "k")], options(Some(before.id))).await.unwrap();
    assert_eq!(refused, [Err(Refused::LineageChanged { current: Some(after.id) })]);
    let again = bus.publish_with(vec![event("a", "k")], options(Some(after.id))).await.unwrap().remove(0).unwrap();
    assert_eq!(
        (again.position, again.duplicate),
        (Some(1), false),
        "any first number is taken, and the window is empty"
    );
    assert_eq!(next_id(&mut tail).await, "a");

    eventually("the queue is registered again, as it was", async || {
        bus.queues().await.unwrap().first().is_some_and(|queue| queue.settings.max_age == seconds(3600))
    })
    .await;
}

#[tokio::test]
async fn a_restart_begins_a_lineage_and_is_no_gap() {
    let mut lab = RedisLab::open().await;
    let bus = lab.bus();
    publish(&bus, &[("a", "k")]).await;
    let before = bus.lineage(&queue(), 0).await.unwrap().unwrap();
    let mut tail = bus.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    assert_eq!(next_id(&mut tail).await, "a");
    lab.server.restart().await;
    eventually("the same handle publishes again", async || bus.publish(vec![event("b", "k")]).await.is_ok()).await;
    assert_eq!(next_id(&mut tail).await, "b", "nothing was lost, nothing is told");
    let after = bus.lineage(&queue(), 0).await.unwrap().unwrap();
    assert_eq!((after.first, after.parent), (2, Some(before.id)));
}

#[tokio::test]
async fn a_torn_log_is_told_and_goes_on_where_it_was_cut() {
    let mut server = Redis::start(RedisOptions { aof: Aof::EverySecond, ..RedisOptions::default() }).await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a", "k"), ("b", "l")]).await;
    let (file, kept) = written(&server).await;
    // What comes now is lost, with what was done about it.
    publish(&bus, &[("c", "k"), ("d", "m")]).await;
    ack(&bus, "g", &claim(&bus, "g", 10).await).await;
    ack(&bus, "g", &claim(&bus, "g", 10).await).await;
    let unread = bus.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    let mut tail = bus.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    for id in ["a", "b", "c", "d"] {
        assert_eq!(next_id(&mut tail).await, id);
    }
    server.kill();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(kept + 7).unwrap();
    server.restart().await;
    match next(&mut tail).await {
        Tailed::Gap(gap) => {
            assert_eq!(gap, Gap { partition: 0, from: 3, to: 3, lost: Some(2), reason: GapReason::Lineage });
        }
        other => panic!("no gap: {other:?}"),
    }
    let again = publish(&bus, &[("d", "m"), ("e", "k")]).await;
    assert_eq!(
        again.iter().map(|recorded| (recorded.position, recorded.duplicate)).collect::<Vec<_>>(),
        [(Some(3), false), (Some(4), false)]
    );
    assert_eq!([next_id(&mut tail).await, next_id(&mut tail).await], ["d", "e"]);
    let mut unread = unread;
    for id in ["a", "b", "d", "e"] {
        assert_eq!(next_id(&mut unread).await, id, "who was not beyond the cut is told of none");
    }
    // The acks are lost too: they come again, in order, and c is no more.
    let first = claim(&bus, "g", 10).await;
    assert_eq!(ids(&first), ["a", "b", "d"], "e waits for its key");
    ack(&bus, "g", &first).await;
    let last = claim(&bus, "g", 10).await;
    assert_eq!(ids(&last), ["e"]);
    ack(&bus, "g", &last).await;
    assert_eq!(status(&bus, "g").await.lag, 0);
}

#[tokio::test]
async fn a_restart_that_loses_everything_is_a_reset() {
    let mut server = Redis::start(RedisOptions { aof: Aof::Off, ..RedisOptions::default() }).await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    publish(&bus, &[("a", "k")]).await;
    let mut tail = bus.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    assert_eq!(next_id(&mut tail).await, "a");
    server.restart().await;
    match next(&mut tail).await {
        Tailed::Gap(gap) => assert_eq!(gap.reason, GapReason::Reset),
        other => panic!("no gap: {other:?}"),
    }
}

#[tokio::test]
async fn a_log_that_was_deleted_is_a_gap() {
    let lab = RedisLab::open().await;
    let bus = lab.bus();
    publish(&bus, &[("a", "k"), ("b", "k")]).await;
    command(&lab.server, &["DEL", "tp:{DB:0}:s"]).await;
    let mut tail = bus.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    publish(&bus, &[("c", "k")]).await;
    assert_eq!(next_id(&mut tail).await, "c");
    assert_eq!(bus.queues().await.unwrap()[0].partitions[0].floor, 3, "what is gone is not said to be there");
}

#[tokio::test]
async fn what_was_deleted_with_the_log_may_be_published_again() {
    let lab = RedisLab::open().await;
    let bus = lab.bus();
    let recorded = async |id| {
        let recorded = publish(&bus, &[(id, "k")]).await.remove(0);
        (recorded.position, recorded.duplicate)
    };
    publish(&bus, &[("a", "k"), ("b", "k")]).await;
    command(&lab.server, &["DEL", "tp:{DB:0}:s"]).await;
    assert_eq!(recorded("a").await, (Some(3), false), "nobody could read it any more");
    assert_eq!(recorded("a").await, (Some(3), true));
    command(&lab.server, &["DEL", "tp:{DB:0}:s"]).await;
    assert_eq!(recorded("c").await, (Some(4), false));
    assert_eq!(recorded("a").await, (Some(5), false), "somebody else was first");
    let status = bus.queues().await.unwrap()[0].partitions[0].clone();
    assert_eq!((status.floor, status.next), (4, 6), "what is gone is not said to be there");
}

#[tokio::test]
async fn a_view_that_is_gone_is_built_once_however_many_need_it() {
    let lab = RedisLab::open().await;
    let bus = lab.bus();
    bus.declare_queue(Queue { latest: true, ..Queue::new(queue()) }).await.unwrap();
    publish_many(&bus, 0..1500).await;
    let reads = async || {
        let stats = command(&lab.server, &["INFO", "commandstats"]).await;
        let calls = |line: &str| line.strip_prefix("cmdstat_xrevrange:calls=")?.split(',').next()?.parse::<u32>().ok();
        stats.lines().find_map(calls).unwrap_or(0)
    };
    let delete = async || command(&lab.server, &["DEL", "tp:{DB:0}:v"]).await;
    let build = async || bus.latest(&queue(), "7").await.unwrap().unwrap();
    delete().await;
    let before = reads().await;
    build().await;
    let once = reads().await - before;
    delete().await;
    let before = reads().await;
    let expecting = (0..40).map(|id: u32| {
        let event = Envelope { expectedversion: Some(8), ..event(&format!("late-{id}"), "7") };
        bus.publish(vec![event])
    });
    let refused = futures_util::future::join_all(expecting).await.iter().filter(|outcome| outcome.is_err()).count();
    assert!(refused > 0, "while it is built nobody can tell");
    build().await;
    delete().await;
    // It waits for whatever builds are still under way, or are to be.
    build().await;
    let many = reads().await - before;
    assert!(many <= 4 * once, "{many} reads, {once} for one");
}

#[tokio::test]
async fn an_outbox_of_any_name_keeps_its_numbers() {
    let lab = RedisLab::open().await;
    let bus = lab.bus();
    for outbox in ["a", "b|1", "ü:3,4"] {
        for no in [5, 6, 5] {
            let producer = Some(Producer { outbox: outbox.into(), first_publish_no: no });
            let options = PublishOptions { producer, ..PublishOptions::default() };
            bus.publish_with(vec![event("x", "k")], options).await.unwrap().remove(0).unwrap();
        }
    }
    assert_eq!(bus.queues().await.unwrap()[0].partitions[0].next, 7, "two each, the third is a repetition");
}

#[tokio::test]
async fn any_key_of_a_partition_may_be_deleted() {
    let lab = RedisLab::open().await;
    let bus = lab.bus();
    let mut tail = bus.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    for (n, key) in ["m", "s", "d", "do", "gs"].into_iter().enumerate() {
        let [before, after] = ["before", "after"].map(|when| format!("{when}-{n}"));
        publish(&bus, &[(&before, "k")]).await;
        assert_eq!(next_id(&mut tail).await, before);
        command(&lab.server, &["DEL", &format!("tp:{{DB:0}}:{key}")]).await;
        publish(&bus, &[(&after, "k")]).await;
        // What was lost with it may be told as a gap; what is recorded now is read all the same.
        loop {
            match next(&mut tail).await {
                Tailed::Event { envelope, .. } => break assert_eq!(envelope.id, after, "without {key}"),
                Tailed::Gap(gap) => assert_eq!(gap.reason, GapReason::Reset, "only the meta's loss is one: {key}"),
                Tailed::CaughtUp => {}
            }
        }
    }
}

#[tokio::test]
async fn a_window_that_is_cut_short_says_so() {
    let server = testkit::redis().await;
    let options = bus::redis::Options { dedupe_events: 2, ..Default::default() };
    let bus = bus::redis::open_with(&server.url(), options).await.unwrap();
    for id in ["a", "b", "c"] {
        publish(&bus, &[(id, "k")]).await;
    }
    assert!(bus.queues().await.unwrap()[0].partitions[0].dedupe_cut_short);
    assert!(publish(&bus, &[("c", "k")]).await[0].duplicate, "the newest are known");
    assert!(!publish(&bus, &[("a", "k")]).await[0].duplicate, "the oldest are not");
}

#[tokio::test]
async fn what_was_recorded_again_outlives_its_first_place_in_the_window() {
    let server = testkit::redis().await;
    let options = bus::redis::Options { dedupe_events: 4, ..Default::default() };
    let bus = bus::redis::open_with(&server.url(), options).await.unwrap();
    publish(&bus, &[("a", "k")]).await;
    publish(&bus, &[("b", "k")]).await;
    // A relay doesn't look at ids.
    let producer = Some(Producer { outbox: "product".into(), first_publish_no: 1 });
    let options = PublishOptions { producer, ..PublishOptions::default() };
    let again = bus.publish_with(vec![event("a", "k")], options).await.unwrap().remove(0).unwrap();
    assert_eq!((again.position, again.duplicate), (Some(3), false));
    // Its first place goes out with these, and later the second.
    publish(&bus, &[("c", "k"), ("d", "k"), ("e", "k")]).await;
    let again = publish(&bus, &[("a", "k")]).await[0];
    assert_eq!((again.position, again.duplicate), (Some(3), true));
    publish(&bus, &[("f", "k"), ("g", "k"), ("h", "k")]).await;
    assert!(!publish(&bus, &[("a", "k")]).await[0].duplicate);
}

#[tokio::test]
async fn publishes_at_once_share_entries_and_lie_in_a_row() {
    let server = testkit::redis().await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    publish(&bus, &[("known", "k")]).await;
    for round in 0..2 {
        let ids: Vec<String> = (0..200).map(|n| format!("{n}")).collect();
        let publishing = ids.iter().map(|id| {
            let bus = bus.clone();
            // Half a batch with one that is known, which tells nothing of the others.
            let with = if id.ends_with('7') { vec![event("known", "k"), event(id, "k")] } else { vec![event(id, "k")] };
            async move { bus.publish(with).await.unwrap().into_iter().map(Result::unwrap).collect::<Vec<_>>() }
        });
        let recorded = futures_util::future::join_all(publishing).await;
        let mut positions: Vec<u64> = recorded.iter().filter_map(|each| each.last().unwrap().position).collect();
        assert!(recorded.iter().all(|each| each.last().unwrap().duplicate == (round == 1)));
        assert!(
            recorded.iter().filter(|each| each.len() == 2).all(|each| each[0].duplicate && each[0].position == Some(1))
        );
        positions.sort_unstable();
        assert_eq!(positions, (2..=201).collect::<Vec<u64>>());
    }
    // 201 publishes of their own would be as many entries.
    assert!(command(&server, &["XLEN", "tp:{DB:0}:s"]).await.parse::<u64>().unwrap() < 50);
}

/// How many events of the queue `DB` the bus said to be lost while they waited.
async fn lost(bus: &bus::Bus) -> Vec<u64> {
    let sys = events::Name::new("SYS").unwrap();
    let page = bus.read(&sys, 0, 1, 1000).await.unwrap();
    let told = page.events.iter().filter(|logged| logged.envelope.event.as_str() == "SCHEDULED_LOST");
    told.map(|logged| {
        let data = logged.envelope.json().unwrap();
        assert_eq!((&data["queue"], &data["partition"]), (&"DB".into(), &0.into()));
        data["count"].as_u64().unwrap()
    })
    .collect()
}

#[tokio::test]
async fn what_waits_may_be_deleted_and_that_is_told() {
    let lab = RedisLab::open().await;
    let bus = lab.bus();
    let now = lab.clock().now();
    let later = |id: &str| events::Envelope { deliverytime: Some(now + seconds(60)), ..event(id, id) };
    let wait = async |ids: &[&str]| {
        let recorded = bus.publish(ids.iter().map(|id| later(id)).collect()).await.unwrap();
        assert!(recorded.into_iter().all(|outcome| outcome.unwrap().due.is_some()));
    };
    // Its order is made again.
    wait(&["a", "b"]).await;
    command(&lab.server, &["DEL", "tp:{DB:0}:w"]).await;
    eventually("its order is there", async || bus.scheduled(&queue(), None, 10).await.unwrap().len() == 2).await;
    assert!(lost(&bus).await.is_empty());

    command(&lab.server, &["DEL", "tp:{DB:0}:we"]).await;
    // Who publishes again before anybody looks is no duplicate of what is gone.
    assert!(!bus.publish(vec![later("a")]).await.unwrap()[0].as_ref().unwrap().duplicate);
    eventually("it is told", async || {
        lab.advance(seconds(1)).await;
        lost(&bus).await == [2]
    })
    .await;
    let waiting: Vec<String> =
        bus.scheduled(&queue(), None, 10).await.unwrap().iter().map(|one| one.envelope.id.clone()).collect();
    assert_eq!(waiting, ["a"]);
    wait(&["c", "d"]).await;
    command(&lab.server, &["DEL", "tp:{DB:0}:we", "tp:{DB:0}:w"]).await;
    eventually("that too", async || {
        lab.advance(seconds(1)).await;
        lost(&bus).await == [2, 3]
    })
    .await;
    assert!(bus.scheduled(&queue(), None, 10).await.unwrap().is_empty());
    assert_eq!(bus.queues().await.unwrap()[0].partitions[0].scheduled, 0);

    // Twice the same, with the turn of one that is gone.
    wait(&["e"]).await;
    command(&lab.server, &["DEL", "tp:{DB:0}:we"]).await;
    wait(&["e"]).await;
    lab.advance(seconds(61)).await;
    eventually("it is recorded", async || {
        lab.advance(seconds(1)).await;
        bus.read(&queue(), 0, 1, 10).await.unwrap().events.len() == 1
    })
    .await;
    eventually("the one that is gone is told", async || {
        lab.advance(seconds(1)).await;
        lost(&bus).await == [2, 3, 1]
    })
    .await;
    assert_eq!(bus.read(&queue(), 0, 1, 10).await.unwrap().next, 2, "once");
}
