//! Confirmation: how far an event must have come before its publish is answered, and the waiting for it.
//!
//! The event is recorded first; what happens afterwards never turns that into an error. A wait ends when every group
//! has acknowledged the event, when one never will, or at its time; it asks the log and the groups, so that it doesn't
//! matter whether a group was faster than whoever waits, or comes into being while somebody does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::http::HeaderMap;
use bus::{Bus, Confirm, ConfirmError, Error, PublishOptions, Standing};
use events::Name;
use serde::{Serialize, Serializer};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cursor::Cursor,
    problem::{Kind, Problem},
    query::{Parameters, refuse},
};

/// The longest a client may wait.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);
const DEFAULT: Duration = Duration::from_secs(10);
/// Looks again after this long without being told: a hint may be missed where the bus was away.
const POLL: Duration = Duration::from_secs(1);
/// Between two looks of one waiter: short at first, longer the longer it waits, since every settled event of the queue
/// is a hint to all who wait.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// Says in whose handler the publisher is.
const GROUP: &str = "turnpike-group";
const MOST_GROUPS: usize = 32;

/// A level of confirmation; serialized as in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The bus itself gives it.
    Recorded(Confirm),
    Delivered,
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Recorded(level) => serializer.collect_str(level),
            Self::Delivered => serializer.serialize_str("delivered"),
        }
    }
}

/// What a publish asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub level: Level,
    /// The groups of `delivered`; none: every group that takes the event.
    pub groups: Vec<String>,
    /// As the client wrote it.
    pub requested: String,
    pub timeout: Duration,
    /// Where this bus can't give the level, less will do.
    pub allow_degraded: bool,
    /// Answer once the event is recorded, whatever else is wanted.
    pub respond_async: bool,
    /// The group in whose handler the publisher is, if it says so.
    own_group: Option<String>,
}

impl Wanted {
    /// Reads the parameters `confirm`, `timeout` and `allow_degraded`, and the fields `Prefer` (RFC 7240) and
    /// `Turnpike-Group`.
    pub fn read(parameters: &mut Parameters, headers: &HeaderMap) -> Result<Self, Problem> {
        let confirm = parameters.text("confirm")?;
        let timeout = parameters.duration("timeout", LONGEST)?.unwrap_or(DEFAULT);
        let allow_degraded = parameters.flag("allow_degraded")?;
        let mut wanted = Self::level(confirm.as_deref().unwrap_or("stored"), allow_degraded)?;
        wanted.timeout = timeout;
        wanted.respond_async = prefers_async(headers);
        if let Some(group) = headers.get(GROUP) {
            let group = group.to_str().map_err(|_| refuse(GROUP, "must be a group's name"))?;
            wanted.own_group = Some(group.to_owned());
        }
        Ok(wanted)
    }

    /// Reads a level: `stored`, `fsynced`, `replicated:2`, `delivered`, `delivered:logger,notifier`.
    pub fn level(requested: &str, allow_degraded: bool) -> Result<Self, Problem> {
        let refuse = |reason: String| Err(refuse("confirm", reason));
        let (level, groups) = match requested.split_once(':') {
            None if requested == "delivered" => (Level::Delivered, Vec::new()),
            Some(("delivered", groups)) => {
                let groups: Vec<String> = groups.split(',').map(str::to_owned).collect();
                if groups.len() > MOST_GROUPS || groups.iter().any(String::is_empty) {
                    return refuse(format!("delivered: takes 1 to {MOST_GROUPS} groups, separated by commas"));
                }
                (Level::Delivered, groups)
            }
            _ => match requested.parse() {
                Ok(level) => (Level::Recorded(level), Vec::new()),
                Err(ConfirmError) => {
                    return refuse(
                        "must be stored, fsynced, replicated:N, delivered or delivered:GROUP,GROUP".to_owned(),
                    );
                }
            },
        };
        Ok(Self {
            level,
            groups,
            requested: requested.to_owned(),
            timeout: DEFAULT,
            allow_degraded,
            respond_async: false,
            own_group: None,
        })
    }

    /// How the bus is to record it.
    pub fn recording(&self) -> PublishOptions {
        let confirm = match self.level {
            Level::Recorded(level) => level,
            Level::Delivered => Confirm::Stored,
        };
        let Self { timeout: patience, allow_degraded, .. } = *self;
        PublishOptions { confirm, patience, allow_degraded, ..PublishOptions::default() }
    }

