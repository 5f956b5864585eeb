//! Plain `PUBLISH` of Redis into the bus: what is published on a channel becomes an event.
//!
//! At most once, since Redis keeps nothing of it: what is published while no node listens (between two leaders, while the
//! connection is made again) is lost, and nobody can know. One node at a time listens, by a lease of the bus; one that stood still
//! past its end is not heard any more. What the bus can't take at once waits in memory, so much and no more; what is left out then
//! is counted. A node that drains listens no more, and publishes what waits.
//!
//! The event's subject and key are the channel, so that the messages of a channel keep their order. JSON becomes JSON data, other text
//! `text/plain`, and what is no text bytes.

mod config;
mod waiting;

use std::time::Duration;

use bus::{Bus, Fence, PublishOptions, Refused};
use events::{Data, Envelope};
use futures_util::StreamExt as _;
use redis::{Cmd, Msg};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use config::{Bridge, Config, Rule};

use self::waiting::{Held, Line, waiting};
use crate::metrics;

/// The lease's name, how long it is held, and how often it is asked for.
const LEASE: &str = "bridge";
const TERM: Duration = Duration::from_secs(9);
const RENEW: Duration = Duration::from_secs(3);
/// Between two attempts at a Redis, or a bus, that is away.
const REST: Duration = Duration::from_millis(500);
/// How often the listener says something that it must hear itself; three that it didn't, and the connection is made again.
const BEAT: Duration = Duration::from_secs(10);
/// What the channels of that begin with, each node's; a pattern may match them.
const BEATS: &str = "turnpike:bridge:";
/// What the bus's own channels end with: bridged, each event would make another.
const OWN: &str = ":hint";
const SOURCE: &str = "/bridge/redis";

impl Bridge {
    /// Bridges until `drain`, whenever it is this node's turn; until `drop` it publishes what it has heard.
    pub(crate) async fn run(self, bus: Bus, drain: CancellationToken, drop: CancellationToken) {
        let holder = uuid::Uuid::new_v4().to_string();
        let turns = async {
            while let Some(lease) = drain.run_until_cancelled(bus.lead(LEASE, &holder, TERM)).await {
                match lease {
                    Ok(Some(fence)) => self.lead(&bus, &holder, fence, &drain).await,
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "the bridge's lease can't be asked for now"),
                }
                drain.run_until_cancelled(sleep(RENEW)).await;
            }
        };
        drop.run_until_cancelled(turns).await;
        // Another node goes on at once; else when the lease ends.
        _ = bus.resign(LEASE, &holder).await;
    }

    /// Until the lease is lost, or all is published after the drain began.
    async fn lead(&self, bus: &Bus, holder: &str, fence: Fence, drain: &CancellationToken) {
        for rule in &self.rules {
            if !matches!(bus.shut_out(&rule.queue, &fence).await, Ok(true)) {
                return;
            }
        }
        tracing::info!(number = fence.number, "this node bridges the channels of Redis");
        let (line, held) = waiting();
        let listen = async {
            drain.run_until_cancelled(self.listen(holder, &line)).await;
            // Nothing comes any more: publishing ends with what waits.
            std::mem::drop(line);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = keep(bus, holder, &fence) => {}
            () = listen => {}
            () = publish(bus, fence.clone(), held) => {}
        }
        tracing::info!(number = fence.number, "this node bridges the channels of Redis no more");
    }

    /// Hears for ever what is published.
    async fn listen(&self, holder: &str, line: &Line) {
        loop {
            if let Err(error) = self.hear(holder, line).await {
                tracing::warn!(%error, "the channels of Redis can't be heard");
            }
            sleep(REST).await;
        }
    }

    /// Until the connection breaks.
    async fn hear(&self, holder: &str, line: &Line) -> Result<(), redis::RedisError> {
        let own = format!("{BEATS}{holder}");
        let mut listener = self.redis.listen(&own).await?;
        for rule in &self.rules {
            listener.psubscribe(&rule.pattern).await?;
        }
        let mut messages = listener.into_on_message();
        // Beside the hearing: what comes while it is said would pile up.
        let beating = async {
            let mut beat = interval(BEAT);
            loop {
                beat.tick().await;
                // Where it can't be said it isn't heard.
                _ = self.redis.ask(Cmd::new().arg("PUBLISH").arg(&own).arg("")).await;
            }
        };
        let hearing = async {
            while let Ok(Some(message)) = timeout(3 * BEAT, messages.next()).await {
                self.take(&message, line);
            }
        };
        tokio::select! {
            () = beating => {}
            () = hearing => {}
        }
        Ok(())
    }

    fn take(&self, message: &Msg, line: &Line) {
        let Ok(pattern) = message.get_pattern::<String>() else { return };
        let Some(rule) = self.rules.iter().find(|rule| rule.pattern == pattern) else { return };
        let channel = message.get_channel::<String>();
        if channel.as_ref().is_ok_and(|channel| channel.ends_with(OWN) || channel.starts_with(BEATS)) {
            return;
        }
        let result = match event(rule, channel.ok(), message.get_payload_bytes()).map(|event| line.put(event)) {
            Ok(true) => return,
            Ok(false) => "dropped",
            Err(reason) => {
                tracing::debug!(pattern, reason, "what was published can't be an event");
                "invalid"
            }
        };
        metrics::bridged(rule.queue.as_str(), result, 1);
    }
}

