//! Giving events to the MQTT broker: a group a mapping, whose events are acknowledged once the broker has the message.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Bus, Consumer, Delivery, Failure, Group, Handler, Mode};
use events::{Data, Envelope};
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, PubAckReason, PublishNotice, PublishOptions, PublishResult, QoS,
    mqttbytes::v5::PublishProperties,
};
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    link::{self, Session},
    metrics,
    plan::{self, Plan},
    settings::Settings,
};

/// How long the broker has to say that it has a message.
const ANSWER: Duration = Duration::from_secs(10);
/// Messages of a mapping that wait for that at once.
const CONCURRENCY: usize = 32;
/// How long a connection that failed is left alone, at most; a random part of it.
const PAUSE: Duration = Duration::from_secs(2);
const CLOUD_EVENT: &str = "application/cloudevents+json";

/// Gives events to the broker until `drain`.
pub(crate) async fn run(
    settings: &Settings,
    plan: &Plan,
    bus: &Bus,
    source: Arc<str>,
    holder: &str,
    (drain, dropping): (&CancellationToken, &CancellationToken),
) -> anyhow::Result<()> {
    if plan.outbound.is_empty() {
        return Ok(());
    }
    let id = format!("{}-out-{}", settings.client_id, &holder[..12.min(holder.len())]);
    let (client, events) = link::client(settings, &id, &Session::Passing)?;
    let over = CancellationToken::new();
    let connected = tokio::spawn(connect(events, over.clone()));
    let mut members = Vec::new();
    for mapping in &plan.outbound {
        let group =
            Group { concurrency: CONCURRENCY, ..Group::new(&mapping.group, mapping.events.clone(), Mode::Keyed) };
        let sender = Sender { client: client.clone(), mapping: mapping.clone(), source: source.clone() };
        let member = Consumer::new(bus.clone(), group, Arc::new(sender)).role(crate::NAME);
        members.push(tokio::spawn(member.run(drain.clone(), dropping.clone())));
    }
    let mut worked = Ok(());
    for member in members {
        worked = worked.and(member.await.unwrap_or_else(|error| Err(error.into())));
    }
    over.cancel();
    let _ = connected.await;
    worked
}

/// Keeps the connection.
async fn connect(mut events: EventLoop, over: CancellationToken) {
    while let Some(happened) = over.run_until_cancelled(events.poll()).await {
        match happened {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => metrics::connected("out", true),
            Ok(_) => {}
            Err(error) => {
                metrics::connected("out", false);
                tracing::warn!(%error, "the connection to the MQTT broker broke");
                let pause = PAUSE.mul_f64(rand::random_range(0.1..1.0));
                over.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
    }
    metrics::connected("out", false);
}

struct Sender {
    client: AsyncClient,
    mapping: plan::Outbound,
    /// What this dispatcher's own events say.
    source: Arc<str>,
}

#[async_trait]
impl Handler for Sender {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let event = &delivery.envelope;
        // What came from the broker doesn't go back to it: it would come again.
        if *event.source == *self.source {
            metrics::sent(&self.mapping.group, "own");
            return Ok(());
        }
        let sent = self.send(event).await;
        metrics::sent(&self.mapping.group, if sent.is_ok() { "sent" } else { "failed" });
        sent
    }
}

impl Sender {
    async fn send(&self, event: &Envelope) -> Result<(), Failure> {
        let topic = self.topic(event)?;
        let (payload, content_type) = self.payload(event)?;
        let options = PublishOptions::new(self.mapping.qos)
            .retain(self.mapping.retain)
            .properties(properties(event, content_type));
        let notice = self.client.publish_tracked(topic, payload, options);
        let notice: PublishNotice = timeout(ANSWER, notice).await.map_err(|_| late())??;
        match timeout(ANSWER, notice.wait_async()).await.map_err(|_| late())? {
            Ok(PublishResult::Qos0Flushed) if self.mapping.qos == QoS::AtMostOnce => Ok(()),
            Ok(PublishResult::Qos1(ack)) => match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
                reason @ (PubAckReason::NotAuthorized
                | PubAckReason::TopicNameInvalid
                | PubAckReason::PayloadFormatInvalid) => {
                    Err(Failure::Dead { reason: format!("the MQTT broker refuses it: {reason:?}") })
                }
                reason => Err(again(format!("the MQTT broker can't take it: {reason:?}"))),
            },
            Ok(other) => Err(again(format!("the MQTT broker answered {other:?}"))),
            Err(error) => Err(again(error.to_string())),
        }
    }

    fn topic(&self, event: &Envelope) -> Result<String, Failure> {
        let values = HashMap::from([
            ("queue", event.queue.as_str()),
            ("event", event.event.as_str()),
            ("subject", event.subject.as_deref().unwrap_or_default()),
            ("key", event.key()),
            ("id", event.id.as_str()),
        ]);
        let topic = self.mapping.topic.fill(&values);
        if topic.is_empty() || topic.len() > crate::topic::MAX_BYTES || topic.contains(['+', '#', '\0']) {
            return Err(Failure::Dead { reason: format!("{topic:?} is no topic to publish to") });
        }
        Ok(topic)
    }

    fn payload(&self, event: &Envelope) -> Result<(Vec<u8>, Option<String>), Failure> {
        if self.mapping.envelope {
            return Ok((serde_json::to_vec(event)?, Some(CLOUD_EVENT.to_owned())));
        }
        Ok(match &event.data {
            None => (Vec::new(), None),
            Some(Data::Json(value)) => (serde_json::to_vec(value)?, Some("application/json".to_owned())),
            Some(Data::Binary(bytes)) => (bytes.clone(), event.datacontenttype.clone()),
        })
    }
}

fn properties(event: &Envelope, content_type: Option<String>) -> PublishProperties {
    let mut user = vec![
        ("event-id".to_owned(), event.id.clone()),
        ("event".to_owned(), format!("{}/{}", event.queue, event.event)),
        ("source".to_owned(), event.source.clone()),
    ];
    let given = [("subject", &event.subject), ("traceparent", &event.traceparent), ("tracestate", &event.tracestate)];
    user.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    let left = event.expirytime.map(|expires| (expires - OffsetDateTime::now_utc()).whole_seconds().max(1));
    PublishProperties {
        payload_format_indicator: matches!(event.data, Some(Data::Json(_))).then_some(1),
        message_expiry_interval: left.and_then(|seconds| u32::try_from(seconds).ok()),
        content_type,
        user_properties: user,
        ..PublishProperties::default()
    }
}

fn again(reason: String) -> Failure {
    Failure::Retry { reason, delay: None }
}

fn late() -> Failure {
    again("the MQTT broker doesn't answer".to_owned())
}
