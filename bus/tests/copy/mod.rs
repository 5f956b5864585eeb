//! A bus in a file goes on in Redis: what anybody holds of it holds there.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bus::{
    Bus, Copied, CopyOptions, Cursor, Mode, Moved, Producer, PublishOptions, Queue, Refused, TailFrom, Tailed, Verb,
    Which, redis::Options, sqlite::Sqlite,
};
use tempfile::TempDir;

use crate::conformance::{
    ack, claim, declare, event, ids, nack, publish, publish_many, queue, refuse, seconds, settle, status,
};

/// A file and a server to copy it to.
struct Move {
    folder: TempDir,
    server: testkit::Redis,
}

impl Move {
    async fn prepare() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: testkit::redis().await }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("bus.db")
    }

    async fn sqlite(&self) -> Bus {
        Bus::new(Sqlite::open(&self.file(), bus::sqlite::Options::default()).await.unwrap())
    }

    async fn redis(&self) -> Bus {
        bus::redis::open(&self.server.url()).await.unwrap()
    }

    async fn copy(&self, dry_run: bool) -> anyhow::Result<Copied> {
        let (from, to) = (self.file(), self.server.url());
        bus::copy(CopyOptions { from: &from, to: &to, options: Options::default(), dry_run }, |_| {}).await
    }
}

/// What a tail gets from a place on, up to the end.
async fn read_from(bus: &Bus, from: TailFrom) -> (Vec<String>, Cursor) {
    let mut tail = bus.tail("DB/*".parse().unwrap(), from).await.unwrap();
    let mut read = Vec::new();
    loop {
        match tokio::time::timeout(seconds(20), tail.next()).await.unwrap().unwrap() {
            Tailed::Event { envelope, .. } => read.push(envelope.id.clone()),
            Tailed::Gap(gap) => panic!("a gap: {gap:?}"),
            Tailed::CaughtUp => return (read, tail.cursor()),
        }
    }
}

#[tokio::test]
async fn positions_and_cursors_hold() {
    let lab = Move::prepare().await;
    let file = lab.sqlite().await;
    file.declare_queue(Queue { partitions: 2, max_age: seconds(3600), ..Queue::new(queue()) }).await.unwrap();
    publish_many(&file, 0..300).await;
    let (_, cursor) = read_from(&file, TailFrom::Earliest).await;
    drop(file);
    // The file has another life, which begins another lineage.
    let file = lab.sqlite().await;
    publish_many(&file, 300..700).await;
    let mut pages = Vec::new();
    for partition in 0..2 {
        pages.push(file.read(&queue(), partition, 1, 1000).await.unwrap());
    }
    drop(file);

    let copied = lab.copy(false).await.unwrap();
    assert_eq!((copied.queues[0].name.as_str(), copied.queues[0].events, copied.already), ("DB", 700, false));
    let redis = lab.redis().await;
    assert_eq!(redis.queues().await.unwrap()[0].settings.max_age, seconds(3600));
    for (partition, before) in (0..).zip(&pages) {
        let after = redis.read(&queue(), partition, 1, 1000).await.unwrap();
        assert_eq!((after.floor, after.next), (before.floor, before.next));
        for (before, after) in before.events.iter().zip(&after.events) {
            assert_eq!((before.position, &before.envelope), (after.position, &after.envelope));
        }
        assert_eq!(after.events.len(), before.events.len());
        let (old, new) = (before.lineages.current().unwrap(), after.lineages.current().unwrap());
        assert_eq!((new.first, new.parent), (before.next, Some(old.id)));
    }
    // A reader goes on without a gap, also over what comes now.
    publish_many(&redis, 700..703).await;
    let (read, _) = read_from(&redis, TailFrom::Cursor(cursor)).await;
    assert_eq!(read.len(), 403);
    assert!(read.iter().all(|id| id.parse::<usize>().unwrap() >= 300));
}

