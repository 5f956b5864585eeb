//! How far an event has come with the groups that it is for, and the waiting for it.
//!
//! A wait ends when every group has acknowledged the event, when one never will, or at its time; it asks the log and the
//! groups, so that it doesn't matter whether a group was faster than whoever waits, or comes into being while somebody
//! does. A handler can't wait for its own group, which could be waiting for that handler.

use std::{collections::BTreeMap, time::Duration};

use events::{Envelope, Name};
use serde::Serialize;
use tokio::time::Instant;

use crate::{Bus, Error, Recorded, Standing, handling, receipt};

/// Looks again after this long without being told: a hint may be missed where the bus was away.
const POLL: Duration = Duration::from_secs(1);
/// Between two looks of one waiter: short at first, longer the longer it waits, since every settled event of the queue
/// is a hint to all who wait.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Where an event was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub queue: Name,
    pub partition: u32,
    pub lineage: u64,
    pub position: u64,
}

/// How far an event has come with the groups that it is for, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
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
pub struct Delivered {
    pub progress: Progress,
    /// Groups that were asked for are there even if nobody has declared them yet: None.
    pub groups: BTreeMap<String, Option<Standing>>,
    /// Some are still at it, even if others have failed.
    pub open: bool,
    /// The log went on from a place before it.
    pub lost: bool,
}

impl Place {
    /// Where it was recorded; None for a duplicate so old that nobody knows any more.
    pub fn of(queue: &Name, recorded: &Recorded) -> Option<Self> {
        let Recorded { partition, lineage, .. } = *recorded;
        Some(Self { queue: queue.clone(), partition, lineage, position: recorded.position? })
    }
}

impl Delivered {
    /// By all groups that take the event, or by the named ones.
    fn of(mut standings: BTreeMap<String, Standing>, named: &[String]) -> Self {
        use Standing::{Acked, Filtered, NotApplicable};
        standings.retain(|group, _| !receipt::is_receipts(group));
        let groups: BTreeMap<String, Option<Standing>> = match named {
            [] => standings.into_iter().map(|(group, standing)| (group, Some(standing))).collect(),
            named => named.iter().map(|group| (group.clone(), standings.remove(group))).collect(),
        };
        let (mut open, mut failed, mut acked) = (false, false, false);
        for standing in groups.values() {
            match standing {
                None => open = true,
                Some(standing) if standing.is_open() => open = true,
                Some(Acked) => acked = true,
                Some(Filtered | NotApplicable) => failed |= !named.is_empty(),
                Some(_) => failed = true,
            }
        }
        let progress = match (failed, open, acked) {
            (true, ..) => Progress::Failed,
            (_, true, _) => Progress::Pending,
            (_, _, true) => Progress::Delivered,
            _ => Progress::Nobody,
        };
        Self { progress, groups, open, lost: false }
    }

    fn lost() -> Self {
        Self { progress: Progress::Failed, groups: BTreeMap::new(), open: false, lost: true }
    }

    /// Somebody took it, and nobody is at it any more.
    pub fn is_settled(&self) -> bool {
        !self.open && self.progress != Progress::Nobody
    }

    /// Whether this group is still to take it.
    fn is_open(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|standing| standing.as_ref().is_none_or(Standing::is_open))
    }

    /// Why it isn't delivered.
    pub fn reason(&self) -> &'static str {
        let any = |names: &[&str]| self.groups.values().flatten().any(|standing| names.contains(&standing.name()));
        if self.lost || any(&["lost"]) {
            "lost"
        } else if any(&["dead"]) {
            "dead_letter"
        } else if any(&["expired"]) {
            "expired"
        } else if self.progress == Progress::Failed && any(&["filtered", "not_applicable"]) {
            "not_taken"
        } else if any(&["unknown"]) {
            "unknown"
        } else {
            "timeout"
        }
    }
}

impl Bus {
    /// Where the event stands now with all groups that take it, or with the named ones.
    pub async fn delivered(&self, place: &Place, named: &[String]) -> Result<Delivered, Error> {
        if !self.lineages(&place.queue, place.partition).await?.holds(place.lineage, place.position) {
            return Ok(Delivered::lost());
        }
        Ok(Delivered::of(self.standing(&place.queue, place.partition, place.position).await?, named))
    }

    /// Waits until the event is delivered, or a group has given up on it; at most `patience`. Answers how it stood then.
    /// With nobody there it waits for somebody to come. Whoever gives up waiting takes nothing along.
    ///
    /// # Errors
    /// [`Error::Conflict`] for one's own group, see [`Bus::check_wait`]; [`Error::Unavailable`] if the bus was away all the time.
    pub async fn wait_delivered(
        &self,
        place: &Place,
        named: &[String],
        patience: Duration,
    ) -> Result<Delivered, Error> {
        let over = |now: &Delivered| matches!(now.progress, Progress::Delivered | Progress::Failed);
        self.wait(place, named, patience, over).await
    }

