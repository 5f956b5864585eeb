//! Plain `PUBLISH` of Redis into the bus: what is published on a channel becomes an event.
//!
//! At most once, since Redis keeps nothing of it: what is published while no node listens (between two leaders, while the
//! connection is made again) is lost, and nobody can know. One node at a time listens, by a lease of the bus; one that stood still
//! past its end is not heard any more. What the bus can't take at once waits in memory, so much and no more; what is left out then
//! is counted.
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
use tokio::time::{Instant, interval, sleep};
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
/// What the bus's own channels end with: bridged, each event would make another.
const OWN: &str = ":hint";
const SOURCE: &str = "/bridge/redis";

impl Bridge {
    /// Bridges until `drain`, whenever it is this node's turn.
    pub(crate) async fn run(self, bus: Bus, drain: CancellationToken) {
        let holder = uuid::Uuid::new_v4().to_string();
        let turns = async {
            loop {
                match bus.lead(LEASE, &holder, TERM).await {
                    Ok(Some(fence)) => self.lead(&bus, &holder, fence).await,
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "the bridge's lease can't be asked for now"),
                }
                sleep(RENEW).await;
            }
        };
        drain.run_until_cancelled(turns).await;
        // Another node goes on at once; else when the lease ends.
        _ = bus.resign(LEASE, &holder).await;
    }

    /// Until the lease is lost.
    async fn lead(&self, bus: &Bus, holder: &str, fence: Fence) {
        for rule in &self.rules {
            if !matches!(bus.shut_out(&rule.queue, &fence).await, Ok(true)) {
                return;
            }
        }
        tracing::info!(number = fence.number, "this node bridges the channels of Redis");
        let (line, held) = waiting();
        tokio::select! {
            () = keep(bus, holder, &fence) => {}
            () = self.listen(holder, &line) => {}
            () = publish(bus, fence.clone(), held) => {}
        }
        tracing::info!(number = fence.number, "another node bridges the channels of Redis");
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
        let own = format!("turnpike:bridge:{holder}");
        let mut listener = self.redis.listen(&own).await?;
        for rule in &self.rules {
            listener.psubscribe(&rule.pattern).await?;
        }
        let mut messages = listener.into_on_message();
        let (mut beat, mut heard) = (interval(BEAT), Instant::now());
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    None => return Ok(()),
                    Some(message) if message.get_channel_name() == own => heard = Instant::now(),
                    Some(message) => self.take(&message, line),
                },
                _ = beat.tick() => {
                    if heard.elapsed() > 3 * BEAT {
                        return Ok(());
                    }
                    // Where it can't be said it isn't heard.
                    _ = self.redis.ask(Cmd::new().arg("PUBLISH").arg(&own).arg("")).await;
                }
            }
        }
    }

    fn take(&self, message: &Msg, line: &Line) {
        let (channel, pattern) = (message.get_channel_name(), message.get_pattern::<String>());
        let rule = self.rules.iter().find(|rule| pattern.as_ref().is_ok_and(|pattern| *pattern == rule.pattern));
        let Some(rule) = rule.filter(|_| !channel.ends_with(OWN)) else { return };
        let event = event(rule, channel, message.get_payload_bytes());
        let result = match event.check() {
            Err(error) => {
                tracing::debug!(channel, %error, "what was published can't be an event");
                "invalid"
            }
            Ok(()) if line.put(event) => return,
            Ok(()) => "dropped",
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

/// Publishes what waits, until a later leader is heard in its stead.
async fn publish(bus: &Bus, fence: Fence, mut held: Held) {
    loop {
        let batch = held.next().await;
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
        for event in batch.events() {
            let result = match outcomes.next() {
                Some(Ok(_)) => "published",
                Some(Err(Refused::Fenced { .. })) => return,
                Some(Err(_)) | None => "refused",
            };
            metrics::bridged(event.queue.as_str(), result, 1);
        }
    }
}

fn event(rule: &Rule, channel: &str, payload: &[u8]) -> Envelope {
    let envelope = Envelope::new(SOURCE, rule.queue.clone(), rule.event.clone()).subject(channel).partitionkey(channel);
    match (serde_json::from_slice(payload), std::str::from_utf8(payload)) {
        (Ok(json), _) => envelope.data(json),
        (Err(_), Ok(_)) => envelope.binary("text/plain; charset=utf-8", payload.to_vec()),
        (Err(_), Err(_)) => envelope.binary("application/octet-stream", payload.to_vec()),
    }
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

    #[test]
    fn a_message_becomes_an_event_of_what_it_holds() {
        let rule: Rule = serde_saphyr::from_str("{pattern: 'orders.*', queue: ORDERS, event: CHANGED}").unwrap();
        let of = |payload: &[u8]| event(&rule, "orders.7", payload);
        let json = of(br#"{"total": 5}"#);
        assert_eq!((json.json(), json.key()), (Some(&serde_json::json!({"total": 5})), "orders.7"));
        assert_eq!(json.subject.as_deref(), Some("orders.7"));
        let text = of(b"hello, world");
        assert_eq!(text.datacontenttype.as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(of(&[0xff, 0]).datacontenttype.as_deref(), Some("application/octet-stream"));
        assert!(of(&vec![b'x'; 300 * 1024]).check().is_err());
    }
}
