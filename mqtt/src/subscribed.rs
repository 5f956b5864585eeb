//! What the broker's session may be subscribed to, kept at the bus: a session outlives the settings, and no broker says what it
//! holds. So what isn't mapped any more is known, and unsubscribed from.
//!
//! It is written before anything is subscribed to: whoever ends in between, the next one knows more than there is, never less.

use std::{collections::BTreeSet, time::Duration};

use bus::{Bus, Error, Move, Moved, Opened};
use tokio::{sync::Notify, time::MissedTickBehavior};

/// The bookmark's name, and what it is said to read.
const NAME: &str = "subscribed";
const READS: &str = "mqtt";
/// How often it is written though nothing changed: the bus keeps it for seven days, the broker a session for as long once the
/// connection is over.
const TOUCH: Duration = Duration::from_secs(3600);
/// How long the bus is left alone that didn't take it.
const PAUSE: Duration = Duration::from_secs(2);

/// The subscriptions of a session.
pub(crate) struct Subscribed<'a> {
    bus: &'a Bus,
    user: String,
    holder: u64,
    wanted: BTreeSet<String>,
    /// What an earlier one subscribed to, and nobody wants.
    stale: BTreeSet<String>,
}

impl<'a> Subscribed<'a> {
    /// Whether a session of this client may be subscribed to something.
    pub(crate) async fn is_to_any(bus: &Bus, client_id: &str) -> Result<bool, Error> {
        let kept = bus.bookmarks(&user(client_id)).await?;
        Ok(kept.into_iter().any(|kept| kept.name == NAME && !read(kept.cursor.as_deref()).is_empty()))
    }

    /// Takes them over, and notes that these are to be added.
    pub(crate) async fn open(bus: &'a Bus, client_id: &str, wanted: BTreeSet<String>) -> Result<Self, Error> {
        let user = user(client_id);
        let Opened { holder, cursor } = bus.open_bookmark(&user, NAME, READS).await?;
        let stale = read(cursor.as_deref()).difference(&wanted).cloned().collect();
        let subscribed = Self { bus, user, holder, wanted, stale };
        match subscribed.write().await {
            Err(Error::Invalid(reason)) => {
                tracing::warn!(reason, "subscriptions are too many to be remembered: what is unmapped later stays");
            }
            written => drop(written?),
        }
        Ok(subscribed)
    }

    pub(crate) fn stale(&self) -> Vec<String> {
        self.stale.iter().cloned().collect()
    }

    /// Keeps them written; once it is `released`, without what was stale. Never ends.
    pub(crate) async fn keep(mut self, released: &Notify) {
        let mut due = tokio::time::interval(TOUCH);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        due.reset();
        loop {
            tokio::select! {
                () = released.notified(), if !self.stale.is_empty() => self.stale.clear(),
                _ = due.tick() => {}
            }
            loop {
                match self.write().await {
                    Ok(Moved::Done) | Err(Error::Invalid(_)) => break,
                    // Another one has the session by now, and knows what it does with it.
                    Ok(Moved::Taken | Moved::Gone) => return std::future::pending().await,
                    Err(error) => tracing::debug!(%error, "what is subscribed to can't be written now"),
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn write(&self) -> Result<Moved, Error> {
        let all: BTreeSet<&String> = self.wanted.union(&self.stale).collect();
        let cursor = serde_json::to_string(&all).map_err(|error| Error::Invalid(error.to_string()))?;
        let (user, name, holder) = (self.user.clone(), NAME.to_owned(), self.holder);
        let moved = self.bus.move_bookmarks(vec![Move { user, name, holder, cursor }]).await?;
        Ok(moved.into_iter().next().unwrap_or(Moved::Gone))
    }
}

/// Whose bookmark it is: nobody's who signs in, since a subject doesn't begin so.
fn user(client_id: &str) -> String {
    format!("/mqtt/{client_id}")
}

fn read(cursor: Option<&str>) -> BTreeSet<String> {
    cursor.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(filters: &[&str]) -> BTreeSet<String> {
        filters.iter().map(|filter| (*filter).to_owned()).collect()
    }

    #[tokio::test]
    async fn what_was_subscribed_to_is_known_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        assert!(!Subscribed::is_to_any(&bus, "t").await.unwrap());
        let first = Subscribed::open(&bus, "t", set(&["a", "b/#"])).await.unwrap();
        assert!(first.stale().is_empty());
        // It ended before it had unsubscribed.
        let _second = Subscribed::open(&bus, "t", set(&["a", "c"])).await.unwrap();
        let third = Subscribed::open(&bus, "t", set(&["a"])).await.unwrap();
        assert_eq!(third.stale(), ["b/#", "c"]);
        assert!(Subscribed::open(&bus, "other", set(&["a"])).await.unwrap().stale().is_empty());
        let released = Notify::new();
        released.notify_one();
        let kept = async { bus.bookmarks("/mqtt/t").await.unwrap().remove(0).cursor.unwrap() };
        tokio::select! {
            () = third.keep(&released) => {}
            () = testkit::eventually("it is written", Duration::from_secs(20), async || {
                (bus.bookmarks("/mqtt/t").await.unwrap()[0].cursor.as_deref() == Some(r#"["a"]"#)).then_some(())
            }) => {}
        }
        assert_eq!(kept.await, r#"["a"]"#);
        let _none = Subscribed::open(&bus, "t", set(&[])).await.unwrap();
        assert!(Subscribed::is_to_any(&bus, "t").await.unwrap());
    }
}