    /// Refuses to wait for the group in whose handler the publisher is: the group could be waiting for that handler.
    pub async fn check_own_group(&self, bus: &Bus, queue: &Name, event: &Name) -> Result<(), Problem> {
        let Some(own) = self.own_group.as_ref().filter(|_| self.level == Level::Delivered) else { return Ok(()) };
        let waits = match self.groups.as_slice() {
            [] => bus.groups().await?.iter().any(|group| group.name == *own && group.filter.takes(queue, event)),
            named => named.contains(own),
        };
        if waits {
            let detail = format!("confirm: a handler of {own} can't wait for {own} itself; name the other groups");
            return Err(Problem::new(Kind::Conflict, detail));
        }
        Ok(())
    }
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|preference| preference.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("respond-async"))
}

/// Where an event was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub queue: Name,
    pub partition: u32,
    pub lineage: u64,
    pub position: u64,
}

impl Place {
    pub fn cursor(&self) -> Cursor {
        Cursor::of(self.queue.clone(), self.partition, self.lineage, self.position)
    }
}

/// How far an event has come with the groups that it is for, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Delivery {
    /// No group takes it.
    Nobody,
    Pending,
    /// Every one acknowledged it.
    Delivered,
    /// One has given up on it, or can't get it.
    Failed,
}

/// Where an event stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stands {
    pub delivery: Delivery,
    /// Groups that were asked for are there even if nobody has declared them yet: None.
    pub groups: BTreeMap<String, Option<Standing>>,
    /// Some are still at it, even if others have failed.
    pub open: bool,
    /// The log went on from a place before it.
    pub lost: bool,
}

impl Stands {
    /// Of all groups that take the event, or of the named ones.
    fn of(mut standings: BTreeMap<String, Standing>, named: &[String]) -> Self {
        use Standing::{Acked, Dead, Filtered, Leased, Lost, NotApplicable, Parked, Pending, Retrying, Unknown};
        let groups: BTreeMap<String, Option<Standing>> = match named {
            [] => standings.into_iter().map(|(group, standing)| (group, Some(standing))).collect(),
            named => named.iter().map(|group| (group.clone(), standings.remove(group))).collect(),
        };
        let (mut open, mut failed, mut acked) = (false, false, false);
        for standing in groups.values() {
            match standing {
                None | Some(Pending | Leased | Retrying | Parked) => open = true,
                Some(Acked) => acked = true,
                Some(Dead | Lost | Unknown) => failed = true,
                Some(Filtered | NotApplicable) => failed |= !named.is_empty(),
            }
        }
        let delivery = match (failed, open, acked) {
            (true, ..) => Delivery::Failed,
            (_, true, _) => Delivery::Pending,
            (_, _, true) => Delivery::Delivered,
            _ => Delivery::Nobody,
        };
        Self { delivery, groups, open, lost: false }
    }

    fn lost() -> Self {
        Self { delivery: Delivery::Failed, groups: BTreeMap::new(), open: false, lost: true }
    }

    /// Why it isn't delivered.
    pub fn reason(&self) -> &'static str {
        let any = |standings: &[Standing]| self.groups.values().flatten().any(|standing| standings.contains(standing));
        if self.lost || any(&[Standing::Lost]) {
            "lost"
        } else if any(&[Standing::Dead]) {
            "dead_letter"
        } else if self.delivery == Delivery::Failed && any(&[Standing::Filtered, Standing::NotApplicable]) {
            "not_taken"
        } else if any(&[Standing::Unknown]) {
            "unknown"
        } else {
            "timeout"
        }
    }
}

/// Where the event stands now.
pub(crate) async fn stands(bus: &Bus, place: &Place, named: &[String]) -> Result<Stands, Error> {
    if !bus.lineages(&place.queue, place.partition).await?.holds(place.lineage, place.position) {
        return Ok(Stands::lost());
    }
    Ok(Stands::of(bus.standing(&place.queue, place.partition, place.position).await?, named))
}

/// A place among those who wait. Taken before anything is recorded: who is refused can do it all again.
pub(crate) fn waiter(waiters: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    let full = |_| {
        let wait = Duration::from_secs(rand::random_range(1..=8));
        Problem::unavailable("as many wait for a delivery as this node takes; nothing was recorded", wait)
    };
    waiters.clone().try_acquire_owned().map_err(full)
}

