//! I12: that a user is online is told when the first connection comes, that it is offline when the last one went: once
//! each, in turn, to everybody who follows the queue. One that was cut counts for the time of grace; what moves in that
//! time is told nothing of.

use std::collections::BTreeMap;

use super::{
    Found,
    Invariant::I12,
    view::{SLACK, View},
};
use crate::history::{Frame, Harm, Seen, What};

/// Where it is told. What lies there nobody publishes.
pub(super) const PRESENCE: &str = "PRESENCE";

/// How long a connection counts that was cut.
const GRACE: u64 = 15_000_000;

/// A time in which a user is there: when it begins and ends by the bus's clock; no end: a connection is open.
struct Stay {
    from: u64,
    to: Option<u64>,
}

/// What one reader was told of one user: online or not, by the bus's clock, and the entry.
type Told = Vec<(bool, u64, usize)>;

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let clock = Clock::of(view);
    let stays = stays(view, &clock);
    if stays.is_empty() {
        return;
    }
    let mut readers: BTreeMap<&str, BTreeMap<&str, Told>> = BTreeMap::new();
    for (index, entry) in view.entries.iter().enumerate() {
        match &entry.what {
            What::Follows { reader, queue, .. } if queue == PRESENCE => _ = readers.entry(reader).or_default(),
            What::Frame { reader, frame: Frame::Event(Seen { event, key, place, .. }), .. }
                if place.queue == PRESENCE =>
            {
                let told = readers.entry(reader).or_default().entry(key).or_default();
                told.push((event == "ONLINE", clock.at(entry.at), index));
            }
            _ => {}
        }
    }
    let end = clock.at(view.entries.last().map_or(0, |entry| entry.at));
    let has_rested = view.entries.iter().any(|entry| entry.what == What::Rest);
    for told in readers.values() {
        for (user, told) in told {
            in_turn(user, told, found);
            has_cause(user, told, stays.get(user).map_or(&[], Vec::as_slice), found);
        }
        for (user, stays) in stays.iter().filter(|_| has_rested) {
            let is_there = stays.last().is_some_and(|stay| stay.to.is_none_or(|to| to > end));
            let last = told.get(user).and_then(|told| told.last());
            if last.is_some_and(|(online, ..)| *online) != is_there {
                let proof: Vec<usize> = last.map(|(.., entry)| *entry).into_iter().collect();
                let so = if is_there { "there, and nobody was told" } else { "gone, and nobody was told" };
                found.add(I12, format!("{user} is {so}"), &proof);
            }
        }
    }
}

/// Online and offline by turns, online first.
fn in_turn(user: &str, told: &Told, found: &mut Found) {
    let mut before: Option<(bool, usize)> = None;
    for (online, _, entry) in told {
        if before.map_or(!online, |(was, _)| was == *online) {
            let proof: Vec<usize> = before.map(|(_, before)| before).into_iter().chain([*entry]).collect();
            let so = if *online { "online" } else { "offline" };
            found.add(I12, format!("{user} is told to be {so}, and was already"), &proof);
        }
        before = Some((*online, *entry));
    }
}

/// Each is told for one arrival, or for one departure whose grace was over.
fn has_cause(user: &str, told: &Told, stays: &[Stay], found: &mut Found) {
    let (mut arrivals, mut departures) = (0, 0);
    for (online, at, entry) in told {
        let at = at.saturating_add(SLACK);
        if *online {
            arrivals += 1;
            // It is told before whoever came knows that it is there.
            if arrivals > stays.len() {
                found.add(I12, format!("{user} is told to be online, and never came again"), &[*entry]);
            }
        } else {
            departures += 1;
            let over = stays.iter().filter(|stay| stay.to.is_some_and(|to| to <= at)).count();
            if departures > over {
                found.add(I12, format!("{user} is told to be offline, and was there"), &[*entry]);
            }
        }
    }
}

/// When each user was there.
fn stays<'a>(view: &View<'a>, clock: &Clock) -> BTreeMap<&'a str, Vec<Stay>> {
    let mut open: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut times: BTreeMap<&str, Vec<Stay>> = BTreeMap::new();
    for entry in view.entries {
        let at = clock.at(entry.at);
        match &entry.what {
            What::Comes { user, connection } => _ = open.insert((user, connection), at),
            What::Goes { user, connection, bye } => {
                if let Some(from) = open.remove(&(user.as_str(), connection.as_str())) {
                    let to = if *bye { at } else { at.saturating_add(GRACE) };
                    times.entry(user).or_default().push(Stay { from, to: Some(to) });
                }
            }
            _ => {}
        }
    }
    for ((user, _), from) in open {
        times.entry(user).or_default().push(Stay { from, to: None });
    }
    times.into_iter().map(|(user, times)| (user, joined(times))).collect()
}

/// Those that overlap are one.
fn joined(mut times: Vec<Stay>) -> Vec<Stay> {
    times.sort_by_key(|stay| stay.from);
    let mut joined: Vec<Stay> = Vec::new();
    for stay in times {
        match joined.last_mut() {
            Some(last) if last.to.is_none_or(|to| stay.from <= to) => {
                last.to = last.to.zip(stay.to).map(|(one, other)| one.max(other));
            }
            _ => joined.push(stay),
        }
    }
    joined
}

/// The bus's clock: the history's, and what it was stepped by.
struct Clock(Vec<(u64, i64)>);

impl Clock {
    fn of(view: &View<'_>) -> Self {
        let step = |fault: &super::view::Fault<'_>| match fault.harm {
            Harm::Clock { by_ms } => Some((fault.began, by_ms * 1_000)),
            _ => None,
        };
        Self(view.faults.iter().filter_map(step).collect())
    }

    fn at(&self, at: u64) -> u64 {
        let steps = self.0.iter().filter(|(began, _)| *began <= at).map(|(_, by)| by).sum();
        at.saturating_add_signed(steps)
    }
}