/// Has the lease for as long as nobody else does.
async fn keep(bus: &Bus, holder: &str, fence: &Fence) {
    let mut until = Instant::now() + TERM;
    while Instant::now() < until {
        sleep(RENEW).await;
        match bus.lead(LEASE, holder, TERM).await {
            Ok(Some(again)) if again == *fence => until = Instant::now() + TERM,
            // Somebody had it in between.
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, "the bridge's lease can't be prolonged now"),
        }
    }
}

/// Publishes what waits, until a later leader is heard in its stead, or nothing can come any more.
async fn publish(bus: &Bus, fence: Fence, mut held: Held) {
    while let Some(mut batch) = held.next().await {
        let options = || PublishOptions { fence: Some(fence.clone()), ..PublishOptions::default() };
        let outcomes = loop {
            // Again with the same ids: what was recorded the first time isn't again.
            match bus.publish_with(batch.events().to_vec(), options()).await {
                Ok(outcomes) => break outcomes,
                Err(bus::Error::Unavailable(_)) => sleep(REST).await,
                Err(error) => {
                    tracing::warn!(%error, "what was published on channels of Redis is refused");
                    break Vec::new();
                }
            }
        };
        let mut outcomes = outcomes.into_iter();
        for _ in 0..batch.events().len() {
            match outcomes.next() {
                Some(Ok(_)) => batch.next_is("published"),
                Some(Err(Refused::Fenced { .. })) => return,
                Some(Err(_)) | None => batch.next_is("refused"),
            }
        }
    }
}

/// None for the channel: its name is no text.
fn event(rule: &Rule, channel: Option<String>, payload: &[u8]) -> Result<Envelope, String> {
    let channel = channel.ok_or("its channel's name is no text")?;
    // A message may have half a gigabyte: it isn't read to find that out.
    if payload.len() > Envelope::MAX_DATA_BYTES {
        return Err(format!("{} bytes, {} allowed", payload.len(), Envelope::MAX_DATA_BYTES));
    }
    let envelope =
        Envelope::new(SOURCE, rule.queue.clone(), rule.event.clone()).subject(&channel).partitionkey(&channel);
    let event = match (serde_json::from_slice(payload), std::str::from_utf8(payload)) {
        (Ok(json), _) => envelope.data(json),
        (Err(_), Ok(_)) => envelope.binary("text/plain; charset=utf-8", payload.to_vec()),
        (Err(_), Err(_)) => envelope.binary("application/octet-stream", payload.to_vec()),
    };
    event.check().map_err(|error| error.to_string())?;
    Ok(event)
}

/// About how many bytes it is in a batch.
fn weight(event: &Envelope) -> usize {
    let data = match &event.data {
        None => 0,
        Some(Data::Json(json)) => json.to_string().len(),
        Some(Data::Binary(bytes)) => bytes.len() * 4 / 3,
    };
    data + 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        serde_saphyr::from_str("{pattern: 'orders.*', queue: ORDERS, event: CHANGED}").unwrap()
    }

    fn of(payload: &[u8]) -> Envelope {
        event(&rule(), Some("orders.7".to_owned()), payload).unwrap()
    }

    #[test]
    fn a_message_becomes_an_event_of_what_it_holds() {
        let json = of(br#"{"total": 5}"#);
        assert_eq!((json.json(), json.key()), (Some(&serde_json::json!({"total": 5})), "orders.7"));
        assert_eq!(json.subject.as_deref(), Some("orders.7"));
        for (payload, datacontenttype) in [
            (&b"hello, world"[..], "text/plain; charset=utf-8"),
            (&b""[..], "text/plain; charset=utf-8"),
            // Deeper than anybody reads.
            (&[b'['; 100_000][..], "text/plain; charset=utf-8"),
            (&[0xff, 0][..], "application/octet-stream"),
        ] {
            assert_eq!(of(payload).datacontenttype.as_deref(), Some(datacontenttype));
        }
    }

    #[test]
    fn what_can_t_be_an_event_is_none() {
        let refused =
            |channel: Option<&str>, payload: &[u8]| event(&rule(), channel.map(str::to_owned), payload).is_err();
        assert!(!refused(Some("orders.7"), &[b'x'; 256 * 1024]));
        assert!(refused(Some("orders.7"), &[b' '; 256 * 1024 + 1]));
        let long = "x".repeat(70_000);
        for channel in [None, Some(""), Some("orders.\n7"), Some(long.as_str())] {
            assert!(refused(channel, b"1"), "{channel:?}");
        }
    }

    #[tokio::test]
    async fn what_waits_at_the_drain_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        let fence = bus.lead(LEASE, "n1", TERM).await.unwrap().unwrap();
        let (line, held) = waiting();
        (0..600).for_each(|n| assert!(line.put(of(n.to_string().as_bytes()))));
        drop(line);
        publish(&bus, fence, held).await;
        let log = bus.read(&rule().queue, 0, 1, 1000).await.unwrap().events;
        let numbers: Vec<_> = log.iter().map(|logged| logged.envelope.json().unwrap().as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..600).collect::<Vec<_>>());
    }
}