#[tokio::test]
async fn a_group_goes_on_where_it_was() {
    let lab = Move::prepare().await;
    let file = lab.sqlite().await;
    declare(&file, "g", Mode::Keyed).await;
    publish(&file, &[("dead", "k0"), ("fails", "k1"), ("behind", "k1"), ("done", "k2"), ("held", "k3")]).await;
    let leased = claim(&file, "g", 10).await;
    assert_eq!(ids(&leased), ["dead", "fails", "done", "held"]);
    settle(&file, "g", leased[0].token, refuse()).await.unwrap();
    settle(&file, "g", leased[1].token, nack()).await.unwrap();
    settle(&file, "g", leased[2].token, Verb::Ack).await.unwrap();
    publish(&file, &[("new", "k4")]).await;
    drop(file);

    let copied = lab.copy(false).await.unwrap();
    assert_eq!((copied.groups[0].unsettled, copied.groups[0].dead), (3, 1));
    let redis = lab.redis().await;
    // Whoever held it is gone with the file's owner.
    let mut got: Vec<(String, u32)> = Vec::new();
    let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
    while got.len() < 4 {
        assert!(tokio::time::Instant::now() < give_up, "only these came: {got:?}");
        let leased = claim(&redis, "g", 10).await;
        ack(&redis, "g", &leased).await;
        got.extend(leased.iter().map(|one| (one.envelope.id.clone(), one.attempt)));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let attempt = |id: &str| got.iter().find(|(of, _)| of == id).map(|(_, attempt)| *attempt);
    assert_eq!((attempt("fails"), attempt("behind"), attempt("new")), (Some(2), Some(1), Some(1)));
    let place = |id: &str| got.iter().position(|(of, _)| of == id);
    assert!(place("fails") < place("behind"), "a key keeps its order: {got:?}");
    assert_eq!(attempt("done"), None);

    let letters = redis.dead_letters("g", (0, 0), 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].position, letters[0].envelope.id.as_str()), (1, 1, "dead"));
    assert_eq!((letters[0].reason.as_str(), letters[0].error.as_str()), ("refused", "never"));
    assert_eq!(redis.redrive("g", Which::All).await.unwrap(), 1);
    assert_eq!(status(&redis, "g").await.dead, 0);
}

#[tokio::test]
async fn what_is_repeated_is_a_duplicate_there() {
    let lab = Move::prepare().await;
    let file = lab.sqlite().await;
    publish(&file, &[("a", "k"), ("b", "k")]).await;
    let numbered = |first| PublishOptions {
        producer: Some(Producer { outbox: "product".into(), first_publish_no: first }),
        ..PublishOptions::default()
    };
    let relay = vec![event("r7", "k"), event("r8", "k")];
    let recorded = file.publish_with(relay.clone(), numbered(7)).await.unwrap();
    assert_eq!(recorded[1].as_ref().unwrap().position, Some(4));
    drop(file);
    lab.copy(false).await.unwrap();

    let redis = lab.redis().await;
    let again = publish(&redis, &[("b", "k"), ("c", "k")]).await;
    assert_eq!((again[0].duplicate, again[0].position), (true, Some(2)));
    assert_eq!((again[1].duplicate, again[1].position), (false, Some(5)));
    let again = redis.publish_with(relay, numbered(7)).await.unwrap();
    let again: Vec<_> = again.into_iter().map(|one| one.unwrap()).map(|one| (one.duplicate, one.position)).collect();
    assert_eq!(again, [(true, Some(3)), (true, Some(4))]);
    let skipped = redis.publish_with(vec![event("r11", "k")], numbered(11)).await.unwrap();
    assert_eq!(skipped, [Err(Refused::OutOfSequence { expected: 9 })]);
    let next = redis.publish_with(vec![event("r9", "k")], numbered(9)).await.unwrap().remove(0).unwrap();
    assert_eq!((next.duplicate, next.position), (false, Some(6)));
}

#[tokio::test]
async fn a_copy_that_was_killed_goes_on_where_it_was() {
    let lab = Move::prepare().await;
    let file = lab.sqlite().await;
    declare(&file, "g", Mode::Parallel).await;
    publish_many(&file, 0..2000).await;
    drop(file);
    let (from, to) = (lab.file(), lab.server.url());
    let what = CopyOptions { from: &from, to: &to, options: Options::default(), dry_run: false };
    let begun = Arc::new(tokio::sync::Notify::new());
    let told = begun.clone();
    let killed = bus::copy(what.clone(), move |copying| {
        if copying.events > 0 {
            told.notify_one();
        }
    });
    tokio::select! {
        biased;
        () = begun.notified() => {}
        copied = killed => panic!("it came to its end: {copied:?}"),
    }
    assert!(lab.redis().await.queues().await.unwrap().is_empty(), "nobody knows of it");

    let mut first = None;
    let copied = bus::copy(what, |copying| {
        first.get_or_insert(copying.events);
    });
    assert_eq!(copied.await.unwrap().queues[0].events, 2000);
    assert!(first.is_some_and(|events| events > 0 && events < 2000), "it began at {first:?}");
    let redis = lab.redis().await;
    assert_eq!(read_from(&redis, TailFrom::Earliest).await.0.len(), 2000);
    assert_eq!(status(&redis, "g").await.lag, 2000);
    // It was ended: said again, it changes nothing.
    publish(&redis, &[("later", "k")]).await;
    assert!(lab.copy(false).await.unwrap().already);
    assert_eq!(redis.queues().await.unwrap()[0].partitions[0].next, 2002);
}