    /// Waits until somebody took the event and no group is at it any more; at most `patience`. Answers how it stood then.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the bus was away all the time.
    pub async fn wait_settled(&self, place: &Place, patience: Duration) -> Result<Delivered, Error> {
        self.wait(place, &[], patience, Delivered::is_settled).await
    }

    /// Waits until the event stands otherwise than it was last told; at most `patience`. Answers how it stands then. That it was
    /// settled shows at once, anything else within a second.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the bus was away all the time.
    pub async fn wait_changed(&self, place: &Place, told: &Delivered, patience: Duration) -> Result<Delivered, Error> {
        self.wait(place, &[], patience, |now| now != told).await
    }

    async fn wait(
        &self,
        place: &Place,
        named: &[String],
        patience: Duration,
        enough: impl Fn(&Delivered) -> bool,
    ) -> Result<Delivered, Error> {
        let end = Instant::now() + patience;
        let mut settled = self.settled(&place.queue);
        let mut pause = PAUSE.0;
        let mut last = None;
        let own = handling::group();
        loop {
            settled.borrow_and_update();
            match self.delivered(place, named).await {
                Ok(now) if enough(&now) => return Ok(now),
                Ok(now) if own.as_ref().is_some_and(|own| now.is_open(own)) => {
                    return Err(not_own(own.as_deref().unwrap_or_default()));
                }
                Ok(now) => last = Some(Ok(now)),
                Err(error) => last = last.filter(Result::is_ok).or(Some(Err(error))),
            }
            if Instant::now() >= end
                && let Some(last) = last
            {
                return last;
            }
            tokio::time::sleep_until(end.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(PAUSE.1);
            tokio::select! {
                // Fails only where nobody will ever tell; the poll still does.
                Ok(()) = settled.changed() => {}
                () = tokio::time::sleep_until(end.min(Instant::now() + POLL)) => {}
            }
        }
    }

    /// Whether whoever publishes this event may wait for its delivery: not for the group in whose handler it is. A
    /// [`crate::Consumer`]'s handler needn't say which that is (unless it waits in a task of its own); `own` is for one
    /// that works elsewhere and says so. To be asked before the event is published.
    ///
    /// # Errors
    /// [`Error::Conflict`].
    pub async fn check_wait(&self, event: &Envelope, named: &[String], own: Option<&str>) -> Result<(), Error> {
        let own = [own.map(str::to_owned), handling::group().map(|group| group.to_string())];
        for own in own.into_iter().flatten() {
            let waits = match named {
                [] => {
                    let mut groups = self.groups().await?.into_iter();
                    groups.any(|group| group.name == own && group.filter.matches(event))
                }
                named => named.contains(&own),
            };
            if waits {
                return Err(not_own(&own));
            }
        }
        Ok(())
    }
}

fn not_own(group: &str) -> Error {
    Error::Conflict(format!("confirm: a handler of {group} can't wait for {group} itself; name the other groups"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(standings: &[(&str, Standing)], named: &[&str]) -> Delivered {
        let standings = standings.iter().map(|(group, standing)| ((*group).to_owned(), standing.clone())).collect();
        let named: Vec<String> = named.iter().map(|group| (*group).to_owned()).collect();
        Delivered::of(standings, &named)
    }

    #[test]
    fn it_is_delivered_once_every_group_that_takes_it_has_acknowledged() {
        use Standing::{Acked, Filtered, NotApplicable, Pending};
        assert_eq!(delivered(&[], &[]).progress, Progress::Nobody);
        assert_eq!(delivered(&[("a", Filtered), ("b", NotApplicable)], &[]).progress, Progress::Nobody);
        assert_eq!(delivered(&[("a", Acked), ("b", Pending)], &[]).progress, Progress::Pending);
        assert_eq!(delivered(&[("a", Acked), ("b", Filtered)], &[]).progress, Progress::Delivered);
    }

    #[test]
    fn a_named_group_counts_alone_and_is_waited_for_before_it_exists() {
        use Standing::{Acked, Filtered, Pending};
        assert_eq!(delivered(&[("a", Acked), ("b", Pending)], &["a"]).progress, Progress::Delivered);
        let absent = delivered(&[("a", Acked)], &["a", "b"]);
        assert_eq!((absent.progress, &absent.groups["b"]), (Progress::Pending, &None));
        let passed = delivered(&[("a", Filtered)], &["a"]);
        assert_eq!((passed.progress, passed.reason()), (Progress::Failed, "not_taken"));
    }

    #[test]
    fn a_dead_letter_is_a_failure_while_others_are_still_at_it() {
        let died = Standing::Dead { reason: "refused".to_owned(), at: time::OffsetDateTime::UNIX_EPOCH };
        let dead = delivered(&[("a", died), ("b", Standing::Pending)], &[]);
        assert_eq!((dead.progress, dead.open, dead.reason()), (Progress::Failed, true, "dead_letter"));
    }
}
