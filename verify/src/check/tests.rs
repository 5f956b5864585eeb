//! Histories written by hand: a good one that passes, and for every promise a bad one that doesn't.

use super::{Invariant, check};
use crate::history::{
    Action, Answer, Begins, Did, Entry, Filter, Frame, Harm, Level, Mode, Op, Place, Seen, Sent, Settled, Verb, What,
};

/// A history whose entries are a second apart, of the group `g` with leases of ten seconds.
struct Story(Vec<Entry>);

const SECOND: u64 = 1_000_000;

fn place(position: u64) -> Place {
    Place { queue: "DB".into(), partition: 0, position }
}

fn seen(id: &str, key: &str, position: u64) -> Seen {
    Seen { id: id.into(), event: "CREATE".into(), key: key.into(), place: place(position) }
}

impl Story {
    fn of(mode: Mode) -> Self {
        Self(Vec::new()).group(mode, false)
    }

    fn then(mut self, what: What) -> Self {
        let at = self.0.last().map_or(0, |last| last.at + SECOND);
        self.0.push(Entry { at, what });
        self
    }

    fn later(mut self, seconds: u64) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.at += seconds * SECOND;
        }
        self
    }

    fn group(self, mode: Mode, effects: bool) -> Self {
        self.then(What::Group {
            name: "g".into(),
            queue: "DB".into(),
            filter: Filter(None),
            mode,
            lease_ms: 10_000,
            begins: Begins::Earliest,
            effects,
        })
    }

    fn publish(self, op: Op, id: &str, key: &str, position: u64) -> Self {
        let sent = vec![Sent {
            id: id.into(),
            queue: "DB".into(),
            event: "CREATE".into(),
            key: key.into(),
            ..Sent::default()
        }];
        self.then(What::PublishAsked { op, publisher: "p".into(), level: Level::Stored, sent }).then(
            What::PublishAnswered {
                op,
                answers: vec![Answer::Recorded { partition: 0, position: Some(position), duplicate: false }],
            },
        )
    }

    /// A delivery by the token of its op.
    fn deliver(self, op: Op, event: &Seen, attempt: u32) -> Self {
        self.then(What::ClaimAsked { op, group: "g".into(), member: "m".into() }).also(op, event, attempt)
    }

    fn also(self, op: Op, event: &Seen, attempt: u32) -> Self {
        let token = format!("{op}-{}", event.id);
        self.then(What::Delivered {
            op,
            group: "g".into(),
            member: "m".into(),
            event: event.clone(),
            token,
            attempt,
            redrive: 0,
        })
    }

    fn settle(self, op: Op, of: (Op, &str), verb: Verb, settled: Settled) -> Self {
        let token = format!("{}-{}", of.0, of.1);
        self.then(What::SettleAsked { op, group: "g".into(), token, verb }).then(What::SettleAnswered { op, settled })
    }

    fn handled(self, event: &Seen, did: Did) -> Self {
        self.then(What::Handled { group: "g".into(), member: "m".into(), event: event.clone(), attempt: 1, did })
    }

    fn follows(self) -> Self {
        self.then(What::Follows {
            reader: "r".into(),
            queue: "DB".into(),
            filter: Filter(None),
            begins: Begins::Earliest,
        })
    }

    fn frame(self, frame: Frame) -> Self {
        self.then(What::Frame { reader: "r".into(), partition: 0, frame })
    }

    fn harm(self, harm: Harm) -> Self {
        self.then(What::Harmed { by: "it".into(), harm })
    }

    fn audit(self, floor: u64, next: u64, log: &[Seen]) -> Self {
        let head = What::Head { queue: "DB".into(), partition: 0, floor, next };
        log.iter()
            .fold(self.then(What::Rest).then(head), |story, event| story.then(What::Logged { event: event.clone() }))
    }

    fn stands(self, event: &Seen, standing: &str) -> Self {
        self.then(What::Stands { group: "g".into(), event: event.clone(), standing: standing.into() })
    }

    #[track_caller]
    fn passes(self) {
        assert_eq!(check(&self.0), []);
    }

    /// Everything that is found is of this kind, and something is.
    #[track_caller]
    fn breaks(self, invariant: Invariant, told: &str) {
        let found = check(&self.0);
        assert!(found.iter().any(|violation| violation.told.contains(told)), "{told:?} in {found:#?}");
        assert!(found.iter().all(|violation| violation.invariant == invariant), "{found:#?}");
    }
}

