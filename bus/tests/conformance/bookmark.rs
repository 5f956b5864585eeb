//! Bookmarks: a reader's place, kept while it is away.

use bus::{Bus, Error, Move, Moved, Opened};

use super::{Lab, seconds};

const DAY: u64 = 86_400;

async fn open(bus: &Bus, user: &str, name: &str) -> Opened {
    bus.open_bookmark(user, name, "DB/*").await.unwrap()
}

async fn shift(bus: &Bus, user: &str, name: &str, holder: u64, cursor: &str) -> Moved {
    let moved = Move { user: user.to_owned(), name: name.to_owned(), holder, cursor: cursor.to_owned() };
    bus.move_bookmarks(vec![moved]).await.unwrap()[0]
}

pub(crate) async fn a_place_is_kept_for_who_comes_again(mut lab: impl Lab) {
    let bus = lab.bus();
    let first = open(&bus, "alice", "s").await;
    assert_eq!(first.cursor, None, "a new one");
    assert_eq!(shift(&bus, "alice", "s", first.holder, "c1").await, Moved::Done);
    assert_eq!(open(&bus, "alice", "other").await.cursor, None, "another name, another place");
    assert_eq!(open(&bus, "bob", "s").await.cursor, None, "and so another user's");
    drop(bus);
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    assert_eq!(bus.open_bookmark("alice", "s", "ORDERS/*").await.unwrap().cursor.as_deref(), Some("c1"));
    let kept = bus.bookmarks("alice").await.unwrap();
    let kept: Vec<_> = kept.iter().map(|one| (one.name.as_str(), one.filter.as_str(), one.cursor.as_deref())).collect();
    assert_eq!(kept, [("other", "DB/*", None), ("s", "ORDERS/*", Some("c1"))], "by name, with the latest filter");
}

pub(crate) async fn only_who_opened_it_last_moves_it(lab: impl Lab) {
    let bus = lab.bus();
    let lingers = open(&bus, "alice", "s").await;
    assert_eq!(shift(&bus, "alice", "s", lingers.holder, "c1").await, Moved::Done);
    let holds = open(&bus, "alice", "s").await;
    assert_eq!(holds.cursor.as_deref(), Some("c1"));
    assert_eq!(shift(&bus, "alice", "s", lingers.holder, "c0").await, Moved::Taken);
    assert_eq!(shift(&bus, "alice", "s", holds.holder, "c2").await, Moved::Done);
    let moves = ["none", "s"].map(|name| Move {
        user: "alice".to_owned(),
        name: name.to_owned(),
        holder: holds.holder,
        cursor: "c3".to_owned(),
    });
    assert_eq!(bus.move_bookmarks(moves.to_vec()).await.unwrap(), [Moved::Gone, Moved::Done], "in their order");
    assert_eq!(bus.bookmarks("alice").await.unwrap()[0].cursor.as_deref(), Some("c3"));
}

pub(crate) async fn one_that_is_removed_is_gone(lab: impl Lab) {
    let bus = lab.bus();
    let opened = open(&bus, "alice", "s").await;
    shift(&bus, "alice", "s", opened.holder, "c1").await;
    assert!(!bus.remove_bookmark("bob", "s").await.unwrap());
    assert!(bus.remove_bookmark("alice", "s").await.unwrap());
    assert!(!bus.remove_bookmark("alice", "s").await.unwrap());
    assert_eq!(shift(&bus, "alice", "s", opened.holder, "c2").await, Moved::Gone);
    assert_eq!(bus.bookmarks("alice").await.unwrap(), []);
    assert_eq!(open(&bus, "alice", "s").await.cursor, None);
    assert_eq!(shift(&bus, "alice", "s", opened.holder, "c2").await, Moved::Taken, "who held the old one");
}

pub(crate) async fn who_holds_one_is_told(lab: impl Lab) {
    let bus = lab.bus();
    let (first, other) = (open(&bus, "alice", "s").await, open(&bus, "bob", "s").await);
    let which = [("alice", "s"), ("alice", "t"), ("bob", "s")].map(|(user, name)| (user.to_owned(), name.to_owned()));
    let told = async || bus.bookmark_holders(which.to_vec()).await.unwrap();
    assert_eq!(told().await, [Some(first.holder), None, Some(other.holder)], "in their order");
    let second = open(&bus, "alice", "s").await;
    bus.remove_bookmark("bob", "s").await.unwrap();
    assert_eq!(told().await, [Some(second.holder), None, None]);
    lab.advance(seconds(8 * DAY)).await;
    assert_eq!(told().await, [None, None, None], "too old is gone");
    assert_eq!(bus.bookmark_holders(Vec::new()).await.unwrap(), []);
}

pub(crate) async fn one_that_nobody_uses_is_forgotten_after_a_week(lab: impl Lab) {
    let bus = lab.bus();
    let (used, unused) = (open(&bus, "alice", "used").await, open(&bus, "alice", "unused").await);
    shift(&bus, "alice", "unused", unused.holder, "c1").await;
    lab.advance(seconds(6 * DAY)).await;
    assert_eq!(shift(&bus, "alice", "used", used.holder, "c2").await, Moved::Done);
    lab.advance(seconds(2 * DAY)).await;
    assert_eq!(shift(&bus, "alice", "unused", unused.holder, "c3").await, Moved::Gone);
    let kept = bus.bookmarks("alice").await.unwrap();
    assert!(kept.iter().map(|one| one.name.as_str()).eq(["used"]), "{kept:?}");
    assert_eq!(open(&bus, "alice", "unused").await.cursor, None);
    assert_eq!(open(&bus, "alice", "used").await.cursor.as_deref(), Some("c2"));
}

pub(crate) async fn a_user_keeps_so_many_and_no_more(lab: impl Lab) {
    let bus = lab.bus();
    for n in 0..64 {
        open(&bus, "alice", &n.to_string()).await;
    }
    let refused = bus.open_bookmark("alice", "more", "DB/*").await;
    assert!(matches!(&refused, Err(Error::Conflict(why)) if why.contains("64")), "{refused:?}");
    open(&bus, "alice", "7").await;
    open(&bus, "bob", "more").await;
    bus.remove_bookmark("alice", "7").await.unwrap();
    open(&bus, "alice", "more").await;
    assert_eq!(bus.bookmarks("alice").await.unwrap().len(), 64);
    for (user, name, filter) in [("", "s", "DB/*"), ("alice", "", "DB/*"), ("alice", &"s".repeat(65), "DB/*")] {
        assert!(matches!(bus.open_bookmark(user, name, filter).await, Err(Error::Invalid(_))), "{user} {name}");
    }
}
