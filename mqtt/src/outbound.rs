//! Giving events to the MQTT broker: a group a mapping, whose events are acknowledged once the broker has the message.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Bus, Consumer, Delivery, Failure, Group, Handler, Mode};
use bytes::Bytes;
use events::{Data, Envelope};
use rumqttc::{
    AsyncClient, ConnAck, Event, EventLoop, Incoming, PubAckReason, Publish, PublishNotice, PublishOptions,
    PublishProperties, PublishResult, QoS,
};
use time::OffsetDateTime;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    link::{self, Session, Trouble},
    message::VIA,
    metrics,
    plan::{self, Plan},
    settings::Settings,
};

/// How long the broker has to say that it has a message.
const ANSWER: Duration = Duration::from_secs(10);
/// Messages of a mapping that wait for that at once.
const CONCURRENCY: usize = 32;
/// How long an event waits for a connection before it is given back; less than a handler may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// When an event comes again that there was no connection for.
const BACK: Duration = Duration::from_secs(1);
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
    // Should nobody end it in order.
    let _over = over.clone().drop_guard();
    let (tell, takes) = watch::channel(None);
    let connected = tokio::spawn(connect(events, tell, over.clone()));
    let mut members = Vec::new();
    for mapping in &plan.outbound {
        let group =
            Group { concurrency: CONCURRENCY, ..Group::new(&mapping.group, mapping.events.clone(), Mode::Keyed) };
        let (client, mapping, source) = (client.clone(), mapping.clone(), source.clone());
        let sender = Sender { client, mapping, source, takes: takes.clone(), drain: drain.clone() };
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

/// What the broker takes, as it said when the connection was made.
#[derive(Clone, Copy, Debug)]
struct Takes {
    /// The bytes of a packet.
    packet: usize,
    qos: QoS,
    retain: bool,
}

impl Takes {
    fn of(connected: &ConnAck) -> Self {
        let said = connected.properties.as_ref();
        let packet = said.and_then(|said| said.max_packet_size).and_then(|bytes| usize::try_from(bytes).ok());
        let qos = if said.and_then(|said| said.max_qos) == Some(0) { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let retain = said.and_then(|said| said.retain_available) != Some(0);
        Self { packet: packet.unwrap_or(usize::MAX), qos, retain }
    }
}

/// Keeps the connection, and tells of it.
async fn connect(mut events: EventLoop, tell: watch::Sender<Option<Takes>>, over: CancellationToken) {
    let mut trouble = Trouble::default();
    while let Some(happened) = over.run_until_cancelled(events.poll()).await {
        match happened {
            Ok(Event::Incoming(Incoming::ConnAck(connected))) => {
                metrics::connected("out", true);
                trouble.is_over();
                tell.send_replace(Some(Takes::of(&connected)));
            }
            Ok(_) => {}
            Err(error) => {
                metrics::connected("out", false);
                tell.send_replace(None);
                over.run_until_cancelled(tokio::time::sleep(trouble.pause(&error))).await;
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
    /// None while there is no connection.
    takes: watch::Receiver<Option<Takes>>,
    drain: CancellationToken,
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
        let result = match &sent {
            Ok(()) => "sent",
            Err(Failure::Defer { .. }) => "waiting",
            Err(_) => "failed",
        };
        metrics::sent(&self.mapping.group, result);
        sent
    }
}

impl Sender {
    async fn send(&self, event: &Envelope) -> Result<(), Failure> {
        let topic = self.topic(event)?;
        let (payload, content_type) = self.payload(event)?;
        let properties = properties(event, content_type, &format!("{} {topic}", self.source));
        let takes = self.connection().await?;
        self.fits(&topic, &payload, &properties, takes)?;
        let options = PublishOptions::new(self.mapping.qos).retain(self.mapping.retain).properties(properties);
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

    /// Waits for a connection: that there is none is no event's fault, and no attempt.
    async fn connection(&self) -> Result<Takes, Failure> {
        let mut takes = self.takes.clone();
        let connected = async { takes.wait_for(Option::is_some).await.ok().and_then(|takes| *takes) };
        let connected = self.drain.run_until_cancelled(timeout(PATIENCE, connected)).await;
        connected.and_then(Result::ok).flatten().ok_or(Failure::Defer { delay: BACK })
    }

    /// Whether the broker takes such a message: one that it doesn't would cost the connection, and all that is on its way.
    fn fits(&self, topic: &str, payload: &Bytes, properties: &PublishProperties, takes: Takes) -> Result<(), Failure> {
        if self.mapping.qos != QoS::AtMostOnce && takes.qos == QoS::AtMostOnce {
            return Err(again("the MQTT broker takes messages of QoS 0 alone".to_owned()));
        }
        if self.mapping.retain && !takes.retain {
            return Err(again("the MQTT broker retains nothing".to_owned()));
        }
        let mut message = Publish::new(topic, self.mapping.qos, payload.clone(), Some(properties.clone()));
        message.pkid = 1;
        let bytes = message.size();
        if bytes > takes.packet {
            let most = takes.packet;
            return Err(Failure::Dead { reason: format!("{bytes} bytes, and the MQTT broker takes {most}") });
        }
        Ok(())
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

    fn payload(&self, event: &Envelope) -> Result<(Bytes, Option<String>), Failure> {
        if self.mapping.envelope {
            return Ok((serde_json::to_vec(event)?.into(), Some(CLOUD_EVENT.to_owned())));
        }
        Ok(match &event.data {
            None => (Bytes::new(), None),
            Some(Data::Json(value)) => (serde_json::to_vec(value)?.into(), Some("application/json".to_owned())),
            Some(Data::Binary(bytes)) => (bytes.clone().into(), event.datacontenttype.clone()),
        })
    }
}

fn properties(event: &Envelope, content_type: Option<String>, via: &str) -> PublishProperties {
    let mut user = vec![
        ("event-id".to_owned(), event.id.clone()),
        ("event".to_owned(), format!("{}/{}", event.queue, event.event)),
        ("source".to_owned(), event.source.clone()),
        (VIA.to_owned(), via.to_owned()),
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