const ACK: Verb = Verb::Ack;
const NACK: Verb = Verb::Nack { retryable: true, pause_ms: None };

#[test]
fn a_history_without_a_fault_passes() {
    let [a, b] = [seen("a", "k", 1), seen("b", "k", 2)];
    Story::of(Mode::Keyed)
        .publish(1, "a", "k", 1)
        .publish(2, "b", "k", 2)
        .follows()
        .frame(Frame::Event(a.clone()))
        .frame(Frame::CaughtUp)
        .frame(Frame::Event(b.clone()))
        .deliver(3, &a, 1)
        .settle(4, (3, "a"), NACK, Settled::Done)
        .deliver(5, &a, 2)
        .settle(6, (5, "a"), ACK, Settled::Done)
        .deliver(7, &b, 1)
        .settle(8, (7, "b"), ACK, Settled::Done)
        .audit(1, 3, &[a.clone(), b.clone()])
        .stands(&a, "acked")
        .stands(&b, "acked")
        .passes();
}

#[test]
fn i1_what_was_confirmed_is_missing() {
    let told = Story::of(Mode::Parallel).publish(1, "a", "k", 1).publish(2, "b", "k", 2);
    told.audit(1, 2, &[seen("a", "k", 1)]).breaks(Invariant::I1, "b was confirmed");
    let lost = |since| Story::of(Mode::Parallel).publish(1, "a", "k", 1).harm(Harm::PowerLoss { since });
    lost(0).audit(1, 1, &[]).passes();
    lost(3 * SECOND).audit(1, 1, &[]).breaks(Invariant::I1, "a was confirmed");
    let restart = Story::of(Mode::Parallel).publish(1, "a", "k", 1).harm(Harm::Outage);
    restart.audit(1, 1, &[]).breaks(Invariant::I1, "a was confirmed");
}

#[test]
fn i1_what_was_confirmed_as_on_disk_outlives_the_power() {
    let mut story = Story::of(Mode::Parallel).publish(1, "a", "k", 1).harm(Harm::PowerLoss { since: 0 });
    for entry in &mut story.0 {
        if let What::PublishAsked { level, .. } = &mut entry.what {
            *level = Level::Fsynced;
        }
    }
    story.audit(1, 1, &[]).breaks(Invariant::I1, "a was confirmed");
}

#[test]
fn i1_an_ack_without_its_effect() {
    let a = seen("a", "k", 1);
    let story = Story(Vec::new()).group(Mode::Parallel, true).publish(1, "a", "k", 1);
    let begun = story.handled(&a, Did::Started).harm(Harm::Member { member: "m".into() });
    begun.audit(1, 2, std::slice::from_ref(&a)).stands(&a, "acked").breaks(Invariant::I1, "nobody did it");
}

#[test]
fn i2_a_hole_and_a_stranger() {
    let log = [seen("a", "k", 1), seen("c", "k", 3)];
    let story = || Story::of(Mode::Parallel).publish(1, "a", "k", 1).publish(2, "c", "k", 3);
    story().audit(1, 4, &log).breaks(Invariant::I2, "nothing is at");
    let log = [seen("a", "k", 1), seen("x", "k", 2), seen("c", "k", 3)];
    story().audit(1, 4, &log).breaks(Invariant::I2, "nobody sent");
}

#[test]
fn i2_two_events_at_one_place() {
    let story = Story::of(Mode::Parallel).publish(1, "a", "k", 1).publish(2, "b", "k", 1);
    story.breaks(Invariant::I2, "held a, and later b");
}

#[test]
fn i2_an_order_that_nobody_published() {
    let story = Story::of(Mode::Parallel).publish(1, "a", "k", 2).publish(2, "b", "k", 1);
    story.breaks(Invariant::I2, "lies before it");
}

#[test]
fn i3_something_is_stuck() {
    let a = seen("a", "k", 1);
    for standing in ["pending", "leased", "retrying", "parked"] {
        let story = Story::of(Mode::Parallel).publish(1, "a", "k", 1).audit(1, 2, std::slice::from_ref(&a));
        story.stands(&a, standing).breaks(Invariant::I3, standing);
    }
}

