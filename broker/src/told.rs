//! What a subscriber is told, the same on every transport: events, gaps, that it has caught up, and where it is.
//!
//! Each carries the cursor after it and the one before (`prev`), which is that of what was told last: so a client can
//! prove that it missed nothing, also through a filter.

use std::{pin::Pin, sync::Arc, time::Duration};

use bus::{Gap, GapReason};
use events::Name;
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep};

use crate::{
    cursor::Cursor,
    hub::{Event, Followed, Follower, Paced},
    metrics,
    seal::Seal,
};

pub(crate) struct Subscriber {
    follower: Paced,
    seal: Seal,
    /// The cursor that was told last.
    last: String,
    replay: bool,
    /// How long it may hear nothing.
    quiet: Duration,
    told_at: Instant,
    /// Goes off after it was told nothing for that long, or earlier: it isn't set anew for each event.
    alarm: Pin<Box<Sleep>>,
}

pub(crate) struct Told {
    pub what: What,
    pub cursor: String,
    pub prev: String,
    /// The event was there when the subscription began.
    pub replay: bool,
}

pub(crate) enum What {
    Event(Arc<Event>),
    Gap(Name, Gap),
    CaughtUp,
    /// Nothing happened that it should know of.
    Cursor,
}

impl Subscriber {
    pub(crate) fn new(follower: Follower, seal: Seal, quiet: Duration) -> Self {
        let follower = Paced::new(follower);
        let last = seal.text(&follower.cursor());
        Self { follower, seal, last, replay: true, quiet, told_at: Instant::now(), alarm: Box::pin(sleep(quiet)) }
    }

    /// How many events lie between its beginning and the end of the log, before the filter; None: that can't be known.
    pub(crate) fn replaying(&self) -> Option<u64> {
        self.follower.replaying()
    }

    /// Where it is, after what was told last.
    pub(crate) fn last(&self) -> &str {
        &self.last
    }

    /// Where it is by now, which may be further than what was told last: past what the filter refused.
    pub(crate) fn cursor(&self) -> String {
        self.seal.text(&self.follower.cursor())
    }

    /// The same, as it is kept.
    pub(crate) fn place(&self) -> Cursor {
        self.follower.cursor()
    }

    pub(crate) fn is_caught_up(&self) -> bool {
        !self.replay
    }

    /// What comes next; waits for it. May be cancelled and called again.
    pub(crate) async fn next(&mut self) -> Told {
        let what = loop {
            tokio::select! {
                biased;
                followed = self.follower.next() => break match followed {
                    Followed::Event(event) => What::Event(event),
                    Followed::Gap(queue, gap) => {
                        metrics::gap(reason(gap.reason));
                        What::Gap(queue, gap)
                    }
                    Followed::CaughtUp => What::CaughtUp,
                },
                () = &mut self.alarm => {
                    let until = self.told_at + self.quiet;
                    let now = Instant::now();
                    self.alarm.as_mut().reset(if until > now { until } else { now + self.quiet });
                    if until <= now {
                        break What::Cursor;
                    }
                }
            }
        };
        if matches!(what, What::CaughtUp) {
            self.replay = false;
        }
        self.told_at = Instant::now();
        let cursor = self.cursor();
        let prev = std::mem::replace(&mut self.last, cursor.clone());
        Told { what, cursor, prev, replay: self.replay }
    }
}

impl Told {
    /// The members of its JSON object, without the braces, between what comes before and after them.
    pub(crate) fn text(&self, before: &str, after: &str) -> String {
        let Self { cursor, prev, replay, .. } = self;
        match &self.what {
            What::Event(event) => {
                let replay = if *replay { "true" } else { "false" };
                let parts = [
                    before,
                    r#""cursor":""#,
                    cursor,
                    r#"","prev":""#,
                    prev,
                    r#"","replay":"#,
                    replay,
                    r#","event":"#,
                    &event.json,
                    after,
                ];
                parts.concat()
            }
            What::Gap(queue, gap) => {
                let members = gap_object(queue, gap, prev, cursor).to_string();
                [before, &members[1..members.len() - 1], after].concat()
            }
            What::CaughtUp | What::Cursor => [before, r#""cursor":""#, cursor, "\"", after].concat(),
        }
    }
}

/// A gap as clients read it: between two cursors, so many events, for this reason.
pub(crate) fn gap_object(queue: &Name, gap: &Gap, from: &str, to: &str) -> serde_json::Value {
    json!({ "from": from, "to": to, "lost": gap.lost, "reason": reason(gap.reason), "queue": queue })
}

pub(crate) fn reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Retention => "retention",
        GapReason::Lineage => "lineage",
        GapReason::Reset => "reset",
        GapReason::Unreadable => "unreadable",
    }
}