#[tokio::test]
async fn what_is_left_of_another_copy_is_written_over() {
    let lab = Move::prepare().await;
    let file = lab.sqlite().await;
    publish_many(&file, 0..1000).await;
    drop(file);
    let (from, to) = (lab.file(), lab.server.url());
    let what = CopyOptions { from: &from, to: &to, options: Options::default(), dry_run: false };
    let begun = Arc::new(tokio::sync::Notify::new());
    let told = begun.clone();
    tokio::select! {
        biased;
        () = begun.notified() => {}
        _ = bus::copy(what, move |copying| if copying.events > 0 { told.notify_one() }) => panic!("it came to its end"),
    }
    // Meanwhile the file is somebody's again.
    let file = lab.sqlite().await;
    publish(&file, &[("later", "k")]).await;
    drop(file);
    assert_eq!(lab.copy(false).await.unwrap().queues[0].events, 1001);
    assert_eq!(read_from(&lab.redis().await, TailFrom::Earliest).await.0.len(), 1001);
}

#[tokio::test]
async fn what_can_not_be_copied_is_refused_and_nothing_is_touched() {
    let lab = Move::prepare().await;
    let missing = lab.copy(false).await.unwrap_err();
    assert!(format!("{missing:#}").contains("no such file"), "{missing:#}");
    let file = lab.sqlite().await;
    publish(&file, &[("a", "k")]).await;
    let used = lab.copy(false).await.unwrap_err();
    assert!(format!("{used:#}").contains("open in another process"), "{used:#}");
    drop(file);

    assert_eq!(lab.copy(true).await.unwrap().queues[0].events, 1);
    let redis = lab.redis().await;
    assert!(redis.queues().await.unwrap().is_empty(), "it was only asked");
    publish(&redis, &[("theirs", "k")]).await;
    let there = lab.copy(false).await.unwrap_err();
    assert!(format!("{there:#}").contains("DB") && format!("{there:#}").contains("--namespace"), "{there:#}");
    assert_eq!(read_from(&redis, TailFrom::Earliest).await.0, ["theirs"]);
}

#[tokio::test]
async fn what_waits_for_its_time_waits_there_and_versions_hold() {
    let lab = Move::prepare().await;
    let file = lab.sqlite().await;
    file.declare_queue(Queue { latest: true, ..Queue::new(queue()) }).await.unwrap();
    publish(&file, &[("a", "k"), ("b", "k")]).await;
    let mut later = event("later", "k");
    later.deliverytime = Some(time::OffsetDateTime::now_utc() + seconds(3600));
    file.publish(vec![later.clone()]).await.unwrap().remove(0).unwrap();
    drop(file);
    assert_eq!(lab.copy(false).await.unwrap().scheduled, 1);

    let redis = lab.redis().await;
    let waiting = redis.scheduled(&queue(), None, 10).await.unwrap();
    assert_eq!(waiting.iter().map(|one| one.envelope.id.as_str()).collect::<Vec<_>>(), ["later"]);
    assert!(redis.cancel(&queue(), &later.source, "later").await.unwrap());
    let mut expects = event("c", "k");
    expects.expectedversion = Some(2);
    let recorded = redis.publish(vec![expects]).await.unwrap().remove(0).unwrap();
    assert_eq!(recorded.position, Some(3), "the key's last event is known there");
}

#[tokio::test]
async fn durable_subscriptions_go_on_at_their_places() {
    let lab = Move::prepare().await;
    let file = lab.sqlite().await;
    publish_many(&file, 0..10).await;
    let keep = async |bus: &Bus, user: &str, name: &str, cursor: Option<&str>| {
        let opened = bus.open_bookmark(user, name, "DB/*").await.unwrap();
        let Some(cursor) = cursor else { return };
        let (user, name, holder, cursor) = (user.to_owned(), name.to_owned(), opened.holder, cursor.to_owned());
        let moved = bus.move_bookmarks(vec![bus::Move { user, name, holder, cursor }]).await.unwrap();
        assert_eq!(moved, [Moved::Done]);
    };
    for number in 0..20 {
        keep(&file, "customers/1", &format!("s{number:02}"), Some("there")).await;
    }
    keep(&file, "customers/2", "begun", None).await;
    keep(&file, "customers/2", "both", Some("old")).await;
    let before = file.bookmarks("customers/1").await.unwrap();
    drop(file);
    let redis = lab.redis().await;
    keep(&redis, "customers/2", "both", Some("new")).await;

    assert_eq!(lab.copy(true).await.unwrap().bookmarks, 22);
    assert_eq!(redis.bookmarks("customers/1").await.unwrap(), [], "it was only asked");
    assert_eq!(lab.copy(false).await.unwrap().bookmarks, 22);
    assert_eq!(redis.bookmarks("customers/1").await.unwrap(), before);
    let of = async |name: &str| redis.open_bookmark("customers/2", name, "DB/*").await.unwrap().cursor;
    assert_eq!(of("begun").await, None);
    assert_eq!(of("both").await.as_deref(), Some("new"), "somebody has gone on from there");
    // Whoever opens it moves it.
    keep(&redis, "customers/1", "s00", Some("further")).await;
}