#[test]
fn i3_something_was_trimmed_unsettled() {
    let a = seen("a", "k", 1);
    let story = || Story::of(Mode::Parallel).publish(1, "a", "k", 1);
    story().audit(2, 2, &[]).stands(&a, "unknown").breaks(Invariant::I3, "trimmed before");
    story().audit(2, 2, &[]).stands(&a, "lost").breaks(Invariant::I3, "nothing allowed");
    let drops = What::Operated { group: String::new(), action: Action::Drop };
    story().then(drops).audit(2, 2, &[]).stands(&a, "lost").passes();
}

#[test]
fn i4_two_valid_tokens() {
    let a = seen("a", "k", 1);
    let story = || Story::of(Mode::Parallel).publish(1, "a", "k", 1).deliver(2, &a, 1);
    story().deliver(3, &a, 1).breaks(Invariant::I4, "while its lease held");
    story().later(10).deliver(3, &a, 2).passes();
}

#[test]
fn i4_a_stale_token_settles() {
    let a = seen("a", "k", 1);
    let story = Story::of(Mode::Parallel).publish(1, "a", "k", 1).deliver(2, &a, 1).later(10).deliver(3, &a, 2);
    story.settle(4, (2, "a"), ACK, Settled::Done).breaks(Invariant::I4, "stale");
}

#[test]
fn i4_a_lease_is_settled_after_its_end_and_twice() {
    let a = seen("a", "k", 1);
    let story = || Story::of(Mode::Parallel).publish(1, "a", "k", 1).deliver(2, &a, 1);
    let mut late = story().settle(3, (2, "a"), ACK, Settled::Done);
    for entry in &mut late.0[5..] {
        entry.at += 20 * SECOND;
    }
    late.breaks(Invariant::I4, "after its lease's end");
    let twice = story().settle(3, (2, "a"), ACK, Settled::Done).settle(4, (2, "a"), ACK, Settled::Done);
    twice.breaks(Invariant::I4, "twice by one token");
}

#[test]
fn i5_a_key_is_overtaken_by_a_retry() {
    let [a, b] = [seen("a", "k", 1), seen("b", "k", 2)];
    let story = || {
        Story::of(Mode::Keyed).publish(1, "a", "k", 1).publish(2, "b", "k", 2).deliver(3, &a, 1).settle(
            4,
            (3, "a"),
            NACK,
            Settled::Done,
        )
    };
    story().deliver(5, &b, 1).breaks(Invariant::I5, "b came to g before a");
    let other = seen("b", "l", 2);
    let apart = Story::of(Mode::Keyed).publish(1, "a", "k", 1).publish(2, "b", "l", 2).deliver(3, &a, 1);
    apart.deliver(5, &other, 1).passes();
}

#[test]
fn i5_an_exclusive_group_goes_past_what_failed() {
    let [a, b] = [seen("a", "k", 1), seen("b", "l", 2)];
    Story::of(Mode::Exclusive)
        .publish(1, "a", "k", 1)
        .publish(2, "b", "l", 2)
        .deliver(3, &a, 1)
        .also(3, &b, 1)
        .settle(4, (3, "a"), NACK, Settled::Done)
        .settle(5, (3, "b"), ACK, Settled::Done)
        .breaks(Invariant::I5, "b came to g before a");
}

#[test]
fn i6_an_event_is_in_the_log_twice() {
    let log = [seen("a", "k", 1), seen("a", "k", 2)];
    Story::of(Mode::Parallel).publish(1, "a", "k", 1).audit(1, 3, &log).breaks(Invariant::I6, "in the log twice");
}

#[test]
fn i6_an_event_comes_after_its_ack() {
    let a = seen("a", "k", 1);
    let acked =
        || Story::of(Mode::Parallel).publish(1, "a", "k", 1).deliver(2, &a, 1).settle(3, (2, "a"), ACK, Settled::Done);
    acked().deliver(4, &a, 1).breaks(Invariant::I6, "after its ack");
    acked().then(What::Operated { group: "g".into(), action: Action::Seek }).deliver(4, &a, 1).passes();
}

#[test]
fn i6_an_effect_happens_twice() {
    let a = seen("a", "k", 1);
    let story = || Story(Vec::new()).group(Mode::Parallel, true).publish(1, "a", "k", 1).handled(&a, Did::Done);
    story().handled(&a, Did::Done).breaks(Invariant::I6, "done twice");
    story().harm(Harm::Member { member: "m".into() }).handled(&a, Did::Done).passes();
}

