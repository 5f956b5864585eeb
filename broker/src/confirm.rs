//! Confirmation: how far an event must have come before its publish is answered, as a client asks for it.
//!
//! The event is recorded first; what happens afterwards never turns that into an error.

use std::{sync::Arc, time::Duration};

use axum::http::HeaderMap;
use bus::{Bus, Confirm, ConfirmError, Delivered, Error, Place, PublishOptions};
use events::Envelope;
use serde::{Serialize, Serializer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    problem::Problem,
    query::{Parameters, refuse},
};

/// The longest a client may wait.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);
const DEFAULT: Duration = Duration::from_secs(10);
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub own_group: Option<String>,
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

    /// Whether its answer waits for others.
    pub fn waits(&self) -> bool {
        self.level == Level::Delivered && !self.respond_async
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
    pub async fn check_own_group(&self, bus: &Bus, event: &Envelope) -> Result<(), Error> {
        bus.check_wait(event, &self.groups, self.own_group.as_deref()).await
    }
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|preference| preference.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("respond-async"))
}

/// A place among those who wait. Taken before anything is recorded: who is refused can do it all again.
pub(crate) fn waiter(waiters: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    let full = |_| {
        let wait = Duration::from_secs(rand::random_range(1..=8));
        Problem::unavailable("as many wait for a delivery as this node takes; nothing was recorded", wait)
    };
    waiters.clone().try_acquire_owned().map_err(full)
}

/// What it is waited for, or how it stands once the broker drains.
pub(crate) async fn unless_draining(
    bus: &Bus,
    draining: &CancellationToken,
    place: &Place,
    named: &[String],
    waiting: impl Future<Output = Result<Delivered, Error>>,
) -> Result<Delivered, Error> {
    match draining.run_until_cancelled(waiting).await {
        Some(delivered) => delivered,
        None => bus.delivered(place, named).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
