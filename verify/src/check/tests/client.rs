//! Histories of clients: what they are told, and who is told to be there.

use super::{SECOND, Story, seen};
use crate::{
    Invariant,
    history::{Action, Begins, Entry, Filter, Frame, Harm, Link, Mode, Place, Seen, What},
};

/// A frame after one cursor that ends at another one.
fn linked(frame: Frame, prev: Option<&str>, cursor: &str) -> What {
    let link = Link { prev: prev.map(str::to_owned), cursor: cursor.into() };
    What::Frame { reader: "r".into(), partition: 0, frame, link: Some(link) }
}

#[test]
fn i7_a_client_s_chain_is_whole_on_every_link() {
    let log = [seen("a", "k", 1), seen("b", "k", 2)];
    let told = |prev: &str| {
        let story = Story::of(Mode::Parallel).publish(1, "a", "k", 1).publish(2, "b", "k", 2).follows();
        story
            .then(linked(Frame::Event(log[0].clone()), Some("c0"), "c1"))
            .then(linked(Frame::Idle, None, "c2"))
            .then(linked(Frame::Event(log[1].clone()), Some(prev), "c3"))
            .audit(1, 3, &log)
    };
    told("c2").passes();
    told("c1").breaks(Invariant::I7, "after another place");
}

#[test]
fn i7_a_reader_catches_up_once_a_client_on_each_link() {
    let story = || Story::of(Mode::Parallel).follows();
    story().frame(Frame::CaughtUp).frame(Frame::CaughtUp).breaks(Invariant::I7, "told twice");
    let linked = || linked(Frame::CaughtUp, None, "c0");
    story().then(linked()).then(linked()).passes();
}

#[test]
fn i7_a_gap_holds_nothing_that_is_there() {
    let log = [seen("c", "k", 3)];
    let gap = |to| Frame::Gap { from: 1, to, lost: Some(to - 1), reason: "retention".into() };
    let told = |to| {
        let story = Story::of(Mode::Parallel).publish(1, "c", "k", 3).follows();
        let story = story.then(What::Operated { group: String::new(), action: Action::Trim }).frame(gap(to));
        if to == 3 { story.frame(Frame::Event(log[0].clone())) } else { story }.audit(3, 4, &log)
    };
    told(3).passes();
    told(4).breaks(Invariant::I7, "and 3 is there");
}

/// Of one who is watched from the beginning.
struct Watched(Story, u64);

impl Watched {
    fn begin() -> Self {
        let filter = Filter(None);
        let (reader, queue) = ("r".into(), "PRESENCE".into());
        Self(Story(Vec::new()).then(What::Follows { reader, queue, filter, begins: Begins::Earliest }), 0)
    }

    fn comes(self, connection: &str) -> Self {
        let what = What::Comes { user: "u".into(), connection: connection.into() };
        Self(self.0.then(what), self.1)
    }

    fn goes(self, connection: &str, bye: bool) -> Self {
        let what = What::Goes { user: "u".into(), connection: connection.into(), bye };
        Self(self.0.then(what), self.1)
    }

    fn told(self, event: &str) -> Self {
        let position = self.1 + 1;
        let place = Place { queue: "PRESENCE".into(), partition: 0, position };
        let event = Seen { id: format!("p{position}"), event: event.into(), key: "u".into(), place };
        Self(self.0.frame(Frame::Event(event)), position)
    }

    /// Nothing happens for so long.
    fn later(self, seconds: u64) -> Self {
        Self(self.0.frame(Frame::Idle).later(seconds), self.1)
    }

    /// The clock steps.
    fn steps(self, seconds: i64) -> Self {
        Self(self.0.harm(Harm::Clock { by_ms: seconds * 1_000 }), self.1)
    }

    fn rests(self) -> Story {
        let mut story = self.0;
        let at = story.0.last().map_or(0, |last| last.at + SECOND);
        story.0.push(Entry { at, what: What::Rest });
        story
    }
}

#[test]
fn i12_each_transition_is_told_once() {
    let online = || Watched::begin().comes("phone").told("ONLINE").comes("laptop");
    online().rests().passes();
    online().told("ONLINE").rests().breaks(Invariant::I12, "online, and was already");
    let offline = || online().goes("phone", true).goes("laptop", true).told("OFFLINE");
    offline().rests().passes();
    offline().told("OFFLINE").rests().breaks(Invariant::I12, "offline, and was already");
    offline().comes("phone").told("ONLINE").rests().passes();
    offline().told("ONLINE").rests().breaks(Invariant::I12, "never came again");
    Watched::begin().comes("phone").rests().breaks(Invariant::I12, "there, and nobody was told");
    online().goes("phone", true).goes("laptop", true).rests().breaks(Invariant::I12, "gone, and nobody was told");
}

#[test]
fn i12_who_was_cut_counts_for_the_time_of_grace() {
    let cut = || Watched::begin().comes("phone").told("ONLINE").goes("phone", false);
    cut().later(5).told("OFFLINE").rests().breaks(Invariant::I12, "offline, and was there");
    cut().later(15).told("OFFLINE").rests().passes();
    cut().steps(15).told("OFFLINE").rests().passes();
    // Over to another node, in time: nobody hears of it.
    let moved = || cut().later(5).comes("laptop");
    moved().later(20).rests().passes();
    moved().later(20).told("OFFLINE").told("ONLINE").rests().breaks(Invariant::I12, "offline, and was there");
    cut().later(20).comes("laptop").told("OFFLINE").told("ONLINE").rests().passes();
}