#[test]
fn i7_a_reader_misses_something() {
    let log = [seen("a", "k", 1), seen("b", "k", 2), seen("c", "k", 3)];
    let published =
        || Story::of(Mode::Parallel).publish(1, "a", "k", 1).publish(2, "b", "k", 2).publish(3, "c", "k", 3).follows();
    let missed = published().frame(Frame::Event(log[0].clone())).frame(Frame::Event(log[2].clone()));
    missed.audit(1, 4, &log).breaks(Invariant::I7, "never got b");
    let ended = published().frame(Frame::Event(log[0].clone())).frame(Frame::Event(log[1].clone()));
    ended.audit(1, 4, &log).breaks(Invariant::I7, "never got c");
    let back = published().frame(Frame::Event(log[1].clone())).frame(Frame::Event(log[0].clone()));
    back.breaks(Invariant::I7, "came after position 2");
}

#[test]
fn i7_a_gap_is_exact_and_has_a_cause() {
    let gap = |to, lost| Frame::Gap { from: 1, to, lost, reason: "retention".into() };
    let trimmed =
        || Story::of(Mode::Parallel).follows().then(What::Operated { group: String::new(), action: Action::Trim });
    trimmed().frame(gap(4, Some(3))).passes();
    trimmed().frame(gap(4, Some(2))).breaks(Invariant::I7, "are lost");
    let lineage = Frame::Gap { from: 1, to: 1, lost: Some(1), reason: "lineage".into() };
    trimmed().frame(lineage).breaks(Invariant::I7, "nothing was lost");
}

#[test]
fn i8_somebody_else_pays() {
    let [a, b] = [seen("a", "k", 1), seen("b", "l", 2)];
    let both =
        || Story::of(Mode::Parallel).publish(1, "a", "k", 1).publish(2, "b", "l", 2).deliver(3, &a, 1).also(3, &b, 1);
    both().later(10).deliver(4, &a, 2).breaks(Invariant::I8, "attempt 2 after 0 to 0");
    both().later(10).deliver(4, &a, 1).passes();
}

#[test]
fn i8_a_failure_is_not_counted_or_a_release_is() {
    let a = seen("a", "k", 1);
    let story = || Story::of(Mode::Parallel).publish(1, "a", "k", 1).deliver(2, &a, 1);
    story().settle(3, (2, "a"), NACK, Settled::Done).deliver(4, &a, 1).breaks(Invariant::I8, "attempt 1 after 1");
    let released = story().settle(3, (2, "a"), Verb::Release, Settled::Done);
    released.deliver(4, &a, 2).breaks(Invariant::I8, "attempt 2 after 0");
}

#[test]
fn i8_a_pause_is_not_kept() {
    let a = seen("a", "k", 1);
    let nack = Verb::Nack { retryable: true, pause_ms: Some((8_000, 12_000)) };
    let story = Story::of(Mode::Parallel).publish(1, "a", "k", 1).deliver(2, &a, 1);
    story.settle(3, (2, "a"), nack, Settled::Done).deliver(4, &a, 2).breaks(Invariant::I8, "sooner");
}

#[test]
fn i9_no_receipt_or_two() {
    let receipt = || What::Receipt { of: "a".into(), says: "COMPLETED".into() };
    let mut story = Story::of(Mode::Parallel).publish(1, "a", "k", 1);
    if let What::PublishAsked { sent, .. } = &mut story.0[1].what {
        sent[0].receipt = true;
    }
    let asked = || Story(story.0.clone());
    let log = [seen("a", "k", 1)];
    asked().audit(1, 2, &log).breaks(Invariant::I9, "no receipt");
    asked().then(receipt()).audit(1, 2, &log).passes();
    asked().then(receipt()).then(receipt()).audit(1, 2, &log).breaks(Invariant::I9, "2 receipts");
}

#[test]
fn i10_something_is_not_given_back() {
    let level = |after| What::Level { of: "keys".into(), before: 10, after, slack: 2 };
    Story(Vec::new()).then(level(12)).passes();
    Story(Vec::new()).then(level(13)).breaks(Invariant::I10, "keys");
}