/// Waits until `enough` is so, at most `patience` and as long as the broker serves; how the event stood then. None: the bus
/// was away all the time.
pub(crate) async fn wait(
    bus: &Bus,
    draining: &CancellationToken,
    place: &Place,
    named: &[String],
    patience: Duration,
    enough: impl Fn(&Stands) -> bool,
) -> Option<Stands> {
    let end = Instant::now() + patience;
    let mut settled = bus.settled(&place.queue);
    let mut pause = PAUSE.0;
    let mut last = None;
    loop {
        settled.borrow_and_update();
        match stands(bus, place, named).await {
            Ok(stands) if enough(&stands) => return Some(stands),
            Ok(stands) => last = Some(stands),
            Err(error) => tracing::debug!(%error, "a waiting publisher can't look"),
        }
        if Instant::now() >= end || draining.is_cancelled() {
            return last;
        }
        tokio::time::sleep_until(end.min(Instant::now() + pause)).await;
        pause = (pause * 2).min(PAUSE.1);
        tokio::select! {
            // Fails only where nobody will ever tell; the poll still does.
            Ok(()) = settled.changed() => {}
            () = tokio::time::sleep_until(end.min(Instant::now() + POLL)) => {}
            () = draining.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(standings: &[(&str, Standing)], named: &[&str]) -> Stands {
        let standings = standings.iter().map(|(group, standing)| ((*group).to_owned(), *standing)).collect();
        let named: Vec<String> = named.iter().map(|group| (*group).to_owned()).collect();
        Stands::of(standings, &named)
    }

    #[test]
    fn a_level_is_read_with_its_groups() {
        let wanted = Wanted::level("delivered:logger,notifier", false).unwrap();
        assert_eq!((wanted.level, wanted.groups), (Level::Delivered, vec!["logger".to_owned(), "notifier".to_owned()]));
        for wrong in ["", "sometime", "delivered:", "delivered:a,,b", "stored:a", "fsynced:1", "replicated:0", "Stored"]
        {
            assert!(Wanted::level(wrong, false).is_err(), "{wrong}");
        }
        let replicated = Wanted::level("replicated:2", false).unwrap();
        assert_eq!(replicated.level, Level::Recorded(Confirm::Replicated(2)));
        assert_eq!(serde_json::json!(replicated.level), "replicated:2");
    }

    #[test]
    fn a_preference_is_found_among_others() {
        for (value, expected) in
            [("respond-async", true), ("wait=5, Respond-Async", true), ("respond-async; foo", true), ("wait=5", false)]
        {
            let headers =
                HeaderMap::from_iter([(axum::http::HeaderName::from_static("prefer"), value.parse().unwrap())]);
            assert_eq!(prefers_async(&headers), expected, "{value}");
        }
    }

    #[test]
    fn it_is_delivered_once_every_group_that_takes_it_has_acknowledged() {
        use Standing::{Acked, Filtered, Leased, NotApplicable};
        assert_eq!(stands(&[], &[]).delivery, Delivery::Nobody);
        assert_eq!(stands(&[("a", Filtered), ("b", NotApplicable)], &[]).delivery, Delivery::Nobody);
        assert_eq!(stands(&[("a", Acked), ("b", Leased)], &[]).delivery, Delivery::Pending);
        assert_eq!(stands(&[("a", Acked), ("b", Filtered)], &[]).delivery, Delivery::Delivered);
    }

    #[test]
    fn a_named_group_counts_alone_and_is_waited_for_before_it_exists() {
        use Standing::{Acked, Filtered, Leased};
        assert_eq!(stands(&[("a", Acked), ("b", Leased)], &["a"]).delivery, Delivery::Delivered);
        let absent = stands(&[("a", Acked)], &["a", "b"]);
        assert_eq!((absent.delivery, absent.groups["b"]), (Delivery::Pending, None));
        let passed = stands(&[("a", Filtered)], &["a"]);
        assert_eq!((passed.delivery, passed.reason()), (Delivery::Failed, "not_taken"));
    }

    #[test]
    fn a_dead_letter_is_a_failure_while_others_are_still_at_it() {
        let dead = stands(&[("a", Standing::Dead), ("b", Standing::Leased)], &[]);
        assert_eq!((dead.delivery, dead.open, dead.reason()), (Delivery::Failed, true, "dead_letter"));
    }
}
