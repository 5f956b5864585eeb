//! Histories written by hand: a good one that passes, and for every promise a bad one that doesn't.

mod client;

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

fn sent(id: &str, key: &str) -> Sent {
    Sent { id: id.into(), queue: "DB".into(), event: "CREATE".into(), key: key.into(), ..Sent::default() }
}

fn recorded(position: Option<u64>) -> Answer {
    Answer::Recorded { partition: 0, position, duplicate: false }
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
        self.send(op, sent(id, key), recorded(Some(position)))
    }

    fn send(self, op: Op, sent: Sent, answer: Answer) -> Self {
        let asked = What::PublishAsked { op, publisher: "p".into(), level: Level::Stored, sent: vec![sent] };
        self.then(asked).then(What::PublishAnswered { op, answers: vec![answer] })
    }

    /// An event for so many seconds after the beginning.
    fn later_at(self, op: Op, id: &str, seconds: u64) -> Self {
        self.send(op, Sent { due: Some(seconds * SECOND), ..sent(id, id) }, recorded(None))
    }

    fn expecting(self, op: Op, id: &str, version: u64, answer: Answer) -> Self {
        self.send(op, Sent { expects: Some(version), ..sent(id, "k") }, answer)
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
        self.then(What::Frame { reader: "r".into(), partition: 0, frame, link: None })
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
fn i4_what_was_over_when_it_was_seen_proves_nothing() {
    let a = seen("a", "k", 1);
    let asked = What::ClaimAsked { op: 2, group: "g".into(), member: "m".into() };
    let stands_still = Story::of(Mode::Parallel).publish(1, "a", "k", 1).then(asked);
    let goes_on = stands_still.then(What::Healed { by: "m".into() }).later(8);
    goes_on.deliver(3, &a, 1).also(2, &a, 1).settle(4, (3, "a"), ACK, Settled::Done).passes();
}

#[test]
fn i4_a_stale_token_settles() {
    let a = seen("a", "k", 1);
    let held = Story::of(Mode::Parallel).publish(1, "a", "k", 1).deliver(2, &a, 1);
    let story = held.then(What::Healed { by: "nobody".into() }).later(10).deliver(3, &a, 2);
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
    let receipt = |says: &str| What::Receipt { of: "a".into(), says: says.into() };
    let asked = || Story::of(Mode::Parallel).send(1, Sent { receipt: true, ..sent("a", "k") }, recorded(Some(1)));
    let log = [seen("a", "k", 1)];
    asked().audit(1, 2, &log).breaks(Invariant::I9, "no receipt");
    asked().then(receipt("COMPLETED")).audit(1, 2, &log).passes();
    let two = asked().then(receipt("COMPLETED")).then(receipt("COMPLETED"));
    two.audit(1, 2, &log).breaks(Invariant::I9, "2 receipts");
    let unasked = Story::of(Mode::Parallel).publish(1, "a", "k", 1).then(receipt("COMPLETED"));
    unasked.audit(1, 2, &log).breaks(Invariant::I9, "nobody asked for");
}

#[test]
fn i9_a_receipt_that_is_not_true() {
    let a = seen("a", "k", 1);
    let told = |says: &str, standing: &str, expires: bool| {
        let asked = Sent { receipt: true, expires, ..sent("a", "k") };
        let story = Story::of(Mode::Parallel).send(1, asked, recorded(Some(1))).deliver(2, &a, 1);
        let settled = if standing == "acked" { ACK } else { Verb::Dead };
        let story = story.settle(3, (2, "a"), settled, Settled::Done);
        let receipt = What::Receipt { of: "a".into(), says: says.into() };
        story.audit(1, 2, std::slice::from_ref(&a)).stands(&a, standing).then(receipt)
    };
    told("COMPLETED", "acked", false).passes();
    told("FAILED", "dead", false).passes();
    told("EXPIRED", "expired", true).passes();
    told("COMPLETED", "dead", false).breaks(Invariant::I9, "is said to be COMPLETED");
    told("FAILED", "acked", false).breaks(Invariant::I9, "is said to be FAILED");
    told("EXPIRED", "acked", false).breaks(Invariant::I9, "is said to be EXPIRED");
    told("PERHAPS", "acked", false).breaks(Invariant::I9, "is said to be PERHAPS");
}

#[test]
fn what_is_for_later_comes_and_not_before_its_time() {
    let a = seen("a", "a", 1);
    let waits = || Story::of(Mode::Parallel).later_at(1, "a", 30);
    let late = |story: Story| story.later(40).audit(1, 2, std::slice::from_ref(&a));
    late(waits()).passes();
    waits().deliver(2, &a, 1).breaks(Invariant::I8, "before its time");
    waits().then(What::Rest).audit(1, 1, &[]).passes();
    waits().later(40).audit(1, 1, &[]).breaks(Invariant::I1, "never came");
    waits().harm(Harm::Outage).later(40).audit(1, 1, &[]).breaks(Invariant::I1, "never came");
    for harm in [Harm::Waiting, Harm::Rollback { since: 0 }] {
        waits().harm(harm).later(40).audit(1, 1, &[]).passes();
    }
}

#[test]
fn what_was_taken_back_never_comes() {
    let a = seen("a", "a", 1);
    let back = |done| {
        let cancelled = What::Cancelled { queue: "DB".into(), id: "a".into(), done };
        Story::of(Mode::Parallel).later_at(1, "a", 30).then(cancelled).later(40)
    };
    let comes = |story: Story| story.audit(1, 2, std::slice::from_ref(&a));
    back(Some(true)).audit(1, 1, &[]).passes();
    comes(back(Some(true))).breaks(Invariant::I2, "was taken back, and came");
    comes(back(Some(true)).publish(2, "a", "a", 1)).passes();
    // Too late: it must come. Unknown: it may.
    comes(back(Some(false))).passes();
    back(Some(false)).audit(1, 1, &[]).breaks(Invariant::I1, "never came");
    comes(back(None)).passes();
    back(None).audit(1, 1, &[]).passes();
}

#[test]
fn what_waits_side_by_side_comes_in_the_order_of_its_times_and_of_its_arrival() {
    let log = |first: &str, second: &str| [seen(first, first, 1), seen(second, second, 2)];
    let waits = |a, b| Story::of(Mode::Parallel).later_at(1, "a", a).later_at(2, "b", b).later(60);
    waits(40, 30).audit(1, 3, &log("b", "a")).passes();
    waits(40, 30).audit(1, 3, &log("a", "b")).breaks(Invariant::I2, "b was due before a");
    waits(30, 30).audit(1, 3, &log("a", "b")).passes();
    waits(30, 30).audit(1, 3, &log("b", "a")).breaks(Invariant::I2, "a was due before b");
}

#[test]
fn what_expects_a_version_follows_it() {
    let log = [seen("a", "k", 1), seen("b", "k", 2), seen("c", "k", 3)];
    let story = |version: u64| {
        let first = Story::of(Mode::Parallel).expecting(1, "a", 0, recorded(Some(1))).publish(2, "b", "k", 2);
        first.expecting(3, "c", version, recorded(Some(3)))
    };
    story(2).audit(1, 4, &log).passes();
    story(1).audit(1, 4, &log).breaks(Invariant::I2, "c expected its key's event at 1");
    story(0).audit(1, 4, &log).breaks(Invariant::I2, "c expected its key's event at 0");
    // What it expected is trimmed by now.
    story(1).audit(3, 4, &log[2..]).passes();
}

#[test]
fn a_version_is_refused_for_a_reason() {
    let log = [seen("a", "k", 1), seen("b", "k", 2)];
    let refused = |expected, current| {
        let story = Story::of(Mode::Parallel).publish(1, "a", "k", 1).publish(2, "b", "k", 2);
        story.expecting(3, "c", expected, Answer::Stale { current }).audit(1, 3, &log)
    };
    refused(1, 2).passes();
    refused(2, 2).breaks(Invariant::I2, "c expected 2, and was refused");
    // The key had another one before it was asked.
    refused(2, 1).breaks(Invariant::I2, "c expected 2, and was refused");
    refused(2, 7).breaks(Invariant::I2, "c expected 2, and was refused");
}

#[test]
fn what_was_refused_is_not_in_the_log() {
    let log = [seen("a", "k", 1)];
    for answer in [Answer::Refused("full".into()), Answer::Stale { current: 0 }] {
        let story = || Story::of(Mode::Parallel).send(1, sent("a", "k"), answer.clone());
        story().audit(1, 2, &log).breaks(Invariant::I2, "which was refused");
        story().publish(2, "a", "k", 1).audit(1, 2, &log).passes();
    }
}

#[test]
fn a_publish_keeps_its_order() {
    let both = |one, other| {
        let sent = vec![sent("a", "k"), sent("b", "k")];
        let asked = What::PublishAsked { op: 1, publisher: "p".into(), level: Level::Stored, sent };
        let answers = vec![recorded(Some(one)), recorded(Some(other))];
        Story::of(Mode::Parallel).then(asked).then(What::PublishAnswered { op: 1, answers })
    };
    both(1, 2).passes();
    both(2, 1).breaks(Invariant::I2, "lies before it");
}

#[test]
fn i10_something_is_not_given_back() {
    let level = |after| What::Level { of: "keys".into(), before: 10, after, slack: 2 };
    Story(Vec::new()).then(level(12)).passes();
    Story(Vec::new()).then(level(13)).breaks(Invariant::I10, "keys");
}

#[test]
fn i11_a_metric_stands_still() {
    let metric = |after| What::Metric { of: "lineages".into(), before: 2.0, after };
    Story(Vec::new()).then(metric(3.0)).passes();
    Story(Vec::new()).then(metric(2.0)).breaks(Invariant::I11, "lineages stood still");
    Story(Vec::new()).then(metric(2.0)).then(metric(3.0)).passes();
}
